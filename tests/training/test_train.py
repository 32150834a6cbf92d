"""A training run learns, resumes as if never stopped, and stops with its last good state."""

import os
import pickle
import re
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crgen.errors import TrainingError
from crgen.model.build import build_generator
from crgen.model.config import GeneratorConfig, preset
from crgen.model.generator import Generator, Prediction
from crgen.training.data.dataset import Mixture, PatchDataset
from crgen.training.recipe import RECIPES, Optimiser, Recipe
from crgen.training.train import Trainer
from tests.model.scenes import TINY_PAPER
from tests.training.patches import OMBRIA_LIKE, Patches

TINY = preset("tiny")
SHORT = Recipe(steps=6, batch=2, crop=32, warmup=2)
WHOLE = replace(SHORT, losses=RECIPES["tiny"].losses, new_water=RECIPES["tiny"].new_water)
"""With all terms that the default generator is trained on."""


def training(config: GeneratorConfig, recipe: Recipe, data: PatchDataset, path: Path | None = None) -> Trainer:
    """A run of a fresh generator that saves every second step."""
    return Trainer(build_generator(config, recipe.seed), recipe, data, checkpoint=path, checkpoint_every=2)


def state(generator: Generator) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in generator.state_dict().items()}


def weights(module: nn.Module) -> dict[str, Tensor]:
    """What is trained, without what norms measured."""
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def stop_after(steps: int) -> Any:
    def on_step(step: int, values: dict[str, float]) -> None:
        if step == steps:
            raise KeyboardInterrupt

    return on_step


def test_a_few_steps_reduce_the_loss() -> None:
    settings = replace(WHOLE, steps=80, batch=4, optimiser=Optimiser(learning_rate=1e-2), warmup=5)
    losses: list[float] = []
    trainer = training(TINY, settings, Patches())
    averaged = trainer.run(lambda step, values: losses.append(values["loss"]))
    assert len(losses) == trainer.step == 80
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert averaged is trainer.averaged
    assert not averaged.training
    assert not same(state(averaged), state(trainer.generator)), "what is returned is the average, not the last step"
    measured = "stem_t1.1.running_mean"
    assert not torch.equal(state(averaged)[measured], state(trainer.generator)[measured]), "with what norms measured"


@pytest.mark.parametrize(
    ("config", "recipe", "stop"),
    [(replace(TINY_PAPER, dropout=0.2), SHORT, 2), (replace(TINY_PAPER, dropout=0.2), SHORT, 5), (TINY, WHOLE, 3)],
    ids=["paper at 2", "paper at 5", "tiny at 3"],
)
def test_a_run_interrupted_and_resumed_ends_with_the_same_bits(
    tmp_path: Path, config: GeneratorConfig, recipe: Recipe, stop: int
) -> None:
    whole = training(config, recipe, Patches(), tmp_path / "whole.pt")
    whole.run()
    path = tmp_path / "parts.pt"
    with pytest.raises(KeyboardInterrupt):
        training(config, recipe, Patches(), path).run(stop_after(stop))
    torch.rand(17)  # other work in between
    resumed = training(config, recipe, Patches(), path)
    assert resumed.step == stop - stop % 2
    resumed.run()
    assert same(state(resumed.averaged), state(whole.averaged))
    assert same(state(resumed.generator), state(whole.generator))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.pt", "whole.pt"]


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    path, data = tmp_path / "done.pt", Patches()
    first = state(training(TINY, SHORT, data, path).run())
    data.visited.clear()
    assert same(state(training(TINY, SHORT, data, path).run()), first)
    assert not data.visited


def test_a_loss_that_is_not_a_number_names_its_patches_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    spoilt = Patches(spoilt=tuple(range(6)))
    with pytest.raises(KeyboardInterrupt):
        training(TINY, SHORT, Patches(), path).run(stop_after(4))
    trainer = training(TINY, SHORT, spoilt, path)
    before, bytes_before = weights(trainer.generator), path.read_bytes()
    names = trainer.source.draw(4).names
    with pytest.raises(
        TrainingError, match=rf"not a number at step 4 \(patches {names[0]}, {names[1]}\).*last checkpoint"
    ):
        trainer.run()
    assert same(weights(trainer.generator), before)
    assert path.read_bytes() == bytes_before
    assert training(TINY, SHORT, Patches(), path).step == 4


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights() -> None:
    trainer = training(TINY, SHORT, Patches())
    before = weights(trainer.generator)
    trainer.generator.get_parameter("head_land.weight").register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(TrainingError, match="gradient is not a number at step 0"):
        trainer.run()
    assert same(weights(trainer.generator), before)
    assert same(weights(trainer.averaged), before)


