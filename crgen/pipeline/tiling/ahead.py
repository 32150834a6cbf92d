"""What is done before any window of the map is predicted: evidence of t2 is gathered, and the self-check is made.

Both go through the same stages as a chunk: read, compute, keep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crgen.model.past import Believed
from crgen.pipeline.box import Box
from crgen.pipeline.source.stack import FEATHER
from crgen.pipeline.tiling.chunk import Run
from crgen.pipeline.tiling.composite import observed_share, seen_clear
from crgen.pipeline.tiling.hidden import Hidden, Seen, compare, hidden_part, middle
from crgen.pipeline.tiling.lending import Origin, cells
from crgen.pipeline.tiling.predict import Staged, WindowInputs
from crgen.pipeline.tiling.stages import overlapped
from crgen.pipeline.tiling.water import told_by_image
from crgen.pipeline.tiling.windows import Chunk


class Looked(NamedTuple):
    """The cells of a chunk, read and staged."""

    staged: Staged
    middles: dict[Origin, float]
    """Share of the middle of each that was seen at t2."""


class Told(NamedTuple):
    """The evidence of a chunk's cells."""

    evidence: dict[Origin, NDArray[np.float64]]
    """Of those in which some of t2 was seen."""
    middles: dict[Origin, float]
    """See :class:`Looked`."""


def look(run: Run, chunks: Iterable[Chunk], finish: Callable[[Chunk, Told], None], workers: int) -> None:
    """Compute the evidence of t2 of chunks' cells, before any window is predicted.

    Args:
        run: the area's work.
        chunks: where.
        finish: called from another thread with a chunk and the evidence of its cells.
        workers: threads beside this one, which computes.

    Raises:
        CrgenError: the first that a stage raised; the rest is left.
    """
    run.reader.stopped.clear()
    overlapped(
        chunks,
        partial(prepare_look, run),
        lambda chunk, looked: tell(run, looked),
        finish,
        run.reader.stopped.set,
        readers=max(1, workers - 1),
        finishers=1,
    )


def tell(run: Run, looked: Looked) -> Told:
    """Compute the evidence of t2 of cells."""
    return Told(run.predictor.evidence(looked.staged), looked.middles)


def prepare_look(run: Run, chunk: Chunk) -> Looked:
    """Stage those of a chunk's cells in which t2 was seen; only what shows that is read where it was in none."""
    footprint = run.grid.footprint(chunk)
    margin = footprint.grow(FEATHER)
    at = footprint.slices(margin)
    data = run.reader.read(margin, ("s2_t2", "clear_t2"))
    share = observed_share(seen_clear(data["s2_t2"], data["clear_t2"], run.clear_threshold))
    if (share == 1).any():
        names = ("s1_t1", "s2_t1", "s1_t2", "clear_t1")
        data |= run.reader.read(margin, [name for name in names if name in run.reader])
    else:
        data |= dict.fromkeys(("s1_t1", "s2_t1", "s1_t2"), data["s2_t2"])
    inputs = run.inputs(footprint, at, data, share, share == 1)
    own, side = cells(chunk, run.grid.lattice.window), run.grid.lattice.window
    seen = (share == 1) & run.inside(margin)
    middles = {}
    for row, col in own:
        rows, cols = Box(row, row + side, col, col + side).slices(margin)
        middles[row, col] = float(seen[rows, cols][middle(side)].mean())
    return Looked(run.predictor.stage(inputs, own), middles)


def check(
    run: Run, groups: Iterable[tuple[int, list[Origin]]], finish: Callable[[int, Hidden], None], workers: int
) -> None:
    """Predict cells whose t2 was seen but is hidden, and find the errors; after :func:`look`.

    Args:
        run: the area's work.
        groups: of cells, each with its number.
        finish: called from another thread with the number of a group and its errors.
        workers: threads beside this one, which computes.

    Raises:
        CrgenError: the first that a stage raised; the rest is left.
    """
    run.reader.stopped.clear()
    overlapped(
        groups,
        lambda group: prepare_check(run, group[1]),
        lambda group, prepared: compute_check(run, *prepared),
        lambda group, found: finish(group[0], found),
        run.reader.stopped.set,
        readers=max(1, workers - 1),
        finishers=1,
    )


def prepare_check(run: Run, group: list[Origin]) -> tuple[Staged, list[Seen]]:
    """Stage cells with their t2 hidden, side by side, and keep what was seen in the middle of each."""
    side = run.grid.lattice.window
    believed: Believed | None = None
    windows, seen = [], []
    for cell in group:
        box = Box(cell[0], cell[0] + side, cell[1], cell[1] + side)
        margin = box.grow(FEATHER)
        at = box.slices(margin)
        data = run.reader.read(margin)
        share = observed_share(seen_clear(data["s2_t2"], data["clear_t2"], run.clear_threshold))
        known = (share == 1) & run.inside(margin)
        told = told_by_image(data["s2_t2"], known, run.reader.bands)
        share[at][hidden_part(cell, side)] = 0
        inputs = run.inputs(box, at, data, share, np.ones_like(known))
        inputs, believed = run.with_looks(inputs, "clear_t1" in data)
        windows.append(inputs)
        inner = middle(side, FEATHER)
        t2, t1 = (data[name][run.made][..., *inner] for name in ("s2_t2", "s2_t1"))
        seen.append(Seen(t2, t1, known[inner], told[inner]))
    joined: list[Any] = [
        None if planes[0] is None else np.concatenate(planes, -1) for planes in [*zip(*windows, strict=True)][1:]
    ]
    row = WindowInputs(Box(0, side, 0, side * len(group)), *joined)
    staged = run.predictor.stage(row, [(0, i * side) for i in range(len(group))], past=believed)
    lent = run.lent()
    return staged._replace(lent=None if lent is None else torch.from_numpy(lent.at(group))), seen


def compute_check(run: Run, staged: Staged, seen: list[Seen]) -> Hidden:
    """Predict hidden cells, and compare them with what was seen."""
    found = Hidden(len(run.made))
    inner = middle(run.grid.lattice.window)
    for known, planes in zip(seen, run.predictor.windows(staged), strict=True):
        water = None if planes.water is None else planes.water[1][inner]
        deviation = None if planes.deviation is None else planes.deviation[..., *inner]
        found.add(compare(known, planes.reflectance[..., *inner], deviation, water))
    return found
