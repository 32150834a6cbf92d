"""Does adversarial training run and not collapse? Train the paper's generator on OMBRIA with each pair of losses.

    python benchmarks/adversarial.py ../shared/data/ombria OUT --steps 400 --pairs none hinge "least squares" paper

Small crops, no VGG: a check of the losses, not of the generator. Prints a Markdown table of what the discriminator
says of real and generated images and of the generator's scores on the test split over the run, and leaves the curves
(CSV), a plot and sample pictures in OUT.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from crgen.model.config import preset
from crgen.model.discriminator import build_discriminator
from crgen.model.evaluate import validation_scores
from crgen.model.generator import build_generator
from crgen.model.log import TrainingLog
from crgen.model.recipe import RECIPES, Optimiser, Recipe, changed
from crgen.model.train import Trainer
from crgen.pipeline.ombria import BANDS, POLS, Ombria

SHOWN = ("d_real", "d_fake", "d_penalty", "adversarial", "loss")


def recipe_of(pair: str, options: argparse.Namespace) -> Recipe:
    """Return the paper's recipe without VGG, shortened, with another pair of losses."""
    losses = {name: w for name, w in RECIPES["paper"].losses.items() if name != "perceptual"}
    rate = {"learning_rate": options.learning_rate}
    recipe = changed(
        RECIPES["paper"],
        {
            "steps": options.steps, "batch": options.batch, "crop": options.crop, "losses": losses,
            "schedule": "constant", "warmup": 50, "validate_every": max(options.steps // 5, 1),
            "clip": options.clip, "precision": "bfloat16", "optimiser": rate,
        },
    )  # fmt: skip
    adversary = recipe.adversary
    assert adversary is not None
    if pair == "none":
        return replace(recipe, adversary=None)
    optimiser = replace(adversary.optimiser, learning_rate=options.learning_rate)
    if pair != "paper" and options.betas0:
        optimiser = Optimiser("adam", options.learning_rate, (0.0, 0.99), optimiser.weight_decay)
    changes = {"pair": pair, "penalty": options.penalty, "weight": options.weight, "widths": (32, 64, 128)}
    return replace(recipe, adversary=replace(adversary, optimiser=optimiser, **changes))


def train(pair: str, data: Path, out: Path, options: argparse.Namespace) -> Path:
    config = preset("paper", pols=POLS, bands=BANDS)
    if options.small:
        small = {"width": 16, "embed": (32, 64, 96, 128), "depths": (2, 2, 2, 2), "decoder": (96, 64, 48, 32)}
        config = replace(config, **small)
    recipe = recipe_of(pair, options)
    held_out = Ombria(data, "test")
    generator = build_generator(config, recipe.seed)
    folder = out / pair.replace(" ", "_")
    Trainer(
        generator,
        recipe,
        Ombria(data, "train"),
        discriminator=build_discriminator(generator, recipe.adversary, 0) if recipe.adversary else None,
        validate=partial(validation_scores, data=held_out, count=options.samples),
        log=TrainingLog(folder, [held_out[i] for i in (3, 20, 40, 60)], picture_every=options.steps),
    ).run(lambda step, values: print(pair, step, f"{values['loss']:.3f}", flush=True) if step % 20 == 0 else None)
    return folder


def rows(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def report(folders: dict[str, Path], out: Path) -> None:
    print("| pair | steps | D(real) | D(generated) | penalty | L1-free loss | PSNR | SSIM |")
    print("|---|---|---|---|---|---|---|---|")
    figure, axes = plt.subplots(1, 3, figsize=(15, 4))
    for pair, folder in folders.items():
        losses, scores = rows(folder / "train.csv"), rows(folder / "validation.csv")
        for score in scores:
            step = int(score["step"])
            part = losses[max(step - 50, 0) : step]
            mean = {name: sum(r.get(name, float("nan")) for r in part) / len(part) for name in SHOWN}
            print(
                f"| {pair} | {step} | {mean['d_real']:.3f} | {mean['d_fake']:.3f} | {mean['d_penalty']:.3f} "
                f"| {mean['loss']:.3f} | {score['PSNR']:.2f} | {score['SSIM']:.3f} |"
            )
        steps = [r["step"] for r in losses]
        if "d_real" in losses[-1]:
            (line,) = axes[0].plot(steps, [r["d_real"] for r in losses], label=f"{pair}: real", lw=0.7)
            axes[0].plot(steps, [r["d_fake"] for r in losses], "--", color=line.get_color(), lw=0.7)
        for axis, name in ((axes[1], "PSNR"), (axes[2], "SSIM")):
            axis.plot([r["step"] for r in scores], [r[name] for r in scores], "o-", label=pair)
            axis.set_title(f"{name}, OMBRIA test split")
    axes[0].set_title("discriminator's mean score: real (line), generated (dashed)")
    for axis in axes:
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out / "adversarial.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", nargs="+", default=["none", "hinge", "least squares", "wasserstein", "paper"])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--penalty", type=float, default=10.0)
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=None)
    parser.add_argument("--betas0", action="store_true", help="Adam without momentum for the discriminator")
    parser.add_argument("--small", action="store_true", help="a narrow generator of the paper's form")
    options = parser.parse_args()
    torch.set_num_threads(1)
    report({pair: train(pair, options.data, options.out, options) for pair in options.pairs}, options.out)


if __name__ == "__main__":
    main()
