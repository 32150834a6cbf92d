"""Fit how far probabilities of water, areas and intervals of reflectance are off, and score them on events left out.

    python -m benchmarks.floods.calibration DATA OUT [--weights NAME_OR_PATH] [--every N] [--write NEW.safetensors]

DATA holds `ombria`; OUT keeps `water_unet.pt` (see `benchmarks.floods.water_unet`; without it that row is left out) and
takes `calibration.md`. Events that the weights were not trained on are left out in turn: what is scored on one was
fitted on the others. With --write, weights go to NEW.safetensors with what was fitted on all of these events in their
card (`crgen.model.card.WaterErrors`, `ErrorWidths`): then `crgen fill` states intervals.

Fitted are how probabilities of water are to be read (the logit times a slope and the share of pixels around that agree;
every event counting alike), how the doubts of near pixels go together (the correlogram of residuals), what a whole
scene has in common (so that nine in ten patches' areas are held), and half the width of intervals in stated deviations,
where nothing of t2 is seen and where some is, and how much wider they are where t1 does not show the ground. Where
nothing is seen they are as wide as hold nine in ten pixels of an event that was not fitted to, of these left out in
turn. Where some is seen, a patch's interval is scaled as `crgen fill` scales it, by hidden blocks of its own scene:
here the other patches of its event.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.optimize import curve_fit, minimize_scalar

from benchmarks.common import markdown
from benchmarks.floods.__main__ import NOTHING, WHOLE, View, views
from benchmarks.floods.water_unet import WaterRow
from benchmarks.made import Channels, generate
from benchmarks.water import Truth, otsu, scored_patches
from crgen.model.card import ErrorWidths, WaterErrors
from crgen.model.certainty import evidence_of
from crgen.model.weights import load_model, save_weights
from crgen.pipeline.flood.area import SMALLEST, deviation_of, interval_of
from crgen.pipeline.tiling.hidden import COVERED, RATIOS, Hidden, widths
from crgen.training.data.ombria import Ombria

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
    error: Array
    """Of the image, absolute, ``(band, y, x)``, NaN where nothing counts."""
    deviation: Array
    """Stated with it, alike."""
    hidden: Array
    """How far S2 at t1 does not show the ground, 0 to 1, ``(y, x)``."""
    otsu: NDArray[np.bool_]
    unet: Array | None

    @property
    def sees(self) -> bool:
        """Whether some of t2 was shown."""
        return self.condition.endswith("of t2 seen")

    @cached_property
    def ratio(self) -> Array:
        """The error over the stated deviation."""
        return np.asarray(self.error / np.maximum(self.deviation, 1e-9), np.float32)

    def ratio_by(self, known: ErrorWidths) -> Array:
        """Return the error over the deviation as it is to be read."""
        return np.asarray(self.ratio / known.hidden**self.hidden, np.float32)

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
    held = Ombria(data / "ombria", "test")
    channels = Channels(held.pols, held.bands)
    for index, sample, truth in scored_patches(held, every):
        for condition, view, counts in views(sample, index, held.bands):
            if condition not in CONDITIONS:
                continue
            made = generate(generator, view, channels, calibrated=False)
            assert made.reflectance is not None
            assert made.water is not None
            assert made.deviation is not None
            assert made.hidden is not None
            error = np.abs(np.where(counts, made.reflectance - sample.target, np.nan))
            patches.append(
                Patch(
                    sample.event,
                    condition,
                    made.water[1],
                    truth,
                    counts[0],
                    error.astype(np.float32),
                    made.deviation,
                    made.hidden,
                    otsu(view.s1_t2[0]),
                    None if unet is None else _unet(unet, view),
                )
            )
    return patches, held.bands


def _unet(unet: WaterRow, view: View) -> Array | None:
    water = unet(view).water
    return None if water is None else water[1]


def read(p: NDArray[np.floating], errors: WaterErrors) -> NDArray[np.float64]:
    """Return how predicted probabilities are to be read."""
    return errors.read(torch.from_numpy(p.astype(np.float64))[None, None])[0, 0].numpy()


def fit_reading(patches: Sequence[Patch]) -> WaterErrors:
    """Return the reading that makes the labels likeliest, every event counting alike; nothing is said of areas yet."""
    evidence, labels, weights = [], [], []
    by_event: dict[str, int] = defaultdict(int)
    for patch in patches:
        by_event[patch.event] += int(patch.known.sum())
    for patch in patches:
        logit, agree = evidence_of(torch.from_numpy(patch.p.astype(np.float64))[None, None])
        evidence.append((logit * agree)[0, 0].numpy()[patch.known][::THIN])
        labels.append(patch.truth.t2[patch.known][::THIN])
        weights.append(np.full(len(labels[-1]), 1 / by_event[patch.event]))
    x, y, weight = (np.concatenate(parts) for parts in (evidence, labels, weights))

    def loss(slope: float) -> float:
        return float((weight * (np.logaddexp(0, slope * x) - slope * y * x)).sum())

    slope = minimize_scalar(loss, bounds=(0.01, 10), method="bounded").x
    return WaterErrors(slope=slope, near=0.0, reach=1.0, scene=0.0)


def fit_near(patches: Sequence[Patch], errors: WaterErrors) -> tuple[float, float]:
    """Return which share of pixels' doubts goes together, and over how many metres that falls off to 1/e."""
    products, weights = np.zeros(LAGS), np.zeros(LAGS)
    for patch in patches:
        q = np.where(patch.dry_before, read(patch.p, errors), 0)
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
    q = np.where(patch.dry_before, read(patch.p, errors), 0)
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
    errors = fit_reading(patches)
    near, reach = fit_near(patches, errors)
    errors = errors.model_copy(update={"near": near, "reach": reach})
    scene = fit_scene([areas(patch, errors) for patch in patches if patch.dry_before.any()])
    return errors.model_copy(update={"scene": scene})


