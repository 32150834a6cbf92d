"""Outlines of many corners, made simpler in a time that grows with the corners, not with their square."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rasterio.features import shapes, sieve
from scipy import ndimage
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

MANY_CORNERS = 2000
"""Corners of an outline beyond which it is simplified."""
MOST_PAIRS = 2e6
"""Pairs of edges so close that they must be compared, beyond which an outline is traced: some seconds' work."""
MOST_CELLS = 2**25
"""Of the raster that an outline is traced on."""
MOST_TRACED = 20_000
"""Corners of a traced outline beyond which its raster is too fine: they are noise."""
SMALLEST_GAP = 400
"""Cells of that raster below which a gap closes: 20 × 20, about a pixel of the map."""
SAMPLED = 100
"""Edges by which it is judged how close all lie."""


class Simplified(NamedTuple):
    """Polygons with fewer corners."""

    polygons: list[Polygon]
    """Valid."""
    precision: float
    """By how much the outline may have moved, in the unit of its coordinates."""


def simplified(polygons: list[Polygon], precision: float) -> Simplified:
    """Return polygons with as few corners as a precision allows.

    Each is simplified by itself. Where its edges crowd, as of spikes or scribbles, all of them would have to be
    compared with each other to know whether they cross; such a polygon is drawn on a raster and traced. Gaps in it
    that are smaller than a pixel of the map close.

    Args:
        polygons: valid or not.
        precision: how far the outline may move, in the unit of the coordinates: a twentieth of a pixel of the map.
    """
    traced: list[Polygon] = []
    plain: list[Polygon] = []
    moved = precision
    for polygon in polygons:
        if shapely.get_num_coordinates(polygon) > MANY_CORNERS and _pairs(polygon) > MOST_PAIRS:
            cell = max(precision, math.sqrt(_box_area(polygon) / MOST_CELLS))
            while len(shapely.get_coordinates(found := _fewer(_traced(polygon, cell), cell / 2))) > MOST_TRACED:
                cell *= 2
            traced += found
            moved = max(moved, 2 * cell)
        else:
            plain.append(polygon)
    return Simplified([*traced, *_fewer(plain, precision)], moved)


def _fewer(polygons: list[Polygon], precision: float) -> list[Polygon]:
    # Each polygon by itself: as one geometry they would be compared with each other, pair by pair.
    simple = shapely.simplify(np.array(polygons, object), precision, preserve_topology=False)
    broken = ~shapely.is_valid(simple)
    simple[broken] = shapely.make_valid(simple[broken])
    return [part for one in simple for part in parts_of(one)]


def _pairs(polygon: Polygon) -> float:
    """Estimate how many pairs of edges have boxes that overlap."""
    rings = [shapely.get_coordinates(ring).T for ring in shapely.get_rings(polygon)]
    low, high = (np.hstack([of(ring[:, :-1], ring[:, 1:]) for ring in rings]) for of in (np.minimum, np.maximum))
    some = range(0, low.shape[1], max(1, low.shape[1] // SAMPLED))
    overlaps = [int(((low <= high[:, i, None]) & (high >= low[:, i, None])).all(axis=0).sum()) for i in some]
    return float(low.shape[1] * np.mean(overlaps))


def _box_area(polygon: Polygon) -> float:
    west, south, east, north = polygon.bounds
    return float((east - west) * (north - south))


def _traced(polygon: Polygon, cell: float) -> list[Polygon]:
    """Return the outline of the cells of a raster that a polygon or its outline reaches."""
    west, south, east, north = polygon.bounds
    to_ground = Affine(cell, 0, west - 3 * cell, 0, -cell, north + 3 * cell)
    size = math.ceil((east - west) / cell) + 6, math.ceil((north - south) / cell) + 6
    corner = to_ground.c, to_ground.f
    rings = [(shapely.get_coordinates(ring) - corner) / (cell, -cell) for ring in shapely.get_rings(polygon)]
    drawn = Image.new("1", size)
    for ring in rings:
        ImageDraw.Draw(drawn).line(np.floor(ring).astype(int).ravel().tolist(), fill=1)
    reached = ndimage.binary_dilation(np.asarray(drawn)) | _inside(rings, size)
    solid = sieve(reached.astype(np.uint8), SMALLEST_GAP)
    found = (shapely.geometry.shape(one) for one, _ in shapes(solid, mask=solid > 0, transform=to_ground))
    return [part for one in found for part in parts_of(one)]


def _inside(rings: list[NDArray[np.float64]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Say which cells of a raster have their centre inside rings: those with an odd number of edges to their left.

    GDAL's own filling goes through all edges for each row too, thirty times as slowly.
    """
    width, height = size
    x, y = np.hstack([ring[:-1].T for ring in rings])
    across, down = np.hstack([np.diff(ring, axis=0).T for ring in rings])
    below = y + down
    inside = np.zeros((height, width), bool)
    for row in range(height):
        middle = row + 0.5
        cut = np.flatnonzero((y <= middle) != (below <= middle))
        crossing = x[cut] + across[cut] * (middle - y[cut]) / down[cut]
        to_left = np.bincount(np.ceil(crossing - 0.5).astype(int), minlength=width)
        inside[row] = np.cumsum(to_left) % 2 == 1
    return inside


def parts_of(geometry: BaseGeometry) -> list[Polygon]:
    """Return the polygons of a geometry, whatever it nests them in; points and lines are dropped."""
    if isinstance(geometry, Polygon):
        return [] if geometry.is_empty else [geometry]
    return [part for inner in getattr(geometry, "geoms", ()) for part in parts_of(inner)]


def as_polygons(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """Return the polygons of a geometry as one."""
    parts = parts_of(geometry)
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
