"""Rasters on disk, read lazily, window by window, and what happens to them on the way (units, grid).

Reading goes through plain functions of a window, so that every failure is told in one line whichever thread
meets it, and so that a pixel depends on its place and never on the window it is read in.
"""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.windows import Window

from crgen.errors import StackError
from crgen.pipeline.source.local.coding import Coding

Pixels = NDArray[np.float32]
# What rasterio, netCDF4, and zarr's codecs raise for damaged or truncated data.
READ_ERRORS = (OSError, RuntimeError, ValueError, EOFError, zlib.error)
# The largest window of source pixels that one call of the resampler holds.
MAX_SOURCE_PIXELS = 4096**2
MEASURABLE = {"VV": -30.0, "VH": -35.0}
"""Backscatter in dB below which Sentinel-1 measures nothing; Earth Engine's radar is clamped so too."""


@dataclass(frozen=True)
class LazyRaster:
    """One variable of a stack, not yet read.

    Attributes:
        label: how messages name it, e.g. ``"s1_t1.tif"``.
        channels: names along the channel axis; empty for a layer without one.
        geobox: its grid.
        read: ``(rows, columns) -> (channel, rows, columns)`` float32, a window, NaN where missing.
        zero: what a stored 0 means, by channel.
    """

    label: str
    channels: tuple[str, ...]
    geobox: GeoBox
    read: Callable[[slice, slice], Pixels]
    zero: tuple[float, ...] = (0.0,)


@dataclass(frozen=True)
class TiffBands:
    """The bands of a raster file that hold data, and how.

    Attributes:
        path: the file.
        indexes: of its bands, from 1.
        codings: of each.
        masked: whether GDAL has a mask for them, beside a value for "no data".
        alpha: index of the band that says where there is data; None if there is none.
    """

    path: Path
    indexes: tuple[int, ...]
    codings: tuple[Coding, ...]
    masked: bool
    alpha: int | None


def tiff_layer(bands: TiffBands, channels: tuple[str, ...], geobox: GeoBox) -> LazyRaster:
    """Read a GeoTIFF; what its nodata value, mask or alpha band leaves out becomes NaN."""
    return LazyRaster(bands.path.name, channels, geobox, partial(_read_tiff, bands), _zeros(bands.codings))


def variable_layer(
    variable: xr.DataArray, codings: tuple[Coding, ...], label: str, channels: tuple[str, ...], geobox: GeoBox
) -> LazyRaster:
    """Read a lazily opened variable of a Zarr store or NetCDF file, of dimensions ``y``, ``x`` and channels."""
    return LazyRaster(label, channels, geobox, partial(_read_variable, variable, codings, label), _zeros(codings))


def stacked(layers: Sequence[LazyRaster], label: str) -> LazyRaster:
    """Put layers of one grid together along their channels."""
    channels = tuple(channel for layer in layers for channel in layer.channels)
    zero = tuple(value for layer in layers for value in layer.zero)
    return LazyRaster(label, channels, layers[0].geobox, partial(_read_stacked, tuple(layers)), zero)


def in_order(layer: LazyRaster, channels: tuple[str, ...]) -> LazyRaster:
    """Put a layer's channels into another order; those that it lacks are missing."""
    order = [layer.channels.index(channel) if channel in layer.channels else None for channel in channels]
    zero = tuple(0.0 if i is None else layer.zero[i] for i in order)
    return replace(layer, channels=channels, read=partial(_read_ordered, layer.read, order), zero=zero)


def north_up(layer: LazyRaster) -> LazyRaster:
    """Turn a layer whose rows run northwards, or whose columns run westwards."""
    a, (height, width) = layer.geobox.affine, layer.geobox.shape
    down, across = a.e > 0, a.a < 0
    if not (down or across):
        return layer
    corner_x, corner_y = a.c + (a.a * width if across else 0), a.f + (a.e * height if down else 0)
    turned = GeoBox((height, width), Affine(abs(a.a), 0, corner_x, 0, -abs(a.e), corner_y), layer.geobox.crs)
    return replace(layer, geobox=turned, read=partial(_read_turned, layer, down, across))


def linear_to_db(layer: LazyRaster) -> LazyRaster:
    """Turn linear backscatter power into dB.

    Power of 0 is no data. Where the removal of thermal noise left less than nothing, calm water lay: it becomes the
    least that Sentinel-1 can measure.
    """
    least = np.array([MEASURABLE.get(channel, MEASURABLE["VV"]) for channel in layer.channels], np.float32)
    return replace(layer, read=partial(_read_db, layer.read, least[:, None, None]))


