"""What the default generator sees, what it is blind to, and what missing pixels are to it."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from crgen.model.adaptive.network import CENTRE, PERSISTENCE, SPREAD, AdaptiveGenerator, lent_share
from crgen.model.adaptive.ridge import LENT
from crgen.model.adaptive.surroundings import REACH, local_mean, local_sum
from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator, Prediction
from crgen.training.data.dataset import collate
from crgen.training.losses import gaussian
from tests.model.scenes import Inputs, inputs, trained
from tests.training.patches import Patches


@pytest.fixture(scope="module")
def adaptive() -> Generator:
    return trained(preset("tiny"))


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 3.0), (1.0, -4.0), (0.6, -5.0), (1.2, 2.0)])
def test_calibration_and_stretch_of_the_radar_do_not_matter(
    adaptive: Generator, variable: str, gain: float, offset: float
) -> None:
    given = inputs(adaptive.config)
    stretched = getattr(given, variable) * gain + offset
    assert -25 < stretched.min() < stretched.max() < 0, "nothing is clipped, or the test says nothing"
    before, after = adaptive(*given).reflectance, adaptive(*given._replace(**{variable: stretched})).reflectance
    assert (before - after).abs().max() < 1e-4
    other = inputs(adaptive.config, seed=1)
    unlike = adaptive(*given._replace(**{variable: getattr(other, variable)})).reflectance
    assert (before - unlike).abs().max() > 20 * (before - after).abs().max(), "the radar must matter at all"


@pytest.mark.parametrize("variable", Inputs._fields)
@pytest.mark.parametrize("zero", ["smallest", "middle"])
def test_a_missing_pixel_is_not_a_dark_pixel(adaptive: Generator, variable: str, zero: str) -> None:
    """Neither the value that scales to -1 nor the one that scales to 0 looks like a pixel that is not there."""
    optical = variable.startswith("s2")
    value = {"smallest": 0.0, "middle": 0.5}[zero] if optical else {"smallest": -25.0, "middle": -12.5}[zero]
    given = inputs(adaptive.config)
    made = []
    for pixel in (value, torch.nan):
        changed = getattr(given, variable).clone()
        changed[..., 10, 10] = pixel
        made.append(adaptive(*given._replace(**{variable: changed})).reflectance)
    assert (made[0] - made[1]).abs().max() > 1e-4


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
def test_a_missing_radar_pixel_is_not_an_average_one(adaptive: Generator, variable: str) -> None:
    """Standardising makes missing pixels the window's mean: only the mask tells them apart."""
    given = inputs(adaptive.config)
    radar = getattr(given, variable).clone()
    radar[..., 10, 10] = torch.nan
    missing = adaptive(*given._replace(**{variable: radar})).reflectance
    average = adaptive(*given._replace(**{variable: radar.nan_to_num(float(radar.nanmean()))})).reflectance
    assert (missing - average).abs().max() > 1e-4


def test_a_closed_gate_lets_nothing_of_the_optical_t1_through() -> None:
    generator = trained(preset("tiny"))
    generator.get_parameter("reliability.leave.0.bias").fill_(-200.0)
    given, other = inputs(generator.config), inputs(generator.config, seed=3)
    assert torch.equal(generator(*given).reflectance, generator(*given._replace(s2_t1=other.s2_t1)).reflectance)
    assert not torch.equal(generator(*given).reflectance, generator(*given._replace(s1_t1=other.s1_t1)).reflectance)


def test_the_gate_alone_says_what_the_whole_generator_relies_on(adaptive: Generator) -> None:
    given = inputs(adaptive.config)
    assert torch.equal(adaptive.relied_on(given.s1_t1, given.s2_t1), adaptive(*given).reliability)


