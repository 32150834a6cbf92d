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
from torch import Tensor

from crgen.errors import TrainingError
from crgen.model.build import build_generator
from crgen.model.config import GeneratorConfig, preset
from crgen.model.generator import Generator, Prediction
from crgen.training.batches import step_rng
from crgen.training.data.dataset import Batch, PatchDataset, collate
from crgen.training.losses import TERMS
from crgen.training.recipe import Optimiser, Recipe
from crgen.training.train import Trainer, similarity
from tests.model.scenes import TINY_PAPER
from tests.training.patches import Patches

TINY = preset("tiny")
SHORT = Recipe(steps=6, batch=2, crop=32, warmup=2)


def training(config: GeneratorConfig, recipe: Recipe, data: PatchDataset, path: Path | None = None) -> Trainer:
    """A run of a fresh generator that saves every second step."""
    return Trainer(build_generator(config, recipe.seed), recipe, data, checkpoint=path, checkpoint_every=2)


def state(generator: Generator) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in generator.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def stop_after(steps: int) -> Any:
    def on_step(step: int, values: dict[str, float]) -> None:
        if step == steps:
            raise KeyboardInterrupt

    return on_step


def test_a_few_steps_reduce_the_loss() -> None:
    settings = Recipe(steps=60, batch=4, crop=32, optimiser=Optimiser(learning_rate=3e-3), warmup=5)
    losses: list[float] = []
    trainer = training(TINY, settings, Patches())
    averaged = trainer.run(lambda step, values: losses.append(values["loss"]))
    assert len(losses) == trainer.step == 60
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert averaged is trainer.averaged
    assert not averaged.training
    assert not same(state(averaged), state(trainer.generator)), "what is returned is the average, not the last step"


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_run_interrupted_and_resumed_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    config = replace(TINY_PAPER, dropout=0.2)
    whole = training(config, SHORT, Patches(), tmp_path / "whole.pt")
    whole.run()
    path = tmp_path / "parts.pt"
    with pytest.raises(KeyboardInterrupt):
        training(config, SHORT, Patches(), path).run(stop_after(stop))
    torch.rand(17)  # other work in between
    resumed = training(config, SHORT, Patches(), path)
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
    before, bytes_before = state(trainer.generator), path.read_bytes()
    names = trainer.source.draw(4).names
    with pytest.raises(
        TrainingError, match=rf"not a number at step 4 \(patches {names[0]}, {names[1]}\).*last checkpoint"
    ):
        trainer.run()
    assert same(state(trainer.generator), before)
    assert path.read_bytes() == bytes_before
    assert training(TINY, SHORT, Patches(), path).step == 4


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights() -> None:
    trainer = training(TINY, SHORT, Patches())
    before = state(trainer.generator)
    trainer.generator.get_parameter("head.0.weight").register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(TrainingError, match="gradient is not a number at step 0"):
        trainer.run()
    assert same(state(trainer.generator), before)
    assert same(state(trainer.averaged), before)


@pytest.mark.parametrize(("config", "settings"), [(TINY, replace(SHORT, clip=0.5)), (replace(TINY, stem=8), SHORT)])
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
    with pytest.raises(TrainingError, match="the data hold VV and B4/B3, the generator takes VV and B11/B8/B3"):
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


def test_the_loss_counts_clear_hidden_pixels_only() -> None:
    batch = collate([Patches()[i] for i in range(3)])
    s2_t2 = torch.full_like(batch.target, torch.nan)
    s2_t2[:, :, 40:] = batch.target[:, :, 40:]
    hidden = batch.clear & s2_t2.isnan().any(1, keepdim=True)
    made = torch.rand(batch.target.shape, generator=step_rng(1, 1))
    losses = similarity(Prediction(made, variance=made.square(), prior=made), batch, s2_t2, TERMS)
    elsewhere = torch.where(hidden, made, 9.0)
    assert (
        similarity(Prediction(elsewhere, variance=elsewhere.square(), prior=elsewhere), batch, s2_t2, TERMS) == losses
    )
    perfect = similarity(Prediction(batch.target, variance=made, prior=batch.target), batch, s2_t2, TERMS)
    assert all(perfect[name] < 1e-4 < losses[name] for name in losses if name not in ("gaussian", "auxiliary"))
    nothing = batch._replace(clear=torch.zeros_like(batch.clear))
    assert not any(similarity(Prediction(made, variance=made, prior=made), nothing, s2_t2, TERMS).values())


