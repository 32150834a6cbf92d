"""What each part of the generator and of its training is worth: short trainings, each with one thing left out.

    python -m benchmarks.ablations DATA OUT [--rows "NAME;NAME"] [--preset tiny] [--steps 600] [--every 4]
    python -m benchmarks.ablations DATA OUT --weights NAME_OR_PATH [--every 4]

Every row is trained from nothing with the recipe of `examples/train_base.toml`, but `--preset` and `--steps` and in one
thread, and scored on OMBRIA's validation events (never on the test) and on held-out days of the series. "complete" is
trained from three seeds: what lies within their spread says nothing. OUT takes `ROW.json`, so that rows may be made in
several runs and at the same time, and `ablations.md` of all that are there. A row says what a part is worth to a short
training of a small network; what a long one would learn without it, it cannot see.

With `--weights` nothing is trained: parts are taken out of a trained network, which is scored on the test events, those
it never saw. What it would have learned in their place, that cannot see.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.floods.__main__ import (
    NEW,
    NOTHING,
    WHOLE,
    Row,
    Scores,
    WaterCounts,
    run,
    score_patch,
)
from benchmarks.made import Channels
from benchmarks.ordinary.__main__ import COPY, mean, score
from benchmarks.water import pooled, scored_patches
from crgen.model.adaptive.ridge import SceneRidge
from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator
from crgen.model.weights import load_model
from crgen.training import augment
from crgen.training.data.dataset import Mixture, PatchDataset
from crgen.training.data.ombria import Ombria
from crgen.training.data.series import GROUND, Series
from crgen.training.data.terramind import TerraMind
from crgen.training.recipe import RECIPES, Recipe, changed
from crgen.training.train import Trainer

SHOWN = f"{0.1:.0%} of t2 seen"
Change = Callable[[Generator], AbstractContextManager[Any]]
"""Leaves something out of a generator for good, or out of its training while the context lasts."""


def no_levels(generator: Generator) -> AbstractContextManager[Any]:
    """The level branch says nothing."""
    return _hooked(generator.get_submodule("level"), lambda module, given, made: made * 0)


def no_water(generator: Generator) -> AbstractContextManager[Any]:
    """The image has no part of its own for water."""

    def dry(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        return torch.cat([made[:, :1] * 0 - 30, made[:, 1:]], 1)

    return _hooked(generator.get_submodule("head_water"), dry)


def no_regression(generator: Generator) -> AbstractContextManager[Any]:
    """No regression inside the scene counts a seen pixel: each gives its prior."""

    for module in generator.modules():
        if isinstance(module, SceneRidge):
            module.register_forward_pre_hook(lambda module, given: (given[0], given[1], given[2] * 0, *given[3:]))
    return nullcontext()


def no_attention(generator: Generator) -> AbstractContextManager[Any]:
    """Features of t1 are joined with those of t2's radar without attention between them."""
    with torch.no_grad():
        generator.get_parameter("fusion.gamma").zero_()
    return nullcontext()


def no_painted_events(generator: Generator) -> AbstractContextManager[Any]:
    """No floods, lakes and dark fields are painted."""
    return patch.object(augment, "paint_events", lambda pair, *rest: pair)


