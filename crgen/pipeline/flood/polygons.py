"""Outlines of water from a finished raster of probabilities, as a GeoPackage; memory holds a strip and the outlines.

Three layers: ``flood``, water at t2 that was not there at t1; ``water_before``, water at both dates; and
``water_unknown_before``, water at t2 of which neither image nor radar of t1 tells whether it was there. Water is where
its probability is at least a half; whether it was there counts as known where that is beyond nine in ten.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Geod
from rasterio.features import shapes
from rasterio.windows import Window
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from shapely.geometry.base import BaseGeometry

from crgen.errors import OutputError
from crgen.files import making
from crgen.pipeline.tiling.water import KNOWN, UNKNOWN

LAYERS = ("flood", "water_before", "water_unknown_before")
RESOLVED = 20 * 22
"""Square metres of a resolution cell of Sentinel-1 (GRD, IW). What is smaller gets no outline; it stays in the raster
and in the area."""
STRIP = 512
"""Rows at once: those of a row of the COG's tiles."""
AT_ONCE = 20_000
"""Outlines that are written together."""

Classes = NDArray[np.uint8]


def classes_of(t2: NDArray[np.uint8], t1: NDArray[np.uint8]) -> Classes:
    """Return, from probabilities in per cent, 1 + the place in :data:`LAYERS` of each pixel, 0 where there is none."""
    wet = (t2 >= 50) & (t2 != UNKNOWN)
    before, dry = (t1 >= KNOWN) & (t1 != UNKNOWN), t1 <= 100 - KNOWN
    return np.select([~wet, dry, before], [0, 1, 2], 3).astype(np.uint8)