def fit_widths(patches: Sequence[Patch], bands: Sequence[str]) -> ErrorWidths:
    """Return what the card is to say of intervals: every event counts alike."""
    unseen, seen = [patch for patch in patches if not patch.sees], [patch for patch in patches if patch.sees]
    known = _unseen_widths(unseen, bands)
    wider = _left_out(unseen, bands)
    by_event: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    for patch in seen:
        by_event[patch.event].append(np.log(np.nanquantile(patch.ratio_by(known), COVERED, (1, 2))))
    means = np.array([np.nanmean(some, 0) for some in by_event.values()])
    within = np.nanmean([np.nanvar(some, 0).mean() for some in by_event.values()])
    between = max(float(np.nanvar(means, 0).mean()), 1e-6)
    return known.model_copy(
        update={
            "bands": {band: wider * width for band, width in known.bands.items()},
            "seen": {band: _nine_in_ten(seen, lambda p, i=i: p.ratio_by(known)[i]) for i, band in enumerate(bands)},
            "blocks": max(float(within / between), 0.1),
        }
    )


def _unseen_widths(patches: Sequence[Patch], bands: Sequence[str]) -> ErrorWidths:
    """Return widths where nothing of t2 is seen, of pixels that t1 shows, and how much wider they are of others."""
    shown = [_nine_in_ten(patches, lambda p, i=i: p.ratio[i][p.hidden <= 0.5]) for i in range(len(bands))]
    hidden = [_nine_in_ten(patches, lambda p, i=i: p.ratio[i][p.hidden > 0.5]) for i in range(len(bands))]
    times = [math.log(b / a) for a, b in zip(shown, hidden, strict=True) if a > 0 and b > 0]
    wider = math.exp(sum(times) / len(times)) if times else 1.0
    return ErrorWidths(bands=dict(zip(bands, shown, strict=True)), hidden=wider, blocks=1)


def _left_out(patches: Sequence[Patch], bands: Sequence[str]) -> float:
    """Return how many times as wide intervals must be of an event that they were not fitted to."""
    events = {patch.event for patch in patches}
    if len(events) == 1:
        return 1.0
    fitted = {event: _unseen_widths([p for p in patches if p.event != event], bands) for event in events}
    return _nine_in_ten(patches, lambda p: p.error / half_widths(p, [], bands, fitted[p.event]))


