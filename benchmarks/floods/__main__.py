"""Score generators and everything they are compared with on flood events held out of the training.

    python -m benchmarks.floods DATA OUT [--weights NAME,PATH] [--every N] [--rows NAME,NAME] [--unseen] [--split test]

DATA holds `ombria` (see `crgen train`), and the series of `benchmarks.ordinary` for the rows of levels; OUT keeps
`water_unet.pt` from `benchmarks.floods.water_unet` (without it that row is left out and named) and takes `floods.csv`
and `floods.md`. Weights are names or paths as `crgen fill` takes them.

Printed are, each with the simple alternatives beside it:

- PSNR / SSIM over clear, valid pixels of t2 that were not shown, mean over patches with at least half of t2 clear.
  Shares of t2 are shown through cloud-shaped masks; each row sees the same ones. Rows that an earlier run left in OUT
  stand beside those of this one, if its patches were the same. Last comes what the first weights have over the best
  other row, with the interval that holds 95 % of the means over patches drawn anew (bootstrap).
- Water, of each image by the label's own rule (:mod:`crgen.model.water`) and by the probability that a generator gives
  (`Prediction.water`, at least .5), pooled over clear pixels whose label is known, and as mean over events.
- Levels (:mod:`benchmarks.floods.levels`).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.floods import levels, regressions
from benchmarks.floods.regressions import Array, View
from benchmarks.floods.water_unet import WaterRow
from benchmarks.made import Channels, Made, generate
from benchmarks.water import Counts, Truth, count, of_image, otsu, scored_patches, water_table
from crgen.model.generator import Generator
from crgen.model.weights import load_model
from crgen.training.augment import CLOUD_COLOUR, cloud_opacity, fractal_field, paint_clouds
from crgen.training.data.dataset import Sample, collate
from crgen.training.data.ombria import Ombria
from crgen.training.metrics import psnr, ssim

SHARES = (0.01, 0.03, 0.1, 0.3, 0.6)
NOTHING, WHOLE, LEFT_OUT, FLOODED, NEW = (
    "nothing seen", "100 % cloud on t1", "t1 left out", "flooded pixels", "newly under water",
)  # fmt: skip
VEILS = (0.6, 0.3)
CONDITIONS = (
    NOTHING,
    FLOODED,
    NEW,
    "30 % cloud on t1",
    *(f"{opacity:.0%} veil on t1" for opacity in VEILS),
    WHOLE,
    LEFT_OUT,
    *(f"{share:.0%} of t2 seen" for share in SHARES),
)
WATER_CONDITIONS = (NOTHING, WHOLE, LEFT_OUT)
ORACLE = "oracle gain and offset"
COPY, ALL_WATER, OTSU, WATER_UNET = (
    "copy S2_t1", "everything water", "Otsu on the radar of t2", "U-Net for water alone",
)  # fmt: skip
ONLY_SEEN = (
    "gain and offset on the seen",
    "ridge on the seen",
    "trees on the seen",
)
"""Rows that need seen pixels."""
ONLY_WATER = (ALL_WATER, OTSU, WATER_UNET)
"""Rows that make no image."""
Row = Callable[[View], Array | Made]
Scores = dict[tuple[str, str], list[tuple[str, float, float]]]
"""Event, PSNR and SSIM of each patch, by row and condition."""
WaterCounts = dict[str, dict[str, dict[str, list[Counts]]]]
"""Counts of each patch, by condition, row and event."""


def views(
    sample: Sample,
    index: int,
    bands: tuple[str, ...],
    new: NDArray[np.bool_] | None = None,
    *,
    unseen: bool = False,
) -> Iterator[tuple[str, View, NDArray[np.bool_]]]:
    """Yield each condition's inputs and the pixels that count, ``(1, y, x)``.

    Args:
        sample: one patch.
        index: seeds the clouds, beside the condition.
        bands: names of the sample's bands.
        new: where water is new, ``(y, x)``, scored apart.
        unseen: leave out what shows some of t2.
    """
    nothing = np.full_like(sample.target, np.nan)
    plain = View(sample.s1_t1, sample.s2_t1, sample.s1_t2, nothing)
    yield NOTHING, plain, sample.clear
    for name, where in ((FLOODED, sample.flooded), (NEW, None if new is None else new[None])):
        if where is not None and (counts := sample.clear & where).sum() >= 100:
            yield name, plain, counts
    rng = torch.Generator().manual_seed(1000 * index)
    ground = torch.from_numpy(sample.s2_t1)[None]
    painted, _ = paint_clouds(ground, bands, torch.tensor([0.3]), rng)
    yield "30 % cloud on t1", plain._replace(s2_t1=painted[0].numpy()), sample.clear
    own = torch.Generator().manual_seed(1000 * index + 1)
    for opacity in VEILS:
        yield f"{opacity:.0%} veil on t1", plain._replace(s2_t1=veil(ground, bands, opacity, own)), sample.clear
    painted, _ = paint_clouds(ground, bands, torch.tensor([1.0]), own)
    yield WHOLE, plain._replace(s2_t1=painted[0].numpy()), sample.clear
    yield LEFT_OUT, plain._replace(s2_t1=np.full_like(sample.s2_t1, np.nan)), sample.clear
    if unseen:
        return
    for share in SHARES:
        opacity = cloud_opacity(torch.tensor([share]), *sample.target.shape[-2:], rng)
        seen = (opacity[0] > 0.5).numpy() & sample.clear
        view = plain._replace(s2_t2=np.where(seen, sample.target, np.float32(np.nan)))
        yield f"{share:.0%} of t2 seen", view, sample.clear & ~seen


def veil(ground: torch.Tensor, bands: tuple[str, ...], opacity: float, rng: torch.Generator) -> Array:
    """Return an image behind thin cloud of one opacity all over, its texture faint, ``(band, y, x)``."""
    colour = torch.tensor([CLOUD_COLOUR.get(band, 1.0) for band in bands]).view(1, -1, 1, 1)
    cloud = 0.6 * colour * (1.1 - 0.2 * fractal_field(1, *ground.shape[-2:], rng))
    return (ground * (1 - opacity) + cloud * opacity)[0].numpy()


def run(generator: Generator, channels: Channels, view: View) -> Made:
    """Return what a generator makes: OMBRIA's radar carries no level, so it is not called calibrated."""
    return generate(generator, view, channels, calibrated=False)


