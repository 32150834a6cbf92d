"""Turn a Stack into the blended image, chunk by chunk.

Each chunk reads its footprint, computes the windows it owns, and hands the sums that spill over its right and lower
edge to its neighbours. It would be simpler to compute the windows on an edge in both chunks: at 1024 px and windows of
256 px that is 81 windows in place of 64, a quarter more of what takes longest. The sums are integers: they add up alike
in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry.base import BaseGeometry

from crgen.model.looks import COPY
from crgen.model.past import Believed
from crgen.model.usual import unlike, window_means
from crgen.pipeline.box import Box
from crgen.pipeline.source.area import clip_mask
from crgen.pipeline.source.stack import FEATHER, OCCURRENCE
from crgen.pipeline.tiling.composite import Composite, complete, compose, observed_share, seen_clear
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.hidden import NORMAL
from crgen.pipeline.tiling.lending import Lent
from crgen.pipeline.tiling.past import Learned, PastOf
from crgen.pipeline.tiling.predict import REFLECTANCE_SCALE, Predictor, Staged, WindowInputs
from crgen.pipeline.tiling.quality import GENERATED_CLASSES, Quality
from crgen.pipeline.tiling.reader import StackReader
from crgen.pipeline.tiling.stages import overlapped
from crgen.pipeline.tiling.water import (
    UNKNOWN,
    asks_before,
    expected_pixels,
    in_per_cent,
    join_water,
    leaves_open,
    told_by_image,
)
from crgen.pipeline.tiling.windows import At, Chunk, ChunkGrid

Array = NDArray[np.float32]
Sums = NDArray[np.integer]
Spills = tuple[Sums | None, Sums | None, Sums | None]

NEIGHBOURS = ((0, 1), (1, 0), (1, 1))
"""Steps down and across to the chunks that a chunk spills into."""


def before(chunk: Chunk) -> list[tuple[int, At]]:
    """Return the chunks that spill into ``chunk``, each with which of its spills that is."""
    steps = enumerate(NEIGHBOURS)
    return [(i, (chunk.row - d, chunk.col - a)) for i, (d, a) in steps if chunk.row >= d and chunk.col >= a]


class Own(NamedTuple):
    """What is known of a chunk's own pixels before its windows are computed."""

    observed: Array
    share: Array
    radar_t2: NDArray[np.bool_]
    optical_t1: NDArray[np.bool_]
    hidden_t1: NDArray[np.bool_]
    """Where t1 is known not to be clear by its score."""
    inside: NDArray[np.bool_]
    water: NDArray[np.uint8] | None
    """What images tell of water at t1 and t2, see :func:`~crgen.pipeline.tiling.water.told_by_image`."""
    occurrence: Array | None
    """How often there was water before, read only where that is asked."""
    computed: NDArray[np.bool_]
    """Where the generator is asked."""
    tally: Tally


class Prepared(NamedTuple):
    """A chunk that was read."""

    staged: Staged
    own: Own


class Computed(NamedTuple):
    """A chunk whose windows were computed."""

    own: Own
    sums: Sums
    """The weighted sums of its own windows over its own pixels."""
    spills: Spills
    """The same beyond its right edge, its lower edge and the corner between them, for its neighbours."""