def test_flooded_pixels_count_as_much_as_the_recipe_says() -> None:
    batch = collate([Patches()[i] for i in range(2)])
    flooded = torch.zeros_like(batch.flooded)
    flooded[0, :, :16] = 1
    batch = batch._replace(flooded=flooded, clear=torch.ones_like(batch.clear))
    target, unseen = torch.full_like(batch.target, 0.2), torch.full_like(batch.target, torch.nan)
    batch = batch._replace(target=target)
    wet_wrong = Prediction(target + 0.1 * flooded)
    terms = {"l1": TERMS["l1"]}
    once, thrice = (float(similarity(wet_wrong, batch, unseen, terms, times)["l1"]) for times in (1.0, 3.0))
    share = float(flooded[0].mean())
    assert once == pytest.approx(0.1 * share / 2)
    assert thrice == pytest.approx(0.1 * 3 * share / (1 + 2 * share) / 2)
    unknown = batch._replace(flooded=torch.full_like(flooded, torch.nan))
    assert float(similarity(wet_wrong, unknown, unseen, terms, 3.0)["l1"]) == pytest.approx(once)


def test_a_sample_without_clear_pixels_does_not_dilute_the_others() -> None:
    batch = collate([Patches()[i] for i in range(2)])
    batch.clear[1] = False
    made, unseen = torch.full_like(batch.target, 0.5), torch.full_like(batch.target, torch.nan)
    terms = {name: TERMS[name] for name in ("l1", "ssim")}
    alone = similarity(Prediction(made[:1]), Batch(*(t[:1] for t in batch)), unseen[:1], terms)
    torch.testing.assert_close(similarity(Prediction(made), batch, unseen, terms), alone)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_resumes_alike(tmp_path: Path, precision: str) -> None:
    recipe = replace(SHORT, precision=precision)
    whole = training(TINY, recipe, Patches(), tmp_path / "whole.pt")
    losses: list[float] = []
    whole.run(lambda step, values: losses.append(values["loss"]))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in whole.generator.parameters())
    exact: list[float] = []
    training(TINY, SHORT, Patches()).run(lambda step, values: exact.append(values["loss"]))
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
    before, scale = state(trainer.generator), trainer.scaler.get_scale()
    once = iter([torch.inf, 1.0])
    trainer.generator.get_parameter("head.0.weight").register_hook(lambda gradient: gradient * next(once))
    with pytest.raises(KeyboardInterrupt):
        trainer.run(stop_after(1))
    assert same(state(trainer.generator), before)
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
    recipe = replace(SHORT, steps=30, warmup=0, schedule="plateau", optimiser=Optimiser(learning_rate=1e-6))
    trainer = training(TINY, replace(recipe, batch=6, variation="none"), Patches(side=32))
    rates: list[float] = []
    losses: list[float] = []

    def note(step: int, values: dict[str, float]) -> None:
        rates.append(values["learning_rate"])
        losses.append(values["loss"])

    trainer.run(note)
    best = int(np.argmin(losses[:19]))  # one epoch is one step here
    assert rates[: best + 12] == [1e-6] * (best + 12), "eleven epochs without a better one"
    assert rates[best + 13] == 5e-7


def test_an_average_of_no_memory_is_the_generator_itself() -> None:
    trainer = training(TINY, replace(SHORT, ema=0.0), Patches())
    trainer.run()
    assert same(state(trainer.averaged), state(trainer.generator))
