"""The area of interest: from what a person names to the grid that everything is computed on."""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError
from rasterio.features import geometry_mask
from shapely.geometry import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry

from crgen.errors import AreaError, RequestError
from crgen.files import told_after
from crgen.pipeline.source.area_file import METRES_PER_DEGREE, read_shapes, unwrapped
from crgen.pipeline.source.ground import crs_name
from crgen.pipeline.source.outline import MANY_CORNERS, as_polygons

MAX_PIXELS = 4_000_000_000
LONLAT = CRS.from_epsg(4326)
LAYER = "|layername="
"""Between a file and the layer of it that is meant, as QGIS writes it."""
EQUAL_AREA = CRS.from_epsg(6933)
MAX_LATITUDE = 84.0
TOO_SMALL = "is so small that it has no area; draw a larger polygon"
# Three uint16 bands and the uint8 quality, with a third more for overviews, before compression.
BYTES_PER_PIXEL = 7 * 4 / 3
# What the `base` generator does on a laptop's CPU, to the order of magnitude.
LAPTOP_PIXELS_PER_SECOND = 5e4


@dataclass(frozen=True)
class Area:
    """An area of interest on its grid.

    Attributes:
        name: a short name fit for a file name.
        geobox: the grid covering the polygon, its bounds multiples of the resolution.
        polygon: the outline, in the CRS of ``geobox``.
        notes: what a person should know about how the area was read.
    """

    name: str
    geobox: GeoBox
    polygon: Polygon | MultiPolygon
    notes: tuple[str, ...] = ()


class Outline(NamedTuple):
    """An area of interest without a grid."""

    name: str
    polygon: Polygon | MultiPolygon
    crs: CRS
    notes: tuple[str, ...]