def test_the_estimate_alone_is_what_the_network_is_told(adaptive: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    given, told = inputs(adaptive.config), list[torch.Tensor]()
    original = AdaptiveGenerator.first_estimate

    def heard(*given: Any, **options: Any) -> Any:
        image, spread = original(*given, **options)
        told.append(image)
        return image, spread

    monkeypatch.setattr(AdaptiveGenerator, "first_estimate", heard)
    adaptive(*given)
    whole = told[0] * SPREAD + CENTRE
    torch.testing.assert_close(adaptive.estimated(*given, every=1), whole)
    torch.testing.assert_close(adaptive.estimated(*given, every=2), whole[..., 1::2, 1::2], atol=1e-5, rtol=0)


def test_what_mixes_the_two_regressions_goes_by_the_pixels_seen() -> None:
    generator = trained(preset("tiny"))
    given = inputs(generator.config, 64, 64)
    waves_alone, linear_alone = torch.tensor([9.0, 0.0]), torch.tensor([-9.0, 0.0])

    def made(blend: torch.Tensor, share: float) -> torch.Tensor:
        generator.get_parameter("blend").copy_(blend)
        s2_t2 = given.s2_t2.clone()
        s2_t2[..., int(share * s2_t2.shape[-2]) :, :] = torch.nan
        return generator.estimated(*given._replace(s2_t2=s2_t2), every=1)

    turns = torch.tensor([0.0, -9.0])  # linear with many pixels seen, waves with few
    for share, alone in ((1.0, linear_alone), (0.02, waves_alone)):
        torch.testing.assert_close(made(turns, share), made(alone, share))
        assert not torch.allclose(made(linear_alone, share), made(waves_alone, share), atol=1e-3)


def test_the_gate_is_told_what_departs_from_the_ground_the_radar_shows() -> None:
    generator, radar = adaptive_parts(64)
    heard: list[torch.Tensor] = []
    generator.reliability.enter.register_forward_pre_hook(lambda module, given: heard.append(given[0]))
    here = torch.ones(1, 1, 64, 64)
    ground = torch.cat([0.5 * radar[:, :1], -radar[:, :1], 0.2 + 0 * radar[:, :1]], 1)
    shadow = torch.zeros_like(here)
    shadow[..., 20:30, 20:30] = -0.4
    generator.reliability(radar[:, :1], here, ground + shadow, here)
    surprise = heard[0][:, -3:]
    assert surprise[..., 20:30, 20:30].max() < -0.2
    assert surprise[..., 40:, 40:].abs().mean() < 0.05


def test_what_is_missing_at_t1_is_not_relied_on(adaptive: Generator) -> None:
    given = inputs(adaptive.config)
    s2_t1 = given.s2_t1.clone()
    s2_t1[:, 1, 10:20, 20:30] = torch.nan  # one band of three is enough
    reliability = adaptive(*given._replace(s2_t1=s2_t1)).reliability
    assert reliability is not None
    missing = torch.isnan(s2_t1).any(1, keepdim=True)
    assert (reliability[missing] == 0).all()
    assert (reliability[~missing] > 0).all()
    assert reliability.max() < 1


def adaptive_parts(side: int = 128) -> tuple[AdaptiveGenerator, torch.Tensor]:
    """A generator that has learned nothing yet, and radar of two dates on its scale, ``(1, 2, side, side)``."""
    torch.manual_seed(0)
    generator = AdaptiveGenerator(replace(preset("tiny"), waves=64)).requires_grad_(False)
    return generator, torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(1))


def test_clouds_at_t1_are_filled_with_what_the_radar_says_of_this_scene() -> None:
    generator, radar = adaptive_parts()
    means = [local_mean(radar, torch.ones_like(radar), side) for side in REACH]
    ground = 0.5 + torch.cat([means[0][:, :1], -means[0][:, 1:], radar[:, :1]], 1)
    reliability = torch.ones_like(ground[:, :1])
    reliability[..., 20:44, 10:40] = 0
    cloudy = torch.where(reliability > 0, ground, 5.0)
    filled = generator.filled(cloudy, reliability, radar, means)
    clear = reliability.expand_as(ground) > 0
    assert torch.equal(filled[clear], ground[clear])
    assert (filled - ground)[~clear].square().mean() < 0.01 * ground[~clear].var()
    other = torch.where(reliability > 0, ground, -3.0)
    assert torch.equal(generator.filled(other, reliability, radar, means), filled), "the cloud's colour must not matter"


