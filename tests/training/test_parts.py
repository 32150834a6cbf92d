"""Parts of the generator that are learned by themselves, and the rest on them as they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crgen.errors import TrainingError
from crgen.model.build import build_generator
from crgen.training.data.dataset import Sample, collate
from crgen.training.losses import reliability_error
from crgen.training.recipe import RECIPES, Optimiser, Recipe
from crgen.training.train import Trainer
from tests.model.scenes import TINY_PAPER
from tests.training.patches import Patches
from tests.training.test_train import SHORT, TINY, state, training

GATE = replace(SHORT, part="reliability", losses={"reliability": 1.0})
ESTIMATE = replace(SHORT, part="estimate", losses={"log_error": 1.0})


def learned_by(trainer: Trainer, on_step: Any = lambda step, values: None) -> set[str]:
    """Run and return which modules' parameters changed."""
    before = state(trainer.generator)
    trainer.run(on_step)
    after = state(trainer.generator)
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


class HalfClouded(Patches):
    """Patches of which S2 at t1 is known to be clear on the left and bright cloud on the right."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        clear = np.ones_like(sample.clear)
        clear[..., self.side // 2 :] = False
        return sample._replace(s2_t1=np.where(clear, sample.s2_t1, np.float32(0.8)), clear_t1=clear)


def test_a_recipe_of_reliability_alone_runs_and_teaches_the_gate_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(GATE, steps=20, optimiser=Optimiser(learning_rate=3e-3))
    trainer = training(TINY, recipe, HalfClouded())
    monkeypatch.setattr(trainer.generator, "generate", None)
    batch = collate([HalfClouded()[0]])

    def error() -> float:
        with torch.no_grad():
            reliability = trainer.generator.relied_on(batch.s1_t1, batch.s2_t1)
        return float(reliability_error(reliability, batch.clear_t1, batch.s2_t1))

    first = error()
    assert learned_by(trainer) == {"reliability"}
    assert error() < 0.8 * first


def test_the_first_estimate_is_learned_by_itself_on_one_pixel_of_four(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(ESTIMATE, steps=40, crop=64, warmup=2, optimiser=Optimiser(learning_rate=3e-3, weight_decay=0))
    trainer = training(TINY, recipe, Patches(side=64))
    monkeypatch.setattr(trainer.generator, "generate", None)
    made: list[torch.Size] = []
    estimated = trainer.generator.estimated

    def watched(*given: Any) -> Tensor:
        image = estimated(*given)
        made.append(image.shape)
        return image

    monkeypatch.setattr(trainer.generator, "estimated", watched)
    losses: list[float] = []
    changed = learned_by(trainer, lambda step, values: losses.append(values["loss"]))
    assert changed == {"estimate", "fill", "waves", "blend"}
    assert set(made) == {(2, 3, 32, 32)}
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.5
    blind = replace(recipe, variation="none")
    assert not learned_by(training(TINY, blind, Patches(side=64))), "where nothing is shown nothing is learned"


def test_the_rest_is_learned_on_the_gate_and_the_estimate_as_they_are() -> None:
    every = {name.split(".")[0] for name, _ in build_generator(TINY).named_parameters()}
    changed = learned_by(training(TINY, replace(SHORT, part="rest", losses=RECIPES["tiny"].losses), HalfClouded()))
    assert changed == every - {"reliability", "estimate", "fill", "waves", "blend"}


@pytest.mark.parametrize("recipe", [GATE, ESTIMATE])
def test_a_form_without_such_a_part_is_refused(recipe: Recipe) -> None:
    with pytest.raises(TrainingError, match=f"form paper has no part '{recipe.part}'"):
        training(TINY_PAPER, recipe, Patches())
