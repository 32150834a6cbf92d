"""Numbers of :mod:`crgen.model.past`, learned on series of ordinary places by ``python -m benchmarks.ordinary.learn``.

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
    season=20.0,
    apart=240.0,
    gap=10.0,
    lessons=12.0,
    counts=300.0,
    margin=0.95,
    last=3,
    half_life=15.0,
    changed=1.5,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.8255, 0.8062, 0.3797, 0.7021, 0.7048],
                [0.8062, 0.8344, 0.4945, 0.7078, 0.6868],
                [0.3797, 0.4945, 1.4894, 0.3984, 0.5032],
                [0.7021, 0.7078, 0.3984, 0.962, 0.7976],
                [0.7048, 0.6868, 0.5032, 0.7976, 1.0432],
            ],
            [
                [2.161, 2.1372, 0.6186, 1.9341, 1.8638],
                [2.1372, 2.1683, 0.8543, 1.9446, 1.8368],
                [0.6186, 0.8543, 1.7871, 0.6708, 0.6866],
                [1.9341, 1.9446, 0.6708, 2.0893, 1.7826],
                [1.8638, 1.8368, 0.6866, 1.7826, 2.042],
            ],
        ]
    ),
)
