"""What a run would do and cost, checked before anything is written."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crgen.errors import OutputError
from crgen.files import check_writable, file_sha256
from crgen.model.config import PrecisionName
from crgen.model.device import fixed_windows, pick_device, pick_precision
from crgen.model.find import find_weights, known_weights, read_card
from crgen.model.weights import LoadedModel, load_model
from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.product.outputs import RUN, Paths
from crgen.pipeline.request import FillRequest
from crgen.pipeline.source.area import Area, is_file_of_area
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.source.open import open_scene
from crgen.pipeline.tiling.batches import batch_on
from crgen.pipeline.tiling.predict import Predictor, WindowInputs, plane_count
from crgen.pipeline.tiling.windows import ChunkGrid, Lattice


@dataclass(frozen=True)
class Plan:
    """What a run would do and cost."""

    scene: Scene
    model: LoadedModel
    device: str
    paths: Paths
    grid: ChunkGrid
    workers: int

    @property
    def channels(self) -> Channels:
        """What is read of the imagery."""
        return Channels.of(self.model.card, self.scene.made)

    @property
    def pixels(self) -> int:
        """Pixels of the result."""
        height, width = self.grid.output.shape
        return height * width

    @property
    def memory(self) -> int:
        """Bytes of imagery held at once, at most: the arrays of the chunks at work and of one that waits."""
        pols, opened = (len(names) for names in (self.channels.pols, self.channels.bands))
        side = min(self.grid.chunk, max(self.grid.output.shape)) + 2 * self.model.card.window
        inputs = 4 * (2 * pols + 4 * opened + 2)
        sums = 4 * 3 * plane_count(self.model.card.config, len(self.scene.made)) + 8 * 2 * len(self.scene.made)
        down, across = self.grid.shape
        return (min(max(self.workers, 2), down * across) + 1) * side * side * (2 * inputs + sums)

    @property
    def disk(self) -> int:
        """Bytes needed for the product and the parts it is made of, at most (before compression)."""
        config, made = self.model.card.config, len(self.scene.made)
        spilled = self.grid.count * 2 * self.grid.chunk * self.model.card.window * plane_count(config, made) * 4
        stored = 2 * made * (1 + config.predicts_variance) + 1 + 2 * config.predicts_water
        return self.pixels * stored * 8 // 3 + spilled


def plan(request: FillRequest) -> Plan:
    """Lay out the work, and check that its product can be written.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    work = lay_out(request)
    _check_free(work.paths, request.overwrite)
    return work


def predictor_of(
    request: FillRequest, work: Plan, precision: PrecisionName, on_windows: Callable[[int], None] = lambda count: None
) -> Predictor:
    """Return a new predictor for a run.

    Args:
        request: what is asked.
        work: how it was laid out.
        precision: what to compute in, as :func:`~crgen.model.device.pick_precision` chose it.
        on_windows: called with the number of windows just done, from any thread.
    """
    return Predictor(
        work.model,
        work.device,
        work.channels.bands,
        work.scene.made,
        precision=precision,
        calibrated=work.scene.calibrated,
        clear_threshold=request.clear_threshold,
        on_windows=on_windows,
    )


def rate_of(request: FillRequest, work: Plan) -> tuple[float, PrecisionName]:
    """Return how many windows a second are computed now on this machine, and in which precision."""
    precision = pick_precision(request.precision, work.model.generator, work.model.card.window).name
    return measure(predictor_of(request, work, precision)), precision


def usual_device() -> str:
    """Return which device ``auto`` means on this machine."""
    return pick_device("auto")


def lay_out(request: FillRequest) -> Plan:
    """Open the inputs and check everything of them that can be checked without reading pixels.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    device = pick_device(request.device)
    model = load_model(request.weights, device)
    card = model.card

    def record(area: Area, t1: datetime.date, t2: datetime.date) -> Path:
        return Paths.of(request.out, area, t1, t2).scratch / RUN

    scene = open_scene(request, card, None if request.restart else record)
    paths = Paths.of(request.out, scene.area, scene.t1, scene.t2)
    grid = ChunkGrid(lattice_box(scene.area.geobox), Lattice(card.window), request.chunk)
    workers = request.workers or os.cpu_count() or 1
    return Plan(scene, model, device, paths, grid, workers)


def weights_digest(weights: str) -> str:
    """Return the digest of the tensors of weights, by name or path.

    Raises:
        WeightsError: if there are none of that name.
    """
    return read_card(find_weights(weights)).tensors_sha256


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
    """Return what decides the result, beside the inputs and the weights, as JSON can hold it.

    Args:
        request: what is asked, with the precision that was chosen.
        work: how it was laid out.
    """
    # What Earth Engine was asked is in the manifest, without the person's project and credentials.
    left_out = ("out", "overwrite", "restart", "scheduler", "workers", "earth_engine")
    settings = {name: value for name, value in asdict(request).items() if name not in left_out}
    settings |= {"t1": work.scene.t1.isoformat(), "t2": work.scene.t2.isoformat()} | _names(request)
    settings |= {"bands": list(work.scene.made), "s1_calibrated": work.scene.calibrated}
    window = work.model.card.window
    return settings | {"device": work.device, "batch": batch_on(work.device, window), "window": window}


def _names(request: FillRequest) -> dict[str, str | None]:
    """Return area, source and weights without folders: a product tells nobody where its maker keeps files."""
    stack, weights = Path(request.source), request.weights
    return {
        "aoi": Path(request.aoi).name if request.aoi is not None and is_file_of_area(request.aoi) else request.aoi,
        "source": stack.name or stack.resolve().name,
        "weights": weights if weights in known_weights() else Path(weights).name,
    }
