"""Pixels as they must come out, computed apart from the interpreter: numpy, exact pyproj coordinates and GDAL's warper.

Only the analytic ``ground`` and the catalogue's metadata are shared with the server. Grids are given as CRS, affine
transform (a, b, c, d, e, f) and shape (rows, columns); missing pixels are NaN.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject
from scipy import ndimage

from tests.earthengine import catalogue, ground, sentinel1, sentinel2

Array = NDArray[Any]
Method = Callable[[str, str, str, Affine, tuple[int, int]], Array]


def centres(crs: str, transform: Affine, shape: tuple[int, int], target: str) -> tuple[Array, Array]:
    """Exact coordinates of every pixel's centre in CRS ``target``."""
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    return project(crs, target, *(transform * (columns, rows)))


def backscatter(crs: str, transform: Affine, shape: tuple[int, int], polarisation: str, time: datetime) -> Array:
    """What a radar without pixels would measure at every centre, dB."""
    return ground.backscatter(*centres(crs, transform, shape, "EPSG:4326"), polarisation, time)


def reflectance(
    crs: str, transform: Affine, shape: tuple[int, int], band: str, time: datetime, cloudiness: float
) -> Array:
    """What an optical instrument without pixels would measure at every centre, 0 to 1."""
    return ground.reflectance(*centres(crs, transform, shape, "EPSG:4326"), band, time, cloudiness)


def native(image: str, band: str, column: Array, row: Array) -> Array:
    """Stored values of single pixels of an asset, by column and row of its own grid."""
    crs, transform, size = _grid(image, band)
    x, y = transform * (column + 0.5, row + 0.5)
    lon, lat = project(crs, "EPSG:4326", x, y)
    within = (column >= 0) & (row >= 0) & (column < size[0]) & (row < size[1])
    radar = image.startswith((catalogue.S1, catalogue.S1_DB))
    values = _radar(image, band, lon, lat, x, y) if radar else _optical(image, band, lon, lat)
    return np.where(within, values, np.nan)


def nearest(image: str, band: str, crs: str, transform: Affine, shape: tuple[int, int]) -> Array:
    """Every centre takes the stored pixel it falls into."""
    own_crs, own, _ = _grid(image, band)
    column, row = ~own * centres(crs, transform, shape, own_crs)
    return native(image, band, np.floor(column + 1e-7), np.floor(row + 1e-7))


def bilinear(image: str, band: str, crs: str, transform: Affine, shape: tuple[int, int]) -> Array:
    """GDAL's bilinear warp of the stored pixels, without its coordinate approximation and without smoothing.

    Between missing and valid neighbours, GDAL weighs the valid ones.
    """
    stored, own_crs, own = _window(image, band, crs, transform, shape)
    return _warp(stored, own_crs, own, crs, transform, shape)


