"""Image file directories of a TIFF, read and written as raw tags, so that tiles can be moved without decoding them.

Source: TIFF 6.0 (Adobe, 1992), sections 2 and 15, and its 64-bit form BigTIFF. Little-endian, as GDAL writes here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, LENGTH = 256, 257
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS = 322, 323, 324, 325
NEW_SUBFILE_TYPE = 254
XMP = 700
BYTE, SHORT, LONG, LONG8 = 1, 3, 4, 16
SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), 1)) | {LONG8: 8, 17: 8, 18: 8}
"""Bytes of one value by field type."""

CLASSIC_LIMIT = 2**32 - 1
"""Bytes a classic TIFF can address."""


class Field(NamedTuple):
    """The value of a tag."""

    kind: int
    """Field type: 3 SHORT, 4 LONG, 16 LONG8, …"""
    number: int
    """How many values."""
    data: bytes

    @classmethod
    def of(cls, kind: int, values: Sequence[int] | NDArray[np.integer]) -> Field:
        """Return a field of unsigned integers."""
        dtype = {SHORT: "<u2", LONG: "<u4", LONG8: "<u8"}[kind]
        return cls(kind, len(values), np.asarray(values).astype(dtype).tobytes())

    @property
    def integers(self) -> NDArray[np.int64]:
        """Its values, where they are unsigned integers."""
        return np.frombuffer(self.data, {SHORT: "<u2", LONG: "<u4", LONG8: "<u8"}[self.kind]).astype(np.int64)


Directory = Mapping[int, Field]


@dataclass(frozen=True)
class TileTable:
    """Where the tiles of one image of a file are, row by row."""

    shape: tuple[int, int]
    """Rows and columns of the image in pixels."""
    tile: tuple[int, int]
    """Rows and columns of a tile."""
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def place(self, index: int) -> tuple[int, int, int, int]:
        """Return rows and columns, half-open, of a tile's pixels: ``(r0, r1, c0, c1)``."""
        row, col = divmod(index, -(-self.shape[1] // self.tile[1]))
        r0, c0 = row * self.tile[0], col * self.tile[1]
        return r0, min(r0 + self.tile[0], self.shape[0]), c0, min(c0 + self.tile[1], self.shape[1])


def read_directories(file: BinaryIO) -> Iterator[dict[int, Field]]:
    """Yield the directories of a little-endian TIFF or BigTIFF, in the file's order.

    Raises:
        ValueError: if it is none, or ends within a directory.
    """
    head = _exactly(file, 0, 16)
    if head[:2] != b"II" or head[2] not in (42, 43):
        raise ValueError("not a little-endian TIFF")
    big = head[2] == 43
    at = struct.unpack("<Q", head[8:16])[0] if big else struct.unpack("<I", head[4:8])[0]
    count_code, entry_code, next_code = ("<Q", "<HHQ8s", "<Q") if big else ("<H", "<HHI4s", "<I")
    seen = set()
    while at:
        if at in seen:
            raise ValueError("the directories form a loop")
        seen.add(at)
        width = struct.calcsize(count_code)
        count = struct.unpack(count_code, _exactly(file, at, width))[0]
        if count > 4096:
            raise ValueError(f"a directory of {count} tags")
        size = struct.calcsize(entry_code)
        table = _exactly(file, at + width, count * size + struct.calcsize(next_code))
        directory = {}
        for tag, kind, values, inline in struct.iter_unpack(entry_code, table[: count * size]):
            if kind not in SIZES:
                raise ValueError(f"tag {tag} has the unknown type {kind}")
            length = SIZES[kind] * values
            if length <= len(inline):
                data = inline[:length]
            else:
                data = _exactly(file, struct.unpack(next_code, inline)[0], length)
            directory[tag] = Field(kind, values, data)
        yield directory
        at = struct.unpack(next_code, table[count * size :])[0]


def tile_table(directory: Directory) -> TileTable:
    """Return where a directory's tiles are.

    Raises:
        ValueError: if it has none, or they do not cover the image.
    """
    try:
        length, width, down, across = (
            int(directory[tag].integers[0]) for tag in (LENGTH, WIDTH, TILE_LENGTH, TILE_WIDTH)
        )
        offsets, sizes = (directory[tag].integers for tag in (TILE_OFFSETS, TILE_BYTE_COUNTS))
    except (KeyError, IndexError) as error:
        raise ValueError(f"no tiles: tag {error} is missing") from None
    if min(length, width, down, across) < 1:
        raise ValueError(f"{width} × {length} pixels in tiles of {across} × {down}")
    if not len(offsets) == len(sizes) == -(-length // down) * -(-width // across):
        raise ValueError("the tiles do not cover the image")
    return TileTable((length, width), (down, across), offsets, sizes)


def header_size(directories: Sequence[Directory], ghost: bytes, *, big: bool) -> int:
    """Return the length of what :func:`pack_header` returns, which the values of a tag do not change."""
    return (16 if big else 8) + _even(len(ghost)) + sum(_directory_size(d, big=big) for d in directories)


def pack_header(directories: Sequence[Directory], ghost: bytes, *, big: bool) -> bytes:
    """Return a file's beginning: signature, ``ghost``, then the directories, each followed by its long values.

    Args:
        directories: in order; each goes out with its tags sorted.
        ghost: bytes between the signature and the first directory, as GDAL's COGs have them.
        big: BigTIFF.
    """
    first = (16 if big else 8) + _even(len(ghost))
    signature = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    parts = [signature, ghost.ljust(_even(len(ghost)), b"\0")]
    at = first
    for number, directory in enumerate(directories):
        following = at + _directory_size(directory, big=big)
        parts.append(_pack_directory(directory, at, 0 if number == len(directories) - 1 else following, big=big))
        at = following
    return b"".join(parts)


def _pack_directory(directory: Directory, at: int, following: int, *, big: bool) -> bytes:
    count_code, entry_code, next_code, room = ("<Q", "<HHQ", "<Q", 8) if big else ("<H", "<HHI", "<I", 4)
    entries, values = [struct.pack(count_code, len(directory))], []
    free = at + _table_size(directory, big=big)
    for tag in sorted(directory):
        field = directory[tag]
        entries.append(struct.pack(entry_code, tag, field.kind, field.number))
        if len(field.data) <= room:
            entries.append(field.data.ljust(room, b"\0"))
        else:
            entries.append(struct.pack(next_code, free))
            values.append(field.data.ljust(_even(len(field.data)), b"\0"))
            free += len(values[-1])
    return b"".join([*entries, struct.pack(next_code, following), *values])


def _table_size(directory: Directory, *, big: bool) -> int:
    return 8 + 20 * len(directory) + 8 if big else 2 + 12 * len(directory) + 4


def _directory_size(directory: Directory, *, big: bool) -> int:
    room = 8 if big else 4
    long = sum(_even(len(field.data)) for field in directory.values() if len(field.data) > room)
    return _table_size(directory, big=big) + long


def _even(size: int) -> int:
    return size + size % 2


def _exactly(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    data = file.read(size) if size < 2**31 else b""
    if len(data) != size:
        raise ValueError(f"it ends before byte {at + size}")
    return data
