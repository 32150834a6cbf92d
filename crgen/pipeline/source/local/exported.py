"""Batch exports, once downloaded: GeoTIFFs of Earth Engine, cut as it pleased, become a Stack."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.windows import Window

from crgen.errors import StackError
from crgen.gee.fetch.export import ExportState
from crgen.gee.fetch.images import Layer, bands_of
from crgen.pipeline.source.local.lazy_raster import READ_ERRORS, to_dask
from crgen.pipeline.source.local.lazy_raster import Layer as DiskLayer
from crgen.pipeline.source.stack import build_stack


@dataclass(frozen=True)
class _Piece:
    """One file of an export, and where it lies on the grid."""

    path: Path
    row: int
    col: int
    height: int
    width: int


def open_exported(state: ExportState, folder: Path, geobox: GeoBox, chunk: int = 1024) -> xr.Dataset:
    """Open downloaded exports as a Stack; reads nothing yet.

    Args:
        state: what was exported.
        folder: where the GeoTIFFs were downloaded to.
        geobox: the grid that was exported.
        chunk: edge of the dask chunks in pixels.

    Raises:
        StackError: if files are missing, damaged, or on another grid.
    """
    manifest = state.manifest
    variables: dict[str, Any] = {}
    for export in state.exports:
        layer = Layer(export.variable, "", bands_of(export.variable, manifest))
        pieces = _pieces(folder, export.files, layer, geobox)
        names = tuple(name for name, _ in layer.bands[:-1])
        array = to_dask(DiskLayer(export.files, names, geobox, partial(_read, layer, pieces)), chunk)
        if export.variable.startswith("s2"):
            variables[export.variable], variables[export.variable.replace("s2", "clear")] = array[:-1], array[-1]
        else:
            variables[export.variable] = array
    days = {name: day.isoformat() for name, day in manifest.dates.items()}
    described = {**manifest.model_dump(mode="json"), **days}
    return build_stack(geobox, variables, pols=manifest.pols, bands=manifest.bands, manifest=described)


def _pieces(folder: Path, files: str, layer: Layer, geobox: GeoBox) -> tuple[_Piece, ...]:
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
        if count != len(layer.bands):
            raise StackError(f"'{path}' has {count} bands, the export had {len(layer.bands)}")
        pieces.append(_Piece(path, round(row), round(col), height, width))
        covered += height * width
    wanted = geobox.shape[0] * geobox.shape[1]
    if covered != wanted:
        raise StackError(
            f"'{folder}' holds {len(pieces)} files {files}*.tif with {covered:,} of {wanted:,} pixels; "
            "download all files of the export into it"
        )
    return tuple(pieces)


def _read(layer: Layer, pieces: tuple[_Piece, ...], rows: slice, columns: slice) -> NDArray[np.float32]:
    tile = np.zeros((rows.stop - rows.start, columns.stop - columns.start), layer.dtype)
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
        for (name, _), plane in zip(layer.bands, values, strict=True):
            tile[name][at] = plane
    return layer.decode(tile)
