"""What a run has on the disk: the names of its parts, and what they say together.

First ``past.learned`` is written, what is learned from the place's past. Each chunk writes ``ROW_COL.evidence``, its
evidence of t2. Once all have, it writes ``ROW_COL.inputs``, what it read in small, for the pictures, then
``ROW_COL.spills``, what its windows add to its neighbours, and then ``ROW_COL.part``, its tiles and counts. Where the
last stands, the others do. A neighbour that is taken up later, by another process or after a kill, reads the spills, so
that no window is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crgen.pipeline.picture.thumbnail import InputThumbnails, Reduced
from crgen.pipeline.run.parts import Part, PartStore, StoredBlock, stored_block, unpack_arrays
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.hidden import Hidden
from crgen.pipeline.tiling.lending import Lent, Origin
from crgen.pipeline.tiling.past import Learned
from crgen.pipeline.tiling.windows import At, ChunkGrid

EVIDENCE, INPUTS, SPILLS, PART = "evidence", "inputs", "spills", "part"
"""What each chunk writes."""
CHECK = ".check"
PAST = "past.learned"
"""File name of what is learned from the place's past."""


def name_of(at: At, kind: str) -> str:
    """Return the file name of what a chunk writes."""
    return f"{at[0]}_{at[1]}.{kind}"


def check_name(group: int) -> str:
    """Return the file name of the errors on a group of hidden cells."""
    return f"{group}{CHECK}"


class Gathered(NamedTuple):
    """What the parts of a finished run say, put together in the grid's order."""

    tally: Tally
    inputs: InputThumbnails
    blocks: dict[str, list[StoredBlock]]
    """By raster."""
    hidden: Hidden


def gather(
    store: PartStore, grid: ChunkGrid, thumbnails: InputThumbnails, rasters: Sequence[str], bands: int
) -> Gathered:
    """Put all parts together; pixels stay on the disk.

    Args:
        store: of a run that made all its parts.
        grid: its chunks.
        thumbnails: the inputs in small, to be put together.
        rasters: names of the rasters.
        bands: how many are made.

    Raises:
        OSError: if a part cannot be read.
    """
    gathered = Gathered(Tally(), thumbnails, {name: [] for name in rasters}, hidden_in(store, bands))
    for chunk in grid:
        part, inputs = store.open(name_of(chunk.at, PART)), store.open(name_of(chunk.at, INPUTS))
        summary = part.summary
        gathered.tally.add(Tally.from_json(summary["tally"]))
        thumbnails.put(*grid.corner(chunk), _in_small(inputs))
        for name, blocks in gathered.blocks.items():
            blocks.append(stored_block(part, name, summary[name]))
    return gathered


def _in_small(inputs: Part) -> Reduced:
    pairs = {name: unpack_arrays(inputs.read(name), 2) for name in inputs.members}
    return {name: (sums, counts) for name, (sums, counts) in pairs.items() if sums is not None and counts is not None}


def lent_by(grid: ChunkGrid, store: PartStore, size: int) -> Lent:
    """Return the evidence of all chunks, pooled.

    Raises:
        OSError: if that of one of them cannot be read.
    """

    def told() -> Iterator[tuple[Origin, NDArray[np.float64]]]:
        for chunk in grid:
            part = store.open(name_of(chunk.at, EVIDENCE))
            (numbers,) = unpack_arrays(part.read("evidence"), 1)
            yield from zip(map(tuple, part.summary["cells"]), [] if numbers is None else numbers, strict=True)

    return Lent(grid.output, grid.lattice, told(), size)


def seen_cells(grid: ChunkGrid, store: PartStore) -> dict[Origin, float]:
    """Return the share of the middle of every cell that was seen at t2.

    Raises:
        OSError: if the evidence of a chunk cannot be read.
    """
    held = (store.open(name_of(chunk.at, EVIDENCE)).summary["middles"] for chunk in grid)
    return {(row, col): share for middles in held for row, col, share in middles}


def hidden_in(store: PartStore, bands: int) -> Hidden:
    """Return the errors on all hidden cells.

    Raises:
        OSError: if a part of it cannot be read.
    """
    found = Hidden(bands)
    for path in sorted(store.folder.glob(f"*{CHECK}"), key=lambda path: int(path.stem)):
        found.add(Hidden.from_json(store.open(path.name).summary))
    return found


def spread_in(store: PartStore, bands: tuple[str, ...]) -> list[Hidden]:
    """Return the errors where the truth was hidden: on the place's past, if there is one, and on cells of the scene.

    Raises:
        OSError: if a part of it cannot be read.
    """
    past = [learned_from(store).hidden(bands)] if store.check(PAST) else []
    return [*past, hidden_in(store, len(bands))]


def learned_from(store: PartStore) -> Learned:
    """Return what was learned from the place's past.

    Raises:
        OSError: if it cannot be read.
    """
    part = store.open(PAST)
    (evidence,) = unpack_arrays(part.read("evidence"), 1)
    return Learned.from_json(part.summary, evidence)
