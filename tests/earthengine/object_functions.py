"""Filters, dates, geometries, projections, numbers and lists."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyproj
import shapely

from tests.earthengine.images import EarthEngineError, PixelType, Projection, int_type
from tests.earthengine.interpreter import function
from tests.earthengine.objects import (
    Date,
    DateRange,
    Filter,
    geometry,
    properties,
    to_geometry,
)

# Filters ----------------------------------------------------------------------------------------


def _operand(element: Any, field: str | None, value: Any) -> Any:
    if field is None:
        return value
    if field in (".all", ".geo"):
        return geometry(element)
    return properties(element).get(field)


def _comparison(names: tuple[str, ...], test: Callable[[Any, Any], bool]) -> None:
    def make(
        leftField: str | None = None, rightValue: Any = None, rightField: str | None = None, leftValue: Any = None
    ) -> Filter:
        if (leftField is None) == (leftValue is None) or (rightField is None) == (rightValue is None):
            raise EarthEngineError(
                f"{names[0]}: needs one of leftField and leftValue, and one of rightField and rightValue."
            )

        def keeps(element: Any) -> bool:
            left, right = _operand(element, leftField, leftValue), _operand(element, rightField, rightValue)
            return left is not None and right is not None and test(left, right)

        return Filter(keeps)

    function(*names)(make)


def _plain(value: Any) -> Any:
    return value.millis if isinstance(value, Date) else value


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        left, right = _plain(left), _plain(right)
        return isinstance(left, str) == isinstance(right, str) and test(left, right)

    return compare


_comparison(("Filter.eq", "Filter.equals"), lambda left, right: _plain(left) == _plain(right))
_comparison(("Filter.neq", "Filter.notEquals"), lambda left, right: _plain(left) != _plain(right))
_comparison(("Filter.lt", "Filter.lessThan"), _ordered(lambda left, right: left < right))
_comparison(("Filter.lte", "Filter.lessThanOrEquals"), _ordered(lambda left, right: left <= right))
_comparison(("Filter.gt", "Filter.greaterThan"), _ordered(lambda left, right: left > right))
_comparison(("Filter.gte", "Filter.greaterThanOrEquals"), _ordered(lambda left, right: left >= right))
_comparison(("Filter.stringStartsWith",), lambda left, right: left.startswith(right))
_comparison(("Filter.stringEndsWith",), lambda left, right: left.endswith(right))
_comparison(("Filter.stringContains",), lambda left, right: right in left)
_comparison(("Filter.inList",), lambda left, right: left in right)
_comparison(("Filter.listContains",), lambda left, right: right in left)
_comparison(
    ("Filter.dateRangeContains",),
    lambda left, right: left.start.millis <= Date.of(right).millis < left.end.millis,
)


@function("Filter.intersects")
def intersects(
    leftField: str | None = None,
    rightValue: Any = None,
    rightField: str | None = None,
    leftValue: Any = None,
    maxError: float | None = None,
) -> Filter:
    if leftField is None or rightValue is None:
        raise EarthEngineError(
            "The local Earth Engine implements Filter.intersects with leftField and rightValue alone."
        )
    shape = to_geometry(rightValue)
    shapely.prepare(shape)

    def keeps(element: Any) -> bool:
        own = _operand(element, leftField, None)
        return own is None or bool(shape.intersects(own))

    return Filter(keeps)


@function("Filter.and")
def filter_and(filters: list[Filter]) -> Filter:
    return Filter(lambda element: all(part.keeps(element) for part in filters))


@function("Filter.or")
def filter_or(filters: list[Filter]) -> Filter:
    return Filter(lambda element: any(part.keeps(element) for part in filters))


@function("Filter.not")
def filter_not(filter: Filter) -> Filter:
    return Filter(lambda element: not filter.keeps(element))


@function("Filter.notNull")
def filter_not_null(properties: list[str]) -> Filter:
    return Filter(lambda element: all(element.properties.get(name) is not None for name in properties))


@function("Filter.rangeContains")
def range_contains(field: str, minValue: Any, maxValue: Any) -> Filter:
    return Filter(
        lambda element: (value := properties(element).get(field)) is not None and minValue <= value <= maxValue
    )


# Dates ------------------------------------------------------------------------------------------


@function("Date")
def date(value: Any) -> Date:
    return Date.of(value)


@function("Date.millis")
def millis(date: Date) -> int:
    return date.millis


@function("Date.advance")
def advance(date: Date, delta: float, unit: str) -> Date:
    days = {"week": 7.0, "day": 1.0, "hour": 1 / 24, "minute": 1 / 1440, "second": 1 / 86400}
    if unit.rstrip("s") not in days:
        raise EarthEngineError(f"The local Earth Engine does not implement Date.advance by '{unit}'.")
    return Date(date.millis + round(delta * days[unit.rstrip("s")] * 86_400_000))


@function("Date.difference")
def difference(date: Date, start: Date, unit: str) -> float:
    return (date.millis - start.millis) / (advance(Date(0), 1, unit).millis)


@function("Date.format")
def format_date(date: Date, format: str | None = None) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=date.millis)
    match format:
        case None:
            return moment.strftime("%Y-%m-%dT%H:%M:%S")
        case "YYYY-MM-dd":
            return moment.strftime("%Y-%m-%d")
    raise EarthEngineError(f"The local Earth Engine does not implement Date.format with '{format}'.")


@function("DateRange")
def date_range(start: Any, end: Any = None) -> DateRange:
    first = Date.of(start)
    last = Date.of(end) if end is not None else Date(first.millis + 1)
    if last.millis <= first.millis:
        # Earth Engine makes an empty range of it, which contains nothing.
        return DateRange(first, first)
    return DateRange(first, last)


# Geometries and projections ---------------------------------------------------------------------


def _lonlat(crs: Projection | None) -> None:
    if crs is not None and not pyproj.CRS(crs.crs).equals(pyproj.CRS("EPSG:4326"), ignore_axis_order=True):
        raise EarthEngineError("The local Earth Engine implements geometries in EPSG:4326 alone.")


@function("GeometryConstructors.Point")
def point(coordinates: list[float], crs: Projection | None = None) -> shapely.Geometry:
    _lonlat(crs)
    return shapely.Point(coordinates)


@function("GeometryConstructors.Polygon")
def polygon(
    coordinates: list[Any], crs: Projection | None = None, geodesic: bool | None = None, evenOdd: bool = True
) -> shapely.Geometry:
    _lonlat(crs)
    shape = shapely.Polygon(coordinates[0], coordinates[1:])
    if not shape.is_valid:
        raise EarthEngineError("Polygon coordinates are invalid: the rings cross.")
    return shape


@function("GeometryConstructors.MultiPolygon")
def multi_polygon(
    coordinates: list[Any], crs: Projection | None = None, geodesic: bool | None = None, evenOdd: bool = True
) -> shapely.Geometry:
    _lonlat(crs)
    return shapely.MultiPolygon([(rings[0], rings[1:]) for rings in coordinates])


@function("GeometryConstructors.LinearRing")
def linear_ring(
    coordinates: list[Any], crs: Projection | None = None, geodesic: bool | None = None
) -> shapely.Geometry:
    _lonlat(crs)
    return shapely.LinearRing(coordinates)


@function("GeometryConstructors.Rectangle")
def rectangle(
    coordinates: list[Any], crs: Projection | None = None, geodesic: bool | None = None, evenOdd: bool = True
) -> shapely.Geometry:
    flat = [number for pair in coordinates for number in (pair if isinstance(pair, list) else [pair])]
    west, south, east, north = flat
    shape = shapely.box(west, south, east, north)
    if crs is None or pyproj.CRS(crs.crs).equals(pyproj.CRS("EPSG:4326"), ignore_axis_order=True):
        return shape
    # The client writes an export's grid like this: pixels of the projection it has reprojected to.
    a, b, c, d, e, f = crs.transform
    to_lonlat = pyproj.Transformer.from_crs(crs.crs, "EPSG:4326", always_xy=True).transform
    dense = shapely.segmentize(shape, max(east - west, north - south) / 16)
    return shapely.transform(dense, lambda xy: np.column_stack(to_lonlat(*(xy @ [[a, d], [b, e]] + [c, f]).T)))


@function("GeometryConstructors.BBox")
def bbox(west: float, south: float, east: float, north: float) -> shapely.Geometry:
    return shapely.box(west, south, east, north)


@function("ErrorMargin")
def error_margin(value: float | None = None, unit: str = "meters") -> float:
    """How wrong a geometry may be; here all are exact, which keeps any margin."""
    return value or 0.0


@function("Projection")
def projection(crs: Any, transform: list[float] | None = None) -> Projection:
    try:
        pyproj.CRS(crs)
    except pyproj.exceptions.CRSError:
        raise EarthEngineError(f"Projection: The CRS of a map projection could not be parsed: {crs}.") from None
    return Projection(crs, tuple(transform) if transform else Projection().transform)  # type: ignore[arg-type]


@function("Projection.nominalScale")
def nominal_scale(proj: Projection) -> float:
    return proj.scale


@function("Projection.crs")
def projection_crs(projection: Projection) -> str:
    return projection.crs


@function("Projection.atScale")
def at_scale(projection: Projection, meters: float) -> Projection:
    return projection.at_scale(meters)


# Numbers, lists, types --------------------------------------------------------------------------


@function("Number.add")
def number_add(left: float, right: float) -> float:
    return left + right


@function("Number.multiply")
def number_multiply(left: float, right: float) -> float:
    return left * right


@function("Dictionary.get")
def dictionary_get(dictionary: dict[str, Any], key: str, defaultValue: Any = None) -> Any:
    if key not in dictionary and defaultValue is None:
        raise EarthEngineError(f"Dictionary.get: Dictionary does not contain key: '{key}'.")
    return dictionary.get(key, defaultValue)


@function("List.size", "List.length")
def list_size(list: list[Any]) -> int:
    return len(list)


@function("List.contains")
def list_contains(list: list[Any], element: Any) -> bool:
    return element in list


@function("List.slice")
def list_slice(list: list[Any], start: int, end: int | None = None, step: int = 1) -> list[Any]:
    return list[int(start) : None if end is None else int(end) : int(step)]


@function("If")
def choose(condition: Any = None, trueCase: Any = None, falseCase: Any = None) -> Any:
    # False are null, 0, false and the empty string; lists and elements, even empty ones, are true.
    return falseCase if condition is None or condition in (0, False, "") else trueCase


@function("List.get")
def list_get(list: list[Any], index: int) -> Any:
    if not -len(list) <= index < len(list):
        raise EarthEngineError(
            f"List.get: List index must be between 0 and {len(list) - 1}, or -{len(list)} and -1. Found {index}."
        )
    return list[int(index)]


for _name, _type in (
    ("float", PixelType("float")), ("double", PixelType("double")),
    *((name, int_type(name)) for name in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "int64")),
):  # fmt: skip
    function(f"PixelType.{_name}")(functools.partial(lambda kind: kind, _type))
