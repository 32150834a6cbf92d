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
    season=1000.0,
    apart=1000.0,
    gap=10.0,
    lessons=12.0,
    caution=0.3,
    counts=300.0,
    near=30.0,
    margin=0.95,
    last=3,
    half_life=60.0,
    changed=1.0,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.7917, 0.761, 0.3668, 0.6395, 0.6318],
                [0.761, 0.891, 0.5828, 0.6723, 0.6299],
                [0.3668, 0.5828, 1.5022, 0.4275, 0.5308],
                [0.6395, 0.6723, 0.4275, 0.938, 0.7715],
                [0.6318, 0.6299, 0.5308, 0.7715, 0.9336],
            ],
            [
                [1.8059, 1.7583, 0.5626, 1.2984, 1.5514],
                [1.7583, 1.8998, 0.8521, 1.3548, 1.5574],
                [0.5626, 0.8521, 1.7767, 0.5553, 0.6555],
                [1.2984, 1.3548, 0.5553, 1.5189, 1.1571],
                [1.5514, 1.5574, 0.6555, 1.1571, 1.7355],
            ],
        ]
    ),
)
