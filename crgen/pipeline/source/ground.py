"""What a grid is on the ground, for people: the name of its CRS, and its pixels in metres."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer


def crs_name(crs: Any) -> str:
    """Return what people call a CRS: its EPSG code, or the name in its own definition."""
    crs = CRS.from_user_input(crs if isinstance(crs, CRS) else str(crs))
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.name


def meets(a: GeoBox, b: GeoBox) -> bool:
    """Say whether two grids have ground in common, in whatever CRS each is."""
    there = Transformer.from_crs(str(b.crs), str(a.crs), always_xy=True)
    edge = shapely.segmentize(b.extent.geom, max(b.extent.geom.length / 400, 1e-9))
    moved = shapely.transform(edge, lambda xy: np.column_stack(there.transform(xy[:, 0], xy[:, 1])))
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        return False
    return bool(shapely.intersects(a.extent.geom, moved if moved.is_valid else shapely.make_valid(moved)))


def crosses_180(geobox: GeoBox) -> bool:
    """Say whether a grid lies on both sides of the antimeridian."""
    edge = shapely.get_coordinates(shapely.segmentize(geobox.extent.geom, geobox.extent.geom.length / 100))
    lon, _ = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(edge[:, 0], edge[:, 1])
    return bool(np.ptp(lon) > 180)


def ground_pixel(geobox: GeoBox) -> float:
    """Return the side of a pixel in metres on the ground, at the middle of a grid in any unit.

    Where the CRS's own unit says it to a percent, that is taken: 10 for the usual grid, not 10.004.
    """
    crs, a = CRS.from_user_input(str(geobox.crs)), geobox.affine
    nominal = abs(a.a) * (crs.axis_info[0].unit_conversion_factor if crs.is_projected and crs.axis_info else np.nan)
    x, y = a @ (geobox.shape.x / 2, geobox.shape.y / 2)
    to_lonlat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = to_lonlat.transform(x + np.array([-0.5, 0.5, 0, 0]) * a.a, y + np.array([0, 0, -0.5, 0.5]) * a.e)
    _, _, sides = CRS("EPSG:4326").get_geod().inv(lon[::2], lat[::2], lon[1::2], lat[1::2])  # type: ignore[union-attr]
    ground = float(np.sqrt(np.prod(sides)))
    return ground if not np.isfinite(nominal) or abs(ground / nominal - 1) > 0.01 else nominal
