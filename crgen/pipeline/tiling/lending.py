"""Evidence of t2 pooled over the windows around: for a window in which little of t2 was seen, or nothing.

The generator regresses t2 on t1 and the radar by the pixels of t2 that were seen. Its evidence is the sufficient
statistics of that regression: it adds up. Each cell of the lattice, windows side by side, gives its own. A window is
lent the sum around it, with Gaussian weights by distance, without the cell that holds its middle: of a window that is a
cell, that is its own evidence, and it would count twice. So a pixel is decided by its place and by what was seen up to
about ``4 · REACH`` windows from it within the run's area, not by how the area is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crgen.pipeline.box import Box
from crgen.pipeline.tiling.windows import Chunk, Lattice

Numbers = NDArray[np.float64]
Origin = tuple[int, int]
"""First row and column of a window."""

REACH = 8.0
"""Deviation of the Gaussian weight, in windows."""


def cells(chunk: Chunk, window: int) -> list[Origin]:
    """Return those of a chunk's windows that lie side by side over the whole lattice."""
    return [(r, c) for r, c in chunk.windows if r % window == 0 and c % window == 0]


class Lent:
    """The evidence that every window of an area is lent.

    Args:
        output: the area.
        lattice: its windows.
        told: the evidence of cells, by their origin; in others nothing of t2 was seen.
        size: numbers in the evidence of one.
    """

    def __init__(self, output: Box, lattice: Lattice, told: Iterable[tuple[Origin, Numbers]], size: int) -> None:
        self._window = lattice.window
        spans = (lattice.starts(output.r0, output.r1), lattice.starts(output.c0, output.c1))
        self._first = [self._cell(starts[0]) for starts in spans]
        shape = [self._cell(starts[-1]) - first + 1 for starts, first in zip(spans, self._first, strict=True)]
        field = np.zeros([*shape, size])
        for origin, numbers in told:
            field[self._index(origin)] = numbers
        cut_off = int(4 * REACH)
        near = np.exp(-((np.arange(-cut_off, cut_off + 1) / REACH) ** 2) / 2)
        others = near.copy()
        others[cut_off] = 0
        # Each cell but the one itself: those of other columns, in any row, and those of the same column. Nothing is
        # subtracted, so that what nobody else saw is exactly nothing.
        beside = _weighted(_weighted(field, others, axis=1), near, axis=0)
        self._field = beside + _weighted(field, others, axis=0)

    def at(self, windows: Sequence[Origin]) -> NDArray[np.float32]:
        """Return what windows are lent, ``(window, size)``: nothing of the cell that holds a window's middle."""
        return np.stack([self._field[self._index(origin)] for origin in windows]).astype(np.float32)

    def _index(self, origin: Origin) -> tuple[int, int]:
        row, col = (self._cell(start) - first for start, first in zip(origin, self._first, strict=True))
        return row, col

    def _cell(self, start: int) -> int:
        """Return the cell that holds the middle of a window, along one axis."""
        return (start + self._window // 2) // self._window


def _weighted(field: Numbers, weights: Numbers, axis: int) -> Numbers:
    """Return the weighted sums of neighbours along an axis; beyond the border nothing was seen."""
    sums: Numbers = ndimage.correlate1d(field, weights, axis, mode="constant")
    return sums