def _nine_in_ten(patches: Sequence[Patch], values: Callable[[Patch], Array]) -> float:
    """Return below what nine in ten values of patches lie, every event counting alike; NaN without any."""
    by_event: dict[str, list[Array]] = defaultdict(list)
    for patch in patches:
        some = values(patch)
        by_event[patch.event].append(some[np.isfinite(some)][::THIN])
    joined = [np.concatenate(some) for some in by_event.values()]
    weights = np.concatenate([np.full(len(some), 1 / max(len(some), 1)) for some in joined])
    if not len(weights):
        return math.nan
    order = np.argsort(np.concatenate(joined))
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(np.concatenate(joined)[order][np.searchsorted(reached, COVERED)])


def blocks_of(patch: Patch, known: ErrorWidths) -> Hidden:
    """Return a patch as hidden blocks of its scene are counted."""
    bins = [np.searchsorted(RATIOS, band[np.isfinite(band)]) for band in patch.ratio_by(known)]
    found = Hidden(len(bins), blocks=1)
    found.ratios = np.stack([np.bincount(some, minlength=len(RATIOS) + 1) for some in bins])
    return found


def half_widths(patch: Patch, scene: Sequence[Hidden], bands: Sequence[str], known: ErrorWidths) -> Array:
    """Return half the width of intervals as `crgen fill` makes them, ``(band, y, x)``.

    Args:
        patch: where.
        scene: hidden blocks of its scene; none where nothing of t2 is seen.
        bands: their names.
        known: what the card says.
    """
    found = Hidden(len(bands))
    for some in scene:
        found.add(some)
    deviation = patch.deviation * known.hidden**patch.hidden
    return np.asarray(deviation * widths([found], bands, known)[:, None, None], np.float32)


def _one_width(patches: Sequence[Patch], bands: Sequence[str]) -> Array:
    """Return one global width by band."""
    return np.array([_nine_in_ten(patches, lambda p, i=i: p.error[i]) for i in range(len(bands))], np.float32)


class Held(NamedTuple):
    """What intervals of a patch hold, as mean over bands."""

    share: float
    """Of the pixels."""
    score: float
    """See :func:`interval_score`."""
    globe: float
    """That of one global width."""


def held_of(error: Array, half: Array, globe: Array) -> Held:
    """Score intervals of some pixels, ``(band, pixel)``, beside one global width of each band."""
    scores = (float(interval_score(error, width).mean()) for width in (half, globe[:, None]))
    return Held(float((error <= half).mean()), *scores)


