"""Turn a Stack into the blended image, chunk by chunk, as one dask graph.

Each chunk reads its footprint, computes the windows it owns, and hands the sums that spill over its right and lower
edge to its neighbours, so that no window is computed twice. Memory is bounded by the chunk size and the workers, plus
one row of spills half a window high.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from crgen.pipeline.area import clip_mask
from crgen.pipeline.composite import FEATHER, Composite, compose, observed_share, present, seen_clear
from crgen.pipeline.predict import REFLECTANCE_SCALE, Predictor, WindowInputs
from crgen.pipeline.quality import Quality
from crgen.pipeline.stack import stack_geobox
from crgen.pipeline.windows import Box, Chunk, ChunkGrid, lattice_box

Array = NDArray[np.float32]
Sums = NDArray[np.int64]

_adding = threading.Lock()

GENERATED_CLASSES = (Quality.GENERATED, Quality.GENERATED_RADAR_ONLY)


@dataclass
class Tally:
    """What a run, or one chunk of it, counted."""

    pixels: Counter[int] = field(default_factory=Counter)
    """Pixels of each quality class."""
    missing: Counter[str] = field(default_factory=Counter)
    """Pixels inside the area at which an input is missing, by variable."""
    inside: int = 0
    """Pixels inside the area."""
    windows: int = 0
    """Windows computed."""
    bands: int = 0
    """Bands of the result."""
    compared: int = 0
    """Generated pixels with a known truth and an optical image of t1."""
    absolute: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """Sum of absolute errors over those pixels and the bands: of the result, and of copying t1."""
    squared: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """Sum of squared errors, alike."""

    @property
    def made(self) -> int:
        """Pixels that hold a value."""
        return sum(count for quality, count in self.pixels.items() if quality != Quality.NODATA)

    def add(self, other: Tally) -> None:
        """Count another chunk in; safe from any thread."""
        with _adding:
            self.pixels.update(other.pixels)
            self.missing.update(other.missing)
            self.inside += other.inside
            self.windows += other.windows
            self.compared += other.compared
            self.absolute = self.absolute + other.absolute
            self.squared = self.squared + other.squared


class StackReader:
    """Reads rectangles of a Stack; beyond the Stack's edge pixels are reflected.

    Args:
        stack: a validated Stack.
        pols: polarisations, in the order the generator takes.
        bands: bands, alike.
    """

    def __init__(self, stack: xr.Dataset, pols: tuple[str, ...], bands: tuple[str, ...]) -> None:
        labels = {"pol": list(pols), "band": list(bands)}
        self._stack = stack.sel({dim: names for dim, names in labels.items() if dim in stack.dims})
        self.box = lattice_box(stack_geobox(stack))

    def __contains__(self, name: str) -> bool:
        return name in self._stack

    def read(self, box: Box) -> dict[str, Array]:
        """Return every variable over ``box`` as ``(channel, y, x)`` or ``(y, x)`` float32."""
        here = box.intersect(self.box)
        if here is None:
            raise ValueError(f"{box} lies outside the stack {self.box}")
        rows, cols = here.slices(self.box)
        data = self._stack.isel(y=rows, x=cols).compute(scheduler="synchronous")
        margin = ((here.r0 - box.r0, box.r1 - here.r1), (here.c0 - box.c0, box.c1 - here.c1))

        def reflected(array: Array) -> Array:
            if not any(map(any, margin)):
                return array
            return np.pad(array, ((0, 0),) * (array.ndim - 2) + margin, mode="reflect")

        return {str(name): reflected(array.values) for name, array in data.data_vars.items()}


class _Piece(NamedTuple):
    """What a chunk keeps of its own pixels between its windows and its neighbours' spills."""

    sums: Sums
    observed: Array
    share: Array
    radar_t2: NDArray[np.bool_]
    optical_t1: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    truth: Array | None
    copy: Array | None
    """S2 at t1, to compare with the truth, if that is known."""
    tally: Tally


