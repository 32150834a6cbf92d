"""Functions on collections, features and their properties."""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import shapely

from tests.earthengine import catalogue
from tests.earthengine.images import EarthEngineError, Image
from tests.earthengine.interpreter import function
from tests.earthengine.objects import (
    Collection,
    Date,
    Feature,
    Filter,
    Reducer,
    geometry,
    properties,
    to_geometry,
)

# Collections -------------------------------------------------------------------------------------


@function("ImageCollection.load")
def load_collection(id: str) -> Collection:
    if id not in catalogue.collections():
        raise EarthEngineError(
            f"ImageCollection.load: ImageCollection asset '{id}' not found "
            "(does not exist or caller does not have access)."
        )
    return Collection(catalogue.collections()[id], id)


@function("ImageCollection.fromImages")
def from_images(images: list[Image]) -> Collection:
    for image in images:
        if not isinstance(image, Image):
            raise EarthEngineError("ImageCollection.fromImages: the list holds something that is no Image.")
    return Collection(tuple(images))


@function("Collection")
def feature_collection(features: list[Any]) -> Collection:
    return Collection(tuple(features), of_images=False)


@function("Collection.filter")
def filter_collection(collection: Collection, filter: Filter) -> Collection:
    return replace(collection, elements=tuple(element for element in collection.elements if filter.keeps(element)))


@function("Collection.map")
def map_collection(collection: Collection, baseAlgorithm: Callable[[Any], Any], dropNulls: bool = False) -> Collection:
    mapped = [baseAlgorithm(element) for element in collection.elements]
    if dropNulls:
        mapped = [element for element in mapped if element is not None]
    for element in mapped:
        if not isinstance(element, Image | Feature):
            raise EarthEngineError("Collection.map: A mapped algorithm must return a Feature or Image.")
    # Earth Engine keeps the index of every element through a map.
    indexed = tuple(
        replace(new, properties={**new.properties, "system:index": properties(old)["system:index"]})
        if properties(old).get("system:index") is not None
        else new
        for old, new in zip(collection.elements, mapped, strict=True)
    ) if len(mapped) == len(collection.elements) else tuple(mapped)  # fmt: skip
    of_images = isinstance(indexed[0], Image) if indexed else collection.of_images
    return Collection(indexed, of_images=of_images)


@function("Collection.limit")
def limit(
    collection: Collection, limit: int | None = None, key: str | None = None, ascending: bool = True
) -> Collection:
    elements = collection.elements
    if key is not None:
        known = [element for element in elements if properties(element).get(key) is not None]
        unknown = [element for element in elements if properties(element).get(key) is None]
        elements = tuple(sorted(known, key=lambda element: properties(element)[key], reverse=not ascending) + unknown)
    return replace(collection, elements=elements[:limit])


@function("Collection.size")
def size(collection: Collection) -> int:
    return len(collection.elements)


@function("Collection.first")
def first(collection: Collection) -> Any:
    return collection.elements[0] if collection.elements else None


@function("Collection.toList")
def to_list(collection: Collection, count: int, offset: int = 0) -> list[Any]:
    return list(collection.elements[int(offset) : int(offset) + int(count)])


@function("Collection.iterate")
def iterate(collection: Collection, function: Callable[[Any, Any], Any], first: Any = None) -> Any:
    return functools.reduce(lambda previous, element: function(element, previous), collection.elements, first)


@function("Collection.merge", "ImageCollection.merge")
def merge(collection1: Collection, collection2: Collection) -> Collection:
    def numbered(collection: Collection, number: int) -> list[Any]:
        return [
            replace(
                element,
                properties={
                    **element.properties,
                    "system:index": f"{number}_{properties(element).get('system:index', i)}",
                },
            )
            for i, element in enumerate(collection.elements)
        ]

    return Collection((*numbered(collection1, 1), *numbered(collection2, 2)), of_images=collection1.of_images)


@function("Collection.geometry")
def collection_geometry(collection: Collection, maxError: float | None = None) -> shapely.Geometry:
    return to_geometry(collection)


