"""Footprints: as the catalogue gives them, on a grid, in longitude and latitude, and as GeoJSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon, mapping
from shapely.geometry.base import BaseGeometry


def read_footprint(geometry: dict[str, Any], centre: float) -> BaseGeometry:
    """Return a footprint as a valid polygon whose longitudes lie around ``centre`` without a jump at 180°."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    rings = {"LinearRing": [coordinates], "Polygon": coordinates[:1], "MultiPolygon": [p[0] for p in coordinates]}[kind]
    polygons = []
    for ring in rings:
        points = np.asarray(ring, dtype=float)[:, :2]
        longitudes = np.rad2deg(np.unwrap(np.deg2rad(points[:, 0])))
        longitudes += 360 * np.round((centre - longitudes.mean()) / 360)
        polygons.append(shapely.make_valid(Polygon(np.column_stack([longitudes, points[:, 1]]))))
    return shapely.union_all(polygons)


def projected(footprint: BaseGeometry, crs: str) -> BaseGeometry:
    """Return a footprint of longitude and latitude in a grid's CRS, edges densified."""
    transform = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    dense = shapely.segmentize(footprint, 0.1)
    moved = shapely.transform(dense, lambda xy: np.column_stack(transform(xy[:, 0], xy[:, 1])))
    return shapely.make_valid(moved)


def lonlat(shape: BaseGeometry, crs: str) -> BaseGeometry:
    """Return a shape of a grid's CRS in longitude and latitude, up to the antimeridian; edges are not densified."""
    transform = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    west, south, east, north = shape.bounds
    middle, _ = transform((west + east) / 2, (south + north) / 2)

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        longitudes, latitudes = transform(xy[:, 0], xy[:, 1])
        # Beyond the antimeridian longitudes jump: count them from the shape's middle, and end there.
        longitudes = np.clip(middle + (longitudes - middle + 180) % 360 - 180, -180, 180)
        return np.column_stack([longitudes, latitudes])

    return shapely.transform(shape, moved)


def as_geojson(footprint: BaseGeometry) -> dict[str, Any]:
    """Return a footprint as GeoJSON, to a ten-thousandth of a degree (11 m)."""
    parts = [p for p in getattr(footprint, "geoms", [footprint]) if isinstance(p, Polygon)]
    shape = shapely.set_precision(parts[0] if len(parts) == 1 else MultiPolygon(parts), 1e-4)
    content: dict[str, Any] = mapping(shape)
    return {"type": content["type"], "coordinates": _lists(content["coordinates"])}


def _lists(coordinates: Any) -> Any:
    return [_lists(c) for c in coordinates] if isinstance(coordinates, (tuple, list)) else coordinates
