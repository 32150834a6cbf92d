"""The area of interest: from what a person names to the grid that everything is computed on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
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

from crgen.errors import AreaError

MAX_PIXELS = 4_000_000_000
LONLAT = CRS.from_epsg(4326)
EQUAL_AREA = CRS.from_epsg(6933)
MAX_LATITUDE = 84.0
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
        spec: a GeoJSON or other vector file GDAL reads (one or more polygons, in the CRS the file states),
            or ``"west,south,east,north"`` in degrees of longitude and latitude.
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
    spec = str(spec)
    path = Path(spec)
    if is_file_of_area(spec):
        polygon, source, notes = _read_file(path)
        name = re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_") or "area"
    else:
        polygon, source, notes = _read_bbox(spec), LONLAT, []
        name = "bbox_" + "_".join(f"{v:g}" for v in polygon.bounds)
    lonlat = _check_on_earth(polygon, source, spec)
    target = CRS.from_user_input(crs) if crs else _utm_zone(lonlat)
    # An area spanning half the globe cannot even be projected, so a rough count comes first.
    _check_size(_rough_pixels(lonlat, resolution), 2 * max_pixels, resolution, spec)
    projected = _project(_densify(polygon, source), source, target)
    if not np.isfinite(shapely.get_coordinates(projected)).all():
        raise AreaError(f"'{spec}' reaches beyond what {target.to_string()} can map; name another --crs")
    outline = _polygons(projected if projected.is_valid else shapely.make_valid(projected))
    return Outline(name, outline, target, tuple(notes))


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
    try:
        return bool(spec.strip()) and Path(spec).exists()
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
    if west == east:
        raise AreaError(f"'{spec}' has no width: west and east are both {west:g}")
    if west > east:
        raise AreaError(
            f"'{spec}' has its west ({west:g}) beyond its east ({east:g}); "
            f"if it crosses the antimeridian, split it: "
            f"'{west:g},{south:g},180,{north:g}' and '-180,{south:g},{east:g},{north:g}'"
        )
    return shapely.segmentize(box(west, south, east, north), 1.0)


def _read_file(path: Path) -> tuple[Polygon | MultiPolygon, CRS, list[str]]:
    """Return all polygons of a file as one valid geometry, their CRS, and notes."""
    if path.is_file() and path.stat().st_size == 0:
        raise AreaError(f"'{path}' is empty; it should hold a polygon")
    try:
        layers = pyogrio.list_layers(path)  # type: ignore[no-untyped-call]
        name = next(n for n, k in layers if k is not None)
        if len(layers) > 1:
            name = next((n for n, k in layers if k and "Polygon" in k), name)
        meta, _, wkb, _ = pyogrio.raw.read(  # type: ignore[no-untyped-call]
            path, layer=name, columns=[], force_2d=True
        )
        with np.errstate(invalid="ignore"):
            shapes = [g for g in shapely.from_wkb(wkb) if g is not None]
    except StopIteration:
        raise AreaError(f"'{path}' holds no polygon, only tables without geometry") from None
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError):
        raise AreaError(
            f"'{path}' is not a vector file GDAL can read, or damaged; give e.g. GeoJSON or GeoPackage"
        ) from None
    except (shapely.errors.GEOSException, pyogrio.errors.GeometryError):
        raise AreaError(f"'{path}' holds a broken geometry; draw the polygon again") from None
    notes = [f"read layer '{name}' of {len(layers)}"] if len(layers) > 1 else []
    shapes = [g for g in shapes if not g.is_empty]
    if not shapes:
        raise AreaError(f"'{path}' holds no features; draw a polygon around the area")
    if not all(np.isfinite(shapely.get_coordinates(g)).all() for g in shapes):
        raise AreaError(f"'{path}' holds a coordinate that is not a finite number")
    areal = [g for g in shapes if _parts(g)]
    if not areal:
        kinds = ", ".join(sorted({g.geom_type for g in shapes}))
        raise AreaError(f"'{path}' holds no polygon, only {kinds}; draw a polygon around the area")
    if len(areal) < len(shapes):
        notes.append(f"{len(shapes) - len(areal)} features that are not polygons were left out")
    polygons = [p for g in areal for p in _parts(g)]
    if not all(p.is_valid for p in polygons):
        reason = next(shapely.is_valid_reason(p) for p in polygons if not p.is_valid)
        polygons = [q for p in polygons for q in _parts(shapely.make_valid(p))]
        if not polygons:
            raise AreaError(f"'{path}' holds a polygon without an area ({reason}); draw it again")
        notes.append(f"the polygon was not valid ({reason}) and was repaired; check the outline")
    crs = CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    if crs is None or not (crs.is_geographic or crs.is_projected):
        crs = LONLAT
        _check_degrees(shapely.total_bounds(polygons), str(path))
        notes.append("the file states no CRS; its coordinates were taken as longitude and latitude")
    return _polygons(shapely.union_all(polygons)), crs, notes


def _check_on_earth(polygon: BaseGeometry, source: CRS, spec: str) -> BaseGeometry:
    """Return the polygon in longitude and latitude, or refuse it by where it lies."""
    if source.is_geographic:
        _check_degrees(polygon.bounds, spec)
        _check_antimeridian(polygon, spec)
    lonlat = _project(_densify(polygon, source) if source.is_geographic else polygon, source, LONLAT)
    if not np.isfinite(shapely.get_coordinates(lonlat)).all():
        raise AreaError(f"'{spec}' has coordinates that lie outside its own CRS ({source.name})")
    if not source.is_geographic:
        _check_antimeridian(lonlat, spec)
        lonlat = _project(_densify(polygon, source), source, LONLAT)
    _, south, _, north = lonlat.bounds
    if max(-south, north) > MAX_LATITUDE:
        latitude = north if north > MAX_LATITUDE else south
        raise AreaError(f"'{spec}' reaches latitude {latitude:.2f}; crgen maps −84° to 84°")
    return lonlat


def _check_degrees(bounds: Iterable[float], spec: str) -> None:
    """Refuse bounds that cannot be longitude and latitude, guessing at what they are."""
    west, south, east, north = bounds
    x, y = max(abs(west), abs(east)), max(abs(south), abs(north))
    if x <= 180 and y <= 90:
        return
    if x <= 90 and y <= 180:
        hint = f"a latitude of {y:.10g} does not exist: longitude and latitude look swapped"
    elif x <= 360 and y <= 90:
        hint = f"longitudes reach {x:.10g}: write them from -180 to 180, and split areas at the antimeridian"
    else:
        hint = (
            f"coordinates reach {x:.10g}, {y:.10g}, which looks like metres: "
            "use longitude and latitude, or a file that states its CRS (e.g. GeoPackage)"
        )
    raise AreaError(f"'{spec}' is not in degrees: {hint}")


def _check_antimeridian(polygon: BaseGeometry, spec: str) -> None:
    west, _, east, _ = polygon.bounds
    jumps = any(np.abs(np.diff(shapely.get_coordinates(r)[:, 0])).max() > 180 for r in _rings(polygon))
    split = len(_parts(polygon)) > 1 and west <= -180 + 1e-9 and east >= 180 - 1e-9
    if jumps or split:
        raise AreaError(f"'{spec}' crosses the antimeridian (180°); split it there and run the parts one by one")


def _rings(polygon: BaseGeometry) -> Iterable[BaseGeometry]:
    return (ring for part in _parts(polygon) for ring in (part.exterior, *part.interiors))


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
    first, last = (min(int((lon + 180) // 6), 59) for lon in (west, east))
    share = {}
    for zone in range(first, last + 1):
        for base, low, high in ((32601, 0, 90), (32701, -90, 0)):
            if high > south and low < north:
                strip = box(zone * 6 - 180, low, zone * 6 - 174, high)
                share[base + zone] = _project(lonlat.intersection(strip), LONLAT, EQUAL_AREA).area
    return CRS.from_epsg(max(share, key=lambda code: share[code]))


def _rough_pixels(lonlat: BaseGeometry, resolution: float) -> float:
    """Estimate the pixels of the box around an area from its size on the ellipsoid."""
    west, south, east, north = lonlat.bounds
    left, bottom, right, top = shapely.total_bounds(_project(box(west, south, east, north), LONLAT, EQUAL_AREA))
    return float((right - left) * (top - bottom)) / resolution**2


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


def _parts(geometry: Any) -> list[Polygon]:
    """Return the polygons of a geometry, whatever it nests them in; points and lines are dropped."""
    if geometry.geom_type == "Polygon":
        return [] if geometry.is_empty else [geometry]
    return [p for g in getattr(geometry, "geoms", ()) for p in _parts(g)]


def _polygons(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    parts = _parts(geometry)
    return parts[0] if len(parts) == 1 else MultiPolygon(parts)