def interval_score(error: NDArray[np.floating], half: NDArray[np.floating] | float) -> NDArray[np.floating]:
    """Return the score of intervals that are to hold a share COVERED (Gneiting & Raftery 2007); the less the better."""
    return np.asarray(2 * half + 2 / (1 - COVERED) * np.maximum(error - half, 0))


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
    rows, found = [], []
    cells: dict[str, list[Held]] = defaultdict(list)
    for event in events:
        rest, own = [p for p in patches if p.event != event], [p for p in patches if p.event == event]
        found.append(_water_of(own, rest))
        rows.append([event, *_water_row(found[-1])])
        known, globe = fit_widths(rest, bands), _one_width(rest, bands)
        blocks = [(patch, blocks_of(patch, known)) for patch in own if patch.sees]
        for one in own:
            scene = [some for patch, some in blocks if one.sees and patch is not one]
            half = half_widths(one, scene, bands, known)
            there = one.counts
            for name, where in {"all": there, one.condition: there, "newly under water": there & one.truth.new}.items():
                if where.sum() >= 100:
                    cells[name].append(held_of(one.error[:, where], half[:, where], globe))
    whole = Water(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    rows.append(["**all**", *_water_row(whole)])
    head = [
        "event left out", "Brier score", "skill over Otsu", "skill over the U-Net", "calibration error",
        "the same, .05 < p < .95", "IoU", "F1", "areas held by their interval (90 is right)",
        "width ÷ that of one global error rate",
    ]  # fmt: skip
    return "\n\n".join(
        [
            markdown(head, rows),
            "Reliability, all events:",
            markdown(
                ["mean probability", "share that is water", "pixels"],
                [[f"{a:.2f}", f"{b:.2f}", f"{n:,}"] for a, b, n in reliability(whole.p, whole.label)[0]],
            ),
            markdown(
                [
                    "intervals of reflectance", "pixels held (90 % is right)", "95 % of bootstraps",
                    "interval score ÷ that of one global width", "patches",
                ],
                [[name, *_interval_row(np.array(some))] for name, some in cells.items()],
            ),
        ]
    )  # fmt: skip


class Water(NamedTuple):
    """What was predicted of events left out: by pixel whose label is known, and by patch that was dry."""

    p: NDArray[np.float64]
    label: NDArray[np.float32]
    otsu: NDArray[np.float64]
    unet: NDArray[np.float64]
    """NaN where there is none."""
    held: NDArray[np.bool_]
    """Whether the area lies within its interval."""
    width: NDArray[np.float64]
    """Of that, in pixels."""
    globe: NDArray[np.float64]
    """That of one relative error of all areas, alike."""


def _water_of(own: Sequence[Patch], rest: Sequence[Patch]) -> Water:
    """Predict an event by what the others teach."""
    errors = fit_water(rest)
    known = [(one, one.known) for one in own]
    found, others = ([areas(one, errors) for one in some if one.dry_before.any()] for some in (own, rest))
    ends = np.array([interval_of(expected, deviation, errors.scene) for _, expected, deviation in found])
    expected = np.array([expected for _, expected, _ in found])
    rate = float(np.quantile([abs(true - e) / max(e, 1.0) for true, e, _ in others], COVERED))
    return Water(
        np.concatenate([read(one.p, errors)[at] for one, at in known]),
        np.concatenate([one.truth.t2[at] for one, at in known]),
        np.concatenate([one.otsu[at].astype(np.float64) for one, at in known]),
        np.concatenate([np.full(at.sum(), np.nan) if one.unet is None else one.unet[at] for one, at in known]),
        held_by(found, errors.scene),
        ends[:, 1] - ends[:, 0],
        expected + rate * expected - np.maximum(expected - rate * expected, 0),
    )


def _water_row(found: Water) -> list[str]:
    p, y = found.p, found.label
    _, error, middle = reliability(p, y)
    brier = float(np.square(p - y).mean())
    skills = [1 - brier / float(np.square(other - y).mean()) for other in (found.otsu, found.unet)]
    called = p >= 0.5
    hits, wrong = int((called & (y == 1)).sum()), int((called != (y == 1)).sum())
    return [
        f"{brier:.3f}", *("" if math.isnan(skill) else f"{skill:+.2f}" for skill in skills), f"{error:.3f}",
        f"{middle:.3f}", f"{hits / max(hits + wrong, 1):.2f}", f"{2 * hits / max(2 * hits + wrong, 1):.2f}",
        f"{found.held.mean():.0%} of {len(found.held)}", f"{found.width.mean() / max(found.globe.mean(), 1e-9):.2f}",
    ]  # fmt: skip


def _interval_row(scores: NDArray[np.float64]) -> list[str]:
    draws = np.random.default_rng(0).integers(0, len(scores), (2000, len(scores)))
    low, high = np.percentile(scores[draws, 0].mean(1), (2.5, 97.5))
    held, own, globe = scores.mean(0)
    return [f"{held:.1%}", f"{low:.1%} to {high:.1%}", f"{own / globe:.2f}", str(len(scores))]


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
    table = score(patches, bands)
    water, intervals = fit_water(patches), fit_widths(patches, bands)
    said = f"Fitted on all of them: {water!r}; {intervals!r}"
    print(f"{table}\n\n{said}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "calibration.md").write_text(f"{table}\n\n{said}\n")
    if given.write is not None:
        model = load_model(given.weights)
        save_weights(given.write, model.generator, model.card.model_copy(update={"water": water, "error": intervals}))
        print(f"written: {given.write}")


if __name__ == "__main__":
    main()
