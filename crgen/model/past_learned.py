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
    lessons=3.0,
    counts=300.0,
    last=3,
    half_life=15.0,
    changed=1.5,
    seen=300.0,
    prior=np.array(
        [
            [
                [0.8255, 0.7934, 0.1474, 0.7021, 0.7048],
                [0.7934, 0.8346, 0.2095, 0.7029, 0.6756],
                [0.1474, 0.2095, 0.8273, 0.1641, 0.2237],
                [0.7021, 0.7029, 0.1641, 0.962, 0.7976],
                [0.7048, 0.6756, 0.2237, 0.7976, 1.0432],
            ],
            [
                [2.161, 2.0876, 0.1281, 1.9341, 1.8638],
                [2.0876, 2.1375, 0.2211, 1.9155, 1.7683],
                [0.1281, 0.2211, 0.9945, 0.1599, 0.2402],
                [1.9341, 1.9155, 0.1599, 2.0893, 1.7826],
                [1.8638, 1.7683, 0.2402, 1.7826, 2.042],
            ],
        ]
    ),
)
