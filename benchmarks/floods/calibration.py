"""Fit how far probabilities of water, areas and intervals of reflectance are off, and score them on events left out.

    python -m benchmarks.floods.calibration DATA OUT [--weights NAME_OR_PATH] [--every N] [--write NEW.safetensors]

DATA holds `ombria`; OUT keeps `water_unet.pt` (see `benchmarks.floods.water_unet`; without it that row is left out) and
takes `calibration.md`. Events that the weights were not trained on are left out in turn: what is scored on one was
fitted on the others. With --write, weights go to NEW.safetensors with what was fitted on all of these events in their
card (`crgen.model.card.WaterErrors`, `ErrorWidths`): then `crgen fill` states intervals.

Fitted are a slope and offset of the logit of water (every event counts alike), how the doubts of near pixels go
together (the correlogram of residuals), what a whole scene has in common (so that nine in ten patches' areas are held),
and half the width of intervals in stated deviations.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.optimize import curve_fit, minimize

from benchmarks.common import markdown
from benchmarks.floods.__main__ import NOTHING, WHOLE, View, views
from benchmarks.floods.water_unet import WaterRow
from benchmarks.made import Channels, generate
from benchmarks.water import Truth, otsu, truth_of
from crgen.model.card import ErrorWidths, WaterErrors
from crgen.model.weights import load_model, save_weights
from crgen.pipeline.flood.area import SMALLEST, deviation_of, interval_of
from crgen.pipeline.tiling.hidden import COVERED
from crgen.training.data.ombria import HELD_OUT, VALIDATION, Ombria

CONDITIONS = (NOTHING, "30 % cloud on t1", WHOLE, "10% of t2 seen")
PIXEL = 10.0
"""Metres."""
LAGS = 64
"""Pixels up to which the residuals' correlogram is fitted."""
THIN = 16
"""Of the pixels of a patch, every such one is fitted to: those beside it tell little more."""
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Patch:
    """One patch under one condition."""

    event: str
    condition: str
    p: Array
    """Probability of water at t2 as predicted."""
    truth: Truth
    counts: NDArray[np.bool_]
    """Where t2 is clear and was not shown."""
    ratio: Array
    """Error of the image over its stated deviation, ``(band, y, x)``, NaN where nothing counts."""
    otsu: NDArray[np.bool_]
    unet: Array | None

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where the label of t2 is known."""
        return self.counts & np.isfinite(self.truth.t2)

    @property
    def dry_before(self) -> NDArray[np.bool_]:
        """Where that of t1 says dry too: there water is new."""
        return self.known & (self.truth.t1 == 0)


def gather(data: Path, out: Path, weights: str, every: int) -> tuple[list[Patch], tuple[str, ...]]:
    """Predict every patch of the events that the weights never saw."""
    generator = load_model(weights).generator
    unet = WaterRow(out / "water_unet.pt") if (out / "water_unet.pt").exists() else None
    patches: list[Patch] = []
    for split in ("validation", "test"):
        held = Ombria(data / "ombria", split)
        channels = Channels(held.pols, held.bands)
        for index in range(0, len(held), every):
            sample = held[index]
            if sample.clear.mean() < 0.5 or sample.clear_t1 is None:
                continue
            truth = truth_of(sample.s2_t1, sample.clear_t1[0], sample.target, sample.clear[0], held.bands)
            for condition, view, counts in views(sample, index, held.bands):
                if condition not in CONDITIONS:
                    continue
                made = generate(generator, view, channels, calibrated=False)
                assert made.reflectance is not None
                assert made.water is not None
                assert made.deviation is not None
                error = np.where(counts, made.reflectance - sample.target, np.nan)
                ratio = np.abs(error) / np.maximum(made.deviation, 1e-9)
                patches.append(
                    Patch(
                        sample.event,
                        condition,
                        made.water[1],
                        truth,
                        counts[0],
                        ratio.astype(np.float32),
                        otsu(view.s1_t2[0]),
                        None if unet is None else _unet(unet, view),
                    )
                )
            print(f"{split} {index + 1}/{len(held)}", end="\r", flush=True)
    return patches, held.bands


def _unet(unet: WaterRow, view: View) -> Array | None:
    water = unet(view).water
    return None if water is None else water[1]


def logit(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the logit of a probability."""
    p = np.clip(p, 1e-6, 1 - 1e-6).astype(np.float64)
    return np.log(p / (1 - p))