def seen_world() -> tuple[AdaptiveGenerator, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A generator, features of a scene, an image of two colours that its radar of both dates decides, what is seen."""
    generator, radar = adaptive_parts()
    radar = radar + 2 * local_mean(radar, torch.ones_like(radar), 21)
    means = [local_mean(radar, torch.ones_like(radar), side) for side in REACH]
    o1 = torch.zeros(1, 3, *radar.shape[-2:])
    features = generator.features(radar, o1, means, torch.ones_like(radar[:, :1]))
    water = ((means[0][:, 1:] < 0) & (means[0][:, :1] > 0)).float()
    seen = torch.zeros_like(water)
    seen[..., :64] = 1
    return generator, features, (1 - water).expand(-1, 3, -1, -1), seen


def test_curves_find_a_border_that_no_straight_line_does() -> None:
    generator, features, truth, seen = seen_world()
    first, _ = generator.first_estimate(features, generator.textures(features), truth, seen)
    straight = generator.estimate(features, truth, seen).image
    error, straight_error = ((image - truth)[seen.expand_as(truth) == 0].square().mean() for image in (first, straight))
    assert error < 0.9 * straight_error


def test_the_first_estimate_of_a_window_that_saw_nothing_is_what_others_lend() -> None:
    generator, features, truth, seen = seen_world()
    lent = generator.estimate.evidence(features, truth, seen)
    nothing = torch.zeros_like(seen)
    first, _ = generator.first_estimate(features, generator.textures(features), truth, nothing, lent)
    torch.testing.assert_close(first, generator.estimate(features, truth, nothing, lent).image)
    assert (
        first - generator.first_estimate(features, generator.textures(features), truth, nothing)[0]
    ).abs().max() > 0.1


def test_a_window_leans_on_the_first_estimate_as_far_as_what_it_knows_is_lent() -> None:
    seen = torch.zeros(4, 1, 64, 64)
    seen[2] = 1
    seen[3, :, :, :5] = 1  # 320 pixels
    lent = torch.tensor([[0.0], [LENT / 3], [1e6], [LENT]])
    share = lent_share(lent, seen).flatten().tolist()
    assert share[0] == 0
    assert share[1] == 1
    assert share[2] == pytest.approx(LENT / (LENT + 64 * 64))
    assert share[3] == pytest.approx(LENT / (LENT + 320))

    generator = trained(preset("tiny")).train()
    given = inputs(generator.config)
    assert isinstance(generator, AdaptiveGenerator)
    with torch.no_grad():
        lent = generator.evidence(*given)
        unseen = given._replace(s2_t2=torch.full_like(given.s2_t2, torch.nan))
        made = generator(*unseen, lent).reflectance
        x = generator.prepared(*unseen)
        first, _ = generator.first_estimate(x.features, generator.textures(x.features), x.o2, x.seen, lent)
    torch.testing.assert_close(made, first * SPREAD + CENTRE)


def test_ground_whose_radar_did_not_change_leans_on_the_optical_image_of_t1() -> None:
    generator = trained(preset("tiny"))
    generator.get_parameter("reliability.leave.0.bias").fill_(200.0)
    given = inputs(generator.config)
    same = given._replace(s1_t2=given.s1_t1, s2_t2=torch.full_like(given.s2_t2, torch.nan))
    assert isinstance(generator, AdaptiveGenerator)
    with torch.no_grad():
        used, free = generator(*same), generator.train()(*same)
    far, near = ((made.reflectance - same.s2_t1).abs().mean() for made in (free, used))
    assert 1 - PERSISTENCE <= near / far < 1 - PERSISTENCE / 2


def test_nothing_persists_where_the_radar_changed_or_is_missing_or_t2_was_seen_alike() -> None:
    generator, radar = adaptive_parts(64)
    change, here = torch.zeros_like(radar[:, :1]), torch.ones_like(radar[:, :1])
    unlike = 5 * here
    share = generator.persistence(change, here, unlike)
    assert 0.9 * PERSISTENCE < share.min() <= share.max() < PERSISTENCE
    assert generator.persistence(change + 3, here, unlike).max() < 1e-6
    assert generator.persistence(change - 3, here, unlike).max() < 1e-6
    assert generator.persistence(change, 0 * here, unlike).max() == 0
    assert generator.persistence(change, here, 0 * unlike).max() == 0


def test_nothing_seen_at_t2_is_the_same_as_no_image_of_t2(adaptive: Generator) -> None:
    given = inputs(adaptive.config)
    unseen = torch.full_like(given.s2_t2, torch.nan)
    nothing, none = adaptive(*given._replace(s2_t2=unseen)).reflectance, adaptive(*given[:3]).reflectance
    assert torch.equal(nothing, none)
    assert not torch.equal(adaptive(*given).reflectance, none)


def test_every_pixel_of_every_band_has_a_positive_variance() -> None:
    generator = trained(preset("tiny"))
    given = inputs(generator.config, 64, 32, n=2)
    nothing = given._replace(s2_t1=given.s2_t1 * torch.nan, s2_t2=given.s2_t2 * torch.nan)
    for surest in (False, True):
        if surest:
            generator.get_parameter("doubt.2.bias").fill_(-200.0)
        for made in (generator(*given), generator(*nothing)):
            assert made.variance is not None
            assert made.variance.shape == made.reflectance.shape == (2, 3, 64, 32)
            assert made.variance.isfinite().all()
            assert made.variance.min() > 0


def test_the_likelihood_teaches_that_a_pixel_far_from_the_seen_ones_is_less_certain() -> None:
    """All is still but what makes the variance of the rest. The left of t2 is seen; what is scored is a new place."""
    generator = build_generator(preset("tiny"), 0).requires_grad_(False)
    doubt = generator.get_submodule("doubt").requires_grad_()

    def made_and_true(index: int) -> tuple[Prediction, torch.Tensor]:
        batch = collate([Patches()[index]])
        s2_t2 = batch.target.clone()
        s2_t2[..., 24:] = torch.nan
        return generator(batch.s1_t1, batch.s2_t1, batch.s1_t2, s2_t2), batch.target

    def doubted() -> tuple[float, float, float, torch.Tensor]:
        with torch.no_grad():
            made, truth = made_and_true(3)
        assert made.variance is not None
        error, variance = (made.reflectance - truth).square().mean(), made.variance
        seen, far = variance[..., :24].mean(), variance[..., 40:].mean()
        return float(seen), float(far), float(variance.mean() / error), made.reflectance

    *_, too_much, image = doubted()
    optimiser = torch.optim.Adam(doubt.parameters(), 0.03)
    for step in range(40):
        made, truth = made_and_true(step % 2)
        optimiser.zero_grad()
        gaussian(made, truth, torch.ones_like(truth[:, :1])).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    seen, far, ratio, same = doubted()
    assert far > 1.5 * seen
    assert too_much > 10, "untrained it says what it likes"
    assert 0.5 < ratio < 2, "about the squared error"
    assert torch.equal(same, image), "the image is not the likelihood's to change"


@pytest.mark.parametrize("side", [1, 3, 7, 9, 15])
def test_local_means_are_those_of_average_pooling(side: int) -> None:
    x = torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(side))
    expected = torch.nn.functional.avg_pool2d(x, side, 1, side // 2)
    torch.testing.assert_close(local_sum(x, side), expected, atol=1e-6, rtol=1e-5)


def test_trees_have_their_say_only_in_what_is_like_what_was_seen() -> None:
    generator, rng = trained(preset("tiny")), torch.Generator().manual_seed(0)
    image, told, first, o2 = (0.1 * torch.randn(1, n, 64, 64, generator=rng) for n in (3, 5, 3, 3))
    o2 += 1
    seen, like = torch.ones(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    seen[..., 32:] = 0
    like[..., 48:] = 0
    mixed = generator.with_trees(image, told, first, o2, seen, like)
    assert torch.equal(mixed[..., 50:], image[..., 50:]), "but for a rim as wide as their grain is smoothed"
    assert not torch.equal(mixed[..., 48:50], image[..., 48:50])
    shown = mixed[..., :32] - o2[..., :32]
    assert shown.square().mean() < 0.7 * (image - o2)[..., :32].square().mean()
    assert torch.equal(generator.with_trees(image, told, first, o2, seen, 0.4 * like), image), "nothing sure to grow on"
