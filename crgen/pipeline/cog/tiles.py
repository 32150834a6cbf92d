"""A rectangle of a raster as the tiles of a COG: what one worker can encode by itself, and what it must leave.

Tiles of the raster and of its two finest overviews that lie wholly in the rectangle are encoded here. Of tiles that
neighbours share, the pixels are kept as they are, and so is the coarsest of these levels, from which the further
overviews are made when all is there. GDAL encodes: its DEFLATE (libdeflate) takes a third of zlib's time.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from crgen.pipeline.box import Box
from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.cog.pyramid import BLOCK, halve, level_count, level_shape
from crgen.pipeline.cog.tiff import read_directories, tile_table

OWN_LEVELS = 2
"""Overviews made with the rectangle; its corners must be multiples of ``2 ** OWN_LEVELS`` pixels."""
COMPRESSION = "DEFLATE"
FIXED_POINT = 2**24
"""Floating point values are counted as multiples of its inverse: integers add up alike in any order."""
_HALF = 2**12


class Moments(NamedTuple):
    """Sums over the valid pixels of one band, exact, so that rectangles can be added in any order."""

    valid: int = 0
    minimum: float = np.inf
    maximum: float = -np.inf
    total: int = 0
    squares: int = 0

    def __add__(self, other: object) -> Moments:
        if not isinstance(other, Moments):
            return NotImplemented
        return Moments(
            self.valid + other.valid,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            self.total + other.total,
            self.squares + other.squares,
        )


class Block(Protocol):
    """A rectangle as :func:`encode` leaves it, wherever its bytes are."""

    @property
    def row(self) -> int:
        """First row in the raster."""

    @property
    def col(self) -> int:
        """First column."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def moments(self) -> tuple[Moments, ...]:
        """By band."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of its members by name."""

    def read(self, name: str) -> bytes:
        """Return a member: :func:`tile_name`, :func:`rest_name` or ``"coarse"``."""


@dataclass(frozen=True)
class EncodedBlock:
    """A :class:`Block` in memory."""

    row: int
    col: int
    shape: tuple[int, int]
    moments: tuple[Moments, ...]
    members: Mapping[str, bytes]

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of its members by name."""
        return {name: len(member) for name, member in self.members.items()}

    def read(self, name: str) -> bytes:
        """Return a member."""
        return self.members[name]


def tile_name(level: int, row: int, col: int) -> str:
    """Return the name of an encoded tile, its place counted in tiles of its level."""
    return f"{level}/{row}_{col}.tile"


def rest_name(level: int, row: int, col: int) -> str:
    """Return the name of the pixels that a block has of a tile it shares with others."""
    return f"{level}/{row}_{col}.rest"


def block_span(row: int, col: int, shape: tuple[int, int], level: int) -> Box:
    """Return the pixels of a level that a rectangle of the raster makes."""
    return Box(row >> level, -(-(row + shape[0]) >> level), col >> level, -(-(col + shape[1]) >> level))


def tile_span(shape: tuple[int, int], level: int, row: int, col: int) -> Box:
    """Return the pixels of a tile of a raster ``shape``, cut at the raster's edge."""
    height, width = level_shape(shape, level)
    r0, c0 = row * BLOCK, col * BLOCK
    return Box(r0, min(r0 + BLOCK, height), c0, min(c0 + BLOCK, width))


def own_levels(shape: tuple[int, int]) -> int:
    """Return the coarsest level that rectangles of a raster make by themselves."""
    return min(OWN_LEVELS, level_count(shape))


def encode(profile: RasterProfile, row: int, col: int, array: NDArray[Any]) -> EncodedBlock:
    """Encode a rectangle of a raster whose upper left pixel is ``(row, col)``.

    Args:
        profile: the raster.
        row: first row, a multiple of 4.
        col: first column, alike.
        array: ``(band, y, x)`` in the profile's dtype; height and width multiples of 4, or up to the raster's edge.

    Raises:
        ValueError: if the rectangle does not fit the raster.
    """
    _check(profile, row, col, array)
    shape = profile.shape
    coarsest = own_levels(shape)
    members: dict[str, bytes] = {}
    level_array = array
    whole = True
    for level in range(coarsest + 1):
        if level:
            level_array = halve(level_array, profile.nodata, categorical=profile.colours is not None)
        span = block_span(row, col, array.shape[1:], level)
        tiles = list(_tiles_in(span))
        places = {at: tile_span(shape, level, *at) for at in tiles}
        inner = [at for at in tiles if places[at].intersect(span) == places[at]]
        members |= {tile_name(level, *at): tile for at, tile in _encoded(profile, level_array, span, inner)}
        shared = [at for at in tiles if at not in inner]
        if level < coarsest:
            for at in shared:
                part = places[at].intersect(span)
                assert part is not None, "a tile among those of the rectangle"
                members[rest_name(level, *at)] = level_array[:, *part.slices(span)].tobytes()
        else:
            whole = not shared
    if level_count(shape) > coarsest or not whole:
        members["coarse"] = np.ascontiguousarray(level_array).tobytes()
    return EncodedBlock(row, col, array.shape[1:], moments_of(array, profile.nodata), members)