def write_polygons(path: Path, water: Path, radar: str, day: str) -> Path:
    """Write the outlines of water under the hidden name of ``path``.

    Each has ``area_m2`` on the ground, ``probability``, the mean of its pixels in per cent, and ``radar``.

    Args:
        path: the GeoPackage to make.
        water: a finished raster of probabilities in per cent, at t2 and at t1.
        radar: days of the radar of t2.
        day: of t2; stands for the time of writing, so that the same map has the same bytes.

    Returns:
        The hidden file, for :func:`~crgen.files.publish`.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        with making(path) as partial, rasterio.open(water) as raster, _written_on(day):
            objects = _objects(raster)
            layers: dict[int, list[tuple[BaseGeometry, int]]] = {layer: [] for layer in range(len(LAYERS))}
            for layer in layers:  # an empty one too is there
                _append(partial, raster, layer, [], objects, radar)
            for outline, number in _outlines(raster, objects):
                held = layers[objects.classes[number] - 1]
                held.append((outline, number))
                if len(held) == AT_ONCE:
                    _append(partial, raster, objects.classes[number] - 1, held, objects, radar)
                    held.clear()
            for layer, held in layers.items():
                _append(partial, raster, layer, held, objects, radar)
    except (OSError, pyogrio.errors.DataSourceError, pyogrio.errors.FeatureError, RuntimeError) as error:
        raise OutputError(f"cannot write {path}: {error}; free some space there or choose another folder") from error
    return partial


def pixel_area(raster: Any) -> float:
    """Return the mean area of the pixels of an open raster on the WGS 84 ellipsoid, in square metres."""
    grid = GeoBox.from_rio(raster)
    box = grid.boundingbox
    outline = grid.extent.to_crs("EPSG:4326", resolution=max(box.span_x, box.span_y) / 20).geom
    area, _ = Geod(ellps="WGS84").geometry_area_perimeter(outline)
    pixels: int = raster.height * raster.width
    return abs(float(area)) / pixels


class _Objects(NamedTuple):
    """Connected pixels of one class, over the whole raster."""

    number: NDArray[np.int32]
    """Of each connected part of a strip, the object that it belongs to; parts are counted from 1 over all strips."""
    classes: NDArray[np.uint8]
    areas: NDArray[np.float64]
    """On the ground, in square metres."""
    probability: NDArray[np.float64]
    """Mean of the pixels, in per cent."""
    across: NDArray[np.bool_]
    """Whether it lies in several strips."""


def _objects(raster: Any) -> _Objects:
    """Find the objects, strip by strip."""
    classes, pairs = [np.zeros(1, np.uint8)], [np.zeros((2, 0), np.int64)]
    counts: list[NDArray[Any]] = [np.zeros(1)]
    sums: list[NDArray[Any]] = [np.zeros(1)]
    first, above = 1, None
    for strip in _strips(raster):
        parts = strip.parts + np.where(strip.parts, first - 1, 0)
        size = int(strip.parts.max(initial=0))
        counts.append(np.bincount(strip.parts.ravel(), minlength=size + 1)[1:])
        sums.append(np.bincount(strip.parts.ravel(), strip.t2.ravel(), minlength=size + 1)[1:])
        kind = np.zeros(size + 1, np.uint8)
        kind[strip.parts] = strip.classes
        classes.append(kind[1:])
        if above is not None:
            same = (above[1] == strip.classes[0]) & (strip.classes[0] > 0)
            pairs.append(np.unique(np.stack([above[0][same], parts[0][same]]), axis=1))
        first, above = first + size, (parts[-1], strip.classes[-1])
    joined = np.concatenate(pairs, 1)
    graph = coo_array((np.ones(joined.shape[1], bool), (joined[0], joined[1])), shape=(first, first))
    total, number = connected_components(graph, directed=False)
    pixels = np.bincount(number, np.concatenate(counts), minlength=total)
    kinds, across = np.zeros(total, np.uint8), np.zeros(total, bool)
    kinds[number] = np.concatenate(classes)
    across[number[joined.ravel()]] = True
    mean = np.bincount(number, np.concatenate(sums), minlength=total) / np.maximum(pixels, 1)
    areas = np.asarray(pixels * pixel_area(raster), np.float64)
    return _Objects(number.astype(np.int32), kinds, areas, mean.astype(np.float64), across)


class _Strip(NamedTuple):
    row: int
    t2: NDArray[np.uint8]
    classes: Classes
    parts: NDArray[np.int32]
    """Connected pixels of one class, counted from 1; 0 elsewhere."""


def _strips(raster: Any) -> Iterator[_Strip]:
    for row in range(0, raster.height, STRIP):
        t2, t1 = raster.read(window=Window(0, row, raster.width, min(STRIP, raster.height - row)))
        classes = classes_of(t2, t1)
        parts, size = np.zeros(classes.shape, np.int32), 0
        for kind in range(1, len(LAYERS) + 1):
            here, found = ndimage.label(classes == kind)
            parts += np.where(here, here + size, 0).astype(np.int32)
            size += found
        yield _Strip(row, t2, classes, parts)


def _outlines(raster: Any, objects: _Objects) -> Iterator[tuple[BaseGeometry, int]]:
    """Yield the outline and the number of every object that is resolved."""
    waiting: dict[int, list[BaseGeometry]] = defaultdict(list)
    wanted = objects.areas >= RESOLVED
    wanted[objects.number[0]] = False
    first = 1
    for strip in _strips(raster):
        numbers = objects.number[strip.parts + np.where(strip.parts, first - 1, 0)]
        transform = raster.transform @ Affine.translation(0, strip.row)
        for shape, value in shapes(numbers, wanted[numbers] & (strip.parts > 0), transform=transform):
            outline, number = shapely.geometry.shape(shape), int(value)
            if objects.across[number]:
                waiting[number].append(outline)
            else:
                yield outline, number
        first += int(strip.parts.max(initial=0))
    for number, pieces in waiting.items():
        yield shapely.union_all(pieces), number


def _append(
    path: Path, raster: Any, layer: int, held: list[tuple[BaseGeometry, int]], objects: _Objects, radar: str
) -> None:
    """Add outlines to a layer, or make it."""
    new = not path.exists() or LAYERS[layer] not in pyogrio.list_layers(path)[:, 0]  # type: ignore[no-untyped-call]
    if not held and not new:
        return
    numbers = np.array([number for _, number in held], int)
    fields = {
        "area_m2": objects.areas[numbers],
        "probability": objects.probability[numbers],
        "radar": np.full(len(numbers), radar, object),
    }
    pyogrio.raw.write(  # type: ignore[no-untyped-call]
        path,
        geometry=np.array([shapely.to_wkb(outline) for outline, _ in held], object),
        field_data=list(fields.values()),
        fields=list(fields),
        layer=LAYERS[layer],
        driver="GPKG",
        geometry_type="Polygon",
        crs=raster.crs.to_wkt(),
        append=path.exists(),
    )


@contextmanager
def hidden_name() -> Iterator[None]:
    """Let GDAL take a GeoPackage under the hidden name of an unfinished file without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*extension", RuntimeWarning)
        yield


@contextmanager
def _written_on(day: str) -> Iterator[None]:
    """Let GDAL write this day for the time of the last change."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": f"{day}T00:00:00.000Z"})  # type: ignore[no-untyped-call]
    try:
        with hidden_name():
            yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})  # type: ignore[no-untyped-call]
