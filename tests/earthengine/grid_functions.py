"""Functions that give images another grid."""

from dataclasses import replace
from typing import Any

import numpy as np
import shapely

from tests.earthengine.images import (
    Band,
    Computed,
    EarthEngineError,
    Grid,
    Image,
    Pixels,
    Projection,
    sample,
    transform,
)
from tests.earthengine.interpreter import function
from tests.earthengine.objects import to_geometry


@function("Image.resample")
def resample(image: Image, mode: str = "bilinear") -> Image:
    if mode != "bilinear":
        raise EarthEngineError(f"The local Earth Engine does not implement Image.resample with '{mode}'.")

    def resampled(band: Band) -> Band:
        raster = Computed(band.read, band.projection)
        return replace(band, compute=lambda grid: sample(raster, grid, mode))

    return replace(image.map_bands(resampled), id=None)


def _target(
    name: str, band: Band, crs: Projection, crsTransform: list[float] | None, scale: float | None
) -> Projection:
    if crsTransform is not None and scale is not None:
        raise EarthEngineError(f"{name}: Cannot specify both crsTransform and scale.")
    if crsTransform is not None:
        return Projection(crs.crs, tuple(float(number) for number in crsTransform))  # type: ignore[arg-type]
    return crs if scale is None else crs.at_scale(scale)


@function("Image.reproject")
def reproject(
    image: Image, crs: Projection, crsTransform: list[float] | None = None, scale: float | None = None
) -> Image:
    def reprojected(band: Band) -> Band:
        target = _target("Image.reproject", band, crs, crsTransform, scale)
        raster = Computed(band.read, target)
        return replace(band, projection=target, compute=lambda grid: sample(raster, grid, "nearest"), dimensions=None)

    return replace(image.map_bands(reprojected), id=None)


@function("Image.setDefaultProjection")
def set_default_projection(
    image: Image, crs: Projection, crsTransform: list[float] | None = None, scale: float | None = None
) -> Image:
    return replace(
        image.map_bands(
            lambda band: replace(
                band, projection=_target("Image.setDefaultProjection", band, crs, crsTransform, scale), dimensions=None
            )
        ),
        id=None,
    )


@function("Image.projection")
def image_projection(image: Image) -> Projection:
    found = {band.projection for band in image.bands}
    if len(found) != 1:
        raise EarthEngineError(
            "Image.projection: The bands of the specified image contains different projections. "
            "Use Image.select to pick a single band."
        )
    return found.pop()


@function("Image.clipToBoundsAndScale")
def clip_to_bounds_and_scale(
    input: Image,
    geometry: Any = None,
    width: int | None = None,
    height: int | None = None,
    maxDimension: int | None = None,
    scale: float | None = None,
) -> Image:
    if (width, height, maxDimension, scale) != (None, None, None, None):
        raise EarthEngineError("The local Earth Engine implements Image.clipToBoundsAndScale without scaling alone.")
    if geometry is None:
        return input
    shape = to_geometry(geometry)
    bounded = input.map_bands(lambda band: _bounded(band, shape))
    return replace(
        bounded, footprint=shape if input.footprint is None else shape.intersection(input.footprint), id=None
    )


def _bounded(band: Band, shape: shapely.Geometry) -> Band:
    """The band on those pixels of its projection that hold the bounds of ``shape``, masked outside."""
    a, _, c, _, e, f = band.projection.transform
    x, y = transform("EPSG:4326", band.projection.crs, *shapely.get_coordinates(shape).T)
    # The bounds came from whole pixels through longitude and latitude: that is off by far less than .001 of a pixel.
    columns, rows = np.round((x - c) / a, 3), np.round((y - f) / e, 3)
    left, top = int(np.floor(columns.min())), int(np.floor(rows.min()))
    width, height = int(np.ceil(columns.max())) - left, int(np.ceil(rows.max())) - top
    whole = Grid(band.projection, 1, 1).window(left, top, width, height).projection

    def read(grid: Grid) -> Pixels:
        values, mask = band.read(grid)
        x, y = grid.centres(whole.crs)
        column, row = (x - whole.transform[2]) / a, (y - whole.transform[5]) / e
        return values, np.where((column >= 0) & (column < width) & (row >= 0) & (row < height), mask, 0.0)

    return replace(band, compute=read, projection=whole, dimensions=(width, height))
