"""Images as Earth Engine sees them: bands that compute their pixels in whatever grid is asked for.

Evaluation is pull-based: a band is asked for a ``Grid`` and asks its inputs for the same grid. Only stored rasters,
``resample`` and ``reproject`` hold a grid of their own, and only they interpolate.
"""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

Pixels = tuple[NDArray[Any], NDArray[Any]]
"""Values (float64 or integer) and mask (float64, 0 to 1), both (rows, columns)."""

LATTICE, COARSE = 16, 1000.0
"""Coordinates are transformed exactly on every 16th pixel and linearly between, of pixels up to 1000 m: that is off by
less than 1 mm at 10 m, and by less than a hundredth of a pixel."""


class EarthEngineError(Exception):
    """What Earth Engine would answer with HTTP 400 and this message."""


class Memo(threading.local):
    """What the request that this thread computes has computed already, up to 1 GB, the latest used."""

    BYTES = 1_000_000_000

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, Pixels] | None = None
        self._size = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Remembers inside this block."""
        self._kept, self._size = OrderedDict(), 0
        try:
            yield
        finally:
            self._kept = None

    def get(self, key: Any, compute: Callable[[], Pixels]) -> Pixels:
        kept = self._kept
        if kept is None:
            return compute()
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
        kept[key] = result = compute()
        self._size += sum(part.nbytes for part in result)
        while self._size > self.BYTES and len(kept) > 1:
            self._size -= sum(part.nbytes for part in kept.popitem(last=False)[1])
        return result


memo = Memo()


class _Transformers(threading.local):
    """pyproj transformers, one set per thread: they must not be shared."""

    def __init__(self) -> None:
        self.get = functools.cache(functools.partial(pyproj.Transformer.from_crs, always_xy=True))


_transformers = _Transformers()


def transform(source: str, target: str, x: Any, y: Any) -> tuple[Any, Any]:
    """Coordinates from one CRS to another, x before y."""
    return _transformers.get(source, target).transform(x, y)


@dataclass(frozen=True)
class Projection:
    """A CRS and the affine transform from pixels to it: x = a col + c, y = e row + f."""

    crs: str = "EPSG:4326"
    transform: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        if self.transform[1] or self.transform[3]:
            raise EarthEngineError("Rotated projections are not part of the local server.")

    @property
    def scale(self) -> float:
        """Nominal size of a pixel in metres."""
        size = float(np.sqrt(abs(self.transform[0] * self.transform[4])))
        return size if pyproj.CRS(self.crs).is_projected else size * 111319.49079327357

    def at_scale(self, metres: float) -> "Projection":
        a, _, c, _, e, f = self.transform
        factor = metres / self.scale
        return Projection(self.crs, (a * factor, 0.0, c, 0.0, e * factor, f))


@dataclass(frozen=True)
class Grid:
    """Pixels to compute: a projection and a size, pixel (0, 0) at the projection's origin."""

    projection: Projection
    width: int
    height: int

    def window(self, column: int, row: int, width: int, height: int) -> "Grid":
        a, _, c, _, e, f = self.projection.transform
        moved = (a, 0.0, c + a * column, 0.0, e, f + e * row)
        return Grid(Projection(self.projection.crs, moved), width, height)

    def centres(self, crs: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """x and y of every pixel's centre in ``crs``, each (height, width)."""
        return memo.get((self, crs), lambda: self._centres(crs))

    def _centres(self, crs: str) -> Pixels:
        a, _, c, _, e, f = self.projection.transform
        if crs == self.projection.crs:
            x = c + a * (np.arange(self.width) + 0.5)
            y = f + e * (np.arange(self.height) + 0.5)
            return np.broadcast_to(x, (self.height, self.width)), np.broadcast_to(y[:, None], (self.height, self.width))
        step = LATTICE if self.projection.scale <= COARSE else 1
        columns = np.arange(0, self.width + step, step)
        rows = np.arange(0, self.height + step, step)
        x, y = np.meshgrid(c + a * (columns + 0.5), f + e * (rows + 0.5))
        coarse = transform(self.projection.crs, crs, x, y)
        if step == 1:
            return coarse[0][: self.height, : self.width], coarse[1][: self.height, : self.width]
        return _refine(coarse[0], step, self.height, self.width), _refine(coarse[1], step, self.height, self.width)


def _refine(coarse: NDArray[Any], step: int, height: int, width: int) -> NDArray[Any]:
    """Linear interpolation of values on every ``step``-th pixel to every pixel."""
    weight = np.arange(step) / step
    across = (coarse[:, :-1, None] * (1 - weight) + coarse[:, 1:, None] * weight).reshape(len(coarse), -1)[:, :width]
    down = across[:-1, None, :] * (1 - weight)[:, None] + across[1:, None, :] * weight[:, None]
    return down.reshape(-1, width)[:height]


@dataclass(frozen=True)
class PixelType:
    """Precision ``int``, ``float`` or ``double`` with the range of an ``int``."""

    precision: str
    low: float | None = None
    high: float | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest NPY type that holds the range, as Earth Engine encodes it."""
        if self.precision != "int":
            return np.dtype("<f4" if self.precision == "float" else "<f8")
        low, high = self.low, self.high
        if low is None or high is None:
            return np.dtype("<i8")
        for code in ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4"):
            info = np.iinfo(code)
            if info.min <= low and high <= info.max:
                return np.dtype(code)
        return np.dtype("<i8")

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "PixelType", "precision": self.precision}
        if self.low is not None:
            out |= {"min": self.low, "max": self.high}
        return out


def int_type(code: str) -> PixelType:
    info = np.iinfo(code)
    return PixelType("int", int(info.min), int(info.max))


FLOAT, DOUBLE, BOOLEAN = PixelType("float"), PixelType("double"), PixelType("int", 0, 1)
UINT8, UINT16 = int_type("u1"), int_type("u2")
MASK = PixelType("float", 0, 1)


def union(left: PixelType, right: PixelType) -> PixelType:
    """The type that holds both: double over float over int, ranges joined."""
    if "double" in (left.precision, right.precision):
        return DOUBLE
    if "float" in (left.precision, right.precision):
        return FLOAT
    if None in (left.low, left.high, right.low, right.high):
        return PixelType("int")
    return PixelType("int", min(left.low, right.low), max(left.high, right.high))  # type: ignore[type-var]


@dataclass(frozen=True)
class Band:
    """One band: name, type, default projection, and how to compute it in a grid."""

    name: str
    type: PixelType
    compute: Callable[[Grid], Pixels]
    projection: Projection = field(default_factory=Projection)
    dimensions: tuple[int, int] | None = None

    def read(self, grid: Grid) -> Pixels:
        """Values and mask; a band that is read twice for one request is computed once."""
        return memo.get((self.compute, grid), lambda: self.compute(grid))

    def to_json(self) -> dict[str, Any]:
        out = {
            "id": self.name,
            "data_type": self.type.to_json(),
            "crs": self.projection.crs,
            "crs_transform": list(self.projection.transform),
        }
        return out | ({"dimensions": list(self.dimensions)} if self.dimensions else {})


@dataclass(frozen=True)
class Image:
    """Bands and properties; ``footprint`` in longitude and latitude, None where unbounded."""

    bands: tuple[Band, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    footprint: shapely.Geometry | None = None
    id: str | None = None
    version: int | None = None

    def band(self, name: str) -> Band:
        for band in self.bands:
            if band.name == name:
                return band
        raise EarthEngineError(
            f"Image.select: Band pattern '{name}' did not match any bands. Available bands: {self.names}"
        )

    @property
    def names(self) -> list[str]:
        return [band.name for band in self.bands]

    def map_bands(self, function: Callable[[Band], Band]) -> "Image":
        return replace(self, bands=tuple(map(function, self.bands)))

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"type": "Image", "bands": [band.to_json() for band in self.bands]}
        if self.id is not None:
            out |= {"id": self.id, "version": self.version}
        return out | ({"properties": dict(self.properties)} if self.properties else {})


def derived(
    band: Band, operation: Callable[[NDArray[Any], NDArray[Any]], Pixels], kind: PixelType | None = None
) -> Band:
    """The band with its values and mask passed through ``operation``."""
    return replace(band, type=kind or band.type, compute=lambda grid: operation(*band.read(grid)))


class Raster(Protocol):
    """Stored pixels on a grid of their own."""

    projection: Projection

    def block(self, column: int, row: int, width: int, height: int, level: int) -> Pixels:
        """A window of pyramid level ``level`` (pixels 2**level times larger), in that level's pixel numbers."""


def sample(raster: Raster, grid: Grid, method: str) -> Pixels:
    """Pixels of ``raster`` in ``grid``: nearest, or bilinear between the four nearest centres.

    Bilinear weighs valid neighbours only; the mask is interpolated too, so that it is a fraction along edges. From a
    grid at least twice as coarse, the pyramid level just finer than the grid is read.
    """
    x, y = grid.centres(raster.projection.crs)
    a, _, c, _, e, f = raster.projection.transform
    level = _level(x, y, a, e)
    if x.strides[0] == 0 and y.strides[1] == 0:
        # The same CRS: columns depend on x alone and rows on y alone.
        x, y = x[:1], y[:, :1]
    column, row = (x - c) / (a * 2**level), (y - f) / (e * 2**level)
    if method == "nearest":
        column, row = np.floor(column + 1e-7).astype(np.int64), np.floor(row + 1e-7).astype(np.int64)
        values, mask, left, top = _window(raster, column, row, level, margin=0)
        return values[row - top, column - left], mask[row - top, column - left]
    column, row = np.round(column - 0.5, 7), np.round(row - 0.5, 7)
    whole_column, whole_row = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    values, mask, left, top = _window(raster, whole_column, whole_row, level, margin=1)
    right, bottom = column - whole_column, row - whole_row
    total, weight = np.zeros((grid.height, grid.width)), np.zeros((grid.height, grid.width))
    for down, share_down in ((0, 1 - bottom), (1, bottom)):
        for across, share_across in ((0, 1 - right), (1, right)):
            if not (share_down.any() and share_across.any()):
                continue
            index = (whole_row - top + down, whole_column - left + across)
            share = share_down * share_across * mask[index]
            total += values[index] * share
            weight += share
    valid = weight > 1e-9
    return np.divide(total, weight, out=total, where=valid), np.where(valid, weight, 0.0)


def _window(
    raster: Raster, column: NDArray[Any], row: NDArray[Any], level: int, margin: int
) -> tuple[NDArray[Any], NDArray[Any], int, int]:
    """The one window that holds all pixels asked for, and where it begins."""
    left, top = int(column.min()), int(row.min())
    width, height = int(column.max()) - left + 1 + margin, int(row.max()) - top + 1 + margin
    if width * height > 2**26:
        raise EarthEngineError(f"Reprojection output too large ({width}x{height} pixels).")
    values, mask = raster.block(left, top, width, height, level)
    return values, mask, left, top


def _level(x: NDArray[Any], y: NDArray[Any], a: float, e: float) -> int:
    if min(x.shape) < 2:
        return 0
    mid = x.shape[0] // 2 - 1, x.shape[1] // 2 - 1
    across = np.hypot((x[mid[0], mid[1] + 1] - x[mid]) / a, (y[mid[0], mid[1] + 1] - y[mid]) / e)
    down = np.hypot((x[mid[0] + 1, mid[1]] - x[mid]) / a, (y[mid[0] + 1, mid[1]] - y[mid]) / e)
    return max(0, int(np.floor(np.log2(np.sqrt(across * down)) + 0.01)))


@dataclass(frozen=True)
class Computed:
    """A band computed on a grid of its own and read from there, as ``resample`` and ``reproject`` do."""

    source: Callable[[Grid], Pixels]
    projection: Projection

    def block(self, column: int, row: int, width: int, height: int, level: int) -> Pixels:
        a, _, c, _, e, f = self.projection.transform
        coarse = Projection(self.projection.crs, (a * 2**level, 0.0, c, 0.0, e * 2**level, f))
        return self.source(Grid(coarse, 1, 1).window(column, row, width, height))


def inside(geometry: shapely.Geometry | None, grid: Grid) -> NDArray[Any]:
    """Which pixel centres lie in ``geometry`` (longitude and latitude), (height, width)."""
    if geometry is None:
        return np.ones((grid.height, grid.width), bool)
    x, y = grid.centres("EPSG:4326")
    low_x, low_y, high_x, high_y = geometry.bounds if not geometry.is_empty else (1, 1, 0, 0)
    if x.max() < low_x or x.min() > high_x or y.max() < low_y or y.min() > high_y:
        return np.zeros(x.shape, bool)
    corners = shapely.box(x.min(), y.min(), x.max(), y.max())
    if shapely.contains_properly(geometry, corners):
        return np.ones(x.shape, bool)
    shapely.prepare(geometry)
    return shapely.contains_xy(geometry, x, y)
