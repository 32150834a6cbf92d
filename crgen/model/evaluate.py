"""Score a generator on held-out samples, beside what anyone would try first: copying S2 at t1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from crgen.errors import TrainingError
from crgen.model.augment import cloud_opacity, paint_clouds
from crgen.model.data import Batch, Part, PatchDataset, collate
from crgen.model.generator import Generator
from crgen.model.metrics import METRICS

MIN_CLEAR = 0.5
"""Least share of clear target pixels for a sample to be scored."""


@dataclass(frozen=True)
class Condition:
    """How the inputs are made harder or easier; the draws are seeded by the sample's place in the data set."""

    name: str
    painted: float = 0.0
    """Share of S2 at t1 under painted clouds."""
    seen: float = 0.0
    """Share of t2 shown to the generator; scores count the hidden pixels only."""


CONDITIONS = (
    Condition("as it is"),
    Condition("30 % cloud painted on t1", painted=0.3),
    Condition("10 % of t2 seen", seen=0.1),
    Condition("30 % of t2 seen", seen=0.3),
)

Scores = dict[str, float]


def evaluate(
    generator: Generator,
    data: PatchDataset,
    conditions: tuple[Condition, ...] = CONDITIONS,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, dict[str, Scores]]:
    """Return mean scores over samples by condition and row (``copy S2_t1``, ``generator``).

    Only clear, valid target pixels that were not shown count; samples with less than half of them are left out. The
    number of samples scored stands under ``samples`` in each row.
    """
    sums: dict[tuple[str, str], dict[str, list[float]]] = {}
    device = next(generator.parameters()).device
    for index in range(len(data)):
        batch = collate([data[index]])
        if float(batch.clear.float().mean()) >= MIN_CLEAR:
            for number, condition in enumerate(conditions):
                rng = torch.Generator().manual_seed(1000 * index + number)
                batch_now, s2_t2 = _arrange(batch, generator.config.bands, condition, rng)
                with torch.inference_mode():
                    inputs = (batch_now.s1_t1, batch_now.s2_t1, batch_now.s1_t2, s2_t2)
                    made = generator(*(t.to(device) for t in inputs)).reflectance.cpu().clamp(0, 1)
                mask = batch.clear & torch.isnan(s2_t2).any(1, keepdim=True)
                truth = torch.nan_to_num(batch.target)
                for row, image in (("copy S2_t1", torch.nan_to_num(batch_now.s2_t1)), ("generator", made)):
                    cell = sums.setdefault((condition.name, row), {name: [] for name in METRICS})
                    for name, metric in METRICS.items():
                        cell[name].append(float(metric(image, truth, mask)))
        on_sample(index + 1, len(data))
    result: dict[str, dict[str, Scores]] = {}
    for (condition_name, row), cells in sums.items():
        scores = {name: math.fsum(values) / len(values) for name, values in cells.items()}
        result.setdefault(condition_name, {})[row] = {**scores, "samples": float(len(cells["PSNR"]))}
    return result


def validation_scores(generator: Generator, data: PatchDataset, count: int) -> Scores:
    """Return a generator's mean scores over the conditions, on at most ``count`` samples spread over ``data``."""
    every = max(-(-len(data) // count), 1)
    part = Part(data, range(0, len(data), every))
    results = evaluate(generator, part)
    if not results:
        raise TrainingError(f"none of {len(part)} validation samples has {MIN_CLEAR:.0%} of its target clear")
    return {m: math.fsum(rows["generator"][m] for rows in results.values()) / len(results) for m in METRICS}


def _arrange(batch: Batch, bands: tuple[str, ...], condition: Condition, rng: torch.Generator) -> tuple[Batch, Tensor]:
    height, width = batch.target.shape[-2:]
    s2_t1, _ = paint_clouds(batch.s2_t1, bands, torch.tensor([condition.painted]), rng)
    seen = torch.zeros_like(batch.clear)
    if condition.seen:
        seen = (cloud_opacity(torch.tensor([condition.seen]), height, width, rng) > 0.5) & batch.clear
    return batch._replace(s2_t1=s2_t1), torch.where(seen, batch.target, torch.nan)


def as_markdown(results: dict[str, dict[str, Scores]]) -> str:
    """Return the scores as a Markdown table."""
    lines = [
        "| condition | | " + " | ".join(METRICS) + " | samples |",
        "|---|---|" + "---|" * (len(METRICS) + 1),
    ]
    for condition, rows in results.items():
        for row, scores in rows.items():
            cells = [f"{scores[m]:.2f}" if m in ("PSNR", "SAM") else f"{scores[m]:.4f}" for m in METRICS]
            lines.append(f"| {condition} | {row} | " + " | ".join(cells) + f" | {scores['samples']:.0f} |")
    return "\n".join(lines)
