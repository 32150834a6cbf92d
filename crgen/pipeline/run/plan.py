"""What a run would do and cost, checked before anything is written."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crgen.errors import OutputError
from crgen.files import check_writable, file_sha256
from crgen.model.device import Precision, fixed_windows, pick_device, pick_precision
from crgen.model.weights import LoadedModel, find_weights, known_weights, load_model, read_card
from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.product.outputs import RUN, Paths
from crgen.pipeline.request import FillRequest
from crgen.pipeline.source.area import is_file_of_area, read_area, with_layer
from crgen.pipeline.source.earthengine import Channels
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.source.open import bands_made, open_scene
from crgen.pipeline.tiling.predict import Predictor, WindowInputs, batch_on
from crgen.pipeline.tiling.windows import ChunkGrid, Lattice


@dataclass(frozen=True)
class Plan:
    """What a run would do and cost, from one measured batch of windows."""

    scene: Scene
    model: LoadedModel
    device: str
    paths: Paths
    grid: ChunkGrid
    workers: int
    precision: Precision
    windows_per_second: float
    """Measured now, on this device; 0 if it was not measured."""
    clear_threshold: float
    """Clear-sky score from which a pixel counts as clear."""

    @property
    def channels(self) -> Channels:
        """What is read of the imagery."""
        return Channels.of(self.model.card, self.scene.made)

    @property
    def predictor(self) -> Predictor:
        """A new predictor for this run."""
        return Predictor(
            self.model,
            self.device,
            self.channels.bands,
            self.scene.made,
            precision=self.precision.name,
            calibrated=self.scene.calibrated,
            clear_threshold=self.clear_threshold,
        )

    @property
    def pixels(self) -> int:
        """Pixels of the result."""
        height, width = self.grid.output.shape
        return height * width

    @property
    def seconds(self) -> float:
        """Time for all windows at the measured rate."""
        return self.grid.window_count / self.windows_per_second if self.windows_per_second else math.nan

    @property
    def memory(self) -> int:
        """Bytes of imagery held at once, at most: the arrays of the chunks at work and of one that waits."""
        pols, opened = (len(names) for names in (self.channels.pols, self.channels.bands))
        side = min(self.grid.chunk, max(self.grid.output.shape)) + 2 * self.model.card.window
        inputs = 4 * (2 * pols + 4 * opened + 2)
        sums = 4 * 3 * self.predictor.planes + 8 * 2 * len(self.scene.made)
        down, across = self.grid.shape
        return (min(max(self.workers, 2), down * across) + 1) * side * side * (2 * inputs + sums)

    @property
    def disk(self) -> int:
        """Bytes needed for the product and the parts it is made of, at most (before compression)."""
        predictor, window = self.predictor, self.model.card.window
        spilled = self.grid.count * 2 * self.grid.chunk * window * predictor.planes * 4
        stored = 2 * len(self.scene.made) * (1 + predictor.predicts_variance) + 1 + 2 * predictor.predicts_water
        return self.pixels * stored * 8 // 3 + spilled


def plan(request: FillRequest, *, estimate: bool = True) -> Plan:
    """Lay out the work, and check that its product can be written.

    Args:
        request: what is asked.
        estimate: time one batch of windows to estimate the duration.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    work = lay_out(request)
    _check_free(work.paths, request.overwrite)
    return estimated(request, work) if estimate else work


def estimated(request: FillRequest, work: Plan) -> Plan:
    """Return a plan with its precision chosen and its rate measured, now and on this device."""
    work = replace(work, precision=pick_precision(request.precision, work.model.generator, work.model.card.window))
    return replace(work, windows_per_second=measure(work.predictor))


def usual_device() -> str:
    """Return which device ``auto`` means on this machine."""
    return pick_device("auto")


