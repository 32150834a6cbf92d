"""Batch exports, once downloaded: GeoTIFFs of Earth Engine, cut as it pleased, become the arrays of a Stack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from crgen.errors import StackError
from crgen.pipeline.source.local.lazy_raster import READ_ERRORS, LazyRaster, to_dask


@dataclass(frozen=True)
class _Piece:
    """One file of an export, and where it lies on the grid."""

    path: Path
    row: int
    col: int
    height: int
    width: int


class Encoding(Protocol):
    """How the pixels of a variable were exported."""

    @property
    def bands(self) -> tuple[tuple[str, str], ...]:
        """Name and dtype of each; the last says which pixels are valid."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a pixel."""

    def decode(self, tile: NDArray[Any]) -> NDArray[np.float32]:
        """Return pixels in the Stack's units, ``(channel, y, x)``."""


def open_exported(folder: Path, files: str, geobox: GeoBox, encoding: Encoding, chunk: int = 1024) -> da.Array:
    """Open the downloaded export of a variable; reads nothing yet.

    Args:
        folder: where the GeoTIFFs were downloaded to.
        files: how their names start.
        geobox: the grid that was exported.
        encoding: how its pixels were exported.
        chunk: edge of the dask chunks in pixels.

    Returns:
        ``(channel, y, x)`` float32, NaN where missing.

    Raises:
        StackError: if files are missing, damaged, or on another grid.
    """
    pieces = _pieces(folder, files, encoding, geobox)
    names = tuple(name for name, _ in encoding.bands[:-1])
    return to_dask(LazyRaster(files, names, geobox, partial(_read, encoding, pieces)), chunk)


def _pieces(folder: Path, files: str, encoding: Encoding, geobox: GeoBox) -> tuple[_Piece, ...]:
    """Return the files of an export; together they must cover the grid once."""
    pieces = []
    covered = 0
    for path in sorted((*folder.glob(f"{files}.tif"), *folder.glob(f"{files}-*.tif"))):
        try:
            with rasterio.open(path) as file:
                crs, transform, (height, width), count = file.crs, file.transform, file.shape, file.count
        except READ_ERRORS as error:
            raise StackError(f"'{path}' cannot be opened as a GeoTIFF ({error}); download it again") from None
        a = geobox.affine
        col, row = (transform.c - a.c) / a.a, (transform.f - a.f) / a.e
        aligned = max(abs(col - round(col)), abs(row - round(row))) < 1e-3 and abs(transform.a - a.a) < 1e-6
        if crs is None or crs != rasterio.crs.CRS.from_user_input(str(geobox.crs)) or not aligned:
            raise StackError(f"'{path}' lies on another grid than was exported; is it of another export?")
        if count != len(encoding.bands):
            raise StackError(f"'{path}' has {count} bands, the export had {len(encoding.bands)}")
        pieces.append(_Piece(path, round(row), round(col), height, width))
        covered += height * width
    wanted = geobox.shape[0] * geobox.shape[1]
    if covered != wanted:
        raise StackError(
            f"'{folder}' holds {len(pieces)} files {files}*.tif with {covered:,} of {wanted:,} pixels; "
            "download all files of the export into it"
        )
    return tuple(pieces)


def _read(encoding: Encoding, pieces: tuple[_Piece, ...], rows: slice, columns: slice) -> NDArray[np.float32]:
    tile = np.zeros((rows.stop - rows.start, columns.stop - columns.start), encoding.dtype)
    for piece in pieces:
        top, bottom = max(rows.start, piece.row), min(rows.stop, piece.row + piece.height)
        left, right = max(columns.start, piece.col), min(columns.stop, piece.col + piece.width)
        if top >= bottom or left >= right:
            continue
        window = Window(left - piece.col, top - piece.row, right - left, bottom - top)
        try:
            with rasterio.open(piece.path) as file:
                values = file.read(window=window)
        except READ_ERRORS as error:
            raise StackError(f"'{piece.path}' cannot be read ({error}); download it again") from None
        at = slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start)
        for (name, _), plane in zip(encoding.bands, values, strict=True):
            tile[name][at] = plane
    return encoding.decode(tile)
