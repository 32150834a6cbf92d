"""How large a raster's pixels are on the ground."""

from __future__ import annotations

from typing import Any

from odc.geo.geobox import GeoBox
from pyproj import Geod


def pixel_area(raster: Any) -> float:
    """Return the mean area of the pixels of an open raster on the WGS 84 ellipsoid, in square metres."""
    grid = GeoBox.from_rio(raster)
    box = grid.boundingbox
    outline = grid.extent.to_crs("EPSG:4326", resolution=max(box.span_x, box.span_y) / 20).geom
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(outline)
    pixels: int = raster.height * raster.width
    return abs(float(area)) / pixels
