"""Batches: the same for the same step, of clear crops, from readable samples, in given shares."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crgen.errors import TrainingError
from crgen.training.batches import Step, Steps, batches, step_rng
from crgen.training.data.dataset import DamagedPatch, Mixture, Sample
from crgen.training.recipe import Recipe
from tests.training.patches import WATER, Patches

PLAIN = Recipe(steps=6, batch=6, crop=32, variation="none")


class Damaged(Patches):
    """Every second sample cannot be read."""

    def __getitem__(self, index: int) -> Sample:
        if index % 2 or self.count == 1:
            raise DamagedPatch(f"patch-{index} is damaged; fetch it again")
        return super().__getitem__(index)


def drawn(steps: Steps, step: int) -> Step:
    return steps.vary(steps.draw(step))


def same(a: Step, b: Step) -> bool:
    pairs = zip((*a.inputs, *a.truth), (*b.inputs, *b.truth), strict=True)
    return all(torch.equal(x.nan_to_num(-99), y.nan_to_num(-99)) for x, y in pairs)


def test_a_step_draws_the_same_crops_again_and_keeps_inputs_together() -> None:
    steps = Steps(Patches(), PLAIN, 6)
    step = drawn(steps, 3)
    assert same(step, drawn(steps, 3))
    assert steps.draw(4).names != steps.draw(3).names == steps.draw(3).names
    inputs, truth = step.inputs, step.truth
    assert truth.target.shape == (6, 10, 32, 32)
    dry = (inputs.s1_t2 == inputs.s1_t1).all(1, keepdim=True).expand_as(truth.target)
    torch.testing.assert_close(truth.target[dry], 0.8 * inputs.s2_t1[dry])


@pytest.mark.parametrize("variation", ["none", "full"])
def test_the_same_seed_and_step_draw_the_same_batch_and_another_seed_another(variation: str) -> None:
    """PyTorch's generator keeps 32 bits of a seed: put into the upper ones, seeds drew the same batches."""
    recipe = replace(PLAIN, variation=variation)
    one, again, other = (drawn(Steps(Patches(), replace(recipe, seed=seed), 6), 2) for seed in (1, 1, 2))
    assert same(one, again)
    assert not torch.equal(one.truth.target, other.truth.target)
    first = {float(torch.rand(1, generator=step_rng(seed, step))) for seed in range(16) for step in range(64)}
    assert len(first) == 16 * 64, "no seed draws at one step what another draws at another"


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_who_prepares_them_nor_on_where_one_begins(workers: int) -> None:
    steps = Steps(Patches(), replace(PLAIN, variation="full"), 6)
    made = list(batches(steps, 3, workers, pin=False))
    assert [m.names for m in made] == [steps.draw(i).names for i in (3, 4, 5)]
    assert same(steps.vary(made[1]), drawn(steps, 4))


def test_two_processes_share_a_batch_and_draw_each_their_own() -> None:
    parts = [drawn(Steps(Patches(), PLAIN, 6, rank, 2), 0).truth.target for rank in (0, 1)]
    assert [len(p) for p in parts] == [3, 3]
    assert not torch.equal(*parts)


@pytest.mark.parametrize("variation", ["none", "full"])
def test_samples_smaller_than_the_crop_are_padded_with_missing_pixels(variation: str) -> None:
    inputs, truth = drawn(Steps(Patches(side=40), replace(PLAIN, crop=64, variation=variation), 6), 0)
    assert truth.target.shape == (6, 10, 64, 64)
    beyond = truth.target.isnan().all(1, keepdim=True)
    assert beyond.sum() == 6 * (64**2 - 40**2)
    for image in (inputs.s1_t1, inputs.s2_t1, inputs.s1_t2, inputs.s2_t2):
        assert image[beyond.expand_as(image)].isnan().all(), "nothing is painted where there is nothing"
    assert not (truth.counts & beyond).any()
    assert truth.counts.float().mean() > 0.2
    for label in (truth.water_t1, truth.flooded, truth.shown_t1):
        assert label[beyond].isnan().all()
    if variation == "none":
        assert truth.water_t2[beyond].isnan().all()


class Wet(Patches):
    """Where the target has the colour of water is flooded."""

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return sample._replace(flooded=sample.target[[self.bands.index("B8")]] == np.float32(WATER["B8"]))


def test_crops_know_which_pixels_are_flooded() -> None:
    recipe = replace(PLAIN, crop=64, variation="mild")
    truth = drawn(Steps(Wet(side=40, calibrated=False), recipe, 6), 0).truth
    assert torch.equal(truth.flooded.isnan(), truth.target[:, :1].isnan())
    wet = truth.flooded == 1
    assert 0.1 < float(wet.float().mean()) < 0.9
    for image, flood in zip(truth.target[:, 0], wet[:, 0], strict=True):
        assert image[flood].unique().numel() == 1, "one colour of water, tinted or not"
    assert drawn(Steps(Patches(), PLAIN, 6), 0).truth.flooded.isnan().all()


class Overcast(Patches):
    """Without a clear target pixel but in ``patch-5``."""

    clear = 5

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return sample if index == self.clear else sample._replace(clear=sample.clear & False)


def test_cloudy_targets_are_passed_over() -> None:
    for step in range(4):
        crops = Steps(Overcast(), PLAIN, 6).draw(step)
        assert set(crops.names) == {"patch-5"}
        assert not crops.skipped, "a cloudy target is nobody's fault"


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
        ([(Patches(), 1.0), (Patches(bands=("B4",)), 1.0)], "VV/VH and B2/.*/B12 and VV/VH and B4"),
        ([(Patches(), 0.0)], "weight 0.0"),
        ([(Patches(count=0), 1.0)], "no samples"),
    ],
)
def test_mixtures_that_cannot_be(parts: list[tuple[Patches, float]], problem: str) -> None:
    with pytest.raises(TrainingError, match=problem):
        Mixture(parts)