def scaled(layer: LazyRaster, factor: float, offset: float) -> LazyRaster:
    """Multiply and add, e.g. 1e-4 and -0.1 for reflectance stored as 1,000 to 11,000."""
    return replace(layer, read=partial(_read_scaled, layer.read, np.float32(factor), np.float32(offset)))


def only_between(layer: LazyRaster, low: float, high: float) -> LazyRaster:
    """Take as missing what lies beyond limits that no measurement can pass: some number stands for "none" there."""
    return replace(layer, read=partial(_read_between, layer.read, low, high))


def placed(layer: LazyRaster, geobox: GeoBox) -> LazyRaster:
    """Bring a layer onto another grid, NaN where it does not reach.

    On the same lattice (CRS, pixel size, whole-pixel offset) pixels are copied. Otherwise they are resampled
    bilinearly, each at its exact position; a pixel whose nearest source pixel is missing stays missing.
    """
    offset = _lattice_offset(layer.geobox, geobox)
    if offset is None:
        return replace(layer, geobox=geobox, read=partial(_read_bilinear, layer, geobox))
    return replace(layer, geobox=geobox, read=partial(_read_moved, layer, *offset))


def to_dask(layer: LazyRaster, chunk: int) -> da.Array:
    """Return the layer as a dask array of ``chunk`` × ``chunk`` blocks holding all channels."""
    rows, columns = (_edges(n, chunk) for n in layer.geobox.shape)
    count = max(len(layer.channels), 1)
    blocks: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _read_block,
        layer,
        name=f"layer-{uuid.uuid4().hex}",  # dask would read every pixel to find a name by itself
        chunks=((count,), rows, columns),
        dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )
    return blocks if layer.channels else blocks[0]


def _edges(size: int, chunk: int) -> tuple[int, ...]:
    return tuple(min(chunk, size - start) for start in range(0, size, chunk))


def _read_block(layer: LazyRaster, block_info: Any = None) -> Pixels:
    _, rows, columns = (slice(*edges) for edges in block_info[None]["array-location"])
    return layer.read(rows, columns)


def _missing_to_nan(values: NDArray[Any]) -> Pixels:
    pixels = np.asarray(values, dtype=np.float32)
    return np.where(np.isfinite(pixels), pixels, np.float32(np.nan))


def _zeros(codings: tuple[Coding, ...]) -> tuple[float, ...]:
    return tuple(float(np.float32(coding.offset)) for coding in codings)


def _decoded(codings: tuple[Coding, ...], stored: NDArray[Any]) -> Pixels:
    return np.stack([coding.decode(plane) for coding, plane in zip(codings, stored, strict=True)])


def _read_tiff(bands: TiffBands, rows: slice, columns: slice) -> Pixels:
    window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
    indexes = list(bands.indexes)
    try:
        with rasterio.open(bands.path) as file:
            pixels = _decoded(bands.codings, file.read(indexes, window=window))
            if bands.masked:
                pixels[file.read_masks(indexes, window=window) == 0] = np.nan
            if bands.alpha is not None:
                pixels[:, file.read(bands.alpha, window=window) == 0] = np.nan
    except READ_ERRORS as exc:
        raise _damaged(str(bands.path), rows, exc) from None
    return pixels


def _read_variable(
    variable: xr.DataArray, codings: tuple[Coding, ...], label: str, rows: slice, columns: slice
) -> Pixels:
    try:
        # Put in order only once it is read: a transposed variable would be read point by point.
        stored = variable.isel(y=rows, x=columns).transpose(..., "y", "x").to_numpy()
    except READ_ERRORS as exc:
        raise _damaged(label, rows, exc) from None
    return _decoded(codings, stored.reshape(-1, *stored.shape[-2:]))


def _read_stacked(layers: tuple[LazyRaster, ...], rows: slice, columns: slice) -> Pixels:
    return np.concatenate([layer.read(rows, columns) for layer in layers])


def _read_ordered(
    read: Callable[[slice, slice], Pixels], order: list[int | None], rows: slice, columns: slice
) -> Pixels:
    pixels = read(rows, columns)
    missing = np.full(pixels.shape[1:], np.nan, np.float32)
    return np.stack([missing if i is None else pixels[i] for i in order])


def _read_turned(layer: LazyRaster, down: bool, across: bool, rows: slice, columns: slice) -> Pixels:
    height, width = layer.geobox.shape
    if down:
        rows = slice(height - rows.stop, height - rows.start)
    if across:
        columns = slice(width - columns.stop, width - columns.start)
    turned = layer.read(rows, columns)[:, :: -1 if down else 1, :: -1 if across else 1]
    return np.ascontiguousarray(turned)


