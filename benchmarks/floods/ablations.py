"""What each choice of `base` brings: the same network trained without it, scored on the floods held out.

    python -m benchmarks.floods.ablations DATA OUT [--steps N] [--every N] [--only NAME;NAME]

All are trained as the last stage of `base` is, with the gate and the first estimate of the shipped weights, for N steps
of 4 crops of 128² px from the same seed; the complete one also from two more seeds: differences within their spread say
nothing. Rows "at once" learn all from nothing in these steps: compare them with "everything learned at once". The
U-Net has as many parameters. Rows of what plays no part in training are scored with the complete one's weights. A row
that OUT (`ablations.json`) holds already is not trained again. Columns as `benchmarks.floods`'s, and two that leave an
image of t1 out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.floods.__main__ import run, views
from benchmarks.floods.networks import UNet, training_data
from benchmarks.floods.regressions import View
from benchmarks.made import Channels
from crgen.model import augment
from crgen.model.adaptive import CENTRE, SPREAD, AdaptiveGenerator, Prepared
from crgen.model.config import GeneratorConfig, preset
from crgen.model.data import Sample, collate
from crgen.model.generator import Generator, present, standardise
from crgen.model.metrics import psnr, ssim
from crgen.model.recipe import RECIPES, changed
from crgen.model.ridge import SceneRidge, WaveRidge, thinned
from crgen.model.train import Trainer, learned
from crgen.model.weights import load_model
from crgen.pipeline.ombria import Ombria

CONDITIONS = (
    "nothing seen", "30 % cloud on t1", "3% of t2 seen", "30% of t2 seen", "flooded pixels", "no S2 at t1",
    "no radar of t1",
)  # fmt: skip


class Unsolved(torch.nn.Module):
    """A ridge that is told of no seen pixel: its learned prior mean stands."""

    def __init__(self, ridge: SceneRidge | WaveRidge) -> None:
        super().__init__()
        self.ridge = ridge
        self.inputs = ridge.inputs if isinstance(ridge, WaveRidge) else 0

    def forward(self, features: Tensor, target: Tensor, seen: Tensor, *given: Any) -> Any:
        return self.ridge(features, target, torch.zeros_like(seen))


class Open(torch.nn.Module):
    """A gate that is always open."""

    def forward(self, radar: Tensor, radar_here: Tensor, optical: Tensor, here: Tensor) -> Tensor:
        return here


class Unfilled(AdaptiveGenerator):
    """Where S2 at t1 cannot be relied on, it is the colour of usual land."""

    def filled(self, o1: Tensor, reliability: Tensor, radar: Tensor, radar_means: list[Tensor]) -> Tensor:
        return o1 * reliability


class Straight(AdaptiveGenerator):
    """The linear regression alone is the first estimate."""

    def first_estimate(
        self, features: Tensor, told: Tensor, o2: Tensor, seen: Tensor, lent: Tensor | None = None, every: int = 1
    ) -> tuple[Tensor, Tensor]:
        linear = self.estimate(features, o2, seen, lent)
        return thinned(linear.image, every), linear.spread(thinned(features, every))


class Treeless(AdaptiveGenerator):
    """No trees are grown."""

    def with_trees(self, image: Tensor, *given: Tensor) -> Tensor:
        return image


class Forgetful(AdaptiveGenerator):
    """Nothing of S2 at t1 persists because the radar did not change."""

    def persistence(self, radar_change: Tensor, here: Tensor, spread: Tensor) -> Tensor:
        return torch.zeros_like(here)


class NormalisedOptical(AdaptiveGenerator):
    """S2 at t1 with the window's mean and deviation taken out, as instance norm does."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(replace(config, reflectance_range=(-1.0, 1.0)))

    def prepared(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor) -> Prepared:
        here = present(s2_t1)
        normalised = torch.where(here > 0, standardise(s2_t1 / SPREAD, here) * SPREAD + CENTRE, torch.nan)
        return super().prepared(s1_t1, normalised, s1_t2, s2_t2)


class AbsoluteRadar(AdaptiveGenerator):
    """Backscatter on the fixed scale of dB."""

    def blind_backscatter(self, s1: Tensor, here: Tensor) -> Tensor:
        return torch.where(here > 0, self.scale_backscatter(s1), 0.0)


def open_gate(generator: AdaptiveGenerator) -> None:
    """Rely on S2 at t1 wherever it is there."""
    generator.reliability = Open()  # type: ignore[assignment]


def unsolved(*names: str) -> Callable[[AdaptiveGenerator], None]:
    """Return what hides the seen pixels from some of a generator's ridges."""

    def change(generator: AdaptiveGenerator) -> None:
        for name in names:
            setattr(generator, name, Unsolved(getattr(generator, name)))

    return change


