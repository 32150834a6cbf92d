"""The values of the expression language that are not pixels: dates, features, collections, filters; and their JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import shapely
import shapely.geometry

from tests.earthengine.images import EarthEngineError, Image, PixelType, Projection

COLLECTION_LIMIT = 5000


@dataclass(frozen=True)
class Date:
    """A moment, milliseconds since 1970 in UTC."""

    millis: int

    @classmethod
    def of(cls, value: Any) -> "Date":
        if isinstance(value, Date):
            return value
        if isinstance(value, int | float):
            return cls(int(value))
        if isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                raise EarthEngineError(f"Date: Bad date/time '{value}'.") from None
            return cls(round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
        raise EarthEngineError(f"Date: cannot convert {type(value).__name__}.")


@dataclass(frozen=True)
class DateRange:
    """From ``start`` to before ``end``."""

    start: Date
    end: Date


@dataclass(frozen=True)
class Feature:
    """A geometry in longitude and latitude with properties."""

    geometry: shapely.Geometry | None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """Images or features in order."""

    elements: tuple[Any, ...]
    id: str | None = None
    of_images: bool = True


@dataclass(frozen=True)
class Filter:
    """Keeps the elements for which ``keeps`` is true."""

    keeps: Callable[[Any], bool]


@dataclass(frozen=True)
class Reducer:
    """Which reducer, by name, with what it was made of."""

    name: str
    size: int | None = None
    repeated: int | None = None


def properties(element: Any) -> Mapping[str, Any]:
    if isinstance(element, Image) and element.id is not None:
        return {**element.properties, "system:id": element.id, "system:version": element.version}
    if isinstance(element, Image | Feature):
        return element.properties
    raise EarthEngineError(f"{type(element).__name__} has no properties.")


def geometry(element: Any) -> shapely.Geometry | None:
    return element.footprint if isinstance(element, Image) else element.geometry


def to_geometry(value: Any) -> shapely.Geometry:
    """A geometry from what Earth Engine takes for one: a geometry, feature, image or collection."""
    if isinstance(value, shapely.Geometry):
        return value
    if isinstance(value, Image | Feature):
        return geometry(value) or shapely.Polygon()
    if isinstance(value, Collection):
        return shapely.union_all([to_geometry(element) for element in value.elements])
    if isinstance(value, Mapping) and "coordinates" in value:
        return shapely.geometry.shape(value)
    raise EarthEngineError(f"Cannot convert {type(value).__name__} to Geometry.")


def encode(value: Any) -> Any:
    """JSON of a value as ``value:compute`` returns it."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Date():
            return {"type": "Date", "value": value.millis}
        case DateRange():
            return {"type": "DateRange", "dates": [value.start.millis, value.end.millis]}
        case shapely.Geometry():
            return _geometry(value)
        case Image():
            return value.to_json()
        case Feature():
            shape = _geometry(value.geometry) if value.geometry is not None else None
            return {"type": "Feature", "geometry": shape, "properties": encode(value.properties)}
        case Collection():
            if len(value.elements) > COLLECTION_LIMIT:
                raise EarthEngineError(f"Collection query aborted after accumulating over {COLLECTION_LIMIT} elements.")
            kind = "ImageCollection" if value.of_images else "FeatureCollection"
            head = {"type": kind} | ({"id": value.id, "version": 1} if value.id else {})
            head |= {"bands": []} if value.of_images else {"columns": {}}
            return head | {"features": [encode(element) for element in value.elements]}
        case Projection():
            return {"type": "Projection", "crs": value.crs, "transform": list(value.transform)}
        case PixelType():
            return value.to_json()
        case Mapping():
            return {str(key): encode(item) for key, item in value.items()}
        case Sequence():
            return [encode(item) for item in value]
    raise EarthEngineError(f"Cannot encode object: {type(value).__name__}.")


def _geometry(value: shapely.Geometry) -> dict[str, Any]:
    out = shapely.geometry.mapping(value)
    return {"type": out["type"], "coordinates": _lists(out["coordinates"])} if "coordinates" in out else dict(out)


def _lists(item: Any) -> Any:
    return [_lists(part) for part in item] if isinstance(item, tuple | list) else item
