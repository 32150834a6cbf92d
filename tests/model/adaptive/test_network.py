"""What the default generator sees, what it is blind to, and what missing pixels are to it."""

from typing import Any

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from torch import Tensor

from crgen.model.adaptive.network import STILL, AdaptiveGenerator, as_seen
from crgen.model.adaptive.spectrum import CENTRE, SPREAD
from crgen.model.adaptive.surroundings import local_sum
from crgen.model.build import build_generator
from crgen.model.config import CORE, preset
from crgen.model.generator import Generator, Prediction
from crgen.model.water import water_label
from crgen.training.augment import Truth, leave
from crgen.training.data.dataset import collate
from crgen.training.losses import gaussian
from tests.model.scenes import Inputs, inputs, lean, trained
from tests.training.patches import Patches

CONFIG = preset("tiny")
FOLLOWING = [i for i, band in enumerate(CONFIG.bands) if band not in CORE]
LEVELS, NO_LEVELS = torch.tensor([1.0]), torch.tensor([0.0])


@pytest.fixture(scope="module")
def adaptive() -> Generator:
    return trained(CONFIG)


def heard_by(module: torch.nn.Module, generator: Generator, *given: Any, **options: Any) -> tuple[Prediction, Any]:
    """A prediction, and what a part of the generator was given on the way."""
    heard: list[Any] = []
    hook = module.register_forward_pre_hook(lambda module, given: heard.append(given))
    made = generator(*given, **options)
    hook.remove()
    return made, heard[0]


def radar_tells(generator: Generator, given: Inputs, **options: Any) -> tuple[Prediction, Tensor]:
    """A prediction, and the probability of water at t2 before that of t1 is held to."""
    made, heard = heard_by(generator.get_submodule("spectrum"), generator, *given, **options)
    return made, heard[2]


def furthest(made: Prediction, other: Prediction) -> float:
    """The largest change of reflectance or probability of water."""
    assert made.water is not None
    assert other.water is not None
    pairs = ((made.reflectance, other.reflectance), (made.water, other.water))
    return max(float((a - b).abs().max()) for a, b in pairs)


def unseen(given: Inputs) -> Inputs:
    return given._replace(s2_t2=torch.full_like(given.s2_t2, torch.nan))


# --- water -----------------------------------------------------------------------------------------------------------


def test_the_image_lies_between_land_and_water_by_the_probability_of_water(adaptive: Generator) -> None:
    spectrum = adaptive.get_submodule("spectrum")
    made, (land, colour, p, before, *rest) = heard_by(spectrum, adaptive, *unseen(inputs(CONFIG)))
    assert made.water is not None
    assert made.water.shape == (1, 2, 32, 32)
    still = before * (water_label(made.reflectance, CONFIG.bands) == 1)
    assert torch.equal(made.water[:, 1:], torch.maximum(p, still))
    assert 0 < p.min() < p.max() < 1
    core = [CONFIG.bands.index(band) for band in CORE]
    expected = ((1 - p) * land + p * colour) * SPREAD + CENTRE
    torch.testing.assert_close(made.reflectance[:, core], expected)
    never = torch.zeros_like(before)
    dry, mixed, wet = (spectrum(land, colour, share, never, *rest) for share in (never, p, never + 1))
    torch.testing.assert_close(mixed, (1 - p) * dry + p * wet, msg="in every band")
    assert (colour * SPREAD + CENTRE).min() >= 0
    assert (colour * SPREAD + CENTRE).max() <= 2 * CENTRE


def test_where_water_is_certain_nothing_else_moves_the_image() -> None:
    generator = trained(CONFIG)
    lean(generator, "head_water", 0)
    lean(generator, "leave_t1", 1, -200.0)  # nor was there any before, to tell of its other bands
    given = inputs(CONFIG)
    made, lent = generator(*given), generator(*given, lent=generator.evidence(*inputs(CONFIG, seed=5)))
    assert (made.water[:, 1] == 1).all()
    assert torch.equal(made.reflectance, lent.reflectance)
    hazy = given._replace(s2_t1=given.s2_t1.clone())
    hazy.s2_t1[:, FOLLOWING] += 0.3
    assert torch.equal(made.reflectance, generator(*hazy).reflectance)


