"""A training run learns, resumes as if never stopped, and stops with its last good state."""

import os
import pickle
import re
import resource
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crgen.errors import TrainingError
from crgen.model.config import preset
from crgen.model.data import Batch, collate
from crgen.model.generator import Generator, Prediction
from crgen.model.train import Trainer, TrainSettings, draw_batch, learning_rate, similarity_loss, step_rng, vary

from .patches import Patches

TINY = preset("tiny")
SHORT = TrainSettings(steps=6, batch=2, crop=32, warmup=2, checkpoint_every=2)


def state(generator: Generator) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in generator.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def stop_after(steps: int) -> Any:
    def on_step(step: int, loss: float) -> None:
        if step == steps:
            raise KeyboardInterrupt

    return on_step


def test_a_few_steps_reduce_the_loss() -> None:
    settings = TrainSettings(steps=60, batch=4, crop=32, learning_rate=3e-3, warmup=5)
    losses: list[float] = []
    trainer = Trainer(TINY, settings, Patches())
    averaged = trainer.run(lambda step, loss: losses.append(loss))
    assert len(losses) == trainer.step == 60
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert averaged is trainer.averaged
    assert not averaged.training
    assert not same(state(averaged), state(trainer.generator)), "what is returned is the average, not the last step"


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_run_interrupted_and_resumed_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    config = replace(TINY, dropout=0.2)
    whole = Trainer(config, SHORT, Patches(), checkpoint=tmp_path / "whole.pt")
    whole.run()
    path = tmp_path / "parts.pt"
    with pytest.raises(KeyboardInterrupt):
        Trainer(config, SHORT, Patches(), checkpoint=path).run(stop_after(stop))
    torch.rand(17)  # other work in between
    resumed = Trainer(config, SHORT, Patches(), checkpoint=path)
    assert resumed.step == stop - stop % SHORT.checkpoint_every
    resumed.run()
    assert same(state(resumed.averaged), state(whole.averaged))
    assert same(state(resumed.generator), state(whole.generator))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts.pt", "whole.pt"]


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    path, data = tmp_path / "done.pt", Patches()
    first = state(Trainer(TINY, SHORT, data, checkpoint=path).run())
    data.visited.clear()
    assert same(state(Trainer(TINY, SHORT, data, checkpoint=path).run()), first)
    assert not data.visited


def test_a_loss_that_is_not_a_number_names_its_patches_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    spoilt = Patches(spoilt=tuple(range(6)))
    with pytest.raises(KeyboardInterrupt):
        Trainer(TINY, SHORT, Patches(), checkpoint=path).run(stop_after(4))
    trainer = Trainer(TINY, SHORT, spoilt, checkpoint=path)
    before, bytes_before = state(trainer.generator), path.read_bytes()
    names = [f"patch-{i}" for i in torch.randint(6, (2,), generator=step_rng(0, 4)).tolist()]
    with pytest.raises(
        TrainingError, match=rf"not a number at step 4 \(patches {names[0]}, {names[1]}\).*last checkpoint"
    ):
        trainer.run()
    assert same(state(trainer.generator), before)
    assert path.read_bytes() == bytes_before
    assert Trainer(TINY, SHORT, Patches(), checkpoint=path).step == 4


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights() -> None:
    trainer = Trainer(TINY, SHORT, Patches())
    before = state(trainer.generator)
    trainer.generator.get_parameter("head.weight").register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(TrainingError, match="gradient is not a number at step 0"):
        trainer.run()
    assert same(state(trainer.generator), before)
    assert same(state(trainer.averaged), before)


@pytest.mark.parametrize(
    ("config", "settings"), [(TINY, replace(SHORT, learning_rate=1e-4)), (replace(TINY, stem=8), SHORT)]
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, config: Any, settings: TrainSettings) -> None:
    path = tmp_path / "run.pt"
    Trainer(TINY, SHORT, Patches(), checkpoint=path).run()
    with pytest.raises(TrainingError, match=rf"checkpoint {re.escape(str(path))} belongs to a run with other settings"):
        Trainer(config, settings, Patches(), checkpoint=path)