class BlindToT2:
    """What ignores S2 at t2: one image for all views that differ in nothing else."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.radar: Array | None = None
        self.made: list[tuple[Array, Array | Made]] = []

    def __call__(self, view: View) -> Array | Made:
        if view.s1_t1 is not self.radar:
            self.radar, self.made = view.s1_t1, []
        for s2_t1, image in self.made:
            if s2_t1 is view.s2_t1:
                return image
        self.made.append((view.s2_t1, self.row(view)))
        return self.made[-1][1]


def all_water(view: View) -> Made:
    """Everything is water."""
    return Made(None, np.ones((2, *view.s1_t2.shape[-2:]), np.float32))


def otsu_of(view: View) -> Made:
    """Water where the radar of t2 is in the darker of two classes."""
    water = otsu(view.s1_t2[0]).astype(np.float32)
    return Made(None, np.stack([np.full_like(water, np.nan), water]))


def weights_row(name: str) -> str:
    """Return what the row of some weights is called."""
    return f"**`{Path(name).stem}`**"


def open_rows(data: Path, out: Path, weights: list[str], wanted: set[str] | None) -> dict[str, Row]:
    """Return the rows, those to be trained first."""
    train = Ombria(data / "ombria", "train")
    channels = Channels(train.pols, train.bands)

    makers: dict[str, Callable[[], Row]] = {
        COPY: lambda: regressions.copy,
        ALL_WATER: lambda: all_water,
        OTSU: lambda: otsu_of,
        WATER_UNET: lambda: WaterRow(out / "water_unet.pt"),
        "training-mean colour": lambda: regressions.MeanColour(train),
        "trees on all inputs": lambda: BlindToT2(regressions.Trees(train)),
        "gain and offset on the seen": lambda: regressions.gain_and_offset,
        "ridge on the seen": lambda: regressions.ridge,
        "trees on the seen": lambda: regressions.seen_trees,
    }
    files = {WATER_UNET: "water_unet.pt"}
    rows: dict[str, Row] = {}
    for name, make in makers.items():
        if wanted is not None and name.strip("*`") not in wanted:
            continue
        if name in files and not (out / files[name]).exists():
            print(f"left out: {name}, for want of {out / files[name]}", flush=True)
            continue
        rows[name] = make()
    return rows | {weights_row(name): partial(run, load_model(name).generator, channels) for name in weights}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="base", help="names or paths, comma between")
    parser.add_argument("--every", type=int, default=1, help="score every Nth patch")
    parser.add_argument("--rows", help="names of rows beside the weights, comma between")
    parser.add_argument("--unseen", action="store_true", help="only with nothing of t2 seen")
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    weights = given.weights.split(",")
    wanted = None if given.rows is None else set(given.rows.split(","))
    rows = open_rows(given.data, given.out, weights, wanted)
    data = Ombria(given.data / "ombria", given.split)
    scores: Scores = defaultdict(list)
    water: WaterCounts = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    seconds: dict[str, float] = defaultdict(float)
    for index, sample, truth in scored_patches(data, given.every):
        score_patch(sample, index, data.bands, rows, truth, scores, water, seconds, unseen=given.unseen)
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "floods.csv"
    if kept.exists():
        scores = {**same_patches(kept, scores), **scores}
    tables = [as_markdown(scores, weights_row(weights[0]))]
    tables += [f"{name}:\n\n{water_table(some)}" for name, some in water.items()]
    print("\n\n".join(tables))
    tables += [levels.table({weights_row(name): load_model(name).generator for name in weights}, given.data, data)]
    print(f"\n{tables[-1]}")
    (given.out / "floods.md").write_text("\n\n".join(tables) + "\n")
    with kept.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "condition", "event", "PSNR", "SSIM"])
        writer.writerows((*key, *values) for key, some in scores.items() for values in some)
    print("seconds:", {name: round(value) for name, value in seconds.items()})


def score_patch(
    sample: Sample,
    index: int,
    bands: tuple[str, ...],
    rows: Mapping[str, Row],
    truth: Truth,
    scores: Scores,
    water: WaterCounts,
    seconds: dict[str, float],
    *,
    unseen: bool,
) -> None:
    """Score one patch under every condition."""
    target = torch.nan_to_num(collate([sample]).target)
    last: View | None = None
    made: dict[str, Made] = {}
    for condition, view, counts in views(sample, index, bands, truth.new, unseen=unseen):
        if view is not last:
            last, made = view, {}
            for name, row in rows.items():
                if name in ONLY_WATER and condition not in WATER_CONDITIONS:
                    continue
                if name not in ONLY_SEEN or condition.endswith("of t2 seen"):
                    start = time.perf_counter()
                    result = row(view)
                    made[name] = result if isinstance(result, Made) else Made(result)
                    seconds[name] += time.perf_counter() - start
            made[ORACLE] = Made(regressions.oracle(view, sample))
        mask = torch.from_numpy(counts)[None]
        for name, one in made.items():
            if one.reflectance is not None:
                image = torch.from_numpy(np.ascontiguousarray(one.reflectance))[None].clamp(0, 1)
                values = float(psnr(image, target, mask)), float(ssim(image, target, mask))
                scores[name, condition].append((sample.event, *values))
        if condition in WATER_CONDITIONS:
            for name, called in called_water(made, bands):
                water[condition][name][sample.event].append(count(called, truth))


def called_water(made: Mapping[str, Made], bands: tuple[str, ...]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield what each row calls water at t2: its image by the label's rule, and its probability."""
    for name, one in made.items():
        if one.reflectance is not None and name != ORACLE:
            yield f"{name}, its image" if one.water is not None else name, of_image(one.reflectance, bands)
        if one.water is not None:
            yield name if one.reflectance is None else f"{name}, p ≥ .5", one.water[1] >= 0.5


