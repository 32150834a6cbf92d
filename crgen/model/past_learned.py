"""Numbers of :mod:`crgen.model.past`, and of its looks, learned by ``python -m benchmarks.ordinary.learn``.

Written by that command; not to be changed by hand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Learned(NamedTuple):
    """What decides how much a lesson, and each candidate, counts."""

    season: float
    """Days between seasons over which a lesson's weight falls to 1/e."""
    apart: float
    """Days between its later look and t2 over which it does."""
    gap: float
    """Logarithm of the ratio of its two looks' days and those of t1 and t2 over which it does."""
    lessons: float
    """Lessons of the same place that count as much as the training series."""
    caution: float
    """Mean square error, in units of the copy's, that all else is charged with beside what it had on the series."""
    counts: float
    """Pixels for which the evidence of all lessons counts."""
    margin: float
    """Error on the lessons with the past's evidence, in units of that without, below which the generator is lent it."""
    last: int
    """Looks of which the mean is taken."""
    half_life: float
    """Days over which a look's weight in it halves."""
    changed: float
    """Change of the mean backscatter in dB from which a pixel counts as changed."""
    seen: float
    """Pixels seen of t2 with which looks count half."""
    prior: NDArray[np.float64]
    """Mean products of the candidates' errors on the training series, in units of the copy's mean square error,
    ``(class, candidate, candidate)``."""


LEARNED = Learned(
    season=10.0,
    apart=1000.0,
    gap=0.5,
    lessons=6.0,
    caution=0.12,
    counts=300.0,
    margin=0.95,
    last=3,
    half_life=15.0,
    changed=1.0,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.8078, 0.7844, 0.4429, 0.6564, 0.6994],
                [0.7844, 0.817, 0.4882, 0.6659, 0.6882],
                [0.4429, 0.4882, 1.1785, 0.48, 0.4582],
                [0.6564, 0.6659, 0.48, 1.0018, 0.8132],
                [0.6994, 0.6882, 0.4582, 0.8132, 1.0637],
            ],
            [
                [1.9039, 1.881, 0.6963, 1.5173, 1.6055],
                [1.881, 1.9053, 0.7632, 1.5334, 1.5971],
                [0.6963, 0.7632, 1.3987, 0.6409, 0.6569],
                [1.5173, 1.5334, 0.6409, 1.8572, 1.5566],
                [1.6055, 1.5971, 0.6569, 1.5566, 1.9061],
            ],
        ]
    ),
)
