"""The discriminator sees what it should, and its losses are those of their names."""

import math

import pytest
import torch
from torch import Tensor, nn

from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.training.discriminator import ThreeScaleDiscriminator, build_discriminator, condition_of
from crgen.training.losses import ADVERSARIAL, gradient_penalty, score_losses
from crgen.training.recipe import RECIPES, Adversary
from tests.model.scenes import inputs


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 64, 64, generator=rng) * 2 - 1, torch.rand(2, 7, 64, 64, generator=rng) * 2 - 1


def test_the_papers_preset_feeds_it_ten_channels() -> None:
    generator = build_generator(preset("paper"), 0)
    adversary = RECIPES["paper"].adversary
    assert adversary is not None
    discriminator = build_discriminator(generator, adversary, 0)
    given = inputs(generator.config)
    condition = condition_of(generator, *given[:3])
    assert condition.shape[1] + given.s2_t1.shape[1] == 10
    scores = discriminator(torch.zeros_like(given.s2_t1), condition)
    assert [s.shape[-1] for s in scores] == [32 // 2**d // 2**i for i, d in enumerate((3, 2, 1))]


def test_the_condition_is_scaled_and_has_no_holes() -> None:
    generator = build_generator(preset("tiny"), 0)
    given = inputs(generator.config)
    given.s1_t1[..., :9] = torch.nan
    given.s2_t1[:] = torch.nan
    condition = condition_of(generator, *given[:3])
    assert condition.isfinite().all()
    assert condition.abs().max() <= 1
    for at, middle in enumerate((17.5, 22.5)):  # VV and VH: -35 to 0, and -40 to -5 dB
        torch.testing.assert_close(condition[:, at, :, 9:], (given.s1_t1[:, at, :, 9:] + middle) / 17.5)


def test_three_scales_each_see_the_whole_image(images: tuple[Tensor, Tensor]) -> None:
    image, condition = images
    discriminator = ThreeScaleDiscriminator(10, (8, 16, 24)).eval()
    scores = discriminator(image, condition)
    assert [tuple(s.shape) for s in scores] == [(2, 1, 8, 8)] * 3
    assert [sum(isinstance(m, nn.Conv2d) and m.stride == (2, 2) for m in d.body) for d in discriminator.scales] == [
        3, 2, 1,
    ]  # fmt: skip
    for moved in (image.clone(), condition.clone()):
        moved[0, :, 40:44, 8:12] += 0.5
        other = discriminator(moved, condition) if moved.shape == image.shape else discriminator(image, moved)
        for before, after in zip(scores, other, strict=True):
            assert not torch.equal(before[0], after[0])
            assert torch.equal(before[1], after[1]), "an image is scored by itself"


def test_the_papers_form_is_one_map_between_0_and_1_and_its_batch_norm_mixes_images(
    images: tuple[Tensor, Tensor],
) -> None:
    image, condition = images
    discriminator = ThreeScaleDiscriminator(10, (8, 16, 24), paper=True).train()
    (scores,) = discriminator(image, condition)
    assert 0 < scores.min() < scores.max() < 1
    moved = image.clone()
    moved[0] += 0.5
    (after,) = discriminator(moved, condition)
    assert not torch.equal(scores[1], after[1]), "why a gradient penalty per image makes no sense there"


def test_the_losses_are_those_of_their_names() -> None:
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-2.0, 0.5])
    assert score_losses([(real, fake)], "hinge").item() == pytest.approx((0.5 + 0) / 2 + (0 + 1.5) / 2)
    assert score_losses([(real, fake)], "least squares").item() == pytest.approx((0.25 + 1) / 2 + (4 + 0.25) / 2)
    for pair in ("wasserstein", "paper"):
        assert score_losses([(real, fake)], pair).item() == pytest.approx(-0.75 - 1.25)
    assert ADVERSARIAL["paper"].generator(fake).item() == pytest.approx((9 + 0.25) / 2)
    assert ADVERSARIAL["hinge"].generator(fake).item() == pytest.approx(0.75)
    two = score_losses([(real, fake), (fake, real)], "wasserstein")
    assert two.item() == pytest.approx(0), "scales count alike"


class Slope(nn.Module):
    """Scores an image by its mean times a slope: every penalty has a value to compare with."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        return [self.slope * image.mean(1, keepdim=True)]


@pytest.mark.parametrize("side", [32, 64])
def test_penalties_are_of_the_gradient_whatever_the_size_of_the_image(side: int) -> None:
    real, fake = torch.rand(2, 2, 3, side, side)
    expected = 5.0 / math.sqrt(3)  # ‖gradient‖, of a slope of 5 / 3 in each of three bands
    discriminator = Slope(5.0)
    r1 = gradient_penalty(discriminator, real, fake, real, "hinge")
    between = gradient_penalty(discriminator, real, fake, real, "wasserstein")
    assert r1.item() == pytest.approx(0.5 * expected**2, rel=1e-4)
    assert between.item() == pytest.approx((expected - 1) ** 2, rel=1e-4)
    r1.backward()
    assert discriminator.slope.grad == pytest.approx(5 / 3, rel=1e-4), "the penalty itself can be trained on"


@pytest.mark.parametrize("pair", ADVERSARIAL)
def test_every_pair_gives_gradients_to_both(pair: str, images: tuple[Tensor, Tensor]) -> None:
    image, condition = images
    discriminator = ThreeScaleDiscriminator(10, (8, 16, 24), paper=Adversary(pair=pair).pair == "paper")
    fake = image.flip(0).requires_grad_()
    scores = list(zip(discriminator(image, condition), discriminator(fake, condition), strict=True))
    penalty = gradient_penalty(discriminator, image, fake.detach(), condition, pair)
    (score_losses(scores, pair) + penalty).backward()
    for part in discriminator.scales:
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
    fake.grad = None
    ADVERSARIAL[pair].generator(discriminator(fake, condition)[0]).backward()
    assert fake.grad is not None
    assert fake.grad.abs().max() > 0