def test_damaged_checkpoints_are_refused_in_one_line_and_run_no_code(tmp_path: Path) -> None:
    path, trace = tmp_path / "run.pt", tmp_path / "trace"
    Trainer(TINY, replace(SHORT, steps=1), Patches(), checkpoint=path).run()
    whole = path.read_bytes()

    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(trace),)

    damaged = [whole[: len(whole) // 2], whole[:100], b"", b"nonsense" * 99, bytes(500), pickle.dumps(Malicious(), 2)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"cannot be read \(.*\); remove it to start anew") as caught:
            Trainer(TINY, SHORT, Patches(), checkpoint=path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    for other in ([1, 2], {"step": 3}):
        torch.save(other, path)
        with pytest.raises(TrainingError, match="cannot be read"):
            Trainer(TINY, SHORT, Patches(), checkpoint=path)
    assert not trace.exists()


def test_data_of_other_channels_are_refused() -> None:
    with pytest.raises(TrainingError, match="the data hold VV and B4/B3, the generator takes VV and B11/B8/B3"):
        Trainer(TINY, SHORT, Patches(bands=("B4", "B3")))
    with pytest.raises(TrainingError, match="the data hold VH"):
        Trainer(TINY, SHORT, Patches(pols=("VH",)))


def test_samples_smaller_than_the_crop_are_named() -> None:
    with pytest.raises(TrainingError, match=r"sample patch-\d is 32 × 32 px, smaller than the crop 64"):
        Trainer(TINY, replace(SHORT, crop=64), Patches(side=32)).run()


def test_a_full_disk_ends_in_one_line_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        Trainer(TINY, SHORT, Patches(), checkpoint=path).run(stop_after(2))
    trainer, before = Trainer(TINY, SHORT, Patches(), checkpoint=path), path.read_bytes()
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
            Trainer(TINY, SHORT, Patches(), checkpoint=tmp_path / folder / "run.pt").run()


def test_a_step_draws_the_same_crops_again_and_keeps_inputs_together() -> None:
    settings = replace(SHORT, batch=6)
    batch, names = draw_batch(Patches(), settings, step_rng(0, 3))
    again, _ = draw_batch(Patches(), settings, step_rng(0, 3))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    assert draw_batch(Patches(), settings, step_rng(0, 4))[1] != names
    assert batch.target.shape == (6, 3, 32, 32)
    dry = batch.s1_t2 == batch.s1_t1
    torch.testing.assert_close(batch.target[dry.expand(-1, 3, -1, -1)], 0.8 * batch.s2_t1[dry.expand(-1, 3, -1, -1)])


def test_variation_hides_the_target_and_never_shows_what_is_not_clear() -> None:
    data = Patches(count=64, cloudy=tuple(range(0, 64, 2)))
    batch = collate([data[i] for i in range(64)])
    varied, s2_t2 = vary(batch, data.bands, step_rng(0, 0))
    seen = s2_t2.isfinite().all(1, keepdim=True)
    assert not (seen & ~batch.clear).any()
    assert torch.equal(s2_t2[seen.expand_as(s2_t2)], batch.target[seen.expand_as(s2_t2)])
    assert 0.3 < float(seen.any(1).any(1).any(1).float().mean()) < 0.7
    assert torch.equal(varied.target, batch.target)
    dropped = varied.s2_t1.isnan().flatten(1).all(1)
    assert 0 < int(dropped.sum()) < 12
    assert not varied.s1_t2.isnan().any()
    assert not batch.s2_t1.isnan().any(), "the samples themselves stay as they are"


def test_the_loss_counts_clear_hidden_pixels_only() -> None:
    batch = collate([Patches()[i] for i in range(3)])
    seen = torch.zeros_like(batch.clear)
    seen[:, :, 40:] = True
    made = torch.rand(batch.target.shape, generator=step_rng(1, 1))
    loss = similarity_loss(Prediction(made), batch, seen, SHORT)
    elsewhere = torch.where(batch.clear & ~seen, made, 9.0)
    assert torch.equal(similarity_loss(Prediction(elsewhere), batch, seen, SHORT), loss)
    assert similarity_loss(Prediction(batch.target), batch, seen, SHORT) < 1e-6
    hidden = Batch(*(t[:1] for t in batch))._replace(clear=torch.zeros_like(batch.clear[:1]))
    assert similarity_loss(Prediction(made[:1]), hidden, seen[:1], SHORT) == 0


def test_a_sample_without_clear_pixels_does_not_dilute_the_others() -> None:
    batch = collate([Patches()[i] for i in range(2)])
    batch.clear[1] = False
    seen, made = torch.zeros_like(batch.clear), torch.full_like(batch.target, 0.5)
    alone = similarity_loss(Prediction(made[:1]), Batch(*(t[:1] for t in batch)), seen[:1], SHORT)
    torch.testing.assert_close(similarity_loss(Prediction(made), batch, seen, SHORT), alone)


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    settings = TrainSettings(steps=100, warmup=10, learning_rate=1e-3)
    rates = [learning_rate(step, settings) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(1e-5)


def test_the_papers_form_trains_its_auxiliary_image_too() -> None:
    trainer = Trainer(replace(TINY, form="paper"), replace(SHORT, steps=1), Patches())
    before = state(trainer.generator)
    trainer.run()
    after = state(trainer.generator)
    assert not torch.equal(before["extended.1.weight"], after["extended.1.weight"])
