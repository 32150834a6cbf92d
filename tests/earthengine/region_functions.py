"""Reductions of an image over a region."""

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from tests.earthengine.images import EarthEngineError, Grid, Image, Projection, memo
from tests.earthengine.interpreter import function
from tests.earthengine.objects import Reducer


@function("Image.reduceRegion")
def reduce_region(
    image: Image,
    reducer: Reducer,
    geometry: shapely.Geometry | None = None,
    scale: float | None = None,
    crs: Projection | None = None,
    bestEffort: bool = False,
    maxPixels: float = 1e7,
    tileScale: float = 1.0,
) -> dict[str, float | None]:
    """Each band's mean over the region; null where all of it is masked. ``tileScale`` changes no result.

    A pixel weighs what the region covers of it, or its mask if that is less.
    """
    if reducer.name != "mean":
        raise EarthEngineError(f"The local Earth Engine does not implement reduceRegion with Reducer.{reducer.name}.")
    if geometry is None or crs is None or scale is None:
        raise EarthEngineError("The local Earth Engine implements reduceRegion with geometry, crs and scale alone.")
    outline = _projected(geometry, crs.crs)
    grid = _around(outline, crs.at_scale(scale))
    count = grid.width * grid.height
    if count > maxPixels:
        if not bestEffort:
            raise EarthEngineError(
                f"Image.reduceRegion: Too many pixels in the region. Found {count}, but maxPixels allows only "
                f"{maxPixels:.0f}."
            )
        grid = _around(outline, crs.at_scale(scale * np.sqrt(count / maxPixels) * 1.01))
    covered = _covered(outline, grid)
    means: dict[str, float | None] = {}
    with memo.request():
        for band in image.bands:
            values, mask = band.read(grid)
            weight = np.minimum(mask, covered)
            total = float(weight.sum())
            means[band.name] = float((values * weight).sum()) / total if total else None
    return means


def _projected(geometry: shapely.Geometry, crs: str) -> shapely.Geometry:
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    dense = shapely.segmentize(geometry, 0.01)
    return shapely.transform(dense, lambda xy: np.column_stack(to_crs(xy[:, 0], xy[:, 1])))


def _around(outline: shapely.Geometry, projection: Projection) -> Grid:
    """The projection's own pixels that hold the outline."""
    a, _, c, _, e, f = projection.transform
    west, south, east, north = outline.bounds
    columns, rows = sorted(((west - c) / a, (east - c) / a)), sorted(((south - f) / e, (north - f) / e))
    left, top = int(np.floor(columns[0])), int(np.floor(rows[0]))
    width, height = int(np.ceil(columns[1])) - left, int(np.ceil(rows[1])) - top
    return Grid(projection, 1, 1).window(left, top, width, height)


def _covered(outline: shapely.Geometry, grid: Grid) -> NDArray[np.float64]:
    """What share of each pixel lies in the outline."""
    a, _, c, _, e, f = grid.projection.transform
    x, y = np.meshgrid(c + a * np.arange(grid.width), f + e * np.arange(grid.height))
    pixels = shapely.box(np.minimum(x, x + a), np.minimum(y, y + e), np.maximum(x, x + a), np.maximum(y, y + e))
    shapely.prepare(outline)
    share = shapely.contains_properly(outline, pixels).astype(float)
    edge = (share == 0) & shapely.intersects(outline, pixels)
    share[edge] = shapely.area(shapely.intersection(outline, pixels[edge])) / abs(a * e)
    return share
