"""Evaluates the expression graph the ``ee`` client sends, against the real signatures.

Signatures (names, required arguments) come from the algorithm list inside the ``ee`` wheel. A function or an argument
that is not implemented here is an error, never ignored.
"""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import shapely

from tests.earthengine.images import EarthEngineError, Image, Projection
from tests.earthengine.objects import Collection, Date, Feature, to_geometry

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""What is implemented, by Earth Engine's name."""


def function(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers an implementation; its parameters are named as Earth Engine's arguments."""

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if name not in signatures():
                raise KeyError(f"Earth Engine has no function {name}")
            FUNCTIONS[name] = implementation
        return implementation

    return register


@functools.cache
def algorithms() -> bytes:
    """The list of algorithms as the server sends it."""
    return resources.files("ee.tests").joinpath("algorithms.json").read_bytes()


@functools.cache
def signatures() -> dict[str, dict[str, Any]]:
    return {entry["name"].removeprefix("algorithms/"): entry for entry in json.loads(algorithms())["algorithms"]}


def evaluate(expression: Mapping[str, Any]) -> Any:
    """The value of ``{"result": key, "values": {key: node}}``."""
    from tests.earthengine import (  # noqa: F401 - they register the functions
        collection_functions,
        composite_functions,
        focal_functions,
        grid_functions,
        image_arithmetic,
        image_functions,
        object_functions,
        region_functions,
    )

    if not isinstance(expression, Mapping) or not {"result", "values"} <= expression.keys():
        raise EarthEngineError("Invalid JSON payload received: an expression needs 'result' and 'values'.")
    return _Graph(expression["values"]).reference(expression["result"], {})


class _Graph:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.known: dict[str, Any] = {}

    def reference(self, key: str, arguments: Mapping[str, Any]) -> Any:
        if key not in self.values:
            raise EarthEngineError(f"Expression refers to a value '{key}' that does not exist.")
        if arguments:
            return self.value(self.values[key], arguments)
        if key not in self.known:
            self.known[key] = self.value(self.values[key], arguments)
        return self.known[key]

    def value(self, node: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        if len(node) != 1:
            raise EarthEngineError(f"Invalid value node with {sorted(node)}.")
        (kind, content), *_ = node.items()
        match kind:
            case "constantValue":
                return content
            case "valueReference":
                return self.reference(content, arguments)
            case "argumentReference":
                if content not in arguments:
                    raise EarthEngineError(f"Argument '{content}' is not bound.")
                return arguments[content]
            case "arrayValue":
                return [self.value(item, arguments) for item in content.get("values", [])]
            case "dictionaryValue":
                return {name: self.value(item, arguments) for name, item in content.get("values", {}).items()}
            case "functionDefinitionValue":
                return self.closure(content, arguments)
            case "functionInvocationValue":
                return self.call(content, arguments)
        raise EarthEngineError(f"Unknown kind of value: '{kind}'.")

    def closure(self, definition: Mapping[str, Any], outer: Mapping[str, Any]) -> Callable[..., Any]:
        names = definition.get("argumentNames", [])

        def closure(*values: Any) -> Any:
            return self.reference(definition["body"], {**outer, **dict(zip(names, values, strict=True))})

        return closure

    def call(self, invocation: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        given = {name: self.value(item, arguments) for name, item in invocation.get("arguments", {}).items()}
        if "functionReference" in invocation:
            return self.reference(invocation["functionReference"], arguments)(*given.values())
        return call(invocation["functionName"], given)


def call(name: str, given: Mapping[str, Any]) -> Any:
    """Calls one function after checking its arguments against Earth Engine's signature."""
    signature = signatures().get(name)
    if signature is None:
        raise EarthEngineError(f"Unknown function: '{name}'.")
    if name not in FUNCTIONS:
        raise EarthEngineError(f"The local Earth Engine does not implement function '{name}'.")
    known = {argument["argumentName"]: argument for argument in signature.get("arguments", [])}
    for argument in given:
        if argument not in known:
            raise EarthEngineError(f"{name}: Unrecognized argument '{argument}'.")
    implementation = FUNCTIONS[name]
    parameters = _parameters(implementation)
    values = {}
    for argument, entry in known.items():
        value = given.get(argument)
        if value is None:
            if not entry.get("optional"):
                raise EarthEngineError(f"{name}: Parameter '{argument}' is required and may not be null.")
            continue
        if argument not in parameters:
            raise EarthEngineError(f"The local Earth Engine does not implement argument '{argument}' of '{name}'.")
        values[argument] = _promote(name, argument, entry.get("type", "Object"), value)
    return implementation(**values)


@functools.cache
def _parameters(implementation: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(implementation).parameters)


_PYTHON: dict[str, Any] = {
    "Image": Image,
    "ImageCollection": Collection,
    "FeatureCollection": Collection,
    "Element": (Image, Feature, Collection),
    "List": list,
    "String": str,
    "Float": int | float,
    "Integer": int | float,
    "Number": int | float,
    "Long": int | float,
    "Boolean": bool,
    "Date": Date,
    "Projection": Projection,
    "Dictionary": dict,
}


def _promote(name: str, argument: str, wanted: str, value: Any) -> Any:
    """Earth Engine's implicit conversions between types, and an error where there is none."""
    base = wanted.split("<")[0]
    if base == "Image" and isinstance(value, int | float):
        return FUNCTIONS["Image.constant"](value)
    if base == "Projection" and isinstance(value, str):
        return Projection(value)
    if base == "Geometry" and not isinstance(value, shapely.Geometry):
        return to_geometry(value)
    if base == "Date" and isinstance(value, int | float | str):
        return Date.of(value)
    if base == "List" and isinstance(value, str):
        value = [value]
    expected = _PYTHON.get(base)
    if expected is not None and not isinstance(value, expected):
        actual = type(value).__name__
        raise EarthEngineError(
            f"{name}, argument '{argument}': Invalid type. Expected type: {wanted}. Actual type: {actual}."
        )
    return value
