"""Score `base` and everything it is compared with on flood events held out of the training.

    python -m benchmarks.floods DATA OUT [--every N] [--rows NAME,NAME] [--split test]

DATA holds `ombria` (see `crgen train`); OUT keeps trained comparison networks (`unet.pt`, `pix2pix.pt`, `paper.pt` from
`benchmarks.floods.networks`; rows without their file are left out and named) and takes `floods.csv` and `floods.md`.
Scores count clear, valid pixels of t2 that were not shown, mean over patches with at least half of t2 clear. Shares of
t2 are shown through cloud-shaped masks; each row sees the same ones. Rows that an earlier run left in OUT stand beside
those of this one, if its patches were the same. Last comes what `base` has over the best other row, with the interval
that holds 95 % of the means over patches drawn anew (bootstrap).
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.floods import networks, regressions
from benchmarks.floods.regressions import Array, Row, View
from crgen.model.generator import Generator
from crgen.model.weights import load_model
from crgen.training.augment import cloud_opacity, paint_clouds
from crgen.training.data.dataset import Sample, collate
from crgen.training.data.ombria import Ombria
from crgen.training.metrics import psnr, ssim

SHARES = (0.01, 0.03, 0.1, 0.3, 0.6)
CONDITIONS = ("nothing seen", "30 % cloud on t1", *(f"{share:.0%} of t2 seen" for share in SHARES), "flooded pixels")
BASE, ORACLE, OWN_TREES = "**`base`**", "oracle gain and offset", "trees of `base` alone on the seen"
ONLY_SEEN = (
    "gain and offset on the seen",
    "ridge on the seen",
    "trees on the seen",
    OWN_TREES,
)
"""Rows that need seen pixels."""
Scores = dict[tuple[str, str], list[tuple[str, float, float]]]
"""Event, PSNR and SSIM of each patch, by row and condition."""


def views(sample: Sample, index: int, bands: tuple[str, ...]) -> Iterator[tuple[str, View, NDArray[np.bool_]]]:
    """Yield each condition's inputs and the pixels that count, ``(1, y, x)``."""
    nothing = np.full_like(sample.target, np.nan)
    plain = View(sample.s1_t1, sample.s2_t1, sample.s1_t2, nothing)
    yield "nothing seen", plain, sample.clear
    if sample.flooded is not None and (flooded := sample.clear & sample.flooded).sum() >= 100:
        yield "flooded pixels", plain, flooded
    rng = torch.Generator().manual_seed(1000 * index)
    painted, _ = paint_clouds(torch.from_numpy(sample.s2_t1)[None], bands, torch.tensor([0.3]), rng)
    yield "30 % cloud on t1", plain._replace(s2_t1=painted[0].numpy()), sample.clear
    for share in SHARES:
        opacity = cloud_opacity(torch.tensor([share]), *sample.target.shape[-2:], rng)
        seen = (opacity[0] > 0.5).numpy() & sample.clear
        view = plain._replace(s2_t2=np.where(seen, sample.target, np.float32(np.nan)))
        yield f"{share:.0%} of t2 seen", view, sample.clear & ~seen


def run(generator: Generator, view: View) -> Array:
    """Return a generator's image."""
    with torch.inference_mode():
        return generator(*(torch.from_numpy(a)[None] for a in view)).reflectance[0].float().numpy()


