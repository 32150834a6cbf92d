"""Check a product's files against the digests in its STAC Item, and say where they differ."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import unquote

import numpy as np

from crgen.errors import OutputError
from crgen.files import file_sha256, size_text
from crgen.pipeline.cog.tiff import TileTable, read_directories, tile_table
from crgen.pipeline.product.mlm import files_of
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.product.stac import TILE_DIGESTS, seal_of
from crgen.pipeline.run.scratch import sweep

MOST_LINES = 20
"""Damaged tiles named one by one; the others are counted."""


class Checked(NamedTuple):
    """One file of a product."""

    path: Path
    problems: tuple[str, ...]
    """What is wrong, a line each; empty if the file is as it was made."""
    note: str = ""
    """What a person should know of it, though nothing is wrong."""


def verify(product: Path) -> list[Checked]:
    """Check every file of a product; of a whole one, remove what a kill after its last file left beside it.

    Args:
        product: its reflectance COG or its STAC Item.

    Returns:
        The item, then the files it names, then those beside it that are not of it.

    Raises:
        OutputError: if there is no item, or it names no files.
    """
    path = Paths(product).item
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OutputError(
            f"cannot read {path}: {error.strerror}; give a product that crgen made, by its .tif or its .json"
        ) from error
    try:
        item = json.loads(content)
        assets = {key: (path.parent / unquote(asset["href"]), asset) for key, asset in files_of(item).items()}
        seal = item["properties"].get("crgen:sha256")
    except (ValueError, KeyError, TypeError, AttributeError):
        return [Checked(path, ("damaged: it cannot be read as the STAC Item of a product",))]
    own = () if seal == seal_of(content) else ("damaged or edited: its own digest differs",)
    checked = [Checked(path, own), *(Checked(file, tuple(_problems(file, asset))) for file, asset in assets.values())]
    if "reflectance" in assets and not any(file.problems for file in checked):
        sweep(Paths(assets["reflectance"][0]))
    return checked + [_stranger(file) for file in Paths(product).neighbours]


def _stranger(file: Path) -> Checked:
    """Judge a file that viewers read along with a product: what they write themselves, newer than it, is no harm."""
    raster = file.with_name(file.name.removesuffix(".aux.xml"))
    what = f"not of this product, but viewers read it along with {raster.name}"
    if raster.exists() and raster != file and file.stat().st_mtime >= raster.stat().st_mtime:
        return Checked(file, (), what)
    return Checked(file, ("not of this product, but viewers show it with or instead of its pixels; remove it",))


def _problems(file: Path, asset: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a file; what cannot be looked up in a damaged item is wrong too."""
    try:
        size, checksum = asset["file:size"], asset["file:checksum"]
        digests = np.frombuffer(base64.b64decode(asset.get(TILE_DIGESTS, ""), validate=True), "<u4")
        there = file.stat().st_size
        if there < size:
            yield f"cut off: {size_text(there)} of {size_text(size)} are there"
        elif there > size:
            yield f"longer than it was: {there} bytes, {size} were written"
        found = False
        if digests.size:
            for problem in _few(_tile_problems(file, digests)):
                found = True
                yield problem
        if there == size and not found and file_sha256(file) != checksum:
            yield "damaged" + (" outside its tiles, in the header or between them" if digests.size else "")
    except FileNotFoundError:
        yield "missing"
    except OSError as error:
        yield f"cannot be read: {error.strerror}"
    except (KeyError, TypeError, ValueError):
        yield "cannot be checked: the item's digests of it are damaged"


def _few(problems: Iterator[str]) -> Iterator[str]:
    for _, problem in zip(range(MOST_LINES), problems, strict=False):
        yield problem
    if more := sum(1 for _ in problems):
        yield f"and {more} more tiles"


def _tile_problems(path: Path, digests: np.ndarray[Any, np.dtype[np.uint32]]) -> Iterator[str]:
    with path.open("rb") as file:
        try:
            tables = [tile_table(directory) for directory in read_directories(file)]
            if sum(len(table.offsets) for table in tables) != len(digests):
                raise ValueError("another number of tiles than was written")
        except ValueError as error:
            yield f"damaged header: {error}"
            return
        at = 0
        for level, table in enumerate(tables):
            for index in range(len(table.offsets)):
                if problem := _tile_problem(file, table, index, int(digests[at])):
                    r0, r1, c0, c1 = table.place(index)
                    where = f" of the overview 1:{2**level}" if level else ""
                    yield f"{problem} tile: rows {r0} to {r1}, columns {c0} to {c1}{where}"
                at += 1


def _tile_problem(file: BinaryIO, table: TileTable, index: int, digest: int) -> str | None:
    offset, size = int(table.offsets[index]), int(table.sizes[index])
    if not offset or not size:
        return "missing"
    if size >= 2**31:
        return "damaged"
    file.seek(offset)
    tile = file.read(size)
    if len(tile) < size:
        return "missing"
    return None if zlib.crc32(tile) == digest else "damaged"
