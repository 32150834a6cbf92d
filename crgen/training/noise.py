"""Random numbers and smooth random fields that training paints with, on PyTorch's default device, the generator's."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Return uniform samples in [low, high)."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def happens(n: int, share: float, rng: torch.Generator) -> Tensor:
    """Return which of ``n`` samples something happens to, true in about ``share`` of them, ``(n, 1, 1, 1)``."""
    return torch.rand((n, 1, 1, 1), generator=rng) < share


def fractal_field(n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return smooth noise with cloud-like detail at all scales, ``(n, 1, height, width)``, ranked to uniform [0, 1]."""
    field = torch.zeros(n, 1, height, width)
    cells, gain = 2, 1.0
    while cells < min(height, width) // 2:
        octave = torch.randn(n, 1, cells + 1, cells + 1, generator=rng)
        field += gain * F.interpolate(octave, size=(height, width), mode="bicubic", align_corners=True)
        cells, gain = cells * 2, gain * 0.55
    return ranked(field)


def ranked(field: Tensor) -> Tensor:
    """Return the rank of each pixel within its image, uniform in [0, 1], for ``(n, 1, height, width)``."""
    flat = field.flatten(1)
    # On a CPU NumPy's is far faster than PyTorch's.
    order = flat.argsort(1) if flat.is_cuda else torch.from_numpy(np.argsort(flat.numpy(), 1))
    ranks = torch.arange(flat.shape[1], dtype=flat.dtype, device=flat.device) / (flat.shape[1] - 1)
    return torch.empty_like(flat).scatter_(1, order, ranks.expand_as(flat)).view_as(field)
