"""Functions on images."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.earthengine import catalogue
from tests.earthengine.images import (
    DOUBLE,
    MASK,
    UINT8,
    Band,
    EarthEngineError,
    Grid,
    Image,
    Pixels,
    PixelType,
    derived,
    inside,
    union,
)
from tests.earthengine.interpreter import function
from tests.earthengine.objects import Collection, to_geometry

# Making images -----------------------------------------------------------------------------------


@function("Image.load")
def load(id: str, version: int | None = None) -> Image:
    if id not in catalogue.images():
        raise EarthEngineError(
            f"Image.load: Image asset '{id}' not found (does not exist or caller does not have access)."
        )
    return catalogue.images()[id]


@function("Image.constant")
def constant(value: Any) -> Image:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, int | float) for item in values):
        raise EarthEngineError("Image.constant: the value must be a number or a list of numbers.")
    names = ["constant"] if not isinstance(value, list) else [f"constant_{i}" for i in range(len(values))]
    return Image(tuple(_constant(name, item) for name, item in zip(names, values, strict=True)))


def _constant(name: str, value: float) -> Band:
    whole = isinstance(value, int) or float(value).is_integer()

    def read(grid: Grid) -> Pixels:
        shape = grid.height, grid.width
        return np.full(shape, value), np.ones(shape)

    return Band(name, PixelType("int", value, value) if whole else DOUBLE, read)


# Bands ------------------------------------------------------------------------------------------


@function("Image.select")
def select(input: Image, bandSelectors: list[Any], newNames: list[str] | None = None) -> Image:
    bands = []
    for selector in bandSelectors:
        if isinstance(selector, int | float):
            if not 0 <= selector < len(input.bands):
                raise EarthEngineError(
                    f"Image.select: Band number {selector} is out of range, the image has {len(input.bands)} bands."
                )
            bands.append(input.bands[int(selector)])
            continue
        matching = [band for band in input.bands if re.fullmatch(selector, band.name)]
        if not matching:
            raise EarthEngineError(
                f"Image.select: Band pattern '{selector}' did not match any bands. Available bands: {input.names}"
            )
        bands += matching
    chosen = replace(input, bands=tuple(bands))
    return chosen if newNames is None else rename(chosen, newNames)


@function("Image.slice")
def slice_bands(image: Image, start: int, end: int | None = None) -> Image:
    return replace(image, bands=image.bands[int(start) : None if end is None else int(end)])


@function("Image.visualize")
def visualize(image: Image, bands: list[str], min: float, max: float) -> Image:
    """Red, green and blue bytes, or one grey band thrice; what maps show of it is never computed here."""
    chosen = select(image, bands if len(bands) == 3 else bands * 3)

    def stretched(band: Band) -> Band:
        def read(grid: Grid) -> Pixels:
            values, mask = band.read(grid)
            return np.clip((values - min) / (max - min) * 255, 0, 255), mask

        return replace(band, type=UINT8, compute=read)

    return rename(replace(chosen.map_bands(stretched), id=None), ["vis-red", "vis-green", "vis-blue"])


@function("Image.rename")
def rename(input: Image, names: list[str]) -> Image:
    if len(names) != len(input.bands):
        raise EarthEngineError(
            f"Image.rename: The input image has {len(input.bands)} bands and {len(names)} names were given."
        )
    if len(set(names)) != len(names):
        raise EarthEngineError("Image.rename: Can't add a band with a name that is already used.")
    return replace(input, bands=tuple(replace(band, name=name) for band, name in zip(input.bands, names, strict=True)))


@function("Image.bandNames")
def band_names(image: Image) -> list[str]:
    return image.names


@function("Image.addBands")
def add_bands(dstImg: Image, srcImg: Image, names: list[str] | None = None, overwrite: bool = False) -> Image:
    added = select(srcImg, names) if names is not None else srcImg
    bands = list(dstImg.bands)
    for band in added.bands:
        taken = [existing.name for existing in bands]
        if band.name not in taken:
            bands.append(band)
        elif overwrite:
            bands[taken.index(band.name)] = band
        else:
            free = next(f"{band.name}_{i}" for i in range(1, 1000) if f"{band.name}_{i}" not in taken)
            bands.append(replace(band, name=free))
    return replace(dstImg, bands=tuple(bands), id=None)


@function("Image.metadata")
def metadata(image: Image, property: str, name: str | None = None) -> Image:
    value = image.properties.get(property)
    if not isinstance(value, int | float):
        raise EarthEngineError(f"Image.metadata: Property '{property}' is missing or no number.")
    return Image((replace(_constant(name or property, value), type=DOUBLE),), {}, image.footprint)


@function("Image.linkCollection")
def link_collection(
    input: Image,
    imageCollection: Collection,
    linkedBands: Any = None,
    linkedProperties: Any = None,
    matchPropertyName: str = "system:index",
) -> Image:
    key = input.properties.get(matchPropertyName)
    match = next(
        (
            image
            for image in imageCollection.elements
            if key is not None and image.properties.get(matchPropertyName) == key
        ),
        None,
    )
    bands = [linkedBands] if isinstance(linkedBands, str) else linkedBands or []
    names = [linkedProperties] if isinstance(linkedProperties, str) else linkedProperties or []
    properties = {**input.properties, **{name: match.properties.get(name) if match else None for name in names}}
    linked = replace(input, properties=properties)
    if not bands:
        return linked
    if match is None:
        # Without a match the bands are there and fully masked.
        source = imageCollection.elements[0]
        return add_bands(linked, select(source, bands).map_bands(_masked), overwrite=True)
    return add_bands(linked, select(match, bands), overwrite=True)


def _masked(band: Band) -> Band:
    return derived(band, lambda values, mask: (np.zeros_like(values), np.zeros_like(mask)))


# Masks ------------------------------------------------------------------------------------------


def _mask_values(band: Band, grid: Grid) -> NDArray[Any]:
    """What a band means as a mask: its value between 0 and 1, and 0 where it is masked itself."""
    values, mask = band.read(grid)
    return np.where(mask > 0, np.clip(values.astype(float), 0.0, 1.0), 0.0)


def _masking(
    name: str, image: Image, mask: Image, combine: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
) -> Image:
    if len(mask.bands) not in (1, len(image.bands)):
        raise EarthEngineError(f"{name}: The mask must have one band, or as many bands as the image.")
    masks = list(mask.bands) * (len(image.bands) if len(mask.bands) == 1 else 1)
    bands = []
    for band, given in zip(image.bands, masks, strict=True):

        def read(grid: Grid, band: Band = band, given: Band = given) -> Pixels:
            values, old = band.read(grid)
            return values, combine(old, _mask_values(given, grid))

        bands.append(replace(band, compute=read))
    return replace(image, bands=tuple(bands), id=None)


@function("Image.updateMask")
def update_mask(image: Image, mask: Image) -> Image:
    return _masking("Image.updateMask", image, mask, lambda old, new: np.where(old > 0, new, 0.0))


@function("Image.mask")
def mask(image: Image, mask: Image | None = None) -> Image:
    if mask is not None:
        return _masking("Image.mask", image, mask, lambda old, new: new)
    return replace(
        image.map_bands(lambda band: derived(band, lambda values, mask: (mask, np.ones_like(mask)), MASK)), id=None
    )


@function("Image.selfMask")
def self_mask(image: Image) -> Image:
    return update_mask(image, image)


@function("Image.unmask")
def unmask(input: Image, value: Image | None = None, sameFootprint: bool = True) -> Image:
    fill = value or constant(0)
    if len(fill.bands) not in (1, len(input.bands)):
        raise EarthEngineError("Image.unmask: The value must have one band, or as many bands as the input.")
    fills = list(fill.bands) * (len(input.bands) if len(fill.bands) == 1 else 1)
    bands = []
    for band, other in zip(input.bands, fills, strict=True):

        def read(grid: Grid, band: Band = band, other: Band = other) -> Pixels:
            (values, old), (given, given_mask) = band.read(grid), other.read(grid)
            missing = old == 0
            if sameFootprint:
                missing &= inside(input.footprint, grid)
            return np.where(missing, given, values), np.where(missing, given_mask, old)

        bands.append(replace(band, type=union(band.type, other.type), compute=read))
    return replace(input, bands=tuple(bands), footprint=input.footprint if sameFootprint else None, id=None)


@function("Image.clip")
def clip(input: Image, geometry: Any) -> Image:
    shape = to_geometry(geometry)

    def clipped(band: Band) -> Band:
        def read(grid: Grid) -> Pixels:
            values, old = band.read(grid)
            return values, np.where(inside(shape, grid), old, 0.0)

        return replace(band, compute=read)

    footprint = shape if input.footprint is None else shape.intersection(input.footprint)
    return replace(input.map_bands(clipped), footprint=footprint, id=None)