def one_scale(generator: AdaptiveGenerator) -> None:
    """Leave a window's solution as it is, without refinements for its parts."""
    for ridge in (generator.estimate, generator.adapt):
        ridge.scales, ridge.local_change = (), torch.nn.Parameter(torch.zeros(0))


def no_mean(generator: AdaptiveGenerator) -> None:
    """Start all regressions from the copy of S2 at t1, or from 0, and learn nothing better."""
    for ridge in (generator.estimate, generator.fill):
        ridge.mean_change = None


def no_precision(generator: AdaptiveGenerator) -> None:
    """Leave the precisions of all coefficients as they are at first."""
    for ridge in (generator.estimate, generator.fill, generator.waves, generator.adapt):
        fixed = ridge.precision_change.detach()
        del ridge.precision_change
        ridge.precision_change = torch.nn.Buffer(fixed)  # type: ignore[assignment]


def clear_sky(s2: Tensor, bands: tuple[str, ...], share: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint nothing."""
    return s2, torch.zeros_like(s2[:, :1])


def same(images: Any, *given: Any) -> Any:
    """Vary nothing."""
    return images


@dataclass(frozen=True)
class Variant:
    """What a row leaves out."""

    form: Callable[[GeneratorConfig], Generator] = AdaptiveGenerator
    change: Callable[[Any], None] = lambda generator: None
    without: tuple[str, ...] = ()
    """Terms of the loss."""
    instead: Mapping[str, float] = field(default_factory=dict)
    """Terms of the loss, with their weights, in their place."""
    augment: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """What stands in for functions of :mod:`crgen.model.augment`."""
    even: bool = True
    """Whether events of few patches are drawn more often."""
    flooded: float = RECIPES["base"].flooded
    """How much a flooded pixel counts in the losses."""
    at_once: bool = False
    """Whether the gate and the first estimate are learned with the rest, from nothing; else they are those of the
    shipped weights."""
    trained: bool = True
    """False for what plays no part in training: the complete network's weights are scored without it."""
    seed: int = 0


AT_ONCE = "everything learned at once"
VARIANTS = {
    "complete": Variant(),
    "complete, second seed": Variant(seed=1),
    "complete, third seed": Variant(seed=2),
    AT_ONCE: Variant(at_once=True),
    "no solve at all: seen pixels as a plain input": Variant(Treeless, unsolved("estimate", "waves", "adapt")),
    "no first estimate": Variant(change=unsolved("estimate", "waves")),
    "no waves in the first estimate": Variant(Straight),
    "no trees": Variant(Treeless, trained=False),
    "no solve in the last layer": Variant(change=unsolved("adapt")),
    "no refinement for parts of a window": Variant(change=one_scale),
    "open skip for S2 at t1": Variant(change=open_gate, without=("reliability",)),
    "S2 at t1 not filled": Variant(Unfilled),
    "nothing persists where the radar did not change": Variant(Forgetful, trained=False),
    "at once, no prior mean learned": Variant(change=no_mean, at_once=True),
    "at once, no precision learned": Variant(change=no_precision, at_once=True),
    "at once, gate not supervised": Variant(without=("reliability",), at_once=True),
    "at once, instance norm on S2 at t1": Variant(NormalisedOptical, at_once=True),
    "at once, radar in absolute dB": Variant(AbsoluteRadar, at_once=True),
    "at once, no painted clouds": Variant(augment={"paint_clouds": clear_sky}, at_once=True),
    "flooded pixels count as others": Variant(flooded=1.0),
    "all patches drawn alike": Variant(even=False),
    "no tint": Variant(augment={"tint": same}),
    "no jitter of radar": Variant(augment={"jitter_backscatter": same}),
    "no image left out": Variant(augment={"drop_images": same}),
    "no SSIM loss": Variant(without=("ssim",)),
    "no cosine loss": Variant(without=("cosine",)),
    "no log-error loss": Variant(without=("log_error",)),
    "L1 for Charbonnier": Variant(without=("charbonnier",), instead={"l1": RECIPES["base"].losses["charbonnier"]}),
    "a plain U-Net instead": Variant(lambda config: UNet(), without=("prior", "gaussian", "reliability")),
}


def train(variant: Variant, data: Path, steps: int) -> Generator:
    """Return a variant, trained."""
    torch.manual_seed(variant.seed)
    generator = variant.form(preset("base"))
    if not variant.at_once:
        shipped, own = load_model("base").generator, generator.state_dict()
        before = {n: t for n, t in shipped.state_dict().items() if not learned(n, "rest", generator.parts)}
        generator.load_state_dict({**own, **before})
    variant.change(generator)
    kept = {name: weight for name, weight in RECIPES["base"].losses.items() if name not in variant.without}
    settings = {"steps": steps, "crop": 128, "warmup": 50, "ema": 0.99, "precision": "bfloat16", "seed": variant.seed}
    settings["part"] = "all" if variant.at_once else "rest"
    recipe = changed(RECIPES["base"], {**settings, "losses": {**kept, **variant.instead}, "flooded": variant.flooded})
    with ExitStack() as stack:
        for name, function in variant.augment.items():
            stack.enter_context(mock.patch.object(augment, name, function))
        return Trainer(generator, recipe, training_data(data, even=variant.even)).run()


def conditions(sample: Sample, index: int, bands: tuple[str, ...]) -> Iterator[tuple[str, View, NDArray[np.bool_]]]:
    """Yield the inputs of each column and the pixels that count."""
    for name, view, counts in views(sample, index, bands):
        if name == "nothing seen":
            yield "no S2 at t1", view._replace(s2_t1=np.full_like(view.s2_t1, np.nan)), counts
            yield "no radar of t1", view._replace(s1_t1=np.full_like(view.s1_t1, np.nan)), counts
        if name in CONDITIONS:
            yield name, view, counts


def score(generator: Generator, data: Ombria, every: int) -> dict[str, tuple[float, float]]:
    """Return PSNR and SSIM by column."""
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in CONDITIONS}
    for index in range(0, len(data), every):
        sample = data[index]
        if sample.clear.mean() < 0.5:
            continue
        truth = torch.nan_to_num(collate([sample]).target)
        for name, view, counts in conditions(sample, index, data.bands):
            image = run(generator, Channels(data.pols, data.bands), view).reflectance
            assert image is not None
            made, mask = torch.from_numpy(image)[None].clamp(0, 1), torch.from_numpy(counts)[None]
            scores[name].append((float(psnr(made, truth, mask)), float(ssim(made, truth, mask))))
    return {name: tuple(np.mean(values, 0).tolist()) for name, values in scores.items()}


