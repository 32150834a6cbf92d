"""The polygons of a vector file: which layer, which geometries, and what a person should know of how they were read."""

from __future__ import annotations

import glob
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import shapely
from pyproj import CRS
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from crgen.errors import AreaError
from crgen.pipeline.source.outline import MANY_CORNERS, as_polygons, parts_of, simplified

SUFFIXES = (".shp", ".gpkg", ".geojson", ".json", ".kml", ".gml", ".fgb", ".tab", ".sqlite", ".geojsonl")
MOST_UNPACKED = 2**30
"""Bytes that a zip may unpack to; an outline needs no more, and a small zip can hold terabytes."""
METRES_PER_DEGREE = 111_320.0
_ELSEWHERE = re.compile(rb"<OGR(VRT|WFS|GMLAS)?DataSource|<WMS_|<OGRWFS|/vsi(curl|s3|gs|az|oss|swift|webhdfs)")

pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": "NO"})  # type: ignore[no-untyped-call]


class Shapes(NamedTuple):
    """What a file holds."""

    polygons: list[Polygon]
    """Valid."""
    crs: CRS | None
    """None where the file states none that places them on Earth."""
    notes: list[str]


def read_shapes(path: Path, layer: str | None, precision: float) -> Shapes:
    """Read the polygons of a vector file, or a zip of one.

    Args:
        path: the file.
        layer: which of several layers (or files in a zip) that hold polygons; None where there is one.
        precision: metres by which outlines of many corners may be moved, so that they are checked and mapped in time.

    Raises:
        AreaError: if it cannot be read, or it is not clear which polygons are meant.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise AreaError(f"'{path}' is empty; it should hold a polygon")
    _check_holds_itself(path)
    notes: list[str] = []
    held: dict[str, tuple[list[BaseGeometry], Any, list[str]]] = {}
    others: dict[str, list[BaseGeometry]] = {}
    tables = lost = False
    for place, prefix in _sources(path):
        for name, kind in _layers(place, path):
            tables |= kind is None
            if kind is None:
                continue
            shapes, crs, said = _geometries(place, name, path)
            lost |= bool(said)
            full = f"{prefix}{name}"
            if any(parts_of(shape) for shape in shapes):
                held[full] = shapes, crs, said
            else:
                others[full] = shapes
    if layer is not None and layer not in held:
        there = ", ".join(f"'{name}'" for name in held) or "none"
        raise AreaError(f"'{path}' has no layer '{layer}' that holds polygons; those that do: {there}")
    if len(held) > 1 and layer is None:
        names = ", ".join(f"'{name}'" for name in held)
        raise AreaError(f"'{path}' has {len(held)} layers with polygons: {names}; choose one with --layer")
    if not held:
        if any(others.values()):
            kinds = ", ".join(sorted({shape.geom_type for shapes in others.values() for shape in shapes}))
            raise AreaError(f"'{path}' holds no polygon, only {kinds}; draw a polygon around the area")
        if tables and not others:
            raise AreaError(f"'{path}' holds no polygon, only tables without geometry")
        what = "no feature with a geometry that can be read" if lost else "no features"
        raise AreaError(f"'{path}' holds {what}; draw a polygon around the area")
    name = layer or next(iter(held))
    shapes, crs, said = held[name]
    notes += said
    if len(held) + len(others) > 1:
        notes.append(f"read layer '{name}' of {len(held) + len(others)}")
    polygons = _valid([_simplified(shape, crs, precision, notes) for shape in shapes], path, notes)
    if crs is None and (lacking := _lacking(path)):
        notes.append(f"{' and '.join(lacking)} are not beside the shapefile")
    return Shapes(polygons, crs, list(dict.fromkeys(notes)))


def _check_holds_itself(path: Path) -> None:
    """Refuse a file that only names others, perhaps on other machines: nobody asked to go there."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(65536)
        found = _ELSEWHERE.search(head)
        if path.suffix.lower() == ".vrt" or (found and b"\0" not in head[: found.start()]):
            raise AreaError(f"'{path}' only names where polygons are; give the file that holds them")


def _sources(path: Path) -> list[tuple[str, str]]:
    """Return what GDAL is to open, and what goes before the names of its layers."""
    if not zipfile.is_zipfile(path):
        return [(str(path), "")]
    try:
        with zipfile.ZipFile(path) as packed:
            members = [m for m in packed.infolist() if not m.is_dir() and "__MACOSX" not in m.filename]
    except (zipfile.BadZipFile, OSError, ValueError):
        raise AreaError(f"'{path}' is a damaged zip; copy it again") from None
    unpacked = sum(member.file_size for member in members)
    if unpacked > MOST_UNPACKED:
        raise AreaError(f"'{path}' unpacks to {unpacked / 1e9:,.1f} GB; unpack it, and give the file with the outline")
    if path.suffix.lower() in (".kmz", ".ods", ".xlsx"):  # GDAL reads these as they are
        return [(str(path), "")]
    geodatabases = sorted(
        {found[0] for m in members if (found := re.match(r".*?\.gdb(?=/)", m.filename, re.IGNORECASE))}
    )
    names = [m.filename for m in members if m.filename.lower().endswith(SUFFIXES)] + geodatabases
    if not names:
        raise AreaError(f"'{path}' holds no vector file GDAL can read; it should hold e.g. a shapefile or GeoPackage")
    place = path.absolute().as_posix()
    return [(f"/vsizip/{{{place}}}/{name}", f"{name}/" if len(names) > 1 else "") for name in names]