def no_whole_clouds(generator: Generator) -> AbstractContextManager[Any]:
    """Clouds over a part of t1 alone, all of them thick; t1 is never left out."""

    def part(n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
        share = augment.uniform((n,), 0.05, 0.6, rng)
        return augment.cloud_opacity(share, height, width, rng) * augment.happens(n, 0.6, rng)

    return patch.object(augment, "sky", part)


def nothing_left_out(generator: Generator) -> AbstractContextManager[Any]:
    """All is as it is."""
    return nullcontext()


ROWS: dict[str, tuple[Change, dict[str, Any]]] = {
    "complete": (nothing_left_out, {"seed": 1}),
    "complete, seed 2": (nothing_left_out, {"seed": 2}),
    "complete, seed 3": (nothing_left_out, {"seed": 3}),
    "no level branch": (no_levels, {}),
    "no water output": (no_water, {}),
    "no attention": (no_attention, {}),
    "no painted events": (no_painted_events, {}),
    "no whole-window clouds": (no_whole_clouds, {}),
    "no ordinary pairs": (nothing_left_out, {"ordinary": False}),
    "no regression": (no_regression, {}),
}


PARTS = ("complete", "no level branch", "no water output", "no attention", "no regression")
"""Rows that can be taken out of a trained network."""


def _hooked(module: nn.Module, change: Callable[..., Tensor]) -> AbstractContextManager[Any]:
    module.register_forward_hook(change)
    return nullcontext()


def made_anew(name: str, data: Path, kind: str, steps: int) -> Generator:
    """Return the generator of a row, trained."""
    change, options = ROWS[name]
    config = preset(kind)
    floods = Ombria(data / "ombria", "train", pols=config.pols, bands=config.bands, evenness=1.0)
    parts: list[tuple[PatchDataset, float]] = [(floods, 0.5)]
    if options.get("ordinary", True):
        parts += [
            (Series(data, config.pols, config.bands), 0.4),
            (TerraMind(data / "terramind", config.pols, config.bands), 0.1),
        ]
    seed = options.get("seed", 1)
    recipe: Recipe = changed(
        RECIPES[kind], {"steps": steps, "warmup": 50, "ema": 0.99, "seed": seed, "optimiser": {"learning_rate": 2e-3}}
    )
    generator = build_generator(config, seed)
    left_out = change(generator)
    trainer = Trainer(generator, recipe, Mixture(parts))
    with left_out:
        return trainer.run(lambda step, values: print(f"{name}: {step} {values['loss']:.3f}", end="\r", flush=True))


def taken_out(name: str, weights: str) -> Generator:
    """Return a trained generator without a part."""
    generator = load_model(weights).generator
    ROWS[name][0](generator)
    return generator


def scored(generator: Generator, data: Path, every: int, split: Literal["validation", "test"]) -> dict[str, float]:
    """Return a row's numbers."""
    held = Ombria(data / "ombria", split)
    scores: Scores = defaultdict(list)
    water: WaterCounts = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    rows: dict[str, Row] = {"row": partial(run, generator, Channels(held.pols, held.bands))}
    for index, sample, truth in scored_patches(held, every):
        score_patch(sample, index, held.bands, rows, truth, scores, water, defaultdict(float), unseen=False)
    counts = [pooled(chain(*water[NOTHING][f"row, {what}"].values())) for what in ("p ≥ .5", "its image")]
    lines = [line for place in GROUND for line in score(place, "row", generator, data) if line["held out"]]
    mine, copy = ([line for line in lines if line["method"] == which] for which in ("row", COPY))
    dry = sum(int(line["dry"]) for line in mine)
    return {
        **{c: float(np.mean([value for _, value, _ in scores["row", c]])) for c in (NOTHING, NEW, WHOLE, SHOWN)},
        "water F1, p": counts[0].f1,
        "water F1, image": counts[1].f1,
        "false new water": counts[0].dry_called / max(counts[0].dry, 1),
        "ordinary ÷ copy": mean(mine, "RMSE") / mean(copy, "RMSE"),
        "ordinary, false water": sum(int(line["dry called water"]) for line in mine) / max(dry, 1),
    }


def main() -> None:
    """Make the rows, and print the table of all that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", help="names, semicolon between; all if not given, '' for the table alone")
    parser.add_argument("--weights", help="take parts out of these, and train nothing")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=4, help="score every Nth patch")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows = PARTS if given.weights else tuple(ROWS)
    wanted = rows if given.rows is None else [name for name in given.rows.split(";") if name]
    for name in wanted:
        if given.weights:
            values = scored(taken_out(name, given.weights), given.data, given.every, "test")
        else:
            generator = made_anew(name, given.data, given.preset, given.steps)
            values = scored(generator, given.data, given.every, "validation")
        (given.out / f"{name}.json").write_text(json.dumps(values))
    made = {name: json.loads(path.read_text()) for name in ROWS if (path := given.out / f"{name}.json").exists()}
    heads = list(next(iter(made.values())))
    first = f"`{given.weights}`" if given.weights else f"{given.preset}, {given.steps} steps"
    lines = [f"| {first} | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, values in made.items():
        cells = [f"{values[head]:.1%}" if "false" in head else f"{values[head]:.2f}" for head in heads]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    (given.out / "ablations.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
