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
    near: float
    """Days between a look after t1 and t2 over which what its pixels tell of t2's light falls to 1/e."""
    margin: float
    """Error on the lessons with the past's evidence, in units of that without, below which the generator is lent it."""
    last: int
    """Looks of which the mean is taken, t1's among them. Not learned: with three the error is .03 % of the copy's less,
    but one more date is fetched whole."""
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
    season=1000.0,
    apart=1000.0,
    gap=10.0,
    lessons=30.0,
    caution=0.3,
    counts=300.0,
    near=10.0,
    margin=0.95,
    last=2,
    half_life=60.0,
    changed=1.0,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.7919, 0.7711, 0.3661, 0.6428, 0.6354],
                [0.7711, 0.8432, 0.4769, 0.6547, 0.6281],
                [0.3661, 0.4769, 1.4986, 0.4261, 0.5294],
                [0.6428, 0.6547, 0.4261, 0.9298, 0.7647],
                [0.6354, 0.6281, 0.5294, 0.7647, 0.9279],
            ],
            [
                [1.8054, 1.7746, 0.5553, 1.2977, 1.5517],
                [1.7746, 1.8474, 0.7385, 1.3257, 1.5521],
                [0.5553, 0.7385, 1.7695, 0.5489, 0.6482],
                [1.2977, 1.3257, 0.5489, 1.5182, 1.1553],
                [1.5517, 1.5521, 0.6482, 1.1553, 1.7338],
            ],
        ]
    ),
)
