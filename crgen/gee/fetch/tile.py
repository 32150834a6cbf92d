"""One tile of pixels: what to ask ``computePixels`` for, and whether the answer is it."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from crgen.files import PARSING
from crgen.gee.connection.faults import Corrupt
from crgen.gee.fetch.images import VALID, Layer

REQUEST_BYTES = 48 * 1024 * 1024
"""What ``computePixels`` gives at most, uncompressed, counted as :attr:`Layer.request_bytes`."""
LARGEST = 1024
"""Side of a tile in pixels: larger ones run into memory and time limits more often than they save requests."""
FLOOR = 64
"""Side below which a tile is not split further."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a grid, in pixels from its upper left corner."""

    row: int
    col: int
    height: int
    width: int

    def halves(self) -> Iterator[Tile]:
        """Yield the tile's quarters; a side no longer than the floor stays whole."""
        down = self.height if self.height <= FLOOR else math.ceil(self.height / 2)
        across = self.width if self.width <= FLOOR else math.ceil(self.width / 2)
        for row in range(0, self.height, down):
            for col in range(0, self.width, across):
                yield Tile(self.row + row, self.col + col, min(down, self.height - row), min(across, self.width - col))

    @property
    def smallest(self) -> bool:
        """Whether the tile cannot be split."""
        return max(self.height, self.width) <= FLOOR


def tile_side(layers: Sequence[Layer], largest: int = LARGEST) -> int:
    """Return the side of tiles that every layer's request has room for, a power of two."""
    heaviest = max(layer.request_bytes for layer in layers)
    side = min(largest, math.isqrt(REQUEST_BYTES // heaviest))
    return max(FLOOR, 1 << (side.bit_length() - 1))


@dataclass(frozen=True)
class Tiling:
    """A grid cut at multiples of ``side`` pixels counted from its CRS's origin.

    So areas that overlap have tiles in common, and a tile fetched for one serves the others. No pixel beyond the grid
    is asked for: tiles at its edges are smaller. A grid narrower than a tile holds none in common with others, and is
    not cut.
    """

    geobox: GeoBox
    side: int

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Height of each row of tiles."""
        a = self.geobox.affine
        return edges(round(a.f / a.e), self.geobox.shape[0], self.side)

    @cached_property
    def columns(self) -> tuple[int, ...]:
        """Width of each column of tiles."""
        a = self.geobox.affine
        return edges(round(a.c / a.a), self.geobox.shape[1], self.side)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles, row by row."""
        lines = product(*(zip(accumulate(runs, initial=0), runs, strict=False) for runs in (self.rows, self.columns)))
        return tuple(Tile(row, col, height, width) for (row, height), (col, width) in lines)


def edges(first: int, length: int, side: int) -> tuple[int, ...]:
    """Cut ``length`` pixels from ``first`` on into runs that end at multiples of ``side``; fewer stay whole."""
    if length < side:
        return (length,)
    cuts = [first, *range((first // side + 1) * side, first + length, side), first + length]
    return tuple(after - before for before, after in pairwise(cuts))


def grid_of(geobox: GeoBox, tile: Tile) -> dict[str, Any]:
    """Return a tile's grid as ``computePixels`` takes it: affine of the upper left pixel's corner, explicit CRS."""
    a, crs = geobox.affine, geobox.crs
    assert crs is not None
    code = crs.to_epsg()
    return {
        "dimensions": {"width": tile.width, "height": tile.height},
        "affineTransform": {
            "scaleX": a.a,
            "shearX": 0,
            "translateX": a.c + tile.col * a.a,
            "shearY": 0,
            "scaleY": a.e,
            "translateY": a.f + tile.row * a.e,
        },
        **({"crsCode": f"EPSG:{code}"} if code else {"crsWkt": crs.to_wkt()}),
    }


def tile_key(layer: Layer, grid: dict[str, Any]) -> str:
    """Return the digest of all that decides a tile's pixels."""
    asked = json.dumps([layer.digest, layer.bands, grid], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()


def read_tile(content: bytes, layer: Layer, tile: Tile) -> NDArray[Any]:
    """Read the NPY that ``computePixels`` answered with.

    Returns:
        ``(height, width)`` of the layer's dtype.

    Raises:
        Corrupt: if it is truncated, of another size, lacks a band, or holds what such pixels cannot be.
    """
    array = _opened(content)
    if array.shape != (tile.height, tile.width):
        raise Corrupt(f"an array of shape {array.shape} arrived, not {(tile.height, tile.width)}")
    if array.dtype.names != layer.dtype.names:
        raise Corrupt(f"the bands {array.dtype.names} arrived, not {layer.dtype.names}")
    if array.dtype != layer.dtype:
        array = _narrowed(array, layer.dtype)
    if not (array[VALID] <= 1).all():
        raise Corrupt("the validity band holds other values than 0 and 1")
    return array


def _opened(content: bytes) -> NDArray[Any]:
    """Return the array of an NPY, which is a view of ``content``: of many tiles under way a copy each would be much."""
    try:
        stream = io.BytesIO(content)
        major, _ = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        with PARSING:
            shape, columns_first, dtype = read(stream)
        array = np.frombuffer(content, dtype, offset=stream.tell())
        return array.reshape(shape, order="F" if columns_first else "C")
    except (ValueError, EOFError) as error:
        raise Corrupt(f"{len(content)} bytes arrived that are not a whole NPY array ({error})") from None


def _narrowed(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the array in the dtype asked for, if no value changes by it beyond float32's rounding."""
    narrow = np.empty(array.shape, dtype)
    for name in dtype.names or ():
        with np.errstate(invalid="ignore", over="ignore"):
            narrow[name] = array[name]
        same = np.allclose(narrow[name], array[name], rtol=1e-6, equal_nan=True) if dtype[name].kind == "f" else None
        if not (np.array_equal(narrow[name], array[name]) if same is None else same):
            raise Corrupt(f"band {name} arrived as {array.dtype[name]} and does not fit {dtype[name]}")
    return narrow