def read(p: NDArray[np.floating], slope: float, offset: float) -> NDArray[np.float64]:
    """Return how a predicted probability is to be read."""
    return 1 / (1 + np.exp(-(slope * logit(p) + offset)))


def fit_logit(patches: Sequence[Patch]) -> tuple[float, float]:
    """Return slope and offset that make the labels likeliest, every event counting alike."""
    x, y, weight = [], [], []
    by_event: dict[str, int] = defaultdict(int)
    for patch in patches:
        by_event[patch.event] += int(patch.known.sum())
    for patch in patches:
        x.append(logit(patch.p[patch.known][::THIN]))
        y.append(patch.truth.t2[patch.known][::THIN])
        weight.append(np.full(len(x[-1]), 1 / by_event[patch.event]))
    logits, labels, weights = (np.concatenate(parts) for parts in (x, y, weight))

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = np.exp(at[0]) * logits + at[1]
        off = weights * (1 / (1 + np.exp(-z)) - labels)
        return float((weights * (np.logaddexp(0, z) - labels * z)).sum()), np.array(
            [np.exp(at[0]) * (off * logits).sum(), off.sum()]
        )

    best = minimize(loss, np.zeros(2), jac=True).x
    return float(np.exp(best[0])), float(best[1])


def fit_near(patches: Sequence[Patch], slope: float, offset: float) -> tuple[float, float]:
    """Return which share of pixels' doubts goes together, and over how many metres that falls off to 1/e."""
    products, weights = np.zeros(LAGS), np.zeros(LAGS)
    for patch in patches:
        q = np.where(patch.dry_before, read(patch.p, slope, offset), 0)
        residual = np.where(patch.dry_before, (patch.truth.t2 == 1) - q, 0)
        doubt = np.sqrt(q * (1 - q))
        for field, sums in ((residual, products), (doubt, weights)):
            sums += radial(field)
    near = products / np.maximum(weights, 1e-9)
    lags = np.arange(LAGS) * PIXEL
    (share, reach), _ = curve_fit(
        lambda d, share, reach: share * np.exp(-d / reach),
        lags[1:],
        near[1:].clip(-1, 1),
        (0.5, 100.0),
        sigma=1 / np.sqrt(np.maximum(weights[1:], 1e-6)),
        bounds=([0.0, PIXEL], [1.0, 20_000.0]),
    )
    return float(share), float(reach)


