"""Sums and means over the surroundings of each pixel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

REACH = (7, 21)
"""Sides in pixels of the local means that pixels are regressed on beside themselves; products use the first."""


def local_sum(x: Tensor, side: int) -> Tensor:
    """Return the mean over ``side`` × ``side`` pixels, 0 beyond the border; wide ones at a quarter of the size."""
    if side > 16:
        coarse = local_sum(F.avg_pool2d(x, 4), side // 4 | 1)
        return F.interpolate(coarse, scale_factor=4, mode="bilinear", align_corners=False)
    return _run_sum(_run_sum(x, side, -2), side, -1) / side**2


def _run_sum(x: Tensor, side: int, dim: int) -> Tensor:
    """Return the sum of ``side`` neighbours along one axis: runs of 1, 2, 4 … are each the sum of two shorter ones."""
    size, half = x.shape[dim], side // 2
    runs = F.pad(x, (half, half) if dim == -1 else (0, 0, half, half))
    total, start, length = None, 0, 1
    while True:
        if side & length:
            piece = runs.narrow(dim, start, size)
            total = piece if total is None else total + piece
            start += length
        if 2 * length > side:
            assert total is not None
            return total
        count = runs.shape[dim] - length
        runs = runs.narrow(dim, 0, count) + runs.narrow(dim, length, count)
        length *= 2


def local_mean(x: Tensor, weight: Tensor, side: int) -> Tensor:
    """Return the weighted mean over ``side`` × ``side`` pixels, near 0 where all weights are."""
    return local_sum(x * weight, side) / (local_sum(weight, side) + 1e-3)
