"""Score ways of making the image of t2 on held-out samples, beside what anyone would try first: copying S2 at t1.

Only clear, valid target pixels that were not shown count. They are scored together and apart: ``occluded`` where S2 at
t1 is missing, cloudy, or under a painted cloud or shadow, ``observed`` elsewhere, and ``flooded`` where that is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crgen.errors import TrainingError
from crgen.model.generator import SIZE_MULTIPLE, Generator, Prediction
from crgen.training.augment import cloud_opacity, paint_clouds
from crgen.training.data.dataset import DamagedPatch, Part, PatchDataset, Sample, collate, left_out
from crgen.training.metrics import METRICS

MIN_CLEAR = 0.5
"""Least share of clear target pixels for a sample to be scored."""
MIN_PIXELS = 64
"""Fewest pixels of a region for it to be scored in a sample."""
OCCLUDED = 0.05
"""Opacity of a painted cloud or shadow from which a pixel counts as occluded."""
COPY, GENERATOR = "copy S2_t1", "generator"
REGIONS = ("all", "occluded", "observed", "flooded")

Scores = dict[str, float]


class Inputs(NamedTuple):
    """What a method may use, in physical units, NaN where missing; ``(1, channel, y, x)``."""

    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    s2_t2: Tensor
    """Reflectance of t2 where it was seen."""
    calibrated: bool = True
    """Whether the radar is in true dB."""


Method = Callable[[Inputs], Tensor]
"""Makes the reflectance of t2, ``(1, band, y, x)``; NaN counts as 0."""


@dataclass(frozen=True)
class Condition:
    """How the inputs are made harder or easier; the draws are seeded by the sample's place in the data set."""

    name: str
    painted: float = 0.0
    """Share of S2 at t1 under painted clouds."""
    seen: float = 0.0
    """Share of t2 shown; scores count the hidden pixels only."""


CONDITIONS = (
    Condition("as it is"),
    Condition("30 % cloud painted on t1", painted=0.3),
    Condition("10 % of t2 seen", seen=0.1),
    Condition("30 % of t2 seen", seen=0.3),
)


class Record(NamedTuple):
    """The scores of one method on one region of one sample under one condition."""

    sample: str
    event: str
    condition: str
    method: str
    region: str
    cover: float
    """Share of S2 at t1 that is occluded."""
    pixels: int
    scores: Scores


@dataclass
class Evaluation:
    """All records, and what was left out."""

    records: list[Record] = field(default_factory=list)
    cloudy: list[str] = field(default_factory=list)
    """Samples with too little of their target clear."""
    skipped: list[str] = field(default_factory=list)
    """What was said of missing and damaged samples."""

    def means(self, **where: object) -> dict[str, dict[str, Scores]]:
        """Return mean scores over samples by condition and method, of the records with the given fields.

        The number of samples stands under ``samples`` in each row.
        """
        cells: dict[str, dict[str, list[Scores]]] = {}
        for record in self.records:
            if all(getattr(record, name) == value for name, value in where.items()):
                cells.setdefault(record.condition, {}).setdefault(record.method, []).append(record.scores)
        return {
            condition: {method: _mean(scores) for method, scores in methods.items()}
            for condition, methods in cells.items()
        }


def _mean(scores: list[Scores]) -> Scores:
    return {m: sum(s[m] for s in scores) / len(scores) for m in METRICS} | {"samples": float(len(scores))}


def method_of(generator: Generator) -> Method:
    """Return a generator as a method: windows of any size, reflectance clipped to 0–1."""

    def make(inputs: Inputs) -> Tensor:
        height, width = inputs.s1_t2.shape[-2:]
        return predict(generator, inputs).reflectance.float().cpu()[..., :height, :width].clamp(0, 1)

    return make


def predict(generator: Generator, inputs: Inputs) -> Prediction:
    """Return what a generator makes of a window of any size, padded with missing pixels to a multiple of 32."""
    height, width = inputs.s1_t2.shape[-2:]
    device = generator.db_low.device
    beyond = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
    padded = [F.pad(image, beyond, value=torch.nan).to(device) for image in inputs[:4]]
    flag = torch.full((len(padded[0]),), float(inputs.calibrated), device=device)
    with torch.inference_mode():
        made: Prediction = generator(*padded, calibrated=flag)
    return made


