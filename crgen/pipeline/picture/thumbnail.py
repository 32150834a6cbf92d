"""Small pictures of large rasters, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from crgen.pipeline.cog.profile import composites

LONGEST = 1000

SHOWN_INPUTS = ("s2_t1", "s1_t1", "s1_t2")

Reduced = Mapping[str, tuple[NDArray[np.float32], NDArray[np.uint32]]]
"""Sums and numbers of valid pixels over a thumbnail's blocks, by variable of the Stack."""


class Thumbnail:
    """Mean over square blocks of pixels, put together chunk by chunk; missing pixels (NaN) do not count.

    Args:
        shape: ``(channel, y, x)`` of the raster.
        decibel: average as power, for backscatter in dB.
        longest: limit of the thumbnail's longer side in pixels.
    """

    def __init__(self, shape: tuple[int, int, int], *, decibel: bool = False, longest: int = LONGEST) -> None:
        count, height, width = shape
        self.step = -(-max(height, width) // longest)
        small = (count, -(-height // self.step), -(-width // self.step))
        self._decibel = decibel
        self._sums = np.zeros(small)
        self._counts = np.zeros(small, "int64")

    def reduce(
        self, row: int, col: int, chunk: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """Return the sums over the thumbnail's blocks of a chunk ``(channel, y, x)``, and how many pixels are valid.

        Args:
            row: of the chunk's upper left pixel.
            col: alike.
            chunk: its pixels.
        """
        if self._decibel:
            chunk = 10 ** (chunk / 10)
        valid = np.isfinite(chunk)
        rows = _block_starts(row, chunk.shape[1], self.step)
        cols = _block_starts(col, chunk.shape[2], self.step)

        def blocked(array: NDArray[Any]) -> NDArray[Any]:
            return np.add.reduceat(np.add.reduceat(array, rows, axis=1), cols, axis=2)

        sums = blocked(np.where(valid, chunk, 0.0).astype("float64"))
        return sums.astype("float32"), blocked(valid.astype("uint32")).astype("uint32")

    def put(self, row: int, col: int, sums: NDArray[np.float32], counts: NDArray[np.uint32]) -> None:
        """Add what :meth:`reduce` returned for the chunk at ``(row, col)``."""
        y, x = row // self.step, col // self.step
        window = np.s_[:, y : y + sums.shape[1], x : x + sums.shape[2]]
        self._sums[window] += sums
        self._counts[window] += counts

    def mean(self) -> NDArray[np.float32]:
        """Return the thumbnail ``(channel, y, x)``, NaN where no pixel was valid."""
        filled = np.maximum(self._counts, 1)
        mean = np.where(self._counts > 0, self._sums / filled, np.nan)
        return (10 * np.log10(mean) if self._decibel else mean).astype("float32")


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


def _block_starts(start: int, length: int, step: int) -> NDArray[np.int64]:
    first = -start % step
    starts = np.arange(first, length, step)
    return starts if first == 0 else np.concatenate(([0], starts))


class InputThumbnails:
    """Small pictures of a Stack's variables, made of its chunks as they are read, so that no input is read twice.

    Whoever reads a chunk reduces it; the small sums are put together when all chunks are done.

    Args:
        shape: ``(y, x)`` of the product.
        bands: the bands of its images, in order.
        made: the bands of the product; those of its :func:`~crgen.pipeline.cog.profile.composites` are kept.
        pol: the first polarisation of its radar, the one that is kept.
    """

    def __init__(self, shape: tuple[int, int], bands: Sequence[str], made: Sequence[str], pol: str) -> None:
        self.pol = pol
        self._bands = list(dict.fromkeys(band for composite in composites(made) for band in composite))
        shown = [list(bands).index(band) for band in self._bands]
        self._channels = {name: [0] if name.startswith("s1") else shown for name in SHOWN_INPUTS}
        self._thumbnails = {
            name: Thumbnail((len(channels), *shape), decibel=name.startswith("s1"))
            for name, channels in self._channels.items()
        }

    def reduce(self, row: int, col: int, data: Mapping[str, NDArray[np.float32]]) -> Reduced:
        """Return the pixels ``(channel, y, x)`` of a chunk in small, by variable, to :meth:`put` later."""
        return {
            name: self._thumbnails[name].reduce(row, col, data[name][self._channels[name]])
            for name in SHOWN_INPUTS
            if name in data
        }

    def put(self, row: int, col: int, reduced: Reduced) -> None:
        """Add what :meth:`reduce` returned for the chunk at ``(row, col)``."""
        for name, (sums, counts) in reduced.items():
            self._thumbnails[name].put(row, col, sums, counts)

    def radar(self, name: str) -> NDArray[np.float32]:
        """Return backscatter of the polarisation that is kept, ``(y, x)``."""
        image: NDArray[np.float32] = self._thumbnails[name].mean()[0]
        return image

    def optical(self, name: str, bands: Sequence[str]) -> NDArray[np.float32]:
        """Return some of the bands that are kept, ``(y, x, band)``."""
        return np.moveaxis(self._thumbnails[name].mean()[[self._bands.index(band) for band in bands]], 0, -1)