class BlindToT2:
    """What ignores S2 at t2: one image for all views that differ in nothing else."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.radar: Array | None = None
        self.made: list[tuple[Array, Array]] = []

    def __call__(self, view: View) -> Array:
        if view.s1_t1 is not self.radar:
            self.radar, self.made = view.s1_t1, []
        for s2_t1, image in self.made:
            if s2_t1 is view.s2_t1:
                return image
        self.made.append((view.s2_t1, self.row(view)))
        return self.made[-1][1]


def open_rows(data: Path, out: Path, wanted: set[str] | None) -> dict[str, Row]:
    """Return the rows, those to be trained first."""
    train = Ombria(data / "ombria", "train")
    makers = {
        "copy S2_t1": lambda: regressions.copy,
        "training-mean colour": lambda: regressions.MeanColour(train),
        "trees on all inputs": lambda: BlindToT2(regressions.Trees(train)),
        "U-Net": lambda: partial(run, _network("unet", out)),
        "pix2pix": lambda: partial(run, _network("pix2pix", out)),
        "gain and offset on the seen": lambda: regressions.gain_and_offset,
        "ridge on the seen": lambda: regressions.ridge,
        "trees on the seen": lambda: regressions.seen_trees,
        OWN_TREES: lambda: regressions.seen_forest,
        "`paper`": lambda: BlindToT2(partial(run, _network("paper", out))),
        BASE: lambda: partial(run, load_model("base").generator),
    }
    files = {"U-Net": "unet.pt", "pix2pix": "pix2pix.pt", "`paper`": "paper.pt"}
    rows: dict[str, Row] = {}
    for name, make in makers.items():
        if wanted is not None and name.strip("*`") not in wanted:
            continue
        if name in files and not (out / files[name]).exists():
            print(f"left out: {name}, for want of {out / files[name]}", flush=True)
            continue
        rows[name] = make()
    return rows


def _network(name: str, out: Path) -> Generator:
    network = networks.build(name)
    network.load_state_dict(torch.load(out / f"{name}.pt", weights_only=True))
    return network.eval()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--every", type=int, default=1, help="score every Nth patch")
    parser.add_argument("--rows", help="names of rows, comma between")
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    rows = open_rows(given.data, given.out, set(given.rows.split(",")) if given.rows else None)
    data = Ombria(given.data / "ombria", given.split)
    scores: Scores = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for index in range(0, len(data), given.every):
        sample = data[index]
        if sample.clear.mean() < 0.5:
            continue
        truth = torch.nan_to_num(collate([sample]).target)
        for condition, view, counts in views(sample, index, data.bands):
            mask = torch.from_numpy(counts)[None]
            images = {}
            for name, row in rows.items():
                if name not in ONLY_SEEN or condition.endswith("of t2 seen"):
                    start = time.perf_counter()
                    images[name] = row(view)
                    seconds[name] += time.perf_counter() - start
            images[ORACLE] = regressions.oracle(view, sample)
            for name, image in images.items():
                made = torch.from_numpy(np.ascontiguousarray(image))[None].clamp(0, 1)
                values = float(psnr(made, truth, mask)), float(ssim(made, truth, mask))
                scores[name, condition].append((sample.event, *values))
        print(f"{index + 1}/{len(data)}", end="\r", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "floods.csv"
    if kept.exists():
        scores = {**same_patches(kept, scores), **scores}
    table = as_markdown(scores)
    print(table)
    (given.out / "floods.md").write_text(table + "\n")
    with kept.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "condition", "event", "PSNR", "SSIM"])
        writer.writerows((*key, *values) for key, some in scores.items() for values in some)
    print("seconds:", {name: round(value) for name, value in seconds.items()})


def same_patches(path: Path, scores: Scores) -> Scores:
    """Return what an earlier run wrote, if the oracle scored the same there: then its patches were the same."""
    earlier: Scores = defaultdict(list)
    with path.open(newline="") as file:
        for row, condition, event, dB, structure in list(csv.reader(file))[1:]:
            earlier[row, condition].append((event, float(dB), float(structure)))
    if any(earlier[ORACLE, condition] != scores[ORACLE, condition] for condition in CONDITIONS):
        print(f"{path} is of other patches: replaced", flush=True)
        return {}
    return earlier


def as_markdown(scores: Scores) -> str:
    """Return PSNR / SSIM by row and condition, and what `base` has over the best other row."""
    lines = ["| PSNR, dB / SSIM | " + " | ".join(CONDITIONS) + " |", "|---" * (len(CONDITIONS) + 1) + "|"]
    means = {key: np.mean([values[1:] for values in some], 0) for key, some in scores.items()}
    rows = sorted(dict.fromkeys(row for row, _ in scores), key=lambda row: (row == ORACLE, row == BASE))
    for row in rows:
        cells = [means.get((row, condition)) for condition in CONDITIONS]
        lines.append(f"| {row} | " + " | ".join("" if c is None else f"{c[0]:.2f} / {c[1]:.3f}" for c in cells) + " |")
    patches = [str(len(scores[ORACLE, condition])) for condition in CONDITIONS]
    lines.append("| patches | " + " | ".join(patches) + " |")
    others = [row for row in rows if row not in (BASE, ORACLE, OWN_TREES)]
    if BASE in rows and others:
        over = [_over_the_best(scores, means, condition, others) for condition in CONDITIONS]
        lines.append("| `base` over the best other | " + " | ".join(over) + " |")
    return "\n".join(lines)


def _over_the_best(
    scores: Scores, means: Mapping[tuple[str, str], NDArray[np.float64]], condition: str, others: list[str]
) -> str:
    shown = [row for row in others if (row, condition) in scores]
    best, most_structure = (max(shown, key=lambda row: means[row, condition][i]) for i in (0, 1))
    dB = np.array(
        [mine[1] - its[1] for mine, its in zip(scores[BASE, condition], scores[best, condition], strict=True)]
    )
    draws = np.random.default_rng(0).integers(0, len(dB), (4000, len(dB)))
    low, high = np.percentile(dB[draws].mean(1), (2.5, 97.5))
    structure = means[BASE, condition][1] - means[most_structure, condition][1]
    return f"{dB.mean():+.2f} ({low:+.2f} to {high:+.2f}) / {structure:+.3f}"


if __name__ == "__main__":
    main()
