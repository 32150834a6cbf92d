"""Recipes: what they refuse, how they change, and the rates they give."""

import json
import tomllib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from crgen.errors import RequestError
from crgen.model.config import PRESETS, preset
from crgen.training.losses import ADVERSARIAL, TERMS
from crgen.training.recipe import RECIPES, Adversary, Optimiser, Recipe, changed, learning_rate

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_paper.toml"


def test_every_preset_has_a_recipe_of_known_parts() -> None:
    assert set(RECIPES) == set(PRESETS)
    for recipe in RECIPES.values():
        assert set(recipe.losses) <= {*TERMS, "perceptual"}
        assert recipe.adversary is None or recipe.adversary.pair in ADVERSARIAL
        assert json.loads(json.dumps(recipe.to_dict()))["batch"] == recipe.batch


@pytest.mark.parametrize("name", ["base", "tiny"])
def test_the_default_learns_water_the_clean_t1_and_the_other_bands_beside_the_image(name: str) -> None:
    recipe = RECIPES[name]
    assert {"water", "clean", "others", "reliability", "gaussian", "charbonnier"} <= set(recipe.losses)
    assert recipe.new_water > 1
    assert recipe.variation == "full"
    assert recipe.adversary is None


def test_the_papers_recipe_is_what_the_paper_reports() -> None:
    paper = RECIPES["paper"]
    assert (paper.epochs, paper.batch, paper.schedule) == (200, 8, "plateau")
    assert {paper.losses[name] for name in ("perceptual", "cosine", "ms_ssim")} == {1.0}
    assert paper.adversary is not None
    assert (paper.optimiser.name, paper.optimiser.betas) == ("adam", (0.9, 0.999))
    assert (paper.adversary.optimiser.name, paper.adversary.optimiser.weight_decay) == ("adam", 1e-5)
    assert paper.total_steps(4424) == 200 * 553


def test_where_the_papers_recipe_departs_from_it_is_what_its_docstring_says() -> None:
    paper = RECIPES["paper"]
    assert paper.adversary is not None
    assert (paper.adversary.pair, paper.adversary.weight, paper.adversary.penalty) == ("hinge", 0.05, 1e-3)
    assert (paper.optimiser.learning_rate, paper.adversary.optimiser.learning_rate) == (2e-4, 3e-3)
    assert paper.adversary.optimiser.betas == (0.5, 0.99)
    assert set(paper.losses) - {"perceptual", "cosine", "ms_ssim"} == {"auxiliary"}


def test_the_example_tells_how_to_train_the_papers_own_form() -> None:
    _, text = EXAMPLE.read_text().split("The paper's own form:")
    block = "\n".join(line.lstrip("# ") for line in text.split("\n\n")[0].splitlines())
    own = changed(RECIPES["paper"], tomllib.loads(block)["recipe"])
    reported = Optimiser("adam", 1e-3, (0.9, 0.999), 0.0)
    assert own.optimiser == reported
    assert own.adversary == Adversary("paper", 1.0, 10.0, optimiser=Optimiser("adam", 1e-3, (0.9, 0.999), 1e-5))


def test_the_example_tells_how_to_switch_the_attentions_norm() -> None:
    before = tomllib.loads(EXAMPLE.read_text())
    after = tomllib.loads(EXAMPLE.read_text().replace("# generator =", "generator ="))
    assert "generator" not in before
    assert preset("paper").attention_axis == "channel"
    assert replace(preset("paper"), **after["generator"]).attention_axis == "space"


def test_a_recipe_changes_field_by_field() -> None:
    recipe = changed(RECIPES["paper"], {"steps": 10, "adversary": {"weight": 0.1}, "losses": {"l1": 2.0}})
    assert (recipe.steps, recipe.epochs, recipe.losses) == (10, None, {"l1": 2.0})
    assert recipe.adversary is not None
    assert (recipe.adversary.weight, recipe.adversary.optimiser.weight_decay) == (0.1, 1e-5)
    deeper = changed(RECIPES["paper"], {"adversary": {"optimiser": {"learning_rate": 1e-4}}}).adversary
    assert deeper is not None
    assert (deeper.optimiser.name, deeper.optimiser.learning_rate, deeper.weight) == ("adam", 1e-4, 0.05)
    assert changed(recipe, {"adversary": None}).adversary is None
    assert changed(recipe, {}) == recipe


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"crop": 100}, "multiple of 32"),
        ({"steps": 0}, "at least 1"),
        ({"steps": None}, "either steps or epochs"),
        ({"batch": "many"}, "batch"),
        ({"optimiser": {"learning_rate": 0}}, "optimiser: the learning rate is 0"),
        ({"optimiser": {"learning_rate": float("nan")}}, "optimiser.learning_rate"),
        ({"optimiser": {"momentum": 0.9}}, "optimiser.momentum"),
        ({"stepps": 3}, "stepps"),
        ({"precision": "float8"}, "precision"),
        ({"seed": -1}, "seed"),
        ({"part": "gate"}, "part"),
        ({"new_water": 0}, "new water counts 0"),
        ({"keep_best": True}, "needs validate_every"),
        ({"schedule": "plateau"}, "no warmup"),
    ],
)
def test_recipes_that_cannot_be(change: dict, problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as caught:
        changed(Recipe(), change)
    assert "\n" not in str(caught.value)


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    recipe = Recipe(steps=100, warmup=10)
    rates = [learning_rate(step, 100, recipe, 1e-3) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(1e-5)
    constant = changed(recipe, {"schedule": "constant"})
    assert [learning_rate(s, 100, constant, 1e-3) for s in (10, 99)] == [1e-3, 1e-3]
