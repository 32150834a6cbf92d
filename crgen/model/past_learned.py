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
    apart=1000.0,
    gap=10.0,
    lessons=3.0,
    counts=300.0,
    last=3,
    half_life=60.0,
    changed=1.5,
    seen=300.0,
    prior=np.tile(np.eye(5), (2, 1, 1)),
)