@dataclass(frozen=True)
class Run:
    """One area's work.

    Args:
        reader: the Stack.
        output: grid of the result; inside the Stack's.
        polygon: if given, pixels whose centre lies outside become nodata.
        predictor: the generator.
        grid: the output cut into chunks.
        generate_all: leave observations of t2 out of the result (the generator still sees them).
        clear_threshold: clear-sky score from which a pixel counts as clear.
        on_inputs: called from worker threads with a chunk and its pixels of every variable of the Stack.
        on_chunk: called from worker threads with the chunk, its pixels and its tally as each is done.
    """

    reader: StackReader
    output: GeoBox
    polygon: BaseGeometry | None
    predictor: Predictor
    grid: ChunkGrid
    generate_all: bool
    clear_threshold: float
    on_inputs: Callable[[Chunk, dict[str, Array]], None]
    on_chunk: Callable[[Chunk, Composite, Tally], None]

    def compute(self, workers: int) -> None:
        """Do all chunks with ``workers`` threads; the first error stops the rest."""
        pieces: dict[tuple[int, int], Any] = {}
        done = []
        work, finish = delayed(self._work, nout=4), delayed(self._finish)
        for chunk in self.grid:
            own, right, below, corner = work(chunk)
            row, col = chunk.row, chunk.col
            pieces[row, col] = (right, below, corner)
            spills = [
                pieces[row - down, col - across][which]
                for which, (down, across) in enumerate(((0, 1), (1, 0), (1, 1)))
                if row >= down and col >= across
            ]
            done.append(finish(chunk, own, spills))
        with ThreadPoolExecutor(workers) as pool:
            try:
                compute(*done, scheduler="threads", pool=pool)  # type: ignore[no-untyped-call]
            except BaseException:
                self.predictor.cancelled.set()
                raise

    def _work(self, chunk: Chunk) -> tuple[_Piece, Sums | None, Sums | None, Sums | None]:
        footprint = self.grid.footprint(chunk)
        margin = footprint.grow(FEATHER)
        data = self.reader.read(margin)
        s1_t1, s2_t1, s1_t2 = data["s1_t1"], data["s2_t1"], data["s1_t2"]
        radar_t2, optical_t1 = present(s1_t2), present(s2_t1)
        inside = self._inside(margin)
        if "s2_t2" in data and "clear_t2" in data:
            observed = data["s2_t2"]
            seen = seen_clear(observed, data["clear_t2"], self.clear_threshold)
        else:
            observed, seen = np.full_like(s2_t1, np.nan), np.zeros(radar_t2.shape, bool)
        share = np.zeros(seen.shape, np.float32) if self.generate_all else observed_share(seen)

        at = footprint.slices(margin)
        inputs = WindowInputs(
            box=footprint,
            s1_t1=s1_t1[..., *at],
            s2_t1=s2_t1[..., *at],
            s1_t2=s1_t2[..., *at],
            s2_t2=np.where(seen, observed, np.float32(np.nan))[..., *at],
            wanted=(radar_t2 & (share < 1) & inside)[at],
        )
        sums, computed = self.predictor.predict(inputs, chunk.windows)

        own = chunk.box.slices(margin)
        self.on_inputs(chunk, {name: array[..., *own] for name, array in data.items()})
        tally = Tally(windows=computed, inside=int(inside[own].sum()))
        for name, array in (("s1_t1", s1_t1), ("s2_t1", s2_t1), ("s1_t2", s1_t2)):
            tally.missing[name] = int((inside & ~present(array))[own].sum())
        piece = _Piece(
            sums=sums[..., *chunk.box.slices(footprint)].copy(),
            observed=observed[..., *own],
            share=share[own],
            radar_t2=radar_t2[own],
            optical_t1=optical_t1[own],
            inside=inside[own],
            truth=data["truth_t2"][..., *own] if "truth_t2" in data else None,
            copy=s2_t1[..., *own] if "truth_t2" in data else None,
            tally=tally,
        )
        spills = (self._spill(chunk, footprint, sums, down, across) for down, across in ((0, 1), (1, 0), (1, 1)))
        right, below, corner = spills
        return piece, right, below, corner

    def _inside(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of ``box`` belong to the area."""
        if self.polygon is None:
            return np.ones(box.shape, bool)
        corner = self.output.translate_pix(box.c0 - self.grid.output.c0, box.r0 - self.grid.output.r0)
        return clip_mask(self.polygon, corner.expand(box.shape))

    def _shared(self, chunk: Chunk, down: int, across: int) -> Box | None:
        """Return what the footprint of ``chunk`` covers of a neighbour's pixels."""
        row, col = chunk.row + down, chunk.col + across
        if row >= self.grid.shape[0] or col >= self.grid.shape[1]:
            return None
        return self.grid.footprint(chunk).intersect(self.grid[row, col].box)

    def _spill(self, chunk: Chunk, footprint: Box, sums: Sums, down: int, across: int) -> Sums | None:
        shared = self._shared(chunk, down, across)
        return None if shared is None else sums[..., *shared.slices(footprint)].copy()

    def _finish(self, chunk: Chunk, piece: _Piece, spills: list[Sums | None]) -> None:
        sums, tally = piece.sums, piece.tally
        for spill in spills:
            if spill is not None:
                sums[:, : spill.shape[1], : spill.shape[2]] += spill
        generated = sums / (self.predictor.lattice.total * REFLECTANCE_SCALE)
        result = compose(
            generated,
            piece.observed,
            piece.share,
            radar_t2=piece.radar_t2,
            optical_t1=piece.optical_t1,
            inside=piece.inside,
        )
        tally.pixels = Counter(dict(enumerate(np.bincount(result.quality.ravel(), minlength=len(Quality)).tolist())))
        if piece.truth is not None and piece.copy is not None:
            compared = np.isin(result.quality, GENERATED_CLASSES) & piece.optical_t1 & present(piece.truth)
            truth = piece.truth[:, compared]
            errors = [
                result.reflectance[:, compared] - truth,
                piece.copy[:, compared].astype(np.float64) - truth,
            ]
            tally.compared = int(compared.sum())
            tally.absolute = np.array([np.abs(e).sum() for e in errors])
            tally.squared = np.array([np.square(e).sum() for e in errors])
        self.on_chunk(chunk, result, tally)
