"""Does adversarial training run and not collapse? A small generator of the paper's form on real floods.

    python benchmarks/adversarial.py ../shared/data/ombria OUT

Trains on crops of OMBRIA's training events with and without the discriminator, without VGG: a check of the losses,
not of the generator. Prints a Markdown table (means of the last 50 steps) and leaves curves (CSV) and a plot in OUT.
A collapse shows in scores that do not part or part for good, in a generator's gradient that vanishes or explodes, or
in variety: how far images of different places deviate, as a share of how far the true ones do (0: one image for all).
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator
from crgen.training.data.dataset import PatchDataset, Sample
from crgen.training.data.ombria import BANDS, POLS, Ombria
from crgen.training.discriminator import build_discriminator
from crgen.training.log import TrainingLog
from crgen.training.recipe import RECIPES, Adversary, Recipe
from crgen.training.score.evaluate import Condition, Inputs, evaluate
from crgen.training.train import Trainer

STEPS, EVERY = 250, 50
CONFIG = replace(
    preset("paper", pols=POLS, bands=BANDS), width=8, down_kernel=3, embed=(16, 24, 32, 48), depths=(1, 1, 1, 1),
    head_dim=8, decoder=(32, 24, 16, 16), dropout=0.0,
)  # fmt: skip
PLAIN = Recipe(
    steps=STEPS, batch=4, crop=64, variation="none", losses={"cosine": 1.0, "ms_ssim": 1.0, "auxiliary": 1.0},
    optimiser=RECIPES["paper"].optimiser, schedule="constant", warmup=0, clip=None, ema=0.0, validate_every=EVERY,
)  # fmt: skip


def recipes() -> dict[str, Recipe]:
    """Return the preset's adversary, the same with least squares, none, and the paper's own form with its own rates."""
    chosen = RECIPES["paper"].adversary
    assert chosen is not None
    small = replace(chosen, widths=(16, 32, 64))
    fast = replace(PLAIN.optimiser, learning_rate=1e-3)
    paper = Adversary("paper", weight=1.0, penalty=10.0, widths=(16, 32, 64), optimiser=fast)
    return {
        chosen.pair: replace(PLAIN, adversary=small),
        "least squares": replace(PLAIN, adversary=replace(small, pair="least squares")),
        "none": PLAIN,
        "paper": replace(PLAIN, optimiser=fast, adversary=paper),
    }


class Crops:
    """Clear squares of ``side`` px from the middle of every ``every``-th patch, held in memory."""

    pols, bands = POLS, BANDS

    def __init__(self, data: Ombria, every: int, side: int) -> None:
        middle = slice((256 - side) // 2, (256 + side) // 2)
        cut = (
            Sample(*(a[..., middle, middle] for a in s[:5]), s.name)
            for s in map(data.__getitem__, range(0, len(data), every))
        )
        self.samples = [sample for sample in cut if sample.clear.mean() > 0.5]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


def scores(generator: Generator, data: PatchDataset) -> dict[str, float]:
    made, true = [], []

    def keep(condition: Condition, sample: Sample, inputs: Inputs, images: dict[str, Tensor], mask: Tensor) -> None:
        made.append(images["generator"])
        true.append(torch.nan_to_num(torch.from_numpy(sample.target))[None])

    result = evaluate(generator, data, (Condition("as it is"),), on_images=keep).means(region="all")
    made_spread, true_spread = (torch.cat(images).std(0).mean() for images in (made, true))
    return result["as it is"]["generator"] | {"variety": float(made_spread / true_spread)}


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def main(data: Path, out: Path) -> None:
    torch.set_num_threads(1)
    train, held_out = Crops(Ombria(data, "train"), 3, 128), Crops(Ombria(data, "validation"), 6, 128)
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))
    head = ("adversary", "step", "D(real)", "D(generated)", "D's loss", "G's gradient", "PSNR", "SSIM", "variety")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name, recipe in recipes().items():
        generator = build_generator(CONFIG, 0)
        adversary = recipe.adversary
        discriminator = None if adversary is None else build_discriminator(generator, adversary, 0)
        folder = out / name.replace(" ", "_")
        log = TrainingLog(folder, held_out.samples[:4], picture_every=STEPS)
        validate = partial(scores, data=held_out)
        Trainer(generator, recipe, train, discriminator=discriminator, validate=validate, log=log).run()
        steps, scored = rows(folder / "train.csv"), rows(folder / "validation.csv")
        for score in scored:
            part = [row for row in steps if score["step"] - EVERY < row["step"] <= score["step"]]
            told = [
                sum(row.get(key, float("nan")) for row in part) / len(part) for key in ("d_real", "d_fake", "d_loss")
            ]
            cells = [f"{value:.3f}" for value in told] if adversary else ["", "", ""]
            cells.append(f"{sum(row['generator_gradient'] for row in part) / len(part):.3f}")
            quality = f"{score['PSNR']:.2f} | {score['SSIM']:.3f} | {score['variety']:.2f}"
            print(f"| {name} | {score['step']:.0f} | {' | '.join(cells)} | {quality} |", flush=True)
        at = [row["step"] for row in steps]
        if adversary is not None:
            (line,) = axes[0].plot(at, [row["d_real"] for row in steps], lw=0.8, label=f"{name}: real")
            axes[0].plot(at, [row["d_fake"] for row in steps], "--", lw=0.8, color=line.get_color(), label="generated")
        for axis, key in zip(axes[1:], ("PSNR", "SSIM"), strict=True):
            axis.plot([s["step"] for s in scored], [s[key] for s in scored], "o-", label=name)
            axis.set_title(f"{key}, events held out")
    axes[0].set_title("mean score of the discriminator")
    for axis in axes:
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out / "adversarial.png", dpi=90)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