def lay_out(request: FillRequest) -> Plan:
    """Open the inputs and check everything of them that can be checked without reading pixels.

    The precision is as asked, not yet chosen: another process may have the device.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    device = pick_device(request.device)
    model = load_model(request.weights, device)
    card = model.card
    scene = open_scene(
        request.source,
        aoi=with_layer(request.aoi, request.layer),
        t1=request.t1,
        t2=request.t2,
        crs=request.crs,
        s1_units=request.s1_units,
        s1_calibrated=request.s1_calibrated,
        s2_scale=request.s2_scale,
        s2_offset=request.s2_offset,
        bands=request.bands,
        card=card,
        earth_engine=replace(request.earth_engine, unfinished=_unfinished(request, card.resolution)),
        past=request.past,
        after=request.after,
    )
    paths = Paths.of(request.out, scene.area, scene.t1, scene.t2)
    grid = ChunkGrid(lattice_box(scene.area.geobox), Lattice(card.window), request.chunk)
    workers = request.workers or os.cpu_count() or 1
    return Plan(scene, model, device, paths, grid, workers, Precision(request.precision), 0.0, request.clear_threshold)


def channels_of(weights: str, bands: Sequence[str] | None) -> Channels:
    """Return what weights ask Earth Engine for to make some bands, or the usual ones.

    Raises:
        RequestError: if the weights do not make a band.
        WeightsError: if there are none of that name.
    """
    card = read_card(find_weights(weights))
    return Channels.of(card, bands_made(bands, card.config))


def weights_digest(weights: str) -> str:
    """Return the digest of the tensors of weights, by name or path.

    Raises:
        WeightsError: if there are none of that name.
    """
    return read_card(find_weights(weights)).tensors_sha256


def _unfinished(request: FillRequest, resolution: float) -> Path | None:
    """Return the record that a stopped run of the same product would have left, if its scenes may be used again."""
    if request.source != "gee" or request.restart or request.earth_engine.manifest is not None:
        return None
    if not (request.aoi and request.t1 and request.t2):
        return None
    area = read_area(with_layer(request.aoi, request.layer) or "", crs=request.crs, resolution=resolution)
    return Paths.of(request.out, area, request.t1, request.t2).scratch / RUN


def measure(predictor: Predictor, rounds: int = 1) -> float:
    """Return windows per second, computed as a run does over ``rounds`` of all its lanes, after one to warm up."""
    side = predictor.model.card.window
    both = fixed_windows(predictor.model.generator, side)
    s1_t1, s2_t1, s1_t2, s2_t2 = (np.concatenate(list(tensor.numpy()), -1) for tensor in both)
    opened = [predictor.model.card.config.bands.index(band) for band in predictor.opened]
    everywhere = np.ones((side, 2 * side), bool)
    box = Box(0, side, 0, 2 * side)
    inputs = WindowInputs(box, s1_t1, s2_t1[opened], s1_t2, s2_t2[opened], everywhere.astype(np.float32), everywhere)
    staged = predictor.stage(inputs, [(0, 0), (0, side)])
    lanes = torch.get_num_threads() if predictor.device == "cpu" else 1

    def rate(rounds: int) -> float:
        windows = rounds * lanes * predictor.batch
        places = list(islice(cycle(staged.places), windows))
        start = time.perf_counter()
        predictor.predict(staged._replace(places=places))
        return windows / (time.perf_counter() - start)

    rate(1)
    return rate(rounds)


def _check_free(paths: Paths, overwrite: bool) -> None:
    """Refuse an output that cannot be written, or that would replace what nobody asked to replace."""
    try:
        check_writable(paths.folder)
        half_published = paths.interrupted
        in_the_way = [
            path
            for path in paths.all
            if path.is_dir() or (path.exists() and not overwrite and file_sha256(path) != half_published.get(path.name))
        ]
    except OSError as error:
        raise OutputError(f"cannot write {paths.reflectance}: {error.strerror}; choose another --out") from error
    if not in_the_way and not half_published and not overwrite and (old := paths.neighbours):
        raise OutputError(
            f"{old[0]} is left of an earlier map and would be shown with the new one: give another --out, or "
            "--overwrite to remove it"
        )
    if in_the_way:
        hint = "" if in_the_way[0].is_dir() else ", or --overwrite to replace it"
        raise OutputError(f"{in_the_way[0]} exists already: give another --out{hint}")


def settings_of(request: FillRequest, work: Plan) -> dict[str, Any]:
    """Return what decides the result, beside the inputs and the weights, as JSON can hold it."""
    # What Earth Engine was asked is in the manifest, without the person's project and credentials.
    left_out = ("out", "overwrite", "restart", "scheduler", "workers", "earth_engine")
    settings = {name: value for name, value in asdict(request).items() if name not in left_out}
    settings |= {"t1": work.scene.t1.isoformat(), "t2": work.scene.t2.isoformat()} | _names(request)
    settings |= {"bands": list(work.scene.made), "s1_calibrated": work.scene.calibrated}
    window = work.model.card.window
    made_by = {"device": work.device, "precision": work.precision.name, "batch": batch_on(work.device, window)}
    return settings | made_by | {"window": window}


def _names(request: FillRequest) -> dict[str, str | None]:
    """Return area, source and weights without folders: a product tells nobody where its maker keeps files."""
    stack, weights = Path(request.source), request.weights
    return {
        "aoi": Path(request.aoi).name if request.aoi is not None and is_file_of_area(request.aoi) else request.aoi,
        "source": stack.name or stack.resolve().name,
        "weights": weights if weights in known_weights() else Path(weights).name,
    }