def as_markdown(rows: Mapping[str, Mapping[str, tuple[float, float]]]) -> str:
    """Return the complete network, the spread of its seeds, and the others' differences from it, PSNR / SSIM.

    Rows "at once" differ from what learned everything at once, rows of what plays no part in training from their seed.
    """
    seeds = np.array([[rows[name][c] for c in CONDITIONS] for name in rows if name.startswith("complete")])
    mean, spread = seeds.mean(0), np.ptp(seeds, 0)
    lines = ["| | " + " | ".join(CONDITIONS) + " |", "|---" * (len(CONDITIONS) + 1) + "|"]
    title = f"complete, mean of {len(seeds)} seeds" if len(seeds) > 1 else "complete"
    cells = {title: [f"{dB:.2f} / {s:.3f}" for dB, s in mean]}
    if len(seeds) > 1:
        cells["largest less smallest of the seeds"] = [f"{dB:.2f} / {s:.3f}" for dB, s in spread]
    for name, row in rows.items():
        if not name.startswith("complete"):
            variant, like = VARIANTS[name], mean
            if variant.at_once and name != AT_ONCE and AT_ONCE in rows:
                like = np.array([rows[AT_ONCE][c] for c in CONDITIONS])
            elif not variant.trained:
                like = np.array([rows["complete"][c] for c in CONDITIONS])
            change = np.array([row[c] for c in CONDITIONS]) - like
            cells[name] = [f"{dB:+.2f} / {s:+.3f}" for dB, s in change]
    lines += [f"| {name} | " + " | ".join(some) + " |" for name, some in cells.items()]
    return "\n".join(lines)


def main() -> None:
    """Train and score what is missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--every", type=int, default=3, help="score every Nth patch")
    parser.add_argument("--only", help="names of rows, semicolon between")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    kept, test = given.out / "ablations.json", Ombria(given.data / "ombria", "test")
    rows = json.loads(kept.read_text()) if kept.exists() else {}
    for name, variant in VARIANTS.items():
        if name in rows or (given.only and name not in given.only.split(";")):
            continue
        start, like = time.perf_counter(), name if variant.trained else "complete"
        weights = given.out / f"{like.replace(' ', '_')}.pt"
        if variant.trained:
            trained = train(variant, given.data, given.steps)
            torch.save(trained.state_dict(), weights)
        elif not weights.exists():
            parser.error(f"'{name}' is scored with the weights of 'complete': run that row first")
        else:
            trained = variant.form(preset("base"))
            trained.load_state_dict(torch.load(weights, weights_only=True))
        rows[name] = score(trained.eval(), test, given.every)
        kept.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
        print(f"{name}: {time.perf_counter() - start:.0f} s {rows[name]}", flush=True)
    if "complete" in rows:
        print(as_markdown({name: rows[name] for name in VARIANTS if name in rows}))


if __name__ == "__main__":
    main()