def read_area(
    spec: str | Path, *, crs: str | None = None, resolution: float = 10.0, max_pixels: int = MAX_PIXELS
) -> Area:
    """Read an area of interest and lay its grid.

    Args:
        spec: a GeoJSON or other vector file GDAL reads (one or more polygons, in the CRS the file states), or a zip of
            one, with ``"|layername=NAME"`` after it where several layers hold polygons; or ``"west,south,east,north"``
            in degrees of longitude and latitude, west beyond east where the area crosses 180°.
        crs: CRS of the grid, projected in metres; by default the UTM zone (WGS 84) holding most of the area.
        resolution: pixel size in metres.
        max_pixels: the largest grid to accept.

    Returns:
        The area; edges are densified before they are projected, so the grid covers them along their course.

    Raises:
        AreaError: if the area cannot be read or mapped.
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise AreaError(f"the resolution is {resolution} m; give a positive number of metres")
    spec = str(spec)
    outline = read_outline(spec, crs=_metric_crs(crs) if crs else None, resolution=resolution, max_pixels=max_pixels)
    west, south, east, north = outline.polygon.bounds
    _check_size((east - west) * (north - south) / resolution**2, max_pixels, resolution, spec)
    bounds = BoundingBox(west, south, east, north, outline.crs.to_string())
    geobox = GeoBox.from_bbox(bounds, resolution=resolution, anchor="edge")
    return Area(outline.name, geobox, outline.polygon, outline.notes)


def read_outline(
    spec: str | Path, *, crs: CRS | str | None = None, resolution: float = 10.0, max_pixels: int = MAX_PIXELS
) -> Outline:
    """Read an area of interest without laying a grid.

    Args:
        spec: as :func:`read_area` takes it.
        crs: of the outline, in any unit; by default the UTM zone (WGS 84) holding most of the area.
        resolution: pixel size in metres.
        max_pixels: about the largest area to accept, in pixels.

    Raises:
        AreaError: if the area cannot be read or mapped.
    """
    with told_after(f"still reading the outline of '{spec}'", seconds=5):
        return _read_outline(str(spec), crs, resolution, max_pixels)


def _read_outline(spec: str, crs: CRS | str | None, resolution: float, max_pixels: int) -> Outline:
    place, layer = split_layer(spec)
    if is_file_of_area(spec):
        polygon, source, notes = _read_file(Path(place), layer, resolution / 20)
        name = _name(Path(place).stem, layer)
    else:
        polygon, source, notes = _read_bbox(spec), LONLAT, []
        name = "bbox_" + "_".join(f"{v:g}" for v in polygon.bounds)
    if source.is_geographic:
        polygon = _on_one_side(polygon, spec)
    lonlat = _check_on_earth(polygon, source, spec)
    target = CRS.from_user_input(crs) if crs else _utm_zone(lonlat)
    # An area spanning half the globe cannot even be projected, so a rough count comes first.
    rough = _rough_pixels(lonlat, resolution)
    _check_size(rough, 2 * max_pixels, resolution, spec)
    projected = _project(_densify(polygon, source), source, target)
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        raise AreaError(f"'{spec}' reaches beyond what {crs_name(target)} can map; name another --crs")
    unit = target.axis_info[0].unit_conversion_factor if target.is_projected else METRES_PER_DEGREE
    if shapely.get_num_coordinates(projected) > MANY_CORNERS:
        projected = shapely.simplify(projected, resolution / 20 / unit)
    outline = as_polygons(projected if projected.is_valid else shapely.make_valid(projected))
    if not outline.area:
        raise AreaError(f"'{spec}' {TOO_SMALL}")
    west, south, east, north = outline.bounds
    if lonlat.bounds[2] > 180 and (east - west) * (north - south) * (unit / resolution) ** 2 > 10 * (rough + 1):
        raise AreaError(f"'{spec}' crosses 180°, where {crs_name(target)} is cut; name another --crs, or leave it out")
    return Outline(name, outline, target, tuple(notes))


def split_layer(spec: str) -> tuple[str, str | None]:
    """Return the file of an area and the layer that is named with it, as ``FILE|layername=LAYER``."""
    place, _, layer = spec.partition(LAYER)
    return place, layer or None


def with_layer(aoi: str | None, layer: str | None) -> str | None:
    """Return an area as :func:`read_area` takes it.

    Raises:
        RequestError: if a layer is named of no file.
    """
    if layer is None:
        return aoi
    if aoi is None or not is_file_of_area(aoi):
        raise RequestError(f"--layer {layer} says which layer of a file: give that file as --aoi")
    return f"{aoi}{LAYER}{layer}"


def _name(stem: str, layer: str | None) -> str:
    """Return a name fit for a file's, of letters of any script; what it loses beyond ASCII, a digest stands for."""
    text = unicodedata.normalize("NFC", stem if layer is None else f"{stem} {layer.rpartition('/')[2]}").lower()
    kept = "".join(c if c in "_-" or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    name = re.sub("_+", "_", kept).strip("_")
    short = name.encode()[:100].decode(errors="ignore")
    lost = short != name or any(not c.isascii() and k == "_" for c, k in zip(text, kept, strict=True))
    return "_".join(filter(None, (short, f"{zlib.crc32(text.encode()):08x}" if lost else ""))) or "area"


def clip_mask(polygon: BaseGeometry, geobox: GeoBox) -> NDArray[np.bool_]:
    """Say which pixels have their centre inside a polygon.

    The mask of a part of a grid equals that part of the whole grid's mask.

    Args:
        polygon: in the CRS of ``geobox``.
        geobox: a north-up grid, or any window of one.

    Returns:
        ``(y, x)``, True inside.
    """
    a = geobox.affine
    # Pixel coordinates are counted from the CRS origin and only then moved by whole pixels: going through
    # the window's own corner would round differently from window to window for edges on pixel centres.
    column, row = a.c / a.a, a.f / a.e
    shift = np.array([math.floor(column + 0.5), math.floor(row + 0.5)])
    rest = np.round([column - shift[0], row - shift[1]], 6)
    pixels = shapely.transform(polygon, lambda xy: xy / [a.a, a.e] - shift - rest)
    mask: NDArray[np.bool_] = geometry_mask([pixels], geobox.shape.yx, Affine.identity(), invert=True)
    return mask


def is_file_of_area(spec: str) -> bool:
    """Say whether an area of interest is named by a file (or folder) that is there."""
    place, _ = split_layer(spec)
    try:
        return bool(place.strip()) and Path(place).exists()
    except OSError:  # longer than any file name, e.g. GeoJSON itself
        return False


def _read_bbox(spec: str) -> Polygon:
    parts = spec.split(",")
    if len(parts) == 1 or Path(spec).suffix.lower() in (".geojson", ".json", ".gpkg", ".shp", ".kml"):
        raise AreaError(f"there is no file '{spec}'; give one, or 'west,south,east,north' in degrees")
    try:
        west, south, east, north = (float(p) for p in parts)
    except ValueError:
        raise AreaError(f"'{spec}' is neither a file nor four numbers 'west,south,east,north' in degrees") from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise AreaError(f"'{spec}' holds a number that is not finite; give four degrees")
    _check_degrees((west, south, east, north), spec)
    if south >= north:
        raise AreaError(f"'{spec}' has its south ({south:g}) at or above its north ({north:g})")
    if west == east or west == east + 360:
        raise AreaError(f"'{spec}' has no width: west and east are one meridian, {west:g}")
    if west > east and east + 360 - west > 180:
        raise AreaError(f"'{spec}' has its west ({west:g}) beyond its east ({east:g}); swap them")
    east += 360 if west > east else 0
    return shapely.segmentize(box(west, south, east, north), 1.0)


def _read_file(path: Path, layer: str | None, precision: float) -> tuple[Polygon | MultiPolygon, CRS, list[str]]:
    """Return all polygons of a file as one valid geometry, their CRS, and notes."""
    polygons, stated, notes = read_shapes(path, layer, precision)
    crs = CRS.from_user_input(stated) if stated else None
    if crs is None or not (crs.is_geographic or crs.is_projected):
        crs = LONLAT
        _check_degrees(shapely.total_bounds(polygons), str(path))
        notes.append("the file states no CRS; its coordinates were taken as longitude and latitude")
    return as_polygons(shapely.disjoint_subset_union_all(polygons)), crs, notes


def _on_one_side(polygon: Polygon | MultiPolygon, spec: str) -> Polygon | MultiPolygon:
    """Return a polygon in degrees without a jump at 180°: an area on both sides of it has longitudes beyond 180."""
    _check_degrees(polygon.bounds, spec)
    polygon = unwrapped(polygon)
    west = polygon.bounds[0]
    turns = math.floor((west + 180) / 360)
    return as_polygons(shapely.transform(polygon, lambda xy: xy - [360 * turns, 0])) if turns else polygon


def _check_on_earth(polygon: BaseGeometry, source: CRS, spec: str) -> Polygon | MultiPolygon:
    """Return the polygon in longitude and latitude, or refuse it by where it lies."""
    lonlat = _project(_densify(polygon, source), source, LONLAT)
    if not np.isfinite(shapely.get_coordinates(lonlat)).all():
        raise AreaError(f"'{spec}' has coordinates that lie outside its own CRS ({source.name})")
    lonlat = unwrapped(as_polygons(lonlat))
    if lonlat.is_empty:
        raise AreaError(f"'{spec}' {TOO_SMALL}")
    _, south, _, north = lonlat.bounds
    if max(-south, north) > MAX_LATITUDE:
        latitude = north if north > MAX_LATITUDE else south
        raise AreaError(f"'{spec}' reaches latitude {latitude:.2f}; crgen maps −84° to 84°")
    return lonlat


def _check_degrees(bounds: Iterable[float], spec: str) -> None:
    """Refuse bounds that cannot be longitude and latitude, guessing at what they are."""
    west, south, east, north = bounds
    x, y = max(abs(west), abs(east)), max(abs(south), abs(north))
    if y <= 90 and (x <= 180 or (x <= 360 and east - west <= 180)):
        return
    if x <= 90 and y <= 180:
        hint = f"a latitude of {y:.10g} does not exist: longitude and latitude look swapped"
    elif x <= 360 and y <= 90:
        hint = f"longitudes go from {west:.10g} to {east:.10g}, more than half the globe"
    else:
        hint = (
            f"coordinates reach {x:.10g}, {y:.10g}, which looks like metres: "
            "use longitude and latitude, or a file that states its CRS (e.g. GeoPackage)"
        )
    raise AreaError(f"'{spec}' is not in degrees: {hint}")


def _metric_crs(name: str) -> CRS:
    try:
        crs = CRS.from_user_input(name)
    except CRSError:
        raise AreaError(f"--crs '{name}' is not a CRS; give a code such as EPSG:32649") from None
    if not crs.is_projected or any(a.unit_conversion_factor != 1.0 for a in crs.axis_info[:2]):
        unit = crs.axis_info[0].unit_name if crs.axis_info else "no known unit"
        raise AreaError(
            f"--crs '{name}' ({crs.name}) is in {unit}; give one projected in metres, e.g. a UTM zone, or leave it out"
        )
    return crs


def _utm_zone(lonlat: BaseGeometry) -> CRS:
    """Return the UTM zone (6° wide, north or south) with the largest share of the area."""
    west, south, east, north = lonlat.bounds
    first, last = (int((lon + 180) // 6) for lon in (west, east))
    last = max(first, last - (east % 6 == 0))
    share = {}
    whole = shapely.make_valid(lonlat)  # a line may cross itself in degrees that does not as it was drawn
    for zone in range(first, last + 1):
        for base, low, high in ((32601, 0, 90), (32701, -90, 0)):
            if high > south and low < north:
                strip = box(zone * 6 - 180, low, zone * 6 - 174, high)
                share[base + zone % 60] = _equal_area(shapely.intersection(whole, strip)).area
    return CRS.from_epsg(max(share, key=lambda code: share[code]))


def _rough_pixels(lonlat: BaseGeometry, resolution: float) -> float:
    """Estimate the pixels of the box around an area from its size on the ellipsoid."""
    west, south, east, north = lonlat.bounds
    left, bottom, right, top = shapely.total_bounds(_equal_area(box(west, south, east, north)))
    return float((right - left) * (top - bottom)) / resolution**2


def _equal_area(lonlat: BaseGeometry) -> BaseGeometry:
    """Project to a cylinder, on which areas beyond 180° are as large as elsewhere."""
    if lonlat.bounds[2] > 180:
        lonlat = shapely.transform(lonlat, lambda xy: xy - [180, 0])
    return _project(lonlat, LONLAT, EQUAL_AREA)


def _check_size(pixels: float, max_pixels: int, resolution: float, spec: str) -> None:
    if pixels > max_pixels:
        disk = pixels * BYTES_PER_PIXEL / 1e9
        hours = pixels / LAPTOP_PIXELS_PER_SECOND / 3600
        raise AreaError(
            f"'{spec}' is {pixels / 1e9:,.1f} billion pixels at {resolution:g} m: "
            f"about {disk:,.0f} GB of disk and {hours:,.0f} hours on a laptop; split the area"
        )


def _densify(polygon: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Add a vertex at least every kilometre (a hundredth of a degree)."""
    unit = crs.axis_info[0].unit_conversion_factor if crs.is_projected else None
    return shapely.segmentize(polygon, 1000 / unit if unit else 0.01)


def _project(geometry: BaseGeometry, source: CRS, target: CRS) -> BaseGeometry:
    if source == target:
        return geometry
    transform = Transformer.from_crs(source, target, always_xy=True).transform
    return shapely.transform(geometry, lambda xy: np.column_stack(transform(xy[:, 0], xy[:, 1])))