def _layers(place: str, path: Path) -> list[tuple[str, str | None]]:
    try:
        with warnings.catch_warnings(action="ignore"):
            return [(str(name), kind) for name, kind in pyogrio.list_layers(place)]  # type: ignore[no-untyped-call]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError):
        if set(";!") & set(str(path)):  # pyogrio takes it for an address and cuts it there
            raise AreaError(f"'{path}' cannot be opened: give it a name and a folder without ; and !") from None
        lacking = _lacking(path)
        if any(name.lower().endswith(".shx") for name in lacking):
            raise AreaError(
                f"'{path}' is one file of a shapefile; put {' and '.join(lacking)} beside it, or give all in a zip"
            ) from None
        raise AreaError(
            f"'{path}' is not a vector file GDAL can read, or damaged; give e.g. GeoJSON or GeoPackage"
        ) from None


def _lacking(path: Path) -> list[str]:
    """Return the names of the files that belong to a shapefile and are not there."""
    if path.suffix.lower() != ".shp":
        return []
    there = {p.suffix.lower() for p in path.parent.glob(f"{glob.escape(path.stem)}.*")}
    return [path.with_suffix(suffix).name for suffix in (".shx", ".dbf", ".prj") if suffix not in there]


def _geometries(place: str, layer: str, path: Path) -> tuple[list[BaseGeometry], Any, list[str]]:
    """Return the geometries of a layer that hold something, its CRS, and what to say of how they were read."""
    try:
        with warnings.catch_warnings(record=True) as warned, np.errstate(invalid="ignore"):
            warnings.simplefilter("always")
            meta, _, wkb, _ = pyogrio.raw.read(  # type: ignore[no-untyped-call]
                place, layer=layer, columns=[], force_2d=True
            )
            read = [] if wkb is None else list(shapely.from_wkb(wkb, on_invalid="fix"))
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, pyogrio.errors.FeatureError):
        raise AreaError(
            f"'{path}' is not a vector file GDAL can read, or damaged; give e.g. GeoJSON or GeoPackage"
        ) from None
    except (shapely.errors.GEOSException, pyogrio.errors.GeometryError):
        raise AreaError(f"'{path}' holds a broken geometry; draw the polygon again") from None
    said = []
    if any("closed ring" in str(warning.message) for warning in warned):
        said.append("a ring that was not closed was closed; check the outline")
    if lost := sum(shape is None for shape in read):
        what = "a feature was" if lost == 1 else f"{lost} features were"
        said.append(f"{what} left out, without a geometry that can be read; check the outline")
    shapes = [shape for shape in read if shape is not None and not shape.is_empty]
    if not all(np.isfinite(shapely.get_coordinates(shape)).all() for shape in shapes):
        raise AreaError(f"'{path}' holds a coordinate that is not a finite number")
    return shapes, meta["crs"], said


def _simplified(shape: BaseGeometry, crs: Any, precision: float, notes: list[str]) -> BaseGeometry:
    """Return polygons of many corners with fewer: whether an outline crosses itself takes long to find out."""
    corners = shapely.get_num_coordinates(shape)
    if corners <= MANY_CORNERS or not (parts := parts_of(shape)):
        return shape
    known = CRS.from_user_input(crs) if crs else None
    unit = known.axis_info[0].unit_conversion_factor if known and known.is_projected else METRES_PER_DEGREE
    simple = simplified(parts, precision / unit)
    if not simple.polygons:
        return shape
    if sum(map(shapely.get_num_coordinates, simple.polygons)) < corners:
        to = "a tenth of a pixel" if (moved := simple.precision * unit) <= 2.1 * precision else f"{moved:.2g} m"
        notes.append(f"the outline has {corners:,} corners; it was simplified to {to}")
    return MultiPolygon(simple.polygons)


def _valid(shapes: list[BaseGeometry], path: Path, notes: list[str]) -> list[Polygon]:
    areal = [shape for shape in shapes if parts_of(shape)]
    if len(areal) < len(shapes):
        notes.append(f"{len(shapes) - len(areal)} features that are not polygons were left out")
    polygons = [part for shape in areal for part in parts_of(shape)]
    if not all(polygon.is_valid for polygon in polygons):
        reason = next(shapely.is_valid_reason(polygon) for polygon in polygons if not polygon.is_valid)
        polygons = [part for polygon in polygons for part in parts_of(shapely.make_valid(polygon))]
        if not polygons:
            raise AreaError(f"'{path}' holds a polygon without an area ({reason}); draw it again")
        notes.append(f"the polygon was not valid ({reason}) and was repaired; check the outline")
    return polygons


def unwrapped(polygon: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
    """Count longitudes from 0 to 360 where that makes an area narrower than half the globe."""
    west, _, east, _ = polygon.bounds
    if east - west <= 180:
        return polygon
    turned = shapely.transform(polygon, lambda xy: np.column_stack([xy[:, 0] % 360, xy[:, 1]]))
    # The antimeridian may have been written as 180 or -180, which both become 180.
    west, _, east, _ = turned.bounds
    if not 0 < east - west <= 180:
        return polygon
    return as_polygons(shapely.union_all([shapely.make_valid(part) for part in parts_of(turned)]))