def encode_tile(profile: RasterProfile, pixels: NDArray[Any]) -> bytes:
    """Encode one tile ``(band, y, x)`` of up to 512 × 512 pixels; what lacks is filled with nodata."""
    span = Box(0, pixels.shape[1], 0, pixels.shape[2])
    ((_, tile),) = _encoded(profile, pixels, span, [(0, 0)])
    return tile


def moments_of(array: NDArray[Any], nodata: float) -> tuple[Moments, ...]:
    """Return the moments of each band of ``(band, y, x)``; totals of floats in units of 1 / FIXED_POINT."""
    return tuple((_float_moments if array.dtype.kind == "f" else _integer_moments)(band, nodata) for band in array)


def _integer_moments(band: NDArray[Any], nodata: float) -> Moments:
    numbers = np.bincount(band.ravel())
    if 0 <= nodata < len(numbers):
        numbers[int(nodata)] = 0
    values = np.flatnonzero(numbers)
    if not len(values):
        return Moments()
    numbers = numbers[values]
    squares = int((numbers * values * values).sum())
    return Moments(int(numbers.sum()), float(values[0]), float(values[-1]), int((numbers * values).sum()), squares)


def _float_moments(band: NDArray[Any], nodata: float) -> Moments:
    valid = band[~np.isnan(band) if np.isnan(nodata) else band != nodata]
    if not valid.size:
        return Moments()
    counted = np.rint(valid.astype(np.float64) * FIXED_POINT).astype(np.int64)
    high, low = np.divmod(counted, _HALF)  # the sum of whole squares would not fit 64 bits
    squares = int((high * high).sum()) * _HALF**2 + 2 * int((high * low).sum()) * _HALF + int((low * low).sum())
    return Moments(valid.size, float(valid.min()), float(valid.max()), int(counted.sum()), squares)


def _check(profile: RasterProfile, row: int, col: int, array: NDArray[Any]) -> None:
    count, height, width = array.shape
    rows, cols = profile.shape
    if count != len(profile.bands) or array.dtype != profile.dtype:
        expected = f"{len(profile.bands)} in {profile.dtype}"
        raise ValueError(f"block of {count} bands in {array.dtype}, expected {expected}")
    if row < 0 or col < 0 or row + height > rows or col + width > cols:
        raise ValueError(f"block {height} × {width} at ({row}, {col}) leaves the {rows} × {cols} raster")
    step = 2**OWN_LEVELS
    ends = [(row + height, rows), (col + width, cols)]
    if row % step or col % step or any(end % step and end != edge for end, edge in ends):
        raise ValueError(f"block {height} × {width} at ({row}, {col}) has corners that are not multiples of {step}")


def _tiles_in(span: Box) -> Iterator[tuple[int, int]]:
    for row in range(span.r0 // BLOCK, -(-span.r1 // BLOCK)):
        for col in range(span.c0 // BLOCK, -(-span.c1 // BLOCK)):
            yield row, col


def _encoded(
    profile: RasterProfile, array: NDArray[Any], span: Box, tiles: list[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yield tiles, which lie in ``span``, encoded by GDAL, those of one row in one go."""
    for row, places in itertools.groupby(tiles, key=lambda at: at[0]):
        cols = [col for _, col in places]
        around = Box(row * BLOCK, (row + 1) * BLOCK, cols[0] * BLOCK, (cols[-1] + 1) * BLOCK)
        with MemoryFile() as memory:  # type: ignore[no-untyped-call]
            with memory.open(
                driver="GTiff",
                width=len(cols) * BLOCK,
                height=BLOCK,
                count=len(array),
                dtype=profile.dtype,
                transform=profile.geobox.affine,
                **tile_options(profile),
            ) as dataset:
                dataset.write(_padded(profile, array, span, around))
            encoded = bytes(memory.getbuffer())
        table = tile_table(next(read_directories(io.BytesIO(encoded))))
        for col, offset, size in zip(cols, table.offsets, table.sizes, strict=True):
            yield (row, col), encoded[offset : offset + size]


def _padded(profile: RasterProfile, array: NDArray[Any], span: Box, around: Box) -> NDArray[Any]:
    """Return what an array that holds ``span`` has of ``around``, nodata where it has nothing."""
    filled = around.intersect(span)
    if filled == around:
        return array[:, *around.slices(span)]
    padded = np.full((len(array), *around.shape), profile.nodata, profile.dtype)
    if filled is not None:
        padded[:, *filled.slices(around)] = array[:, *filled.slices(span)]
    return padded


def tile_options(profile: RasterProfile) -> dict[str, Any]:
    """Return GDAL's creation options that decide the bytes of a tile.

    Bands are interleaved by pixel: a colour display asks for three bands of one place at a time, and one range
    request then fetches them.
    """
    return {
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "interleave": "pixel",
        "compress": COMPRESSION,
        "predictor": 3 if profile.dtype == "float32" else 2,
    }
