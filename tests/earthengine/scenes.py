"""What the scenes of the catalogue are made of: ground tracks, and rasters whose pixels follow from where they lie."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import shapely

from tests.earthengine.images import LATTICE, Band, Grid, Pixels, PixelType, Projection, sample, transform


@dataclass(frozen=True)
class Track:
    """A satellite's ground track: a straight line in one UTM zone, ``along`` the flight and ``across`` it."""

    crs: str
    lon: float
    lat: float
    heading: float

    def frame(self, grid: Grid) -> tuple[Any, Any]:
        """Metres across and along the track of every pixel's centre."""
        x, y = grid.centres(self.crs)
        x0, y0 = transform("EPSG:4326", self.crs, self.lon, self.lat)
        sin, cos = np.sin(np.radians(self.heading)), np.cos(np.radians(self.heading))
        east, north = x - x0, y - y0
        return east * cos - north * sin, east * sin + north * cos

    def strip(self, half_width: float, start: float, stop: float) -> shapely.Polygon:
        """Footprint in longitude and latitude, its edges densified."""
        edge = np.linspace(0, 1, 9)[:-1]
        corners = [(-half_width, start), (half_width, start), (half_width, stop), (-half_width, stop)]
        across, along = (
            np.concatenate(
                [a[i] + (b[i] - a[i]) * edge for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
            )
            for i in (0, 1)
        )
        sin, cos = np.sin(np.radians(self.heading)), np.cos(np.radians(self.heading))
        x0, y0 = transform("EPSG:4326", self.crs, self.lon, self.lat)
        lon, lat = transform(self.crs, "EPSG:4326", x0 + across * cos + along * sin, y0 - across * sin + along * cos)
        return shapely.Polygon(np.column_stack([lon, lat]).round(6))


@dataclass(frozen=True)
class Pattern:
    """A raster whose pixel is a pure function of where its centre lies.

    Levels of the pyramid are means of 2 x 2 and 4 x 4 pixels; coarser levels average 4 x 4 of their pixels.
    """

    projection: Projection
    dimensions: tuple[int, int]
    compute: Callable[[Grid], Pixels]
    dtype: np.dtype[Any]

    def block(self, column: int, row: int, width: int, height: int, level: int) -> Pixels:
        # Only what lies on the raster is computed.
        columns, rows = (-(-size // 2**level) for size in self.dimensions)
        left, top = max(column, 0), max(row, 0)
        right, bottom = min(column + width, columns), min(row + height, rows)
        if (left, top, right, bottom) == (column, row, column + width, row + height):
            return self._level(column, row, width, height, level)
        values, mask = np.zeros((height, width)), np.zeros((height, width))
        if left < right and top < bottom:
            place = np.s_[top - row : bottom - row, left - column : right - column]
            values[place], mask[place] = self._level(left, top, right - left, bottom - top, level)
        return values, mask

    def _level(self, column: int, row: int, width: int, height: int, level: int) -> Pixels:
        if level == 0:
            return self._native(column, row, width, height)
        steps = min(2**level, 4)
        a, _, c, _, e, f = self.projection.transform
        size = 2**level / steps
        total, weight = np.zeros((height, width)), np.zeros((height, width))
        for i in range(steps):
            for j in range(steps):
                shifted = (
                    a * 2**level, 0.0, c + a * (size * (j + 0.5) - 2 ** (level - 1)),
                    e * 0.0, e * 2**level, f + e * (size * (i + 0.5) - 2 ** (level - 1)),
                )  # fmt: skip
                values, mask = self._values(
                    Grid(Projection(self.projection.crs, shifted), 1, 1).window(column, row, width, height)
                )
                total, weight = total + values * mask, weight + mask
        return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), weight / steps**2

    def _native(self, column: int, row: int, width: int, height: int) -> Pixels:
        # Windows start on the coordinate lattice, so that a pixel does not depend on the window it is read with.
        left, top = column % LATTICE, row % LATTICE
        whole = Grid(self.projection, 1, 1).window(column - left, row - top, width + left, height + top)
        values, mask = self._values(whole)
        return values[top:, left:], mask[top:, left:]

    def _values(self, grid: Grid) -> Pixels:
        values, mask = self.compute(grid)
        x, y = grid.centres(self.projection.crs)
        a, _, c, _, e, f = self.projection.transform
        column, row = (x - c) / a, (y - f) / e
        within = (column >= 0) & (column < self.dimensions[0]) & (row >= 0) & (row < self.dimensions[1])
        mask = np.where(within, mask, 0.0)
        if self.dtype.kind in "ui":
            values = np.rint(values)
        return np.where(mask > 0, values.astype(self.dtype), 0), mask


def stored_band(
    name: str, kind: PixelType, projection: Projection, size: tuple[int, int], compute: Callable[[Grid], Pixels]
) -> Band:
    raster = Pattern(projection, size, compute, kind.dtype)
    return Band(name, kind, lambda grid: sample(raster, grid, "nearest"), projection, size)


def millis(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def ring(polygon: shapely.Polygon) -> dict[str, Any]:
    return {"type": "LinearRing", "coordinates": [list(point) for point in polygon.exterior.coords]}
