"""Put encoded rectangles together to a Cloud-Optimized GeoTIFF that appears whole or not at all.

GDAL's own COG driver would be less code. But it begins when all pixels are there: at 8192² px a file stands 5.4 s after
the last one, here after .8 s (``benchmarks/cog.py``). And it cannot go on from what a stopped run has encoded.

The header is GDAL's own (a template file without pixels gives every tag), the tiles are copied as they are; what is
left to encode are tiles that rectangles share and the coarse overviews. The layout is that of GDAL's COG driver
(https://gdal.org/en/stable/drivers/raster/cog.html, "File format details"): directories first, then the overviews'
tiles from the coarsest to the finest, then the raster's, each tile between its size and its last four bytes. The same
pixels give the same bytes, however they were cut into rectangles.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from crgen.errors import OutputError
from crgen.files import free_space, making, require_space, size_text
from crgen.pipeline.cog.gdal_tags import gdal_tags
from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.cog.pyramid import BLOCK, halve, level_count, level_shape
from crgen.pipeline.cog.tiff import (
    CLASSIC_LIMIT,
    LENGTH,
    LONG,
    LONG8,
    NEW_SUBFILE_TYPE,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    WIDTH,
    XMP,
    Directory,
    Field,
    header_size,
    pack_header,
)
from crgen.pipeline.cog.tiles import (
    Block,
    Moments,
    block_span,
    encode_tile,
    own_levels,
    rest_name,
    tile_name,
    tile_span,
)

try:  # GDAL's own error, which rasterio has no public name for and does not wrap everywhere
    from rasterio._err import CPLE_BaseError
except ImportError:
    CPLE_BaseError = RasterioError

OVERVIEWS = 4 / 3
"""Size of a raster with its overviews over its size without: 1 + 1/4 + 1/16 + …"""

WRITE_ERRORS = (OSError, RasterioError, CPLE_BaseError, SystemError)
"""What a failing disk can raise: rasterio turns a GDAL failure without a message into a SystemError."""

_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_LAYOUT) + _LAYOUT
LEADER = TRAILER = 4

# Tags that only the raster itself has: where it lies, and GDAL's description of its bands.
_FIRST_ONLY = (XMP, 33550, 33922, 34264, 34735, 34736, 34737, 42112)


class Spliced(NamedTuple):
    """A finished file, not yet published."""

    path: Path
    """Its hidden name."""
    digests: bytes
    """CRC-32 of each tile, little-endian, in the order of the directories, row by row."""


def splice(path: Path, profile: RasterProfile, blocks: Sequence[Block]) -> Spliced:
    """Make a COG beside its target, read it back, and bring it to the disk.

    Args:
        path: the file to make. It is not touched before :func:`~crgen.files.publish`.
        profile: its grid, bands and metadata.
        blocks: rectangles made by :func:`~crgen.pipeline.cog.tiles.encode`, in a grid of rows and columns; where there
            is none, the raster has no data.

    Raises:
        OutputError: if it cannot be written, or does not read back as written; nothing is left then.
    """
    try:
        with making(path) as partial, tempfile.TemporaryFile(dir=path.parent) as spool:
            pyramid = _Pyramid(profile, blocks, spool)
            pyramid.prepare()
            require_space(path.parent, pyramid.nbytes, path)
            digests = _write(partial, pyramid)
        return Spliced(partial, digests)
    except WRITE_ERRORS as error:
        raise write_failure(path, profile, error) from error


def write_failure(path: Path, profile: RasterProfile, error: BaseException) -> OutputError:
    """Return the line for people when ``path``, or something on the way to it, could not be written."""
    need, free = size_text(profile.nbytes * OVERVIEWS), size_text(free_space(path.parent))
    return OutputError(
        f"cannot write {path}: {_reason(error)} (up to {need} needed in {path.parent}, {free} free); "
        "free some space there or choose another folder"
    )


class _Stored(NamedTuple):
    """Where the bytes of one tile are."""

    block: Block | None
    """None: in the spool."""
    name: str
    offset: int
    size: int


@dataclass
class _Pyramid:
    """The tiles of every level: in blocks, or in a spool where they had to be encoded now."""

    profile: RasterProfile
    blocks: Sequence[Block]
    spool: BinaryIO
    levels: list[list[_Stored]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shape = self.profile.shape
        self.count, self.own = level_count(self.shape), own_levels(self.shape)
        self._rows = sorted({block.row for block in self.blocks})
        self._cols = sorted({block.col for block in self.blocks})
        self._at = {(block.row, block.col): block for block in self.blocks}

    @cached_property
    def _template(self) -> dict[int, Field]:
        by_band = zip(*(block.moments for block in self.blocks), strict=True)
        return gdal_tags(self.profile, [sum(band, Moments()) for band in by_band])

    @property
    def nbytes(self) -> int:
        """Bytes of all tiles."""
        return sum(LEADER + stored.size + TRAILER for level in self.levels for stored in level)

    def prepare(self) -> None:
        """Find every tile, and encode those that no block holds; memory is bounded by a few tiles."""
        grids = [self._grid(level) for level in range(self.count + 1)]
        found: list[dict[tuple[int, int], _Stored]] = [{} for _ in grids]
        for level in range(self.own + 1):
            held = {name: block for block in self.blocks for name in block.sizes if name.startswith(f"{level}/")}
            for at in _places(grids[level]):
                name = tile_name(level, *at)
                if block := held.get(name):
                    found[level][at] = _Stored(block, name, 0, block.sizes[name])
                else:
                    found[level][at] = self._spooled(self._shared_pixels(level, *at))
        if self.count > self.own:
            self._coarsen(self.count, 0, 0, found)
        self.levels = [[found[level][at] for at in _places(grid)] for level, grid in enumerate(grids)]

    def tiles(self, level: int) -> Iterator[bytes]:
        """Yield the encoded tiles of a level, row by row."""
        for stored in self.levels[level]:
            if stored.block is None:
                self.spool.seek(stored.offset)
                yield self.spool.read(stored.size)
            else:
                yield stored.block.read(stored.name)

    def directories(self, start: int, *, big: bool) -> list[Directory]:
        """Return the directories, the raster's first, for tiles that begin at byte ``start``, coarsest level first."""
        template = self._template
        directories: list[Directory] = []
        for level in reversed(range(self.count + 1)):
            sizes = np.array([stored.size for stored in self.levels[level]], np.int64)
            steps = LEADER + sizes + TRAILER
            offsets = start + LEADER + np.concatenate([[0], np.cumsum(steps)[:-1]])
            start += int(steps.sum())
            rows, cols = level_shape(self.shape, level)
            own = {
                WIDTH: Field.of(LONG, [cols]),
                LENGTH: Field.of(LONG, [rows]),
                TILE_OFFSETS: Field.of(LONG8 if big else LONG, offsets),
                TILE_BYTE_COUNTS: Field.of(LONG, sizes),
            }
            if level:
                own[NEW_SUBFILE_TYPE] = Field.of(LONG, [1])
            kept = {tag: value for tag, value in template.items() if not (level and tag in _FIRST_ONLY)}
            directories.insert(0, kept | own)
        return directories

    def _grid(self, level: int) -> tuple[int, int]:
        rows, cols = level_shape(self.shape, level)
        return -(-rows // BLOCK), -(-cols // BLOCK)

    def _spooled(self, pixels: NDArray[Any]) -> _Stored:
        tile = encode_tile(self.profile, pixels)
        offset = self.spool.seek(0, os.SEEK_END)
        self.spool.write(tile)
        return _Stored(None, "", offset, len(tile))

    def _missing(self, shape: tuple[int, int]) -> NDArray[Any]:
        return np.full((len(self.profile.bands), *shape), self.profile.nodata, self.profile.dtype)

    def _blocks_on(self, level: int, r0: int, r1: int, c0: int, c1: int) -> Iterator[Block]:
        """Yield the blocks that have pixels in a rectangle of a level."""
        rows = range(max(bisect_right(self._rows, r0 << level) - 1, 0), bisect_right(self._rows, (r1 << level) - 1))
        cols = range(max(bisect_right(self._cols, c0 << level) - 1, 0), bisect_right(self._cols, (c1 << level) - 1))
        for i in rows:
            for j in cols:
                if block := self._at.get((self._rows[i], self._cols[j])):
                    yield block

    def _shared_pixels(self, level: int, row: int, col: int) -> NDArray[Any]:
        """Return the pixels of a tile of one of the blocks' own levels."""
        tile = tile_span(self.shape, level, row, col)
        pixels = self._missing(tile.shape)
        for block in self._blocks_on(level, *tile):
            span = block_span(block.row, block.col, block.shape, level)
            part = tile.intersect(span)
            if part is None:
                continue
            if level == self.own:
                held = self._array(block.read("coarse"), span.shape)[:, *part.slices(span)]
            else:
                held = self._array(block.read(rest_name(level, row, col)), part.shape)
            pixels[:, *part.slices(tile)] = held
        return pixels

    def _array(self, data: bytes, shape: tuple[int, int]) -> NDArray[Any]:
        return np.frombuffer(data, self.profile.dtype).reshape(len(self.profile.bands), *shape)

    def _coarsen(self, level: int, row: int, col: int, found: list[dict[tuple[int, int], _Stored]]) -> NDArray[Any]:
        """Return a tile's pixels, made from its four of the finer level, and spool the tiles met on the way."""
        if level == self.own:
            return self._shared_pixels(level, row, col)
        pixels = self._missing(tile_span(self.shape, level, row, col).shape)
        down, across = self._grid(level - 1)
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if 2 * row + i < down and 2 * col + j < across:
                finer = self._coarsen(level - 1, 2 * row + i, 2 * col + j, found)
                half = halve(finer, self.profile.nodata, categorical=self.profile.colours is not None)
                r, c = i * BLOCK // 2, j * BLOCK // 2
                pixels[:, r : r + half.shape[1], c : c + half.shape[2]] = half
        found[level][row, col] = self._spooled(pixels)
        return pixels


def _places(grid: tuple[int, int]) -> Iterator[tuple[int, int]]:
    return ((row, col) for row in range(grid[0]) for col in range(grid[1]))


def _write(partial: Path, pyramid: _Pyramid) -> bytes:
    """Write the file, read it back, and return the tiles' digests in the directories' order."""
    room = header_size(pyramid.directories(0, big=False), GHOST, big=False)
    big = room + pyramid.nbytes > CLASSIC_LIMIT
    if big:
        room = header_size(pyramid.directories(0, big=True), GHOST, big=True)
    header = pack_header(pyramid.directories(room, big=big), GHOST, big=big)
    digests: list[list[int]] = [[] for _ in pyramid.levels]
    whole = zlib.crc32(header)
    with partial.open("wb") as file:
        file.write(header)
        for level in reversed(range(len(pyramid.levels))):
            for tile in pyramid.tiles(level):
                framed = len(tile).to_bytes(LEADER, "little") + tile + tile[-TRAILER:]
                file.write(framed)
                whole = zlib.crc32(framed, whole)
                digests[level].append(zlib.crc32(tile))
    if _crc32_of(partial) != whole:
        raise OSError("it does not read back as written")
    return np.array([crc for level in digests for crc in level], "<u4").tobytes()


def _crc32_of(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            crc = zlib.crc32(piece, crc)
    return crc


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and str(error):
        return str(error)
    if isinstance(error, SystemError):
        return "the disk did not take the data"
    return f"the disk did not take the data, GDAL says '{str(error.__cause__ or error).strip()}'"