def test_water_of_t1_that_the_image_still_shows_is_water_by_at_least_the_probability_of_t1() -> None:
    """Rivers and lakes are not lost where the radar of t2 does not show them; ground that the image shows is."""
    generator = trained(CONFIG)
    lean(generator, "leave_t1", 0)  # shown
    lean(generator, "leave_t1", 1, 2.0)  # water at t1, everywhere
    lean(generator, "head_land", 0)  # t1 is kept
    lean(generator, "head_water", 0, -200.0)  # no water by the radar
    generator.get_parameter("light.weight").zero_()
    given = unseen(inputs(CONFIG))
    given.s2_t1[..., :16] = 0.2  # ground
    given.s2_t1[..., 16:] = 0.02
    given.s2_t1[:, CONFIG.bands.index("B3"), :, 16:] = 0.06
    before, after = generator(*given).water.split(1, 1)
    assert (after[..., :16] == 0).all()
    assert torch.equal(after[..., 16:], before[..., 16:])
    lean(generator, "head_water", 0, 1.0)
    p = torch.tensor(1.0).sigmoid()
    after = generator(*given).water[:, 1:]
    assert (after >= p - 1e-6).all(), "and never less than the radar says"


@pytest.mark.parametrize("pixels", [10.0, 1e6])
def test_what_other_windows_lend_moves_the_land_and_never_votes_water_away(adaptive: Generator, pixels: float) -> None:
    """As much as a scene without a pixel of water can say."""
    dry = inputs(CONFIG, seed=5)
    dry.s2_t2[:] = 0.4
    evidence = adaptive.evidence(*dry)
    for given in (inputs(CONFIG), unseen(inputs(CONFIG))):
        alone, p_alone = radar_tells(adaptive, given)
        lent, p_lent = radar_tells(adaptive, given, lent=evidence * pixels / 1024)
        assert torch.equal(p_alone, p_lent)
        assert (alone.reflectance - lent.reflectance).abs().max() > 1e-5


def test_what_was_seen_of_the_window_moves_water_by_one_offset_towards_what_it_shows(adaptive: Generator) -> None:
    given = inputs(CONFIG)
    _, blind = radar_tells(adaptive, unseen(given))
    b3, b8, b11 = (CONFIG.bands.index(band) for band in ("B3", "B8", "B11"))
    wet, dry = (given._replace(s2_t2=given.s2_t2.clone()) for _ in range(2))
    for index, reflectance in ((b3, 0.08), (b8, 0.03), (b11, 0.01)):
        wet.s2_t2[:, index] = torch.where(torch.isfinite(given.s2_t2[:, index]), reflectance, torch.nan)
    for index, reflectance in ((b3, 0.05), (b8, 0.3), (b11, 0.2)):
        dry.s2_t2[:, index] = torch.where(torch.isfinite(given.s2_t2[:, index]), reflectance, torch.nan)
    up, down = (radar_tells(adaptive, scene)[1].logit() - blind.logit() for scene in (wet, dry))
    assert (up > 0.5).all()
    assert (down < -0.5).all()
    torch.testing.assert_close(down, down[..., :1, :1].expand_as(down), atol=1e-2, rtol=0)