def _damaged(label: str, rows: slice, exc: Exception) -> StackError:
    reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
    return StackError(
        f"'{label}' cannot be read at rows {rows.start}–{rows.stop} ({reason}): "
        "it is damaged or truncated; copy it again"
    )


def _read_db(read: Callable[[slice, slice], Pixels], least: Pixels, rows: slice, columns: slice) -> Pixels:
    power = read(rows, columns)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(power < 0, least, _missing_to_nan(10 * np.log10(power)))


def _read_scaled(
    read: Callable[[slice, slice], Pixels], factor: np.float32, offset: np.float32, rows: slice, columns: slice
) -> Pixels:
    return read(rows, columns) * factor + offset


def _read_between(
    read: Callable[[slice, slice], Pixels], low: float, high: float, rows: slice, columns: slice
) -> Pixels:
    pixels = read(rows, columns)
    pixels[(pixels < low) | (pixels > high)] = np.nan
    return pixels


def _lattice_offset(source: GeoBox, target: GeoBox) -> tuple[int, int] | None:
    """Return the row and column of ``target``'s corner in ``source`` if both share one lattice."""
    if source.crs != target.crs or not np.allclose(source.affine[:5:4], target.affine[:5:4], rtol=1e-9, atol=0):
        return None
    a, b = source.affine, target.affine
    row, column = (b.f - a.f) / a.e, (b.c - a.c) / a.a
    whole = round(row), round(column)
    return whole if max(abs(row - whole[0]), abs(column - whole[1])) < 1e-3 else None


def _read_moved(layer: LazyRaster, down: int, right: int, rows: slice, columns: slice) -> Pixels:
    """Read a window that may reach beyond the layer; NaN there."""
    top, left = rows.start + down, columns.start + right
    bottom, end = rows.stop + down, columns.stop + right
    height, width = layer.geobox.shape
    inside = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(end, width))
    pixels = np.full((max(len(layer.channels), 1), bottom - top, end - left), np.nan, np.float32)
    if inside[0].start < inside[0].stop and inside[1].start < inside[1].stop:
        into = (slice(s.start - o, s.stop - o) for s, o in zip(inside, (top, left), strict=True))
        pixels[:, *into] = layer.read(*inside)
    return pixels


def _read_bilinear(layer: LazyRaster, geobox: GeoBox, rows: slice, columns: slice) -> Pixels:
    """Sample the layer bilinearly at the pixel centres of a window of ``geobox``."""
    a = geobox.affine
    x = a.c + (np.arange(columns.start, columns.stop) + 0.5) * a.a
    y = a.f + (np.arange(rows.start, rows.stop) + 0.5) * a.e
    source_x, source_y = _transformer(str(geobox.crs), str(layer.geobox.crs)).transform(*np.meshgrid(x, y))
    b = layer.geobox.affine
    column, row = (source_x - b.c) / b.a - 0.5, (source_y - b.f) / b.e - 0.5
    height, width = layer.geobox.shape
    reached = (column > -0.5) & (column < width - 0.5) & (row > -0.5) & (row < height - 0.5)
    count = max(len(layer.channels), 1)
    if not reached.any():
        return np.full((count, *reached.shape), np.nan, np.float32)
    left, top = np.floor(column[reached]).astype(int), np.floor(row[reached]).astype(int)
    right, down = column[reached] - left, row[reached] - top
    window = slice(top.min(), top.max() + 2), slice(left.min(), left.max() + 2)
    if (window[0].stop - window[0].start) * (window[1].stop - window[1].start) > MAX_SOURCE_PIXELS and y.size > 1:
        middle = (rows.start + rows.stop) // 2
        halves = (slice(rows.start, middle), slice(middle, rows.stop))
        return np.concatenate([_read_bilinear(layer, geobox, half, columns) for half in halves], axis=1)
    source = _read_moved(layer, 0, 0, *window)
    total, weights = np.zeros((count, left.size)), np.zeros((count, left.size))
    nearest = np.zeros((count, left.size), bool)
    for i in (0, 1):
        for j in (0, 1):
            value = source[:, top + i - window[0].start, left + j - window[1].start]
            valid = ~np.isnan(value)
            weight = np.abs(1 - i - down) * np.abs(1 - j - right) * valid
            total += weight * np.where(valid, value, 0)
            weights += weight
            nearest |= valid & ((down >= 0.5) == i) & ((right >= 0.5) == j)
    pixels = np.full((count, *reached.shape), np.nan, np.float32)
    pixels[:, reached] = np.where(nearest, total / np.where(nearest, weights, 1), np.nan)
    return pixels


@lru_cache(maxsize=8)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, always_xy=True)
