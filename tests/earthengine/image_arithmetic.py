"""Pixel by pixel functions: arithmetic, comparison, casts, and reducers across bands."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.earthengine.image_functions import select
from tests.earthengine.images import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    Band,
    EarthEngineError,
    Grid,
    Image,
    Pixels,
    PixelType,
    derived,
    int_type,
    union,
)
from tests.earthengine.interpreter import function
from tests.earthengine.objects import Reducer


def _pairs(name: str, left: Image, right: Image) -> Iterable[tuple[str, Band, Band]]:
    """Bands matched as Earth Engine does: one against all, else by name, else in order; names from the longer image."""
    if len(left.bands) == 1 and len(right.bands) > 1:
        return [(band.name, left.bands[0], band) for band in right.bands]
    if len(right.bands) == 1:
        return [(band.name, band, right.bands[0]) for band in left.bands]
    if len(left.bands) != len(right.bands):
        raise EarthEngineError(f"{name}: Images with {len(left.bands)} and {len(right.bands)} bands cannot be matched.")
    if set(left.names) == set(right.names):
        return [(band.name, band, right.band(band.name)) for band in left.bands]
    return [(a.name, a, b) for a, b in zip(left.bands, right.bands, strict=True)]


def _binary(name: str, operation: Callable[[Any, Any], Any], kind: Callable[[PixelType, PixelType], PixelType]) -> None:
    def apply(image1: Image, image2: Image) -> Image:
        bands = []
        for label, left, right in _pairs(name, image1, image2):

            def read(grid: Grid, left: Band = left, right: Band = right) -> Pixels:
                (a, mask_a), (b, mask_b) = left.read(grid), right.read(grid)
                return operation(a.astype(float), b.astype(float)), np.minimum(mask_a, mask_b)

            owner = left if left.dimensions or not right.dimensions else right
            bands.append(Band(label, kind(left.type, right.type), read, owner.projection))
        keep = image1 if len(image1.bands) >= len(image2.bands) else image2
        footprint = (
            image1.footprint
            if image2.footprint is None
            else image2.footprint
            if image1.footprint is None
            else image1.footprint.intersection(image2.footprint)
        )
        return Image(tuple(bands), keep.properties if keep is image1 else {}, footprint)

    function(name)(apply)


def _range(operation: Callable[[Any, Any], Any]) -> Callable[[PixelType, PixelType], PixelType]:
    """The range of an operation on whole numbers, from the ends of the operands' ranges."""

    def kind(left: PixelType, right: PixelType) -> PixelType:
        joined = union(left, right)
        if joined.precision != "int" or joined.low is None:
            return joined
        ends = [operation(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
        return PixelType("int", min(ends), max(ends))

    return kind


def _fraction(left: PixelType, right: PixelType) -> PixelType:
    return DOUBLE if "double" in (left.precision, right.precision) else FLOAT


def _boolean(left: PixelType, right: PixelType) -> PixelType:
    return BOOLEAN


def _divide(a: Any, b: Any) -> Any:
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b != 0)


_binary("Image.add", lambda a, b: a + b, _range(lambda a, b: a + b))
_binary("Image.subtract", lambda a, b: a - b, _range(lambda a, b: a - b))
_binary("Image.multiply", lambda a, b: a * b, _range(lambda a, b: a * b))
_binary("Image.divide", _divide, _fraction)
_binary("Image.pow", np.power, lambda a, b: DOUBLE)
_binary("Image.min", np.minimum, _range(min))
_binary("Image.max", np.maximum, _range(max))
_binary("Image.lt", lambda a, b: (a < b).astype(float), _boolean)
_binary("Image.lte", lambda a, b: (a <= b).astype(float), _boolean)
_binary("Image.gt", lambda a, b: (a > b).astype(float), _boolean)
_binary("Image.gte", lambda a, b: (a >= b).astype(float), _boolean)
_binary("Image.eq", lambda a, b: (a == b).astype(float), _boolean)
_binary("Image.neq", lambda a, b: (a != b).astype(float), _boolean)
_binary("Image.and", lambda a, b: ((a != 0) & (b != 0)).astype(float), _boolean)
_binary("Image.or", lambda a, b: ((a != 0) | (b != 0)).astype(float), _boolean)
_binary("Image.bitwiseAnd", lambda a, b: (a.astype(np.int64) & b.astype(np.int64)).astype(float), union)


@function("Image.not")
def negate(value: Image) -> Image:
    return value.map_bands(
        lambda band: derived(band, lambda values, mask: ((values == 0).astype(float), mask), BOOLEAN)
    )


@function("Image.abs")
def absolute(value: Image) -> Image:
    return value.map_bands(lambda band: derived(band, lambda values, mask: (np.abs(values), mask)))


@function("Image.log10")
def log10(value: Image) -> Image:
    def logarithm(values: NDArray[Any], mask: NDArray[Any]) -> Pixels:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log10(values.astype(float)), mask

    return value.map_bands(lambda band: derived(band, logarithm, DOUBLE))


@function("Image.round")
def round_image(value: Image) -> Image:
    # Earth Engine rounds halves up, as Java does.
    return value.map_bands(
        lambda band: derived(band, lambda values, mask: (np.floor(values.astype(float) + 0.5), mask))
    )


def _cast(band: Band, kind: PixelType) -> Band:
    def convert(values: NDArray[Any], mask: NDArray[Any]) -> Pixels:
        if kind.precision != "int":
            return values.astype(kind.dtype).astype(float), mask
        return np.clip(np.trunc(values.astype(float)), kind.low, kind.high), mask

    return derived(band, convert, kind)


_CASTS = {
    "Float": FLOAT,
    "Double": DOUBLE,
    "Byte": int_type("u1"),
    "Short": int_type("i2"),
    "Int": int_type("i4"),
    "Long": int_type("i8"),
    "Int8": int_type("i1"),
    "Int16": int_type("i2"),
    "Int32": int_type("i4"),
    "Uint8": int_type("u1"),
    "Uint16": int_type("u2"),
    "Uint32": int_type("u4"),
}
for _name, _kind in _CASTS.items():

    def _to(value: Image, kind: PixelType) -> Image:
        return value.map_bands(lambda band: _cast(band, kind))

    function(f"Image.to{_name}", f"Image.{_name[0].lower()}{_name[1:]}")(functools.partial(_to, kind=_kind))


@function("Image.cast")
def cast(image: Image, bandTypes: dict[str, Any], bandOrder: list[str] | None = None) -> Image:
    kinds = {name: _named_type(kind) for name, kind in bandTypes.items()}
    for name in kinds:
        image.band(name)
    done = image.map_bands(lambda band: _cast(band, kinds[band.name]) if band.name in kinds else band)
    return done if bandOrder is None else select(done, bandOrder)


def _named_type(kind: Any) -> PixelType:
    if isinstance(kind, PixelType):
        return kind
    key = str(kind)[:1].upper() + str(kind)[1:]
    if key not in _CASTS:
        raise EarthEngineError(f"Image.cast: Unknown pixel type '{kind}'.")
    return _CASTS[key]


for _reducer in ("min", "max", "mean", "sum"):
    function(f"Reducer.{_reducer}")(functools.partial(Reducer, _reducer, None))


@function("Image.reduce")
def reduce_bands(image: Image, reducer: Reducer) -> Image:
    """Across the bands of each pixel, over those that are not masked."""
    if reducer.name not in ("min", "max", "mean", "sum"):
        raise EarthEngineError(f"The local Earth Engine does not implement Image.reduce with Reducer.{reducer.name}.")

    def read(grid: Grid) -> Pixels:
        pixels = [band.read(grid) for band in image.bands]
        values = np.stack([value.astype(float) for value, _ in pixels])
        masks = np.stack([mask for _, mask in pixels])
        valid = masks > 0
        some = valid.any(0)
        empty = {"min": np.inf, "max": -np.inf}.get(reducer.name, 0.0)
        filled = np.where(valid, values, empty)
        if reducer.name == "mean":
            weight = masks.sum(0)
            out = np.divide((filled * masks).sum(0), weight, out=np.zeros(some.shape), where=some)
        else:
            out = getattr(np, reducer.name)(filled, axis=0)
        return np.where(some, out, 0.0), masks.max(0)

    kind = functools.reduce(union, (band.type for band in image.bands))
    kind = DOUBLE if reducer.name in ("mean", "sum") else kind
    return Image((Band(reducer.name, kind, read, image.bands[0].projection),), {}, image.footprint)