@drawn(st.integers(0, 2**31 - 1), st.floats(-20, 20), st.integers(0, 4000), st.floats(0, 1))
def test_water_moved_to_what_was_seen_is_neither_more_nor_less_than_that(
    seed: int, level: float, seen: int, share: float
) -> None:
    """Over the seen pixels, those counting most that are least certain, and but for what holds it where it is."""
    rng = torch.Generator().manual_seed(seed)
    logit = torch.randn(1, 1, 64, 64, generator=rng) + level
    label = torch.full_like(logit, torch.nan)
    label.view(-1)[:seen] = (torch.rand(seen, generator=rng) < share).float()
    moved = as_seen(logit, label)
    offset = (moved - logit).flatten()
    p, known = logit.sigmoid(), torch.isfinite(label)
    gap = (4 * p * (1 - p) * (label - moved.sigmoid()))[known].sum()
    assert (offset - offset[0]).abs().max() < 1e-4
    torch.testing.assert_close(gap, STILL * offset[0], atol=0.2, rtol=0.01)


def test_snow_in_shade_that_looks_like_water_turns_no_dry_ground_into_water() -> None:
    logit = torch.full((1, 1, 64, 64), -8.0)
    label = torch.full_like(logit, torch.nan)
    label[..., :32] = (torch.arange(64 * 32).view(64, 32) % 3 == 0).float()
    assert as_seen(logit, label).sigmoid().max() < 0.01


