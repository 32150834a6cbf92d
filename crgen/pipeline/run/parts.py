"""Parts: what one chunk of a run leaves on the disk, whole or not at all.

A part is a zip file whose members carry CRC-32s and whose comment names
the run it belongs to. Several processes may write one.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.files import PARSING, replacing
from crgen.pipeline.cog.tiles import EncodedBlock, Moments

SUMMARY = "summary.json"
OPEN_FILES = 128
KEPT_AS_THEY_ARE = (".tile", ".rest", "coarse", "spills")
"""Members that are compressed already, or would cost more time than they save room."""


@dataclass(frozen=True)
class Part:
    """A part that was found whole."""

    store: PartStore
    name: str
    sizes: Mapping[str, int]
    """Bytes of its members by name."""

    def read(self, member: str) -> bytes:
        """Return a member.

        Raises:
            OSError: if it is damaged.
        """
        try:
            return self.store.opened(self.name).read(member)
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            path = self.store.folder / self.name
            raise OSError(f"the finished part {path} was damaged since ({error}); remove it and run again") from error

    @property
    def members(self) -> list[str]:
        """Names of its members beside the summary."""
        return [name for name in self.sizes if name != SUMMARY]

    @property
    def summary(self) -> dict[str, Any]:
        """What was said of the chunk."""
        held: dict[str, Any] = json.loads(self.read(SUMMARY))
        return held


class PartStore:
    """The parts of one run in one folder, which several processes may share.

    Args:
        folder: an existing folder.
        run: names the run; parts of another are taken as missing.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        self.opened = lru_cache(OPEN_FILES)(lambda name: zipfile.ZipFile(self.folder / name))

    def write(self, name: str, summary: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
        """Write a part; one of the same name is replaced.

        Raises:
            OSError: if the disk is full or fails; nothing is left then.
        """
        # A scheduler may give a chunk to a second worker while the first still writes its part.
        with replacing(self.folder / name, shared=True) as partial, zipfile.ZipFile(partial, "w") as archive:
            archive.comment = self.run.encode()
            archive.writestr(SUMMARY, json.dumps(summary))
            for member, content in members.items():
                packed = zipfile.ZIP_STORED if member.endswith(KEPT_AS_THEY_ARE) else zipfile.ZIP_DEFLATED
                archive.writestr(member, content, packed, compresslevel=1)

    def open(self, name: str) -> Part:
        """Return a part; a member is checked when it is read.

        Raises:
            OSError: if it is missing, damaged, or another run's.
        """
        path = self.folder / name
        try:
            archive = self.opened(name)
        except zipfile.BadZipFile as error:
            raise OSError(f"the part {path} is damaged ({error}); remove it and run again") from error
        if archive.comment != self.run.encode():
            raise OSError(f"the part {path} belongs to another run; remove it and run again")
        return Part(self, name, {info.filename: info.file_size for info in archive.infolist()})

    def check(self, name: str) -> bool:
        """Return whether a part is there, whole, and of this run; every byte of it is read."""
        try:
            with zipfile.ZipFile(self.folder / name) as archive:
                return archive.comment == self.run.encode() and archive.testzip() is None
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError):
            return False


@dataclass(frozen=True)
class StoredBlock:
    """A :class:`~crgen.pipeline.cog.tiles.Block` in a part."""

    part: Part
    raster: str
    row: int
    col: int
    shape: tuple[int, int]
    moments: tuple[Moments, ...]

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of its members by name."""
        start = f"{self.raster}/"
        return {name.removeprefix(start): n for name, n in self.part.sizes.items() if name.startswith(start)}

    def read(self, name: str) -> bytes:
        """Return a member."""
        return self.part.read(f"{self.raster}/{name}")


def block_members(raster: str, block: EncodedBlock) -> dict[str, bytes]:
    """Return a block's members as a part names them."""
    return {f"{raster}/{name}": content for name, content in block.members.items()}


def block_summary(block: EncodedBlock) -> dict[str, Any]:
    """Return what a part's summary says of a block."""
    return {"row": block.row, "col": block.col, "shape": block.shape, "moments": block.moments}


def stored_block(part: Part, raster: str, summary: Mapping[str, Any]) -> StoredBlock:
    """Return a block from a part and :func:`block_summary`."""
    height, width = summary["shape"]
    moments = tuple(Moments(*held) for held in summary["moments"])
    return StoredBlock(part, raster, summary["row"], summary["col"], (height, width), moments)


def pack_arrays(arrays: Iterable[NDArray[Any] | None]) -> bytes:
    """Return arrays as bytes, None as an empty one."""
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, np.empty(0) if array is None else array)
    return buffer.getvalue()


def unpack_arrays(content: bytes, count: int) -> list[NDArray[Any] | None]:
    """Return what :func:`pack_arrays` was given."""
    buffer = io.BytesIO(content)
    with PARSING:
        arrays = [np.load(buffer) for _ in range(count)]
    return [array if array.size else None for array in arrays]