@dataclass(frozen=True)
class Run:
    """One area's work, in three stages a chunk: read, compute, compose.

    Args:
        reader: the Stack.
        output: grid of the result; inside the Stack's.
        polygon: if given, pixels whose centre lies outside become nodata.
        predictor: the generator.
        grid: the output cut into chunks.
        made: places of the bands of the result among those read.
        needed_pols: how many polarisations, the first ones, must be present.
        needed_bands: places among the bands read of those without which t1 tells nothing.
        generate_all: leave observations of t2 out of the result (the generator still sees them).
        clear_threshold: clear-sky score from which a pixel counts as clear.
        on_inputs: called from any thread with each chunk read and its own pixels of both dates, to draw them.
        lent: returns the evidence pooled around windows, once every chunk has been through :meth:`look`.
        widths: returns half the width of intervals by band, in stated deviations, once hidden blocks were looked at.
        past: the place's past, if the Stack has one.
        learned: returns what it teaches, once :meth:`PastOf.learn` was called.
    """

    reader: StackReader
    output: GeoBox
    polygon: BaseGeometry | None
    predictor: Predictor
    grid: ChunkGrid
    made: list[int]
    needed_pols: int
    needed_bands: list[int]
    generate_all: bool
    clear_threshold: float
    on_inputs: Callable[[Chunk, dict[str, Array]], None] = lambda chunk, inputs: None
    lent: Callable[[], Lent | None] = lambda: None
    widths: Callable[[], NDArray[np.float64]] = lambda: np.array([NORMAL])
    past: PastOf | None = None
    learned: Callable[[], Learned | None] = lambda: None

    @property
    def lends(self) -> bool:
        """Whether evidence of t2 is pooled over windows, see :mod:`crgen.pipeline.tiling.lending`."""
        return self.predictor.evidence_size > 0 and "s2_t2" in self.reader and "clear_t2" in self.reader

    def inputs(
        self, footprint: Box, at: tuple[slice, slice], data: dict[str, Array], share: Array, wanted: NDArray[np.bool_]
    ) -> WindowInputs:
        """Return what the generator sees; of t2 what counts as observed whole, as a cloud's edge is hazy."""
        s2_t2 = (
            np.where(share == 1, data["s2_t2"], np.float32(np.nan))
            if "s2_t2" in data
            else np.full_like(data["s2_t1"], np.nan)
        )
        return WindowInputs(
            box=footprint,
            s1_t1=data["s1_t1"][..., *at],
            s2_t1=data["s2_t1"][..., *at],
            s1_t2=data["s1_t2"][..., *at],
            s2_t2=s2_t2[..., *at],
            clear_t1=data["clear_t1"][at] if "clear_t1" in data else np.full(footprint.shape, np.nan, np.float32),
            wanted=wanted[at],
        )

    def with_looks(self, inputs: WindowInputs, scored: bool) -> tuple[WindowInputs, Believed | None]:
        """Return what the generator sees with the earlier looks that are mixed in, and what is believed of them.

        Args:
            inputs: without them.
            scored: whether t1 has a clear-sky score.
        """
        learned = self.learned() if self.past is not None else None
        if self.past is None or learned is None:
            return inputs, None
        if learned.believed.mixture.copies and inputs.wanted.any():
            looks = self.past.looks(inputs.box, inputs.s2_t1, inputs.clear_t1 if scored else None, learned.left_out)
            inputs = inputs._replace(looks=looks)
        return inputs, learned.believed

    def fill(
        self,
        finish: Callable[[Chunk, Computed, list[Sums | None]], None],
        workers: int,
        done: frozenset[At] = frozenset(),
        spilled: Callable[[At, int], Sums | None] = lambda at, which: None,
    ) -> None:
        """Take all chunks through the stages; beside what is at work, one row's spills are held.

        Args:
            finish: called from worker threads with a chunk, its windows, and what spilled into it, for
                :meth:`compose`.
            workers: threads beside this one, which computes.
            done: chunks to leave out.
            spilled: returns what one of these spilled, by its place in :data:`NEIGHBOURS`.

        Raises:
            CrgenError: the first that a stage raised; the rest is left.
        """
        carried: dict[tuple[At, int], Sums] = {}

        def compute(chunk: Chunk, prepared: Prepared) -> tuple[Computed, list[Sums | None]]:
            computed = self.compute(chunk, prepared)
            incoming = [spilled(at, i) if at in done else carried.pop((at, i), None) for i, at in before(chunk)]
            for i, (down, across) in enumerate(NEIGHBOURS):
                spill = computed.spills[i]
                if spill is not None and (chunk.row + down, chunk.col + across) not in done:
                    carried[chunk.at, i] = spill
            return computed, incoming

        readers = max(1, workers // 2)
        self.reader.stopped.clear()
        overlapped(
            (chunk for chunk in self.grid if chunk.at not in done),
            self.prepare,
            compute,
            lambda chunk, outcome: finish(chunk, *outcome),
            self.reader.stopped.set,
            readers=readers,
            finishers=max(1, workers - readers),
        )

    def prepare(self, chunk: Chunk) -> Prepared:
        """Read a chunk's footprint, find what is missing and what was seen, and stage its windows."""
        footprint = self.grid.footprint(chunk)
        margin = footprint.grow(FEATHER)
        data = self.reader.read(margin)
        s1_t1, s2_t1, s1_t2 = data["s1_t1"], data["s2_t1"], data["s1_t2"]
        radar_t2, optical_t1 = complete(s1_t2[: self.needed_pols]), complete(s2_t1[self.needed_bands])
        inside = self.inside(margin)
        clear_t1 = data["clear_t1"] >= self.clear_threshold if "clear_t1" in data else np.ones(inside.shape, bool)
        if "s2_t2" in data and "clear_t2" in data:
            observed = data["s2_t2"]
            seen = seen_clear(observed, data["clear_t2"], self.clear_threshold)
        else:
            observed, seen = np.full_like(s2_t1, np.nan), np.zeros(radar_t2.shape, bool)
        observed_part = observed_share(seen)
        share = np.zeros_like(observed_part) if self.generate_all else observed_part

        water = self._water(margin, data, share) if self.predictor.predicts_water else None
        wanted = radar_t2 & inside & (share < 1 if water is None else leaves_open(*water))
        inputs = self.inputs(footprint, footprint.slices(margin), data, observed_part, wanted)
        inputs, believed = self.with_looks(inputs, "clear_t1" in data)
        staged = self.predictor.stage(inputs, chunk.windows, self.lent() if self.lends else None, believed)
        own = chunk.box.slices(margin)
        tally = Tally(windows=len(staged.places), inside=int(inside[own].sum()))
        tally.seen = int((inside & (observed_part > 0))[own].sum())
        radar = s1_t1[: self.needed_pols], s1_t2[: self.needed_pols]
        looked_at = {"s1_t1": radar[0], "s2_t1": s2_t1[self.needed_bands], "s1_t2": radar[1]}
        if "s2_t2" in data and "clear_t2" in data:
            looked_at["s2_t2"] = observed
        for name, array in looked_at.items():
            tally.missing[name] = int((inside & ~complete(array))[own].sum())
        card, levels = self.predictor.model.card, s1_t2 if self.predictor.calibrated else s1_t2[:0]
        windows = window_means(
            levels[..., *own],
            s2_t1[..., *own],
            card.config.pols,
            self.predictor.opened,
            inside[own],
            clear_t1[own],
        )
        tally.unlike = unlike(card.usual, windows)
        known = Own(
            observed=observed[self.made][..., *own],
            share=share[own],
            radar_t2=radar_t2[own],
            optical_t1=optical_t1[own],
            hidden_t1=~clear_t1[own],
            inside=inside[own],
            water=None if water is None else water[:, *own],
            occurrence=None if water is None else self._occurrence(chunk.box, water[:, *own]),
            computed=wanted[own],
            tally=tally,
        )
        self.on_inputs(chunk, {name: array[..., *own] for name, array in data.items()})
        return Prepared(staged, known)

    def compute(self, chunk: Chunk, prepared: Prepared) -> Computed:
        """Compute a chunk's windows."""
        footprint = prepared.staged.box
        sums = self.predictor.predict(prepared.staged)
        right, below, corner = (self._spill(chunk, footprint, sums, *step) for step in NEIGHBOURS)
        own = sums[..., *chunk.box.slices(footprint)].copy()
        return Computed(prepared.own, own, (right, below, corner))

    def compose(self, computed: Computed, spills: Sequence[Sums | None]) -> tuple[Composite, Tally]:
        """Add what neighbours spilled into a chunk, and join it with what was observed.

        Args:
            computed: the chunk; its sums are added to.
            spills: what the chunks of :func:`before` spilled into this one.
        """
        own, sums = computed.own, computed.sums
        for spill in spills:
            if spill is not None:
                sums[:, : spill.shape[1], : spill.shape[2]] += spill
        generated, whole = self.predictor.planes_of(sums), self.predictor.lattice.total * REFLECTANCE_SCALE
        result = compose(
            generated.reflectance / whole,
            own.observed,
            own.share,
            radar_t2=own.radar_t2,
            optical_t1=own.optical_t1,
            hidden_t1=own.hidden_t1 if generated.hidden is None else generated.hidden >= whole / 2,
            unlike=generated.unlike >= whole / 2,
            inside=own.inside,
        )
        if generated.deviation is not None:
            made = np.isin(result.quality, (*GENERATED_CLASSES, Quality.BLENDED))
            width = generated.deviation.astype(np.float32) * (1 - own.share)
            width *= (self.widths() / whole).astype(np.float32)[:, None, None]
            result = result._replace(error=np.where(made, width, np.float32(np.nan)))
        if own.water is not None and generated.water is not None:
            valid = result.quality != Quality.NODATA
            water = join_water(own.water, generated.water / whole, own.computed, valid, own.occurrence)
            result = result._replace(water=in_per_cent(water))
            own.tally.water = expected_pixels(water)
        tally = own.tally
        tally.pixels = Counter(dict(enumerate(np.bincount(result.quality.ravel(), minlength=len(Quality)).tolist())))
        return result, tally

    def _water(self, box: Box, data: dict[str, Array], share: Array) -> NDArray[np.uint8]:
        """Return what the images of t1 and t2 tell of water; that of t2 where it is the map, ``share`` = 1.

        Where t1 is not clear, water of the nearest clear look before counts as water of t1: it is not new.
        """
        bands, nothing = self.reader.bands, np.zeros(share.shape, bool)
        clear_t1 = nothing
        if "clear_t1" in data:
            clear_t1 = observed_share(seen_clear(data["s2_t1"], data["clear_t1"], self.clear_threshold)) == 1
        seen = [(data["s2_t1"], clear_t1), (data.get("s2_t2", data["s2_t1"]), share == 1)]
        told = np.stack([told_by_image(s2, clear, bands) for s2, clear in seen])
        hidden = (told[0] == UNKNOWN) & (told[1] != 0)
        if self.past is not None and hidden.any():
            left_out = () if (learned := self.learned()) is None else learned.left_out
            nearest = self.past.looks(box, np.full_like(data["s2_t1"], np.nan), None, left_out)[COPY]
            was = told_by_image(nearest, np.isfinite(nearest[self.needed_bands]).all(0), bands) == 100
            told[0][hidden & was] = 100
        return told

    def _occurrence(self, box: Box, told: NDArray[np.uint8]) -> Array | None:
        """Return how often there was water before, if images leave open somewhere whether there was at t1."""
        if OCCURRENCE not in self.reader or not asks_before(*told).any():
            return None
        return self.reader.read(box, (OCCURRENCE,))[OCCURRENCE]

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of ``box`` belong to the area."""
        if self.polygon is None:
            return np.ones(box.shape, bool)
        corner = self.output.translate_pix(box.c0 - self.grid.output.c0, box.r0 - self.grid.output.r0)
        return clip_mask(self.polygon, corner.expand(box.shape))

    def _spill(self, chunk: Chunk, footprint: Box, sums: Sums, down: int, across: int) -> Sums | None:
        """Return what the footprint of ``chunk`` covers of a neighbour's pixels."""
        row, col = chunk.row + down, chunk.col + across
        if row >= self.grid.shape[0] or col >= self.grid.shape[1]:
            return None
        shared = footprint.intersect(self.grid[row, col].box)
        return None if shared is None else sums[..., *shared.slices(footprint)].copy()