def evaluate(
    methods: Mapping[str, Method] | Generator,
    data: PatchDataset,
    conditions: tuple[Condition, ...] = CONDITIONS,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
    on_images: Callable[[Condition, Sample, Inputs, dict[str, Tensor], Tensor], None] | None = None,
) -> Evaluation:
    """Score methods on every sample with at least half of its target clear, and copying S2 at t1 beside them.

    Args:
        methods: by name, or one generator.
        data: what to score on; missing and damaged samples are passed over and named.
        conditions: how the inputs are varied.
        on_sample: told of progress.
        on_images: called with each condition, sample, inputs, images by method, and the mask of pixels that counted.
    """
    if isinstance(methods, Generator):
        methods = {GENERATOR: method_of(methods)}
    result = Evaluation(skipped=left_out(data))
    for index in range(len(data)):
        try:
            sample = data[index]
        except DamagedPatch as error:
            result.skipped.append(str(error))
            continue
        if float(sample.clear.mean()) < MIN_CLEAR:
            result.cloudy.append(sample.name)
        else:
            for number, condition in enumerate(conditions):
                rng = torch.Generator().manual_seed(1000 * index + number)
                inputs, occluded = arrange(sample, data.bands, condition, rng)
                held = bands_held(sample)
                shown = torch.isfinite(inputs.s2_t2[:, held]).all(1, keepdim=True)
                hidden = torch.from_numpy(sample.clear)[None] & ~shown
                images = {COPY: inputs.s2_t1, **{name: make(inputs) for name, make in methods.items()}}
                images = {name: torch.nan_to_num(image) for name, image in images.items()}
                result.records += _score(condition, sample, images, hidden, occluded)
                if on_images is not None:
                    on_images(condition, sample, inputs, images, hidden)
        on_sample(index + 1, len(data))
    return result


def bands_held(sample: Sample) -> list[int]:
    """Return the places of the bands that a sample's target holds: data sets lack some."""
    return [int(i) for i in np.flatnonzero(np.isfinite(sample.target).any((1, 2)))]


def arrange(
    sample: Sample, bands: tuple[str, ...], condition: Condition, rng: torch.Generator
) -> tuple[Inputs, Tensor]:
    """Return a sample's inputs under a condition, and where S2 at t1 is occluded, ``(1, 1, y, x)``."""
    batch = collate([sample])
    height, width = batch.target.shape[-2:]
    s2_t1, opacity = paint_clouds(batch.s2_t1, bands, torch.tensor([condition.painted]), rng)
    occluded = (opacity > OCCLUDED) | torch.isnan(batch.s2_t1[:, bands_held(sample)]).any(1, keepdim=True)
    if sample.clear_t1 is not None:
        occluded = occluded | ~torch.from_numpy(sample.clear_t1)[None]
    seen = torch.zeros_like(batch.clear)
    if condition.seen:
        seen = (cloud_opacity(torch.tensor([condition.seen]), height, width, rng) > 0.5) & batch.clear
    s2_t2 = torch.where(seen, batch.target, torch.nan)
    return Inputs(batch.s1_t1, s2_t1, batch.s1_t2, s2_t2, sample.s1_calibrated), occluded


def _score(
    condition: Condition, sample: Sample, images: dict[str, Tensor], hidden: Tensor, occluded: Tensor
) -> Iterator[Record]:
    held = bands_held(sample)
    truth = torch.nan_to_num(torch.from_numpy(sample.target))[None, held]
    regions = {"all": hidden, "occluded": hidden & occluded, "observed": hidden & ~occluded}
    if sample.flooded is not None:
        regions["flooded"] = hidden & torch.from_numpy(sample.flooded)[None]
    cover = float(occluded.float().mean())
    for region, mask in regions.items():
        pixels = int(mask.sum())
        if pixels >= MIN_PIXELS or region == "all":
            for method, image in images.items():
                scores = {name: float(metric(image[:, held], truth, mask)) for name, metric in METRICS.items()}
                yield Record(sample.name, sample.event, condition.name, method, region, cover, pixels, scores)


def validation_scores(generator: Generator, data: PatchDataset, count: int) -> Scores:
    """Return a generator's mean scores over the conditions, on at most ``count`` samples spread over ``data``.

    Raises:
        TrainingError: if no sample can be scored.
    """
    part = Part(data, range(0, len(data), max(-(-len(data) // count), 1)))
    means = evaluate(generator, part).means(region="all")
    if not means:
        raise TrainingError(f"none of {len(part)} validation samples has {MIN_CLEAR:.0%} of its target clear")
    return {m: sum(rows[GENERATOR][m] for rows in means.values()) / len(means) for m in METRICS}