def same_patches(path: Path, scores: Scores) -> Scores:
    """Return what an earlier run wrote, if the oracle scored the same there: then its patches were the same."""
    earlier: Scores = defaultdict(list)
    with path.open(newline="") as file:
        for row, condition, event, dB, structure in list(csv.reader(file))[1:]:
            earlier[row, condition].append((event, float(dB), float(structure)))
    shared = [c for c in CONDITIONS if (ORACLE, c) in earlier and (ORACLE, c) in scores]
    if not shared or any(earlier[ORACLE, c] != scores[ORACLE, c] for c in shared):
        print(f"{path} is of other patches: replaced", flush=True)
        return {}
    return earlier


def as_markdown(scores: Scores, mine: str) -> str:
    """Return PSNR / SSIM by row and condition, and what one row has over the best that is no generator of ours."""
    scored = [condition for condition in CONDITIONS if scores.get((ORACLE, condition))]
    lines = ["| PSNR, dB / SSIM | " + " | ".join(scored) + " |", "|---" * (len(scored) + 1) + "|"]
    means = {key: np.mean([values[1:] for values in some], 0) for key, some in scores.items()}
    rows = sorted(dict.fromkeys(row for row, _ in scores), key=lambda row: (row == ORACLE, row.startswith("**")))
    for row in rows:
        cells = [means.get((row, condition)) for condition in scored]
        lines.append(f"| {row} | " + " | ".join("" if c is None else f"{c[0]:.2f} / {c[1]:.3f}" for c in cells) + " |")
    patches = [str(len(scores[ORACLE, condition])) for condition in scored]
    lines.append("| patches | " + " | ".join(patches) + " |")
    others = [row for row in rows if not row.startswith("**") and row != ORACLE]
    if mine in rows and others:
        over = [
            _over_the_best(scores, means, condition, mine, others) if (mine, condition) in scores else ""
            for condition in scored
        ]
        lines.append(f"| {mine.strip('*')} over the best other | " + " | ".join(over) + " |")
    return "\n".join(lines)


def _over_the_best(
    scores: Scores, means: Mapping[tuple[str, str], NDArray[np.float64]], condition: str, mine: str, others: list[str]
) -> str:
    shown = [row for row in others if (row, condition) in scores]
    best, most_structure = (max(shown, key=lambda row: means[row, condition][i]) for i in (0, 1))
    dB = np.array([my[1] - its[1] for my, its in zip(scores[mine, condition], scores[best, condition], strict=True)])
    draws = np.random.default_rng(0).integers(0, len(dB), (4000, len(dB)))
    low, high = np.percentile(dB[draws].mean(1), (2.5, 97.5))
    structure = means[mine, condition][1] - means[most_structure, condition][1]
    return f"{dB.mean():+.2f} ({low:+.2f} to {high:+.2f}) / {structure:+.3f}"


if __name__ == "__main__":
    main()