def radial(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of products of pixels by their distance, in steps of a pixel."""
    shape = [next_fast_len(2 * n) for n in field.shape]
    power = np.abs(rfft2(field, shape)) ** 2
    products = irfft2(power, shape)
    down, across = (np.minimum(np.arange(n), n - np.arange(n)) for n in shape)
    distance = np.rint(np.hypot(down[:, None], across)).astype(int)
    near = distance < LAGS
    return np.bincount(distance[near], products[near], minlength=LAGS)


def areas(patch: Patch, errors: WaterErrors) -> tuple[float, float, float]:
    """Return pixels newly under water, how many were expected, and their deviation without what scenes share."""
    q = np.where(patch.dry_before, read(patch.p, errors.slope, errors.offset), 0)
    doubt = np.sqrt(q * (1 - q))
    starts = np.arange(0, doubt.shape[0], SMALLEST), np.arange(0, doubt.shape[1], SMALLEST)
    blocks = np.add.reduceat(np.add.reduceat(doubt, starts[0], 0), starts[1], 1)
    deviation = deviation_of(blocks, float(np.square(doubt).sum()), SMALLEST, PIXEL, errors)
    return float((patch.dry_before & (patch.truth.t2 == 1)).sum()), float(q.sum()), deviation


def held_by(patches: Sequence[tuple[float, float, float]], scene: float) -> NDArray[np.bool_]:
    """Return which areas an interval holds."""
    ends = [interval_of(expected, deviation, scene) for _, expected, deviation in patches]
    return np.array([low <= true <= high for (true, *_), (low, high) in zip(patches, ends, strict=True)])


def fit_scene(found: Sequence[tuple[float, float, float]]) -> float:
    """Return the least relative deviation, shared by a scene, with which nine in ten areas are held."""
    low, high = 0.0, 20.0
    if held_by(found, low).mean() >= COVERED:
        return low
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if held_by(found, middle).mean() >= COVERED else (middle, high)
    return high


def fit_water(patches: Sequence[Patch]) -> WaterErrors:
    """Return what the card is to say of water."""
    slope, offset = fit_logit(patches)
    near, reach = fit_near(patches, slope, offset)
    errors = WaterErrors(slope=slope, offset=offset, near=near, reach=reach, scene=0.0)
    scene = fit_scene([areas(patch, errors) for patch in patches if patch.dry_before.any()])
    return errors.model_copy(update={"scene": scene})


def fit_widths(patches: Sequence[Patch], bands: Sequence[str]) -> ErrorWidths:
    """Return what the card is to say of intervals: every event counts alike."""
    by_event: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for patch in patches:
        by_event[patch.event].append(np.log(_quantiles(patch.ratio)))
    means = np.array([np.nanmean(some, 0) for some in by_event.values()])
    within = np.nanmean([np.nanvar(some, 0).mean() for some in by_event.values()])
    between = max(float(np.nanvar(means, 0).mean()), 1e-6)
    pooled = {}
    for i, band in enumerate(bands):
        ratios = [
            np.concatenate([p.ratio[i][np.isfinite(p.ratio[i])][::THIN] for p in patches if p.event == e])
            for e in by_event
        ]
        weights = np.concatenate([np.full(len(some), 1 / len(some)) for some in ratios])
        order = np.argsort(np.concatenate(ratios))
        reached = np.cumsum(weights[order]) / weights.sum()
        pooled[band] = float(np.concatenate(ratios)[order][np.searchsorted(reached, COVERED)])
    return ErrorWidths(bands=pooled, blocks=max(float(within / between), 0.1))


def _quantiles(ratio: Array) -> NDArray[np.float64]:
    return np.array([np.nanquantile(band, COVERED) for band in ratio])


def reliability(p: NDArray[np.float64], y: NDArray[np.float32]) -> tuple[list[tuple[float, float, int]], float, float]:
    """Return by tenths the mean probability, the share of water and the pixels; the calibration error; that within."""
    bins = np.minimum((10 * p).astype(int), 9)
    rows = [(float(p[bins == b].mean()), float(y[bins == b].mean()), int((bins == b).sum())) for b in np.unique(bins)]
    error = sum(n * abs(a - b) for a, b, n in rows) / len(p)
    inner = (p > 0.05) & (p < 0.95)
    within = [(p[inner & (bins == b)], y[inner & (bins == b)]) for b in np.unique(bins[inner])]
    middle = sum(len(a) * abs(a.mean() - b.mean()) for a, b in within) / max(int(inner.sum()), 1)
    return rows, float(error), float(middle)


def score(patches: Sequence[Patch], bands: Sequence[str]) -> str:
    """Return the tables of events left out in turn."""
    events = sorted({patch.event for patch in patches})
    water, widths = [], []
    diagram: list[tuple[NDArray[np.float64], NDArray[np.float32]]] = []
    cells: dict[str, list[float]] = defaultdict(list)
    for event in events:
        rest, own = [p for p in patches if p.event != event], [p for p in patches if p.event == event]
        errors, width = fit_water(rest), fit_widths(rest, bands)
        p = np.concatenate([read(one.p[one.known], errors.slope, errors.offset) for one in own])
        y = np.concatenate([one.truth.t2[one.known] for one in own])
        diagram.append((p, y))
        rows, error, middle = reliability(p, y)
        brier = float(np.square(p - y).mean())
        skill = {"Otsu": [one.otsu[one.known].astype(float) for one in own]}
        if all(one.unet is not None for one in own):
            skill["U-Net"] = [one.unet[one.known] for one in own if one.unet is not None]
        over = {name: 1 - brier / float(np.square(np.concatenate(some) - y).mean()) for name, some in skill.items()}
        called = p >= 0.5
        hits, wrong = int((called & (y == 1)).sum()), int((called != (y == 1)).sum())
        found = [areas(one, errors) for one in own if one.dry_before.any()]
        ends = [interval_of(expected, deviation, errors.scene) for _, expected, deviation in found]
        held = held_by(found, errors.scene)
        log = [math.log((t + 1) / (e + 1)) for t, e, _ in (areas(one, errors) for one in rest if one.dry_before.any())]
        k = float(np.quantile(np.abs(log), COVERED))
        globe = [(e + 1) * (math.exp(k) - math.exp(-k)) for _, e, _ in found]
        water.append(
            [
                event, f"{brier:.3f}", *(f"{over[name]:+.2f}" if name in over else "" for name in ("Otsu", "U-Net")),
                f"{error:.3f}", f"{middle:.3f}", f"{hits / max(hits + wrong, 1):.2f}",
                f"{2 * hits / max(2 * hits + wrong, 1):.2f}", f"{held.mean():.0%} of {len(held)}",
                f"{np.mean([b - a for a, b in ends]) / max(np.mean(globe), 1e-9):.2f}",
            ]
        )  # fmt: skip
        for one in own:
            for i, band in enumerate(bands):
                inside = one.ratio[i] <= width.bands[band]
                there = np.isfinite(one.ratio[i])
                names = {"all": there, one.condition: there, "newly under water": there & one.truth.new}
                for name, where in names.items():
                    if where.sum() >= 100:
                        cells[name].append(float(inside[where].mean()))
    for name, shares in cells.items():
        draws = np.random.default_rng(0).integers(0, len(shares), (2000, len(shares)))
        low, high = np.percentile(np.array(shares)[draws].mean(1), (2.5, 97.5))
        widths.append([name, f"{np.mean(shares):.1%}", f"{low:.1%} to {high:.1%}", str(len(shares))])
    p, y = (np.concatenate(some) for some in zip(*diagram, strict=True))
    rows, error, middle = reliability(p, y)
    head = [
        "event left out", "Brier score", "skill over Otsu", "skill over the U-Net", "calibration error",
        "the same, .05 < p < .95", "IoU", "F1", "areas held by their interval (90 is right)",
        "width ÷ that of one global error rate",
    ]  # fmt: skip
    return "\n\n".join(
        [
            markdown(head, water),
            f"All events: calibration error {error:.3f}, within .05 < p < .95 {middle:.3f}. Reliability:",
            markdown(
                ["mean probability", "share that is water", "pixels"],
                [[f"{a:.2f}", f"{b:.2f}", f"{n:,}"] for a, b, n in rows],
            ),
            markdown(
                ["intervals of reflectance", "pixels held (90 % is right)", "95 % of bootstraps", "patches × bands"],
                widths,
            ),
        ]
    )


def main() -> None:
    """Fit, score, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="base")
    parser.add_argument("--every", type=int, default=1, help="score every Nth patch")
    parser.add_argument("--write", type=Path, help="where to put the weights with what was fitted in their card")
    given = parser.parse_args()
    patches, bands = gather(given.data, given.out, given.weights, given.every)
    assert {patch.event for patch in patches} <= {*VALIDATION, *HELD_OUT}
    table = score(patches, bands)
    water, widths = fit_water(patches), fit_widths(patches, bands)
    said = f"Fitted on all of them: {water!r}; {widths!r}"
    print(f"{table}\n\n{said}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "calibration.md").write_text(f"{table}\n\n{said}\n")
    if given.write is not None:
        model = load_model(given.weights)
        save_weights(given.write, model.generator, model.card.model_copy(update={"water": water, "error": widths}))
        print(f"written: {given.write}")


if __name__ == "__main__":
    main()