def closed(decibel: Array) -> Array:
    """Gaps of up to two pixels filled with the mean power of the eight neighbours."""
    there = np.isfinite(decibel)
    square = np.ones((3, 3), bool)
    within = ndimage.binary_closing(there, square, border_value=False) & ~there
    power = np.where(there, 10 ** (decibel / 10), 0.0)
    total, count = (ndimage.convolve(part, square.astype(float), mode="constant") for part in (power, there * 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(within, 10 * np.log10(total / count), decibel)


def _window(image: str, band: str, crs: str, transform: Affine, shape: tuple[int, int]) -> tuple[Array, str, Affine]:
    """The stored pixels around a grid, with their CRS and transform."""
    own_crs, own, _ = _grid(image, band)
    column, row = ~own * centres(crs, transform, shape, own_crs)
    left, top = int(np.floor(column.min())) - 2, int(np.floor(row.min())) - 2
    columns, rows = np.meshgrid(np.arange(left, int(column.max()) + 3), np.arange(top, int(row.max()) + 3))
    return native(image, band, columns, rows), own_crs, own * Affine.translation(left, top)


def _warp(stored: Array, own_crs: str, own: Affine, crs: str, transform: Affine, shape: tuple[int, int]) -> Array:
    out = np.full(shape, np.nan)
    reproject(
        stored,
        out,
        src_transform=own,
        src_crs=own_crs,
        src_nodata=np.nan,
        dst_transform=transform,
        dst_crs=crs,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
        tolerance=0.0,
        XSCALE=1,
        YSCALE=1,
    )
    return out


def mosaic(
    images: Iterable[str], band: str, crs: str, transform: Affine, shape: tuple[int, int], method: Method
) -> Array:
    """The last image that has a pixel gives it."""
    out = np.full(shape, np.nan)
    for image in images:
        values = method(image, band, crs, transform, shape)
        out = np.where(np.isnan(values), out, values)
    return out


def find(collection: str, *parts: str) -> list[str]:
    """Ids of a collection's images that contain all ``parts``, in the order of time."""
    return [
        str(image.id) for image in catalogue.collections()[collection] if all(part in str(image.id) for part in parts)
    ]


def _grid(image: str, band: str) -> tuple[str, Affine, Sequence[int]]:
    stored = catalogue.images()[image].band(band).to_json()
    return stored["crs"], Affine(*stored["crs_transform"]), stored["dimensions"]


def project(source: str, target: str, x: Any, y: Any) -> tuple[Array, Array]:
    """Coordinates from one CRS to another, x before y."""
    return _transformer(source, target).transform(x, y)


@functools.cache
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def _across_and_along(track: Any, lon: Array, lat: Array) -> tuple[Array, Array]:
    """Metres right of and along a flight path, by rotating UTM coordinates about its reference point."""
    x, y = project("EPSG:4326", track.crs, lon, lat)
    x0, y0 = project("EPSG:4326", track.crs, track.lon, track.lat)
    turned = ((x - x0) + 1j * (y - y0)) * np.exp(1j * np.radians(track.heading))
    return turned.real, turned.imag


def _radar(image: str, band: str, lon: Array, lat: Array, x: Array, y: Array) -> Array:
    properties = catalogue.images()[image].properties
    relative, number = properties["relativeOrbitNumber_start"], properties["sliceNumber"] - 3
    time = _time(properties["system:time_start"]) - timedelta(seconds=25 * (number + 2))
    across, along = _across_and_along(sentinel1.TRACKS[relative], lon, lat)
    values = ground.measured(lon, lat, x, y, band, time)
    if time.year < 2018:
        values = np.where(np.abs(across) > 124_400.0, -40.0, values)
    values = np.where(np.abs(across) < 125_000.0, values, np.nan)
    inside = (along >= 170_000.0 * number + 6.0) & (along < 170_000.0 * (number + 1) - 6.0)
    values = np.where(inside, values, np.nan)
    if relative == 113 and time.date().isoformat() == "2021-07-08":
        values = np.where((lon >= 114.02) & (lon < 114.04) & (lat >= 34.60) & (lat < 34.62), np.nan, values)
    return values


def _optical(image: str, band: str, lon: Array, lat: Array) -> Array:
    index = image.rsplit("/", 1)[1]
    properties = catalogue.images()[f"{catalogue.S2}/{index}"].properties
    time = datetime.strptime(index[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    cloudiness = properties["CLOUDY_PIXEL_PERCENTAGE"] / 100
    across, along = _across_and_along(sentinel2.TRACKS[properties["SENSING_ORBIT_NUMBER"]], lon, lat)
    if band in ("cs", "cs_cdf"):
        values = ground.clear_sky(lon, lat, time, cloudiness)
    else:
        newer = any(
            catalogue.images()[other].properties["PROCESSING_BASELINE"] > properties["PROCESSING_BASELINE"]
            for other in find(catalogue.S2, index[:16], f"_T{properties['MGRS_TILE']}")
        )
        values = np.round(10_000 * (ground.reflectance(lon, lat, band, time, cloudiness) + (0.03 if newer else 0.0)))
    if (index[:8], properties["MGRS_TILE"]) == ("20210729", "49SGU"):
        values = np.where((along >= 0) == index.split("_")[1].endswith("9"), values, np.nan)
    return np.where(np.abs(across) < 145_000.0, values, np.nan)


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
