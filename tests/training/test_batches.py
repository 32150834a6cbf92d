"""Batches: the same for the same step, of clear crops, from readable samples, in given shares."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crgen.errors import TrainingError
from crgen.training.batches import Steps, batches, step_rng
from crgen.training.data.dataset import DamagedPatch, Mixture, Sample
from crgen.training.recipe import Recipe
from tests.training.patches import Patches

PLAIN = Recipe(steps=6, batch=6, crop=32, variation="none")


class Damaged(Patches):
    """Every second sample cannot be read."""

    def __getitem__(self, index: int) -> Sample:
        if index % 2 or self.count == 1:
            raise DamagedPatch(f"patch-{index} is damaged; fetch it again")
        return super().__getitem__(index)


def test_a_step_draws_the_same_crops_again_and_keeps_inputs_together() -> None:
    steps = Steps(Patches(), PLAIN, 6)
    batch, _, names, _ = steps.draw(3)
    again = steps.draw(3).batch
    for first, second in zip(batch, again, strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    assert steps.draw(4).names != names
    assert batch.target.shape == (6, 3, 32, 32)
    dry = (batch.s1_t2 == batch.s1_t1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(batch.target[dry], 0.8 * batch.s2_t1[dry])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_who_prepares_them_nor_on_where_one_begins(workers: int) -> None:
    steps = Steps(Patches(), replace(PLAIN, variation="full"), 6)
    made = list(batches(steps, 3, workers, pin=False))
    assert [m.names for m in made] == [steps.draw(i).names for i in (3, 4, 5)]
    torch.testing.assert_close(made[1].batch.s2_t1, steps.draw(4).batch.s2_t1, equal_nan=True, rtol=0, atol=0)


def test_two_processes_share_a_batch_and_draw_each_their_own() -> None:
    parts = [Steps(Patches(), PLAIN, 6, rank, 2).draw(0) for rank in (0, 1)]
    assert [len(p.names) for p in parts] == [3, 3]
    assert not torch.equal(parts[0].batch.target, parts[1].batch.target)


def test_samples_smaller_than_the_crop_are_padded_with_missing_pixels() -> None:
    batch = Steps(Patches(side=40), replace(PLAIN, crop=64), 6).draw(0).batch
    assert batch.target.shape == (6, 3, 64, 64)
    for image in (batch.s1_t1, batch.s2_t1, batch.s1_t2, batch.target):
        assert image.isnan().sum() == 6 * image.shape[1] * (64**2 - 40**2)
    assert not (batch.clear & batch.target.isnan().any(1, keepdim=True)).any()
    assert batch.clear.float().mean() > 0.3


class Wet(Patches):
    """Where the target is dark is flooded."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return sample._replace(flooded=sample.target[:1] == np.float32(0.05))


def test_crops_know_which_pixels_are_flooded() -> None:
    recipe = replace(PLAIN, crop=64, variation="mild")
    batch = Steps(Wet(side=40), recipe, 6).draw(0).batch
    assert torch.equal(batch.flooded.isnan(), batch.target[:, :1].isnan())
    wet = batch.flooded == 1
    assert 0.1 < float(wet.float().mean()) < 0.9
    for image, flood in zip(batch.target[:, 0], wet[:, 0], strict=True):
        assert image[flood].unique().numel() == 1, "one colour of water, tinted or not"
    assert Steps(Patches(), PLAIN, 6).draw(0).batch.flooded.isnan().all()


class Overcast(Patches):
    """Without a clear target pixel but in ``patch-5``."""

    clear = 5

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return sample if index == self.clear else sample._replace(clear=sample.clear & False)


def test_cloudy_targets_are_passed_over() -> None:
    for step in range(4):
        drawn = Steps(Overcast(), PLAIN, 6).draw(step)
        assert set(drawn.names) == {"patch-5"}
        assert not drawn.skipped, "a cloudy target is nobody's fault"


def test_data_without_a_clear_target_stop_the_run_in_one_line() -> None:
    error = Steps(Overcast(count=5), PLAIN, 6)[0]
    assert isinstance(error, TrainingError)
    assert "hold no clear target pixels in 5 samples (patch-0, patch-1" in str(error)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_samples_are_named_and_others_take_their_place(workers: int) -> None:
    for step in batches(Steps(Damaged(), PLAIN, 3), 0, workers, pin=False):
        assert len(step.names) == 6
        assert {int(n[-1]) % 2 for n in step.names} == {0}
        assert all("is damaged; fetch it again" in line for line in step.skipped)
    (error,) = batches(Steps(Damaged(count=1), PLAIN, 1), 0, workers, pin=False)
    assert "no clear target pixels (patch-0 is damaged; fetch it again)" in str(error)


def test_a_mixture_keeps_to_its_weights_whatever_the_sizes() -> None:
    mixture = Mixture([(Patches(count=90), 1.0), (Patches(count=10), 3.0)])
    assert len(mixture) == 100
    assert [mixture[i].name for i in (0, 89, 90, 99)] == ["patch-0", "patch-89", "patch-0", "patch-9"]
    rng = step_rng(0, 0)
    drawn = torch.tensor([mixture.draw(rng) for _ in range(4000)])
    assert 0.71 < (drawn >= 90).float().mean() < 0.79
    assert len(drawn.unique()) == 100
    with pytest.raises(IndexError):
        mixture[100]


def test_a_part_that_weighs_its_samples_is_drawn_by_them() -> None:
    uneven = Patches(count=3)
    uneven.weights = torch.tensor([1.0, 0.0, 3.0])
    mixture, rng = Mixture([(Patches(count=5), 1.0), (uneven, 1.0)]), step_rng(0, 0)
    shares = torch.tensor([mixture.draw(rng) for _ in range(4000)]).bincount(minlength=8) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.1] * 5 + [0.125, 0.0, 0.375]), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([], "no data"),
        ([(Patches(), 1.0), (Patches(bands=("B4",)), 1.0)], "VV and B11/B8/B3 and VV and B4"),
        ([(Patches(), 0.0)], "weight 0.0"),
        ([(Patches(count=0), 1.0)], "no samples"),
    ],
)
def test_mixtures_that_cannot_be(parts: list[tuple[Patches, float]], problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        Mixture(parts)
