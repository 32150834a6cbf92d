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
    season=40.0,
    apart=60.0,
    gap=0.5,
    lessons=12.0,
    caution=0.15,
    counts=300.0,
    margin=0.95,
    last=3,
    half_life=15.0,
    changed=3.0,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.9381, 0.9172, 0.4061, 0.7404, 0.844],
                [0.9172, 0.9456, 0.5289, 0.7525, 0.8272],
                [0.4061, 0.5289, 1.5327, 0.4563, 0.4817],
                [0.7404, 0.7525, 0.4563, 1.0973, 0.9546],
                [0.844, 0.8272, 0.4817, 0.9546, 1.2171],
            ],
            [
                [2.9497, 2.8928, 0.5275, 2.3318, 2.1783],
                [2.8928, 2.8784, 0.5084, 2.34, 2.1564],
                [0.5275, 0.5084, 1.307, 0.6236, 0.6057],
                [2.3318, 2.34, 0.6236, 2.5355, 1.8434],
                [2.1783, 2.1564, 0.6057, 1.8434, 2.3594],
            ],
        ]
    ),
)