@pytest.mark.parametrize(
    ("config", "settings"), [(TINY, replace(SHORT, clip=0.5)), (replace(TINY, widths=(8, 8, 16, 24, 24, 32)), SHORT)]
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, config: GeneratorConfig, settings: Recipe) -> None:
    path = tmp_path / "run.pt"
    training(TINY, SHORT, Patches(), path).run()
    with pytest.raises(TrainingError, match=rf"checkpoint {re.escape(str(path))} belongs to a run with other settings"):
        training(config, settings, Patches(), path)


def test_damaged_checkpoints_are_refused_in_one_line_and_run_no_code(tmp_path: Path) -> None:
    path, trace = tmp_path / "run.pt", tmp_path / "trace"
    training(TINY, replace(SHORT, steps=1), Patches(), path).run()
    whole = path.read_bytes()

    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(trace),)

    damaged = [whole[: len(whole) // 2], whole[:100], b"", b"nonsense" * 99, bytes(500), pickle.dumps(Malicious(), 2)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"cannot be read \(.*\); remove it to start anew") as caught:
            training(TINY, SHORT, Patches(), path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    for other in ([1, 2], {"step": 3}):
        torch.save(other, path)
        with pytest.raises(TrainingError, match="cannot be read"):
            training(TINY, SHORT, Patches(), path)
    assert not trace.exists()


def test_data_of_other_channels_are_refused() -> None:
    with pytest.raises(TrainingError, match="the data hold VV/VH and B4/B3, the generator takes VV/VH and B2/B3/"):
        training(TINY, SHORT, Patches(bands=("B4", "B3")))
    with pytest.raises(TrainingError, match="the data hold VH"):
        training(TINY, SHORT, Patches(pols=("VH",)))


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        training(TINY, SHORT, Patches(), path).run(stop_after(2))
    trainer, before = training(TINY, SHORT, Patches(), path), path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    try:
        with pytest.raises(TrainingError, match=r"cannot write checkpoint .*free space") as caught:
            trainer.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    assert path.read_bytes() == before


def test_a_checkpoint_in_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in ("missing", "file"):
        with pytest.raises(TrainingError, match="cannot write checkpoint"):
            training(TINY, SHORT, Patches(), tmp_path / folder / "run.pt").run()


def test_the_papers_form_trains_its_auxiliary_image_too() -> None:
    trainer = training(TINY_PAPER, replace(SHORT, steps=1), Patches())
    before = state(trainer.generator)
    trainer.run()
    after = state(trainer.generator)
    assert not torch.equal(before["extended.1.weight"], after["extended.1.weight"])


def test_floods_in_three_bands_and_places_in_ten_are_trained_on_together() -> None:
    """As OMBRIA and the series are: one lacks a polarisation, bands and levels, and a gap never becomes a value."""
    floods = replace(OMBRIA_LIKE, bands=TINY.bands)
    told: list[dict[str, float]] = []
    trainer = training(TINY, replace(WHOLE, batch=4), Mixture([(floods, 1.0), (Patches(), 1.0)]))
    before = state(trainer.generator)
    trainer.run(lambda step, values: told.append(values))
    assert all(np.isfinite(list(values.values())).all() for values in told)
    assert set(WHOLE.losses) <= set(told[0])
    moved = {name for name, tensor in state(trainer.generator).items() if not torch.equal(tensor, before[name])}
    assert {
        "spectrum.water.mean_change",
        "spectrum.kept",
        "level.0.weight",
        "scene.mean_change",
        "head_water.weight",
    } <= moved


def test_the_generator_is_told_all_that_a_step_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = training(TINY, replace(WHOLE, steps=1), Patches())
    heard: dict[str, Tensor] = {}
    forward = trainer.generator.forward

    def hear(**given: Tensor) -> Prediction:
        heard.update(given)
        return forward(**given)

    monkeypatch.setattr(trainer.generator, "forward", hear)
    trainer.run()
    drawn = trainer.source.vary(trainer.source.draw(0)).inputs._asdict()
    assert heard.keys() == drawn.keys() == {"s1_t1", "s2_t1", "s1_t2", "s2_t2", "clear_t1", "calibrated"}
    assert all(torch.equal(heard[name].nan_to_num(-99), drawn[name].nan_to_num(-99)) for name in drawn)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_resumes_alike(tmp_path: Path, precision: str) -> None:
    recipe = replace(SHORT, precision=precision, steps=4)
    whole = training(TINY, recipe, Patches(), tmp_path / "whole.pt")
    losses: list[float] = []
    whole.run(lambda step, values: losses.append(values["loss"]))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in whole.generator.parameters())
    exact: list[float] = []
    training(TINY, replace(SHORT, steps=4), Patches()).run(lambda step, values: exact.append(values["loss"]))
    assert losses != exact
    np.testing.assert_allclose(losses, exact, rtol=0.1)
    with pytest.raises(KeyboardInterrupt):
        training(TINY, recipe, Patches(), tmp_path / "parts.pt").run(stop_after(3))
    resumed = training(TINY, recipe, Patches(), tmp_path / "parts.pt")
    resumed.run()
    assert same(state(resumed.generator), state(whole.generator))
    assert resumed.scaler.get_scale() == whole.scaler.get_scale()


def test_a_gradient_beyond_float16_costs_one_step_and_a_smaller_scale() -> None:
    trainer = training(TINY, replace(SHORT, precision="float16", steps=2), Patches())
    before, scale = weights(trainer.generator), trainer.scaler.get_scale()
    once = iter([torch.inf, 1.0])
    trainer.generator.get_parameter("head_land.weight").register_hook(lambda gradient: gradient * next(once))
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop_after(1))
    assert same(weights(trainer.generator), before)
    assert trainer.scaler.get_scale() == scale / 2


def test_the_best_averaged_weights_are_kept_if_asked(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def validate(generator: Generator) -> dict[str, float]:
        seen.append(state(generator))
        return {"PSNR": [10.0, 30.0, 20.0][len(seen) - 1]}

    recipe = replace(SHORT, validate_every=2, keep_best=True)
    generator = build_generator(TINY, 0)
    trainer = Trainer(generator, recipe, Patches(), validate=validate, checkpoint=tmp_path / "r.pt", checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop_after(5))
    again = build_generator(TINY, 0)
    resumed = Trainer(again, recipe, Patches(), validate=validate, checkpoint=tmp_path / "r.pt", checkpoint_every=4)
    best = resumed.run()
    assert len(seen) == 3
    assert resumed.best["step"] == 4
    assert same(state(best), seen[1])


def test_a_plateau_halves_the_rate() -> None:
    recipe = replace(SHORT, steps=16, warmup=0, schedule="plateau", optimiser=Optimiser(learning_rate=1e-6))
    trainer = training(TINY, replace(recipe, variation="none"), Patches(count=2, side=32))
    rates: list[float] = []
    losses: list[float] = []

    def note(step: int, values: dict[str, float]) -> None:
        rates.append(values["learning_rate"])
        losses.append(values["loss"])

    trainer.run(note)
    best, waited, expected = np.inf, 0, [1e-6]
    for loss in losses:  # one epoch is one step here
        better = loss < best * (1 - 1e-4)
        best, waited = (loss, 0) if better else (best, waited + 1)
        halved = waited > 10  # eleven epochs without a better one
        waited = 0 if halved else waited
        expected.append(expected[-1] / (1 + halved))
    assert rates == expected[:-1]
    assert rates[-1] < 1e-6


def test_an_average_of_no_memory_is_the_generator_itself() -> None:
    trainer = training(TINY, replace(SHORT, ema=0.0), Patches())
    trainer.run()
    assert same(state(trainer.averaged), state(trainer.generator))
