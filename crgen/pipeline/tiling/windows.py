"""The lattice of sliding windows: where windows stand, which chunk owns which, and how they add up.

Windows stand at multiples of the stride counted from the CRS's origin, so a place is always covered by the same
windows whatever the area's outline. Each window's output is rounded to integers and summed with integer weights that
add up to one constant, so the sum does not depend on the order or the chunk in which windows were computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crgen.pipeline.box import Box


@dataclass(frozen=True)
class Lattice:
    """Windows of ``window`` pixels at every half window.

    Raises:
        ValueError: if ``window`` is odd.
    """

    window: int

    def __post_init__(self) -> None:
        if self.window < 2 or self.window % 2:
            raise ValueError(f"a window of {self.window} pixels cannot be halved")

    @property
    def stride(self) -> int:
        """Distance of neighbouring windows."""
        return self.window // 2

    @property
    def weights(self) -> NDArray[np.int64]:
        """Integer weights ``(window, window)``: a tent whose overlapping sums are :attr:`total` at every pixel."""
        rise = 2 * np.arange(self.stride, dtype=np.int64) + 1
        tent = np.concatenate([rise, rise[::-1]])
        return np.outer(tent, tent)

    @property
    def total(self) -> int:
        """Sum of the four overlapping weights at every pixel."""
        return self.window * self.window

    def starts(self, low: int, high: int) -> range:
        """Return where windows that touch ``low … high-1`` begin, along one axis."""
        first = ((low - self.window) // self.stride + 1) * self.stride
        return range(first, high, self.stride)


At = tuple[int, int]
"""Row and column of a chunk in its grid."""


class Chunk(NamedTuple):
    """One unit of work: a rectangle of the output, and the windows it owns."""

    row: int
    col: int
    box: Box
    """Pixels of the output this chunk writes."""
    row_starts: range
    col_starts: range
    """Where the windows it owns begin: those that begin in its box, and at the output's first edge those before. May
    be empty in a narrow last chunk."""

    @property
    def at(self) -> At:
        """Its place in the grid."""
        return self.row, self.col

    @property
    def windows(self) -> list[tuple[int, int]]:
        """Origins (row, column) of the owned windows."""
        return [(r, c) for r in self.row_starts for c in self.col_starts]


class ChunkGrid:
    """The output cut at multiples of ``chunk`` pixels counted from its own corner, as a COG's tiles are.

    The windows stay where the CRS puts them, so that how the output is cut decides no pixel.

    Args:
        output: the output's rectangle on the lattice.
        lattice: the windows.
        chunk: side of a chunk in pixels; rounded up to a multiple of the stride.
    """

    def __init__(self, output: Box, lattice: Lattice, chunk: int) -> None:
        self.output, self.lattice = output, lattice
        self.chunk = -(-max(chunk, lattice.window) // lattice.stride) * lattice.stride
        self._rows = self._axis(output.r0, output.r1)
        self._cols = self._axis(output.c0, output.c1)

    def _axis(self, low: int, high: int) -> list[tuple[int, int, range]]:
        starts = self.lattice.starts(low, high)
        axis = []
        for begin in range(low, high, self.chunk):
            end = min(begin + self.chunk, high)
            first = starts.start if begin == low else -(-begin // starts.step) * starts.step
            axis.append((begin, end, range(first, end, starts.step)))
        return axis

    @property
    def shape(self) -> tuple[int, int]:
        """Chunks down and across."""
        return len(self._rows), len(self._cols)

    @property
    def count(self) -> int:
        """Chunks."""
        return len(self._rows) * len(self._cols)

    @property
    def window_count(self) -> int:
        """Windows over all chunks; each counts once."""
        down, across = (sum(len(starts) for *_, starts in axis) for axis in (self._rows, self._cols))
        return down * across

    def __getitem__(self, at: tuple[int, int]) -> Chunk:
        row, col = at
        r0, r1, row_starts = self._rows[row]
        c0, c1, col_starts = self._cols[col]
        return Chunk(row, col, Box(r0, r1, c0, c1), row_starts, col_starts)

    def __iter__(self) -> Iterator[Chunk]:
        for row in range(self.shape[0]):
            for col in range(self.shape[1]):
                yield self[row, col]

    def corner(self, chunk: Chunk) -> tuple[int, int]:
        """Return a chunk's first row and column counted from the output's."""
        return chunk.box.r0 - self.output.r0, chunk.box.c0 - self.output.c0

    def footprint(self, chunk: Chunk) -> Box:
        """Return the rectangle that the chunk's own windows and pixels cover."""
        window = self.lattice.window
        ends = [*chunk.box]
        for axis, starts in enumerate((chunk.row_starts, chunk.col_starts)):
            if starts:
                ends[2 * axis] = min(starts[0], ends[2 * axis])
                ends[2 * axis + 1] = max(starts[-1] + window, ends[2 * axis + 1])
        return Box(*ends)
