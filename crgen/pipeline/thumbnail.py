"""Small pictures of large rasters, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray
from rasterio.enums import Resampling

LONGEST = 700


class Thumbnail:
    """Mean over square blocks of pixels, fed chunk by chunk; missing pixels (NaN) do not count.

    Args:
        shape: ``(channel, y, x)`` of the raster.
        longest: limit of the thumbnail's longer side in pixels.
    """

    def __init__(self, shape: tuple[int, int, int], *, longest: int = LONGEST) -> None:
        count, height, width = shape
        self.step = -(-max(height, width) // longest)
        small = (count, -(-height // self.step), -(-width // self.step))
        self._sums = np.zeros(small)
        self._counts = np.zeros(small, "int64")
        self._lock = threading.Lock()

    def add(self, row: int, col: int, chunk: NDArray[np.floating[Any]]) -> None:
        """Add a chunk ``(channel, y, x)`` whose upper left pixel is ``(row, col)``; safe from any thread."""
        self.merge(row, col, *block_sums(chunk, row, col, self.step))

    def merge(self, row: int, col: int, sums: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        """Add what :func:`block_sums` made of the chunk at ``(row, col)``; safe from any thread."""
        y, x = row // self.step, col // self.step
        window = np.s_[:, y : y + sums.shape[1], x : x + sums.shape[2]]
        with self._lock:
            self._sums[window] += sums
            self._counts[window] += counts

    def mean(self) -> NDArray[np.float32]:
        """Return the thumbnail ``(channel, y, x)``, NaN where no pixel was valid."""
        filled = np.maximum(self._counts, 1)
        return np.where(self._counts > 0, self._sums / filled, np.nan).astype("float32")


def block_sums(
    chunk: NDArray[np.floating[Any]], row: int, col: int, step: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return sums and counts of the valid pixels of a chunk, by the raster's blocks of ``step`` × ``step``.

    Args:
        chunk: ``(channel, y, x)``, NaN where missing.
        row: its first row in the raster; blocks start at the raster's multiples of ``step``.
        col: its first column.
        step: side of a block.
    """
    valid = np.isfinite(chunk)
    rows = _block_starts(row, chunk.shape[1], step)
    cols = _block_starts(col, chunk.shape[2], step)

    def blocked(array: NDArray[Any]) -> NDArray[Any]:
        return np.add.reduceat(np.add.reduceat(array, rows, axis=1), cols, axis=2)

    return blocked(np.where(valid, chunk, 0.0).astype("float64")), blocked(valid.astype("int64"))


def stack_thumbnail(array: xr.DataArray, *, decibel: bool = False, longest: int = LONGEST) -> NDArray[np.float32]:
    """Return a thumbnail of a variable of a Stack; each dask chunk is computed once and reduced at once.

    Args:
        array: ``(channel, y, x)`` or ``(y, x)``, dask-backed or not, NaN where missing.
        decibel: average as power, for backscatter in dB.
        longest: limit of the longer side in pixels.

    Returns:
        ``(channel, y, x)`` means of the valid pixels, in the unit of ``array``.
    """
    planes = array if array.ndim == 3 else array.expand_dims("channel")
    if planes.chunks is not None:
        planes = planes.chunk({planes.dims[0]: -1})
    count, height, width = planes.shape
    thumbnail = Thumbnail((count, height, width), longest=longest)

    @delayed  # type: ignore[untyped-decorator]
    def reduce(chunk: NDArray[np.float32], row: int, col: int) -> tuple[Any, ...]:
        return row, col, *block_sums(10 ** (chunk / 10) if decibel else chunk, row, col, thumbnail.step)

    partials = compute(*(reduce(*chunk) for chunk in _chunks(planes)))  # type: ignore[no-untyped-call]
    for partial in partials:
        thumbnail.merge(*partial)
    mean = thumbnail.mean()
    return 10 * np.log10(mean) if decibel else mean


def cog_thumbnail(path: Path, bands: Sequence[str] | None = None, *, longest: int = LONGEST) -> NDArray[np.float32]:
    """Return a thumbnail of a COG, read from its overviews.

    Args:
        path: the file; a palette marks it as categorical, and classes are picked, not averaged.
        bands: descriptions of the bands to read, in order; all if not given.
        longest: limit of the longer side in pixels.

    Returns:
        ``(band, y, x)`` with scale and offset applied, NaN where there is no data.
    """
    with rasterio.open(path) as cog:
        indexes = [cog.descriptions.index(band) + 1 for band in bands] if bands else list(cog.indexes)
        step = max(1.0, max(cog.shape) / longest)
        categorical = "palette" in {interpretation.name for interpretation in cog.colorinterp}
        stored = cog.read(
            indexes,
            out_shape=(len(indexes), *(max(1, round(n / step)) for n in cog.shape)),
            resampling=Resampling.nearest if categorical else Resampling.average,
            masked=True,
        )
        scales = np.array([cog.scales[i - 1] for i in indexes])[:, None, None]
        offsets = np.array([cog.offsets[i - 1] for i in indexes])[:, None, None]
    values: NDArray[np.float32] = (stored * scales + offsets).filled(np.nan).astype("float32")
    return values


def _chunks(planes: xr.DataArray) -> Iterator[tuple[Any, int, int]]:
    if planes.chunks is None:
        yield planes.values, 0, 0
        return
    blocks = planes.data.to_delayed()
    rows, cols = (np.cumsum((0, *sizes[:-1])) for sizes in planes.chunks[1:])
    for (i, row), (j, col) in product(enumerate(rows), enumerate(cols)):
        yield blocks[0, i, j], int(row), int(col)


def _block_starts(start: int, length: int, step: int) -> NDArray[np.int64]:
    first = -start % step
    starts = np.arange(first, length, step)
    return starts if first == 0 else np.concatenate(([0], starts))
