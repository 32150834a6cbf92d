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
    season=20.0,
    apart=60.0,
    gap=0.25,
    lessons=12.0,
    caution=0.3,
    counts=300.0,
    near=5.0,
    margin=0.95,
    last=2,
    half_life=15.0,
    changed=1.0,
    seen=100.0,
    prior=np.array(
        [
            [
                [0.804, 0.7843, 0.4401, 0.6447, 0.672],
                [0.7843, 0.8018, 0.4687, 0.647, 0.6476],
                [0.4401, 0.4687, 1.1864, 0.4627, 0.4432],
                [0.6447, 0.647, 0.4627, 0.9054, 0.7425],
                [0.672, 0.6476, 0.4432, 0.7425, 0.9942],
            ],
            [
                [1.9419, 1.9228, 0.6909, 1.4936, 1.5452],
                [1.9228, 1.9335, 0.7362, 1.5025, 1.5298],
                [0.6909, 0.7362, 1.4054, 0.638, 0.644],
                [1.4936, 1.5025, 0.638, 1.7153, 1.4192],
                [1.5452, 1.5298, 0.644, 1.4192, 1.7483],
            ],
        ]
    ),
)
