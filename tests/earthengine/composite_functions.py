"""Functions that make one image of many."""

import functools
from dataclasses import replace

import numpy as np
import shapely

from tests.earthengine.images import Band, EarthEngineError, Grid, Image, Pixels, union
from tests.earthengine.interpreter import function
from tests.earthengine.objects import Collection


@function("ImageCollection.mosaic")
def mosaic(collection: Collection) -> Image:
    if not collection.elements:
        return Image(())
    names = collection.elements[0].names
    for image in collection.elements:
        if image.names != names:
            raise EarthEngineError(
                "ImageCollection.mosaic: Expected a homogeneous image collection, but an image with incompatible bands "
                f"was encountered: {names} and {image.names}."
            )
    bands = []
    for index, name in enumerate(names):
        layers = [image.bands[index] for image in collection.elements]

        def read(grid: Grid, layers: list[Band] = layers) -> Pixels:
            values, covered = (np.array(part) for part in layers[-1].read(grid))
            for layer in reversed(layers[:-1]):
                if covered.all():
                    break
                below, mask = layer.read(grid)
                missing = covered == 0
                values = np.where(missing, below, values)
                covered = np.where(missing, mask, covered)
            return values, covered

        bands.append(Band(name, functools.reduce(union, (layer.type for layer in layers)), read))
    outlines = [image.footprint for image in collection.elements]
    footprint = None if None in outlines else shapely.union_all(outlines)
    return Image(tuple(bands), {}, footprint)


@function("ImageCollection.toBands")
def to_bands(collection: Collection) -> Image:
    """All bands of all images, named by the images' place: Earth Engine numbers those of a list."""
    bands = [
        replace(band, name=f"{number}_{band.name}")
        for number, image in enumerate(collection.elements)
        for band in image.bands
    ]
    outlines = [image.footprint for image in collection.elements]
    return Image(tuple(bands), {}, None if None in outlines else shapely.union_all(outlines))
