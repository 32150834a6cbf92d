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
    apart=60.0,
    gap=0.5,
    lessons=12.0,
    caution=0.15,
    counts=300.0,
    margin=0.95,
    last=3,
    half_life=30.0,
    changed=1.0,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.7937, 0.768, 0.365, 0.6527, 0.6776],
                [0.768, 0.8427, 0.5389, 0.6746, 0.657],
                [0.365, 0.5389, 1.488, 0.4312, 0.4568],
                [0.6527, 0.6746, 0.4312, 1.0182, 0.857],
                [0.6776, 0.657, 0.4568, 0.857, 1.0683],
            ],
            [
                [1.7785, 1.7367, 0.5696, 1.3941, 1.6006],
                [1.7367, 1.813, 0.8171, 1.4282, 1.5727],
                [0.5696, 0.8171, 1.7658, 0.55, 0.5592],
                [1.3941, 1.4282, 0.55, 1.7007, 1.4018],
                [1.6006, 1.5727, 0.5592, 1.4018, 1.9121],
            ],
        ]
    ),
)