# --- radar -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
@pytest.mark.parametrize(("gain", "offset"), [(1.0, 3.0), (1.0, -10.0), (0.6, -5.0), (1.2, 2.0)])
def test_without_levels_a_gain_and_an_offset_of_the_radar_do_not_matter(
    adaptive: Generator, variable: str, gain: float, offset: float
) -> None:
    given, other = inputs(CONFIG), inputs(CONFIG, seed=1)
    stretched = given._replace(**{variable: getattr(given, variable) * gain + offset})
    before, after = (adaptive(*scene, calibrated=NO_LEVELS) for scene in (given, stretched))
    assert furthest(before, after) < 1e-4
    unlike = adaptive(*given._replace(**{variable: getattr(other, variable)}), calibrated=NO_LEVELS)
    assert furthest(before, unlike) > 20 * furthest(before, after), "the radar must matter at all"


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
def test_with_levels_an_offset_of_the_radar_is_seen(adaptive: Generator, variable: str) -> None:
    given = inputs(CONFIG)
    darker = given._replace(**{variable: getattr(given, variable) - 10})
    before, after = adaptive(*given, calibrated=LEVELS), adaptive(*darker, calibrated=LEVELS)
    assert (before.water - after.water).abs().max() > 1e-3
    assert (before.reflectance - after.reflectance).abs().max() > 1e-3
    assert furthest(before, adaptive(*given)) == 0, "unless said, radar is calibrated"
    pair = [torch.cat([a, b]) for a, b in zip(given, darker, strict=True)]
    both = adaptive(*pair, calibrated=torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(both.water[:1], before.water, atol=1e-5, rtol=0)
    torch.testing.assert_close(both.water[1:], adaptive(*given, calibrated=NO_LEVELS).water, atol=1e-4, rtol=0)


def test_no_level_weighs_more_than_one() -> None:
    generator = trained(CONFIG)
    level = generator.get_submodule("level")
    for parameter in level.parameters():
        parameter.mul_(100)
    added: list[Tensor] = []
    level.register_forward_hook(lambda module, given, returned: added.append(returned))
    given = inputs(CONFIG)
    for offset in (-100.0, 0.0, 100.0):
        generator(*given._replace(s1_t2=given.s1_t2 + offset))
    assert len(added) == 6, "of both dates"
    assert 0.9 < max(float(features.abs().max()) for features in added) <= 1


@pytest.mark.parametrize("dates", [("s1_t1",), ("s1_t2",), ("s1_t1", "s1_t2")])
@pytest.mark.parametrize("calibrated", [LEVELS, NO_LEVELS])
def test_vv_alone_is_enough(adaptive: Generator, dates: tuple[str, ...], calibrated: Tensor) -> None:
    given = Inputs(*(t.clone() for t in inputs(CONFIG)))
    for date in dates:
        getattr(given, date)[:, 1] = torch.nan
    made = adaptive(*given, calibrated=calibrated)
    for part in (made.reflectance, made.water, made.variance, made.reliability, made.clean_t1):
        assert part is not None
        assert part.isfinite().all()
    for date in dates:
        flooded = given._replace(**{date: getattr(given, date).clone()})
        getattr(flooded, date)[:, 0, 8:16, 8:16] -= 8
        assert furthest(made, adaptive(*flooded, calibrated=calibrated)) > 1e-3, "VV is still read"
    flat = Inputs(*(t.clone() for t in given))
    for date in dates:
        getattr(flat, date)[:, 1] = -13.0
    assert furthest(made, adaptive(*flat, calibrated=calibrated)) > 1e-4, "missing VH is not even VH"


# --- bands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("date", ["s2_t1", "s2_t2"])
def test_the_three_bands_that_carry_the_image_need_no_other(adaptive: Generator, date: str) -> None:
    given = Inputs(*(t.clone() for t in inputs(CONFIG)))
    whole = adaptive(*given)
    getattr(given, date)[:, FOLLOWING] = torch.nan
    lacking = adaptive(*given)
    assert torch.equal(whole.reflectance[:, adaptive.core], lacking.reflectance[:, adaptive.core])
    assert torch.equal(whole.water, lacking.water)
    assert torch.equal(whole.reliability, lacking.reliability)
    assert lacking.reflectance.isfinite().all()
    assert lacking.variance.isfinite().all()


def test_t1_kept_whole_is_the_image_in_every_band() -> None:
    generator = trained(CONFIG)
    lean(generator, "leave_t1", 0)  # shown
    lean(generator, "head_land", 0)  # kept
    lean(generator, "head_water", 0, -200.0)
    generator.get_parameter("light.weight").zero_()
    generator.get_parameter("spectrum.kept").fill_(200.0)
    given = unseen(inputs(CONFIG))
    made = generator(*given)
    torch.testing.assert_close(made.reflectance, given.s2_t1, atol=1e-5, rtol=0)
    torch.testing.assert_close(made.clean_t1, given.s2_t1[:, generator.core], atol=1e-6, rtol=0)


def test_what_is_missing_at_t1_is_not_relied_on_and_made_instead(adaptive: Generator) -> None:
    given = inputs(CONFIG)
    s2_t1 = given.s2_t1.clone()
    s2_t1[:, CONFIG.bands.index("B8"), 10:20, 20:30] = torch.nan  # one band of the three is enough
    s2_t1[:, CONFIG.bands.index("B12"), 0:8, 0:8] = torch.nan  # of the others none is needed
    made = adaptive(*given._replace(s2_t1=s2_t1))
    missing = torch.isnan(s2_t1[:, CONFIG.bands.index("B8")])[:, None]
    assert (made.reliability[missing] == 0).all()
    assert (made.reliability[~missing] > 0).all()
    assert made.reliability.max() < 1
    assert made.clean_t1.shape == (1, 3, 32, 32)
    assert made.clean_t1.isfinite().all()


@pytest.mark.parametrize(("shown", "left_out"), [(0.001, True), (0.03, False)])
def test_what_shows_nothing_of_t1_is_left_out_as_if_it_were_missing(shown: float, left_out: bool) -> None:
    generator = trained(CONFIG)
    told = generator.get_parameter("leave_t1.weight"), generator.get_parameter("leave_t1.bias")
    told[0][0] = 0
    told[1][0] = torch.tensor(shown).logit()
    given = inputs(CONFIG)
    missing = given._replace(s2_t1=torch.full_like(given.s2_t1, torch.nan))
    clouded, without = generator(*given), generator(*missing)
    assert (furthest(clouded, without) < 0.01) == left_out
    assert clouded.reliability.mean() == pytest.approx(shown, rel=1e-3)  # it still learns what it shows


def test_a_clear_sky_score_is_read_where_there_is_one(adaptive: Generator) -> None:
    given = inputs(CONFIG)
    none = adaptive(*given)
    unknown, cloud, clear = (torch.full((1, 1, 32, 32), score) for score in (torch.nan, 0.0, 1.0))
    assert furthest(none, adaptive(*given, clear_t1=unknown)) == 0
    half = adaptive(*given, clear_t1=torch.full((1, 1, 32, 32), 0.5))
    made = [none, half, adaptive(*given, clear_t1=cloud), adaptive(*given, clear_t1=clear)]
    changes = [furthest(a, b) for i, a in enumerate(made) for b in made[:i]]
    assert min(changes) > 1e-4, "an undecided score is not a missing one"


# --- missing pixels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", Inputs._fields)
@pytest.mark.parametrize("zero", ["smallest", "middle"])
def test_a_missing_pixel_is_not_a_dark_pixel(adaptive: Generator, variable: str, zero: str) -> None:
    """Neither the value that scales to -1 nor the one that scales to 0 looks like a pixel that is not there."""
    optical = {"smallest": 0.0, "middle": CENTRE}
    radar = {"smallest": (-35.0, -40.0), "middle": (-17.5, -22.5)}
    value = torch.tensor(optical[zero] if variable.startswith("s2") else radar[zero])
    given = inputs(CONFIG)
    made = []
    for pixel in (value, torch.tensor(torch.nan)):
        changed = getattr(given, variable).clone()
        changed[..., 10, 10] = pixel
        made.append(adaptive(*given._replace(**{variable: changed})))
    assert furthest(*made) > 1e-4


@pytest.mark.parametrize("variable", ["s1_t1", "s1_t2"])
@pytest.mark.parametrize("calibrated", [LEVELS, NO_LEVELS])
def test_a_missing_radar_pixel_is_not_an_average_one(adaptive: Generator, variable: str, calibrated: Tensor) -> None:
    """Standardising makes missing pixels the window's mean: only the mask tells them apart."""
    given = inputs(CONFIG)
    radar = getattr(given, variable).clone()
    radar[..., 10, 10] = torch.nan
    mean = radar.nanmean((2, 3), keepdim=True)
    average = torch.where(radar.isnan(), mean, radar)
    made = [adaptive(*given._replace(**{variable: r}), calibrated=calibrated) for r in (radar, average)]
    assert furthest(*made) > 1e-4


def test_nothing_seen_at_t2_is_the_same_as_no_image_of_t2(adaptive: Generator) -> None:
    given = inputs(CONFIG)
    nothing, none = adaptive(*unseen(given)), adaptive(*given[:3])
    assert furthest(nothing, none) == 0
    assert furthest(adaptive(*given), none) > 1e-3


# --- variance --------------------------------------------------------------------------------------------------------


def test_every_pixel_of_every_band_has_a_positive_variance() -> None:
    generator = trained(CONFIG)
    given = inputs(CONFIG, 64, 32, n=2)
    nothing = given._replace(s2_t1=given.s2_t1 * torch.nan, s2_t2=given.s2_t2 * torch.nan)
    for surest in (False, True):
        if surest:
            generator.get_parameter("doubt.2.bias").fill_(-200.0)
        for made in (generator(*given), generator(*nothing)):
            assert made.variance is not None
            assert made.variance.shape == made.reflectance.shape == (2, len(CONFIG.bands), 64, 32)
            assert made.variance.isfinite().all()
            assert made.variance.min() > 0


def test_the_likelihood_teaches_that_a_pixel_far_from_the_seen_ones_is_less_certain() -> None:
    """All is still but what makes the variance. The left of t2 is seen; what is scored is a new place."""
    data = Patches(bands=CORE)
    generator = build_generator(preset("tiny", bands=CORE), 0).requires_grad_(False)
    lean(generator, "head_land", 1)  # the scene's regression alone, which is better near what was seen
    lean(generator, "head_water", 0, -200.0)
    doubt = generator.get_submodule("doubt").requires_grad_()

    def made_and_true(index: int) -> tuple[Prediction, Truth]:
        batch = collate([data[index]])
        _, truth = leave(batch, data.pols, data.bands, torch.Generator())
        s2_t2 = batch.target.clone()
        s2_t2[..., 24:] = torch.nan
        made = generator(batch.s1_t1, batch.s2_t1, batch.s1_t2, s2_t2)
        return made, truth._replace(counts=torch.ones_like(truth.counts))

    def doubted() -> tuple[float, float, float, Tensor]:
        with torch.no_grad():
            made, truth = made_and_true(3)
        assert made.variance is not None
        error, variance = (made.reflectance - truth.target).square().mean(), made.variance
        seen, far = variance[..., :24].mean(), variance[..., 40:].mean()
        return float(seen), float(far), float(variance.mean() / error), made.reflectance

    *_, too_much, image = doubted()
    optimiser = torch.optim.Adam(doubt.parameters(), 0.03)
    for step in range(120):
        optimiser.zero_grad()
        gaussian(*made_and_true(step % 2)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    seen, far, ratio, same = doubted()
    assert far > 1.5 * seen
    assert not 0.3 < too_much < 3, "untrained it says what it likes"
    assert 0.4 < ratio < 2.5, "about the squared error"
    assert torch.equal(same, image), "the image is not the likelihood's to change"


# --- order of work ---------------------------------------------------------------------------------------------------


def test_the_papers_order_of_work_is_kept(adaptive: Generator) -> None:
    """Stems, DownUp, FusionAttention, tower, decoder, heads: each once, but for the level branch of two dates."""
    order: list[str] = []
    hooks = [m.register_forward_pre_hook(lambda *_, n=n: order.append(n)) for n, m in adaptive.named_children()]
    adaptive(*inputs(CONFIG))
    for hook in hooks:
        hook.remove()
    steps = ["stem_t1", "down_up", "fusion", "tower", "head_water", "scene", "head_land", "spectrum"]
    assert [name for name in order if name in steps] == steps
    assert sorted(order) == sorted([*dict(adaptive.named_children()), "level"])


def test_what_is_learned_is_reached_by_the_gradient_of_image_and_water() -> None:
    generator = build_generator(CONFIG, 0)
    assert isinstance(generator, AdaptiveGenerator)
    generator.get_parameter("fusion.gamma").data.fill_(0.5)  # from zero it holds back what is before it
    made = generator(*inputs(CONFIG, 64, 64))
    parts = (made.reflectance, made.water, made.variance.sqrt(), made.reliability, made.clean_t1)
    sum(part.square().mean() for part in parts).backward()
    for name, parameter in generator.named_parameters():
        if not parameter.numel():
            continue
        held_back = name.endswith(("first.weight", "first.bias"))  # by a second convolution that starts from zero
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert held_back or parameter.grad.abs().max() > 0 or name.endswith("key.bias"), name


@pytest.mark.parametrize("side", [1, 3, 7, 9, 15])
def test_local_means_are_those_of_average_pooling(side: int) -> None:
    x = torch.rand(2, 3, 40, 24, generator=torch.Generator().manual_seed(side))
    expected = torch.nn.functional.avg_pool2d(x, side, 1, side // 2)
    torch.testing.assert_close(local_sum(x, side), expected, atol=1e-6, rtol=1e-5)


def test_wide_local_means_are_nearly_those_of_average_pooling() -> None:
    x = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 48
    wide, expected = local_sum(x, 31), torch.nn.functional.avg_pool2d(x, 31, 1, 15)
    inside = (..., slice(20, 76), slice(20, 76))
    torch.testing.assert_close(wide[inside], expected[inside], atol=0.01, rtol=0)
