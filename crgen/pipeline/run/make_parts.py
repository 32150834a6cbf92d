"""What one process needs to take chunks from the imagery to parts on the disk, see :mod:`crgen.pipeline.run.kept`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.errors import OutputError
from crgen.files import require_space
from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.cog.splice import WRITE_ERRORS, write_failure
from crgen.pipeline.cog.tiles import encode
from crgen.pipeline.picture.thumbnail import InputThumbnails
from crgen.pipeline.product.description import profiles
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.kept import (
    EVIDENCE,
    INPUTS,
    PART,
    PAST,
    SPILLS,
    Gathered,
    check_name,
    gather,
    learned_from,
    lent_by,
    name_of,
    seen_cells,
    spread_in,
)
from crgen.pipeline.run.parts import PartStore, block_members, block_summary, pack_arrays, unpack_arrays
from crgen.pipeline.run.plan import Plan, predictor_of
from crgen.pipeline.source.stack import past_days
from crgen.pipeline.tiling.ahead import Told, check, look
from crgen.pipeline.tiling.chunk import NEIGHBOURS, Computed, Run, Sums
from crgen.pipeline.tiling.hidden import Hidden, choose, widths
from crgen.pipeline.tiling.lending import Origin
from crgen.pipeline.tiling.past import PastOf
from crgen.pipeline.tiling.predict import MAX_DN, REFLECTANCE_SCALE
from crgen.pipeline.tiling.reader import StackReader
from crgen.pipeline.tiling.windows import At, Chunk


@dataclass(frozen=True)
class Workshop:
    """A run, the rasters it makes, and the store its parts go to.

    Args:
        run: reads, computes and composes.
        out: the product's first file, for messages.
        rasters: profiles by name, see :func:`~crgen.pipeline.product.description.profiles`.
        thumbnails: the inputs in small, put together by :func:`gather`.
        store: where parts go.
    """

    run: Run
    out: Path
    rasters: dict[str, RasterProfile]
    thumbnails: InputThumbnails
    store: PartStore

    def finished(self) -> frozenset[At]:
        """Return the chunks whose parts are there and whole."""
        return frozenset(chunk.at for chunk in self.run.grid if self.is_finished(chunk.at))

    def is_finished(self, at: At) -> bool:
        """Return whether a chunk's part is there and whole, and what was written before it."""
        return all(self.store.check(name_of(at, kind)) for kind in (PART, SPILLS, INPUTS))

    def make_parts(self, ahead: Sequence[Chunk], done: frozenset[At], workers: int) -> None:
        """Learn from the past, look at the chunks ``ahead``, then make the parts of all chunks but those ``done``.

        Args:
            ahead: chunks whose evidence of t2 is not there yet.
            done: chunks whose parts are there.
            workers: threads that read and encode beside this one, which computes.

        Raises:
            CrgenError: of the kind that fits what went wrong.
        """
        if self.unlearned():
            self.learn()
        look(self.run, ahead, self.keep_evidence, workers)
        if len(done) < self.run.grid.count:
            check(self.run, self.choose(), self.keep_check, workers)

        def finish(chunk: Chunk, computed: Computed, incoming: list[Sums | None]) -> None:
            self.keep_spills(chunk, computed)
            self.finish(chunk, computed, incoming)

        self.run.fill(finish, workers, done, self.spilled)

    def unlearned(self) -> bool:
        """Return whether the place's past is still to be learned from."""
        return self.run.past is not None and not self.store.check(PAST)

    def learn(self) -> None:
        """Learn from the place's past, and write what was learned.

        Raises:
            CrgenError: of the kind that fits what went wrong.
        """
        assert self.run.past is not None
        learned = self.run.past.learn()
        with self._writing():
            evidence = pack_arrays([learned.believed.evidence.numpy()])
            self.store.write(PAST, learned.to_json(), {"evidence": evidence})

    def unlooked(self) -> list[Chunk]:
        """Return the chunks whose evidence of t2 is not there yet."""
        if not self.run.lends:
            return []
        return [chunk for chunk in self.run.grid if not self.store.check(name_of(chunk.at, EVIDENCE))]

    def keep_evidence(self, chunk: Chunk, told: Told) -> None:
        """Write a chunk's evidence of t2.

        Raises:
            OutputError: if the disk is full or fails.
        """
        with self._writing():
            content = pack_arrays([np.array([*told.evidence.values()])])
            middles = [[*cell, share] for cell, share in told.middles.items()]
            self.store.write(
                name_of(chunk.at, EVIDENCE), {"cells": [*told.evidence], "middles": middles}, {"evidence": content}
            )

    def gather(self) -> Gathered:
        """Put all parts together; pixels stay on the disk.

        Raises:
            OutputError: if a part cannot be read.
        """
        try:
            return gather(self.store, self.run.grid, self.thumbnails, list(self.rasters), len(self.run.made))
        except OSError as error:
            raise OutputError(f"cannot write {self.out}: {error}") from error

    def choose(self) -> list[tuple[int, list[Origin]]]:
        """Return the groups of cells to hide whose errors are not there yet, each with its number."""
        if not self.run.lends:
            return []
        groups = choose(seen_cells(self.run.grid, self.store), self.run.grid.window_count)
        return [(number, group) for number, group in enumerate(groups) if not self.store.check(check_name(number))]

    def keep_check(self, group: int, found: Hidden) -> None:
        """Write the errors on a group of hidden cells.

        Raises:
            OutputError: if the disk is full or fails.
        """
        with self._writing():
            self.store.write(check_name(group), found.to_json(), {})

    def keep_inputs(self, chunk: Chunk, inputs: Mapping[str, NDArray[np.float32]]) -> None:
        """Write a chunk's inputs in small; safe from any thread.

        Raises:
            OutputError: if the disk is full or fails.
        """
        reduced = self.thumbnails.reduce(*self.run.grid.corner(chunk), inputs)
        with self._writing():
            self.store.write(name_of(chunk.at, INPUTS), {}, {name: pack_arrays(pair) for name, pair in reduced.items()})

    def keep_spills(self, chunk: Chunk, computed: Computed) -> None:
        """Write what a chunk spills into its neighbours.

        Raises:
            OutputError: if the disk is full or fails.
        """
        with self._writing():
            content = pack_arrays(computed.spills)
            self.store.write(name_of(chunk.at, SPILLS), {}, {"spills": content})

    def spilled(self, at: At, which: int) -> Sums | None:
        """Return what a finished chunk spilled into one of its neighbours.

        Raises:
            OutputError: if that cannot be read.
        """
        with self._writing():
            return unpack_arrays(self.store.open(name_of(at, SPILLS)).read("spills"), len(NEIGHBOURS))[which]

    def finish(self, chunk: Chunk, computed: Computed, incoming: list[Sums | None]) -> None:
        """Compose a chunk, encode it and write its part.

        Args:
            chunk: the chunk.
            computed: its windows.
            incoming: what the chunks of :func:`~crgen.pipeline.tiling.chunk.before` spilled into it.

        Raises:
            OutputError: if the disk is full or fails.
        """
        result, tally = self.run.compose(computed, incoming)
        row, col = self.run.grid.corner(chunk)
        pixels = {
            "reflectance": stored(result.reflectance, self.rasters["reflectance"]),
            "quality": result.quality[None],
        }
        if result.water is not None:
            pixels["water"] = result.water[::-1]
        if result.error is not None:
            pixels["error"] = stored_error(result.error, self.rasters["error"])
        members: dict[str, bytes] = {}
        summary: dict[str, Any] = {"tally": tally.to_json()}
        with self._writing():
            for name, profile in self.rasters.items():
                block = encode(profile, row, col, pixels[name])
                members |= block_members(name, block)
                summary[name] = block_summary(block)
            require_space(self.store.folder, sum(map(len, members.values())), self.out)
            self.store.write(name_of(chunk.at, PART), summary, members)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except WRITE_ERRORS as error:
            raise write_failure(self.out, self.rasters["reflectance"], error) from error


