"""How predicted probabilities of water are to be read: as less certain, the more so where what is around disagrees."""

from __future__ import annotations

import torch
from torch import Tensor

from crgen.model.adaptive.surroundings import local_mean

AROUND = 31
"""Side in pixels of the surroundings that a pixel's probability of water agrees with or does not."""
DRY = 0.494
"""What a smaller probability of water is read as at most: in per cent, as products hold it, .495 is a half."""


def read_water(p: Tensor, slope: float) -> Tensor:
    """Return what probabilities ``(batch, channel, y, x)`` are to be read as, from :attr:`WaterErrors.slope`.

    A half stays a half; what is water in per cent stays so, and what is not, not.
    """
    logit, agree = evidence_of(p)
    read = (slope * agree * logit).sigmoid()
    return torch.where(p < 0.5, torch.minimum(read, p.clamp(min=DRY)), read)


def evidence_of(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logit of probabilities ``(batch, channel, y, x)``, and which share of what is around agrees, 0 to 1.

    Around are :data:`AROUND` × :data:`AROUND` pixels. A pixel that is water rather than not agrees with each of them by
    the probability that it is water; others alike.
    """
    p = p.clamp(1e-6, 1 - 1e-6)
    around = local_mean(p, torch.ones_like(p), AROUND).clamp(0, 1)
    return p.logit(), torch.where(p >= 0.5, around, 1 - around)
