"""The overviews of a raster: how many, how large, and how four pixels become one.

Level ``n`` halves level ``n - 1`` by squares of 2 × 2 pixels counted from the raster's upper left corner; where the
raster ends within a square, the pixels that exist decide. So a pixel of an overview is a function of its place alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 512
"""Side of a tile in pixels."""


def level_count(shape: tuple[int, int]) -> int:
    """Return how many overviews bring a raster ``(y, x)`` down to one tile."""
    levels, longest = 0, max(shape)
    while longest > BLOCK:
        levels, longest = levels + 1, longest // 2
    return levels


def level_shape(shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Return ``(y, x)`` of an overview; level 0 is the raster itself."""
    return -(-shape[0] >> level), -(-shape[1] >> level)


def halve(array: NDArray[Any], nodata: float, *, categorical: bool) -> NDArray[Any]:
    """Return ``(band, y, x)`` at half the resolution, in the same dtype; missing pixels do not count.

    Args:
        array: integers or float32.
        nodata: the value, or NaN, that says missing.
        categorical: take the most frequent value, of equally frequent ones the first to become so in reading order;
            else the mean, integers rounded half up.
    """
    height, width = array.shape[1:]
    even = np.pad(array, ((0, 0), (0, height % 2), (0, width % 2)), constant_values=array.dtype.type(nodata))
    quarters = [even[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    valid = [~np.isnan(q) if np.isnan(nodata) else q != nodata for q in quarters]
    if categorical:
        return _majority(quarters, valid, nodata)
    integer = array.dtype.kind != "f"
    total = np.zeros(quarters[0].shape, np.uint32 if integer else np.float64)
    if all(v.all() for v in valid):
        for quarter in quarters:
            total += quarter
        return ((total + 2) >> 2 if integer else total / 4).astype(array.dtype)
    number = np.zeros(quarters[0].shape, np.uint8)
    for quarter, here in zip(quarters, valid, strict=True):
        np.add(total, quarter, out=total, where=here)
        number += here
    divisor = np.maximum(number, 1)
    mean = (total + divisor // 2) // divisor if integer else total / divisor
    return np.where(number > 0, mean, nodata).astype(array.dtype)


def _majority(quarters: list[NDArray[Any]], valid: list[NDArray[np.bool_]], nodata: float) -> NDArray[Any]:
    """Return the value of four that first reaches the highest count."""
    shape = quarters[0].shape
    best = np.full(shape, nodata).astype(quarters[0].dtype)
    highest = np.zeros(shape, np.uint8)
    for i in range(4):
        count = sum(((quarters[j] == quarters[i]) & valid[j]).astype(np.uint8) for j in range(i + 1))
        wins = valid[i] & (count > highest)
        best[wins], highest[wins] = quarters[i][wins], count[wins]
    return best