@function("AggregateFeatureCollection.array")
def aggregate_array(collection: Collection, property: str) -> list[Any]:
    values = [properties(element).get(property) for element in collection.elements]
    return [value for value in values if value is not None]


@function("AggregateFeatureCollection.min")
def aggregate_min(collection: Collection, property: str) -> Any:
    return min(aggregate_array(collection, property), default=None)


@function("AggregateFeatureCollection.max")
def aggregate_max(collection: Collection, property: str) -> Any:
    return max(aggregate_array(collection, property), default=None)


@function("Reducer.toList")
def to_list_reducer(tupleSize: int | None = None) -> Reducer:
    return Reducer("toList", tupleSize)


@function("Reducer.repeat")
def repeat(reducer: Reducer, count: int) -> Reducer:
    return replace(reducer, repeated=int(count))


@function("Collection.reduceColumns")
def reduce_columns(collection: Collection, reducer: Reducer, selectors: list[str]) -> dict[str, Any]:
    if reducer.name != "toList" or len(selectors) != (reducer.size or 1) * (reducer.repeated or 1):
        raise EarthEngineError(
            f"The local Earth Engine does not implement reduceColumns with Reducer.{reducer.name} of this size."
        )
    rows = [[properties(element).get(name) for name in selectors] for element in collection.elements]
    kept = [row for row in rows if None not in row]
    if reducer.repeated is None:
        return {"list": kept if reducer.size else [row[0] for row in kept]}
    if reducer.size is not None:
        raise EarthEngineError("The local Earth Engine does not implement Reducer.repeat of tuples.")
    return {"list": [[row[number] for row in kept] for number in range(reducer.repeated)]}


# Properties and features ------------------------------------------------------------------------


@function("Element.get", "Element.getNumber", "Element.getString")
def get(object: Any, property: str) -> Any:
    return properties(object).get(property)


@function("Element.set")
def set_property(object: Any, key: str, value: Any = None) -> Any:
    return replace(object, properties={**object.properties, key: value})


@function("Element.setMulti")
def set_properties(object: Any, properties: dict[str, Any]) -> Any:
    return replace(object, properties={**object.properties, **properties})


@function("Element.copyProperties", "Image.copyProperties")
def copy_properties(
    destination: Any, source: Any, properties: list[str] | None = None, exclude: list[str] | None = None
) -> Any:
    # Without a list everything but system properties is copied.
    names = (
        properties if properties is not None else [name for name in source.properties if not name.startswith("system:")]
    )
    copied = {
        name: source.properties[name] for name in names if name in source.properties and name not in (exclude or [])
    }
    return replace(destination, properties={**destination.properties, **copied})


@function("Element.propertyNames")
def property_names(element: Any) -> list[str]:
    return sorted(properties(element))


@function("Element.toDictionary")
def to_dictionary(element: Any, properties: list[str] | None = None) -> dict[str, Any]:
    if isinstance(element, Collection):
        if properties:
            raise EarthEngineError("Collections of the local Earth Engine have no properties.")
        return {}
    if properties is None:
        return {name: value for name, value in element.properties.items() if not name.startswith("system:")}
    return {name: get(element, name) for name in properties}


@function("Feature")
def feature(geometry: Any = None, metadata: dict[str, Any] | None = None) -> Feature:
    return Feature(None if geometry is None else to_geometry(geometry), metadata or {})


@function("Image.geometry", "Element.geometry")
def element_geometry(feature: Any, maxError: float | None = None) -> shapely.Geometry:
    return geometry(feature) or shapely.box(-180, -90, 180, 90)


@function("Image.id")
def image_id(element: Any) -> str | None:
    return element.properties.get("system:index")


@function("Image.date")
def image_date(image: Image) -> Date:
    if "system:time_start" not in image.properties:
        raise EarthEngineError("Image.date: Image has no 'system:time_start' property.")
    return Date(image.properties["system:time_start"])
