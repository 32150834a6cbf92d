"""Numbers of :mod:`crgen.model.past`, of mixing and of looks, learned by ``python -m benchmarks.ordinary.learn``.

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
                [0.7898, 0.7693, 0.3676, 0.6422, 0.6346],
                [0.7693, 0.8406, 0.4781, 0.6542, 0.6275],
                [0.3676, 0.4781, 1.4953, 0.4285, 0.5314],
                [0.6422, 0.6542, 0.4285, 0.928, 0.7627],
                [0.6346, 0.6275, 0.5314, 0.7627, 0.927],
            ],
            [
                [1.8223, 1.7928, 0.5572, 1.306, 1.5631],
                [1.7928, 1.8631, 0.7365, 1.3341, 1.5643],
                [0.5572, 0.7365, 1.7566, 0.5518, 0.65],
                [1.306, 1.3341, 0.5518, 1.5064, 1.1402],
                [1.5631, 1.5643, 0.65, 1.1402, 1.7274],
            ],
        ]
    ),
)