def open_workshop(
    request: FillRequest, work: Plan, store: PartStore, on_windows: Callable[[int], None] = lambda count: None
) -> Workshop:
    """Return a process's workshop.

    Args:
        request: what is asked, with the precision that was chosen.
        work: how it was laid out.
        store: where parts go.
        on_windows: called with the number of windows just done, from any thread.
    """
    card, scene = work.model.card, work.scene
    bands, shape = work.channels.bands, work.grid.output.shape
    thumbnails = InputThumbnails(shape, bands, scene.made, card.config.pols[0])
    predictor = predictor_of(request, work, request.precision, on_windows)
    held = [pol for pol in card.config.pols if pol in scene.stack["s1_t1"].pol]
    reader = StackReader(scene.stack, tuple(held), bands)
    past = None
    if days := past_days(scene.stack):
        past = PastOf(reader, predictor, work.grid.output, days, scene.t1, scene.t2, request.clear_threshold)
    run = Run(
        reader=reader,
        output=scene.area.geobox,
        polygon=scene.area.polygon if request.clip else None,
        predictor=predictor,
        grid=work.grid,
        made=[bands.index(band) for band in scene.made],
        needed_pols=len(card.config.needed_pols),
        needed_bands=[bands.index(band) for band in card.config.core],
        generate_all=request.generate_all,
        clear_threshold=request.clear_threshold,
        on_inputs=lambda chunk, inputs: workshop.keep_inputs(chunk, inputs),
        lent=cache(lambda: lent_by(work.grid, store, predictor.evidence_size)),
        widths=cache(lambda: widths(spread_in(store, scene.made), scene.made, card.error)),
        past=past,
        learned=cache(lambda: learned_from(store)),
    )
    workshop = Workshop(run, work.paths.reflectance, profiles(scene, card, request.dtype), thumbnails, store)
    return workshop


def stored(reflectance: NDArray[np.float64], profile: RasterProfile) -> NDArray[Any]:
    """Return reflectance as the product stores it."""
    if profile.dtype == "float32":
        return reflectance.astype(np.float32)
    dn = np.round(reflectance * REFLECTANCE_SCALE).clip(1, MAX_DN)
    return np.where(np.isnan(dn), profile.nodata, dn).astype(np.uint16)


def stored_error(error: NDArray[np.float32], profile: RasterProfile) -> NDArray[np.uint16]:
    """Return half the width of intervals as the product stores it."""
    dn = np.round(error * REFLECTANCE_SCALE).clip(0, profile.nodata - 1)
    return np.where(np.isnan(dn), profile.nodata, dn).astype(np.uint16)
