"""Training against a discriminator: both learn, resume alike, and stop alike."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crgen.errors import TrainingError
from crgen.model.build import build_generator
from crgen.training.discriminator import build_discriminator
from crgen.training.recipe import Adversary, Optimiser, Recipe
from crgen.training.train import Trainer
from tests.model.scenes import TINY_PAPER
from tests.training.patches import Patches

ADVERSARY = Adversary(widths=(4, 8, 12), optimiser=Optimiser("adam", 1e-3, (0.0, 0.99), 1e-5))
THREE = replace(TINY_PAPER, pols=("VV",), bands=("B11", "B8", "B3"), db_range=((-35.0, 0.0),))
DATA = Patches(pols=THREE.pols, bands=THREE.bands)
RECIPE = Recipe(
    steps=4, batch=2, crop=32, variation="none", losses={"l1": 1.0, "auxiliary": 0.5}, warmup=0, adversary=ADVERSARY
)


def training(recipe: Recipe, path: Path | None = None, discriminator: nn.Module | None = None) -> Trainer:
    generator = build_generator(THREE, recipe.seed)
    if discriminator is None and recipe.adversary is not None:
        discriminator = build_discriminator(generator, recipe.adversary, recipe.seed)
    return Trainer(generator, recipe, DATA, discriminator=discriminator, checkpoint=path, checkpoint_every=1)


def state(trainer: Trainer) -> dict[str, Tensor]:
    parts = {"g": trainer.generator, "d": trainer.discriminator, "a": trainer.averaged}
    return {f"{p}.{n}": t.clone() for p, m in parts.items() if m is not None for n, t in m.state_dict().items()}


@pytest.mark.parametrize("pair", ["hinge", "least squares", "wasserstein", "paper"])
def test_both_networks_move_and_every_term_is_told(pair: str) -> None:
    trainer = training(replace(RECIPE, steps=2, adversary=replace(ADVERSARY, pair=pair)))
    before, told = state(trainer), []
    trainer.run(lambda step, values: told.append(values))
    after = state(trainer)
    moved = {n[:1] for n in before if before[n].is_floating_point() and not torch.equal(before[n], after[n])}
    assert moved == {"g", "d", "a"}
    assert {"loss", "l1", "auxiliary", "adversarial", "d_loss", "d_real", "d_fake", "d_penalty"} <= set(told[0])
    assert told[0]["loss"] == pytest.approx(
        told[0]["l1"] + 0.5 * told[0]["auxiliary"] + told[0]["adversarial"], rel=1e-5
    )


def test_the_adversary_waits_for_its_first_step() -> None:
    trainer = training(replace(RECIPE, adversary=replace(ADVERSARY, start=2)))
    before, told = state(trainer), []
    trainer.run(lambda step, values: told.append((step, values["adversarial"] == values["adversarial"], len(values))))
    assert [seen for _, seen, _ in told] == [False, False, True, True]
    assert len({count for *_, count in told}) == 1, "a table of one width"
    weight = "d.scales.0.head.1.parametrizations.weight.original"
    assert not torch.equal(before[weight], state(trainer)[weight])


@pytest.mark.parametrize(
    ("pair", "penalty", "first", "last", "apart"),
    [("hinge", 1e-3, 2, 1, 2), ("least squares", 0.1, 1, 0.3, 0.5), ("wasserstein", 1.0, 0, -1, 1)],
)
def test_the_discriminator_learns_to_tell_real_from_generated(
    pair: str, penalty: float, first: float, last: float, apart: float
) -> None:
    """With a generator that stands still, its loss falls from what a coin would have."""
    still = replace(RECIPE, steps=30, losses={"auxiliary": 1e-9}, optimiser=Optimiser("adam", 1e-12))
    eager = Optimiser("adam", 1e-2, (0.5, 0.99), 0.0)
    strong = replace(ADVERSARY, pair=pair, weight=0.0, penalty=penalty, optimiser=eager)
    told: list[dict[str, float]] = []
    training(replace(still, adversary=strong)).run(lambda step, values: told.append(values))
    assert told[0]["d_loss"] == pytest.approx(first, abs=0.1)
    means = {name: sum(values[name] for values in told[-5:]) / 5 for name in ("d_loss", "d_real", "d_fake")}
    assert means["d_loss"] < last
    assert means["d_real"] - means["d_fake"] > apart


def test_a_resumed_run_ends_with_the_same_bits_in_both_networks(tmp_path: Path) -> None:
    recipe = replace(RECIPE, adversary=replace(ADVERSARY, pair="wasserstein"), schedule="plateau")
    whole = training(recipe, tmp_path / "whole.pt")
    whole.run()

    def stop(step: int, values: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(recipe, tmp_path / "parts.pt").run(stop)
    torch.rand(3)
    resumed = training(recipe, tmp_path / "parts.pt")
    assert resumed.step == 2
    resumed.run()
    assert all(torch.equal(tensor, state(whole)[name]) for name, tensor in state(resumed).items())


def test_unclear_pixels_look_alike_in_both_images() -> None:
    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.seen: list[Tensor] = []

        def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
            self.seen.append(image.detach())
            return [self.weight * image.mean(1, keepdim=True)]

    watching = Watching()
    training(
        replace(RECIPE, steps=1, batch=4, crop=64, adversary=replace(ADVERSARY, penalty=0.0)), None, watching
    ).run()
    real, fake, again = watching.seen
    assert torch.equal(fake, again)
    same = (real == fake).all(1)
    assert 0 < same.float().mean() < 0.5, "the cloudy eighth of the targets"
    assert real.isfinite().all()


def test_any_module_may_be_the_adversary() -> None:
    """As a patch discriminator: one map from image and condition."""

    class Patch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(8, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(), nn.Conv2d(4, 1, 3))

        def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
            return [self.body(torch.cat([image, condition], 1))]

    trainer = training(RECIPE, None, Patch())
    trainer.run()
    assert trainer.step == 4


def test_a_discriminator_whose_loss_is_not_a_number_stops_the_run() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
            return [self.weight * image.mean(1, keepdim=True) * torch.nan]

    trainer = training(replace(RECIPE, adversary=replace(ADVERSARY, penalty=0.0)), None, Broken())
    before = state(trainer)
    with pytest.raises(TrainingError, match=r"the discriminator's loss or its gradient is not a number at step 0"):
        trainer.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(trainer).items())


def test_a_recipe_and_its_networks_must_agree() -> None:
    generator, data = build_generator(THREE, 0), DATA
    discriminator = build_discriminator(generator, ADVERSARY, 0)
    with pytest.raises(TrainingError, match="needs a discriminator"):
        Trainer(generator, RECIPE, data)
    with pytest.raises(TrainingError, match="one without takes none"):
        Trainer(generator, replace(RECIPE, adversary=None), data, discriminator=discriminator)
    perceptual = replace(RECIPE, losses={"perceptual": 1.0})
    with pytest.raises(TrainingError, match="'perceptual' needs its network"):
        Trainer(generator, perceptual, data, discriminator=discriminator)
    with pytest.raises(TrainingError, match="no loss 'l2'; choose from l1, charbonnier"):
        Trainer(generator, replace(RECIPE, losses={"l2": 1.0}), data, discriminator=discriminator)
