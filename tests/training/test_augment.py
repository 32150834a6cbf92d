"""Painted clouds, varied radar, turned time, and the symmetries of the square."""

from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crgen.training import augment
from crgen.training.augment import (
    HAZE,
    VARIATIONS,
    backward,
    cloud_opacity,
    dihedral,
    jitter_backscatter,
    paint_clouds,
    sky,
    tint,
    vary,
    vary_radar,
)
from crgen.training.data.dataset import Batch
from crgen.training.noise import fractal_field
from tests.training.patches import OMBRIA_LIKE, Patches, as_they_are, batch_of

BANDS = ("B11", "B8", "B3")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def land(n: int = 4, side: int = 64) -> Tensor:
    return 0.05 + 0.2 * torch.rand(n, 3, side, side, generator=rng(9))


def known(batch: Batch, share: float = 1.0) -> Batch:
    """With clouds at t1 known: a share of the rows is clear."""
    clear_t1 = torch.ones_like(batch.clear_t1)
    clear_t1[:, :, round(share * clear_t1.shape[2]) :] = 0
    return batch._replace(clear_t1=clear_t1)


# --- clouds ----------------------------------------------------------------------------------------------------------


@given(st.floats(0.02, 0.98), st.integers(0, 1000))
def test_clouds_cover_the_share_asked_for(share: float, seed: int) -> None:
    opacity = cloud_opacity(torch.full((3,), share), 64, 96, rng(seed))
    assert opacity.min() >= 0
    assert opacity.max() <= 1
    covered = (opacity > 0.5).float().mean((1, 2, 3))
    assert (covered - share).abs().max() < 0.01


@given(st.integers(0, 1000))
def test_a_share_of_zero_leaves_the_image_bit_for_bit(seed: int) -> None:
    s2 = land()
    s2[:, :, :5] = torch.nan
    share = torch.tensor([0.0, 0.4, 0.0, 0.8])
    painted, opacity = paint_clouds(s2, BANDS, share, rng(seed))
    for image in (0, 2):
        assert torch.equal(painted[image].view(torch.int32), s2[image].view(torch.int32))
        assert not opacity[image].any()
    for image in (1, 3):
        assert (painted[image] != s2[image])[:, 5:].any()
        assert opacity[image].any()


def test_missing_stays_missing_and_nothing_else_becomes_so() -> None:
    s2 = land()
    s2[:, 1, 10:30, 20:40] = torch.nan
    painted, _ = paint_clouds(s2, BANDS, torch.full((4,), 0.6), rng())
    assert torch.equal(painted.isnan(), s2.isnan())
    jittered = jitter_backscatter(s2, rng())
    assert torch.equal(jittered.isnan(), s2.isnan())


def test_only_cloud_and_shadow_change_the_image_and_opacity_says_where() -> None:
    s2 = land()
    painted, opacity = paint_clouds(s2, BANDS, torch.full((4,), 0.3), rng(3))
    untouched = (opacity == 0).expand_as(s2)
    assert 0.2 < untouched.float().mean() < 0.75
    assert torch.equal(painted[untouched], s2[untouched])
    assert painted.min() >= 0
    assert painted.max() <= 1


def test_clouds_are_bright_and_shadows_dark() -> None:
    s2 = land(16)
    painted, _ = paint_clouds(s2, BANDS, torch.full((16,), 0.3), rng(3))
    brighter, darker = painted[:, 2] - s2[:, 2] > 0.05, painted[:, 2] - s2[:, 2] < -0.01
    assert 0.1 < brighter.float().mean() < 0.4
    assert 0.02 < darker.float().mean() < 0.4


def test_the_sky_over_t1_reaches_from_no_cloud_to_nothing_but_cloud_and_from_haze_to_thick() -> None:
    opacity = sky(256, 32, 32, rng()).flatten(1)
    assert 0 <= opacity.min() <= opacity.max() <= 1
    least, most = opacity.min(1).values, opacity.max(1).values
    none, hidden, veiled = most == 0, least > 0.5, (least > 0.01) & (most < 0.5)
    assert 0.3 < none.float().mean() < 0.46, "t1 deserves trust, too"
    assert 0.04 < hidden.float().mean() < 0.2, "cloud over the whole window"
    assert 0.02 < veiled.float().mean() < 0.2, "haze over the whole window"
    thick = (opacity > 0.85).float().mean(1)[~none]
    assert thick.max() == 1
    for low in (0.1, 0.3, 0.5, 0.7):
        assert ((thick > low) & (thick < low + 0.2)).any(), "any share in between"
    assert (most[~none] < 0.3).any(), "and thin ones"


def test_the_same_seed_paints_the_same_clouds_and_another_others() -> None:
    torch.manual_seed(1)
    first = paint_clouds(land(), BANDS, torch.full((4,), 0.5), rng(5))[0]
    torch.manual_seed(2)
    assert torch.equal(first, paint_clouds(land(), BANDS, torch.full((4,), 0.5), rng(5))[0])
    assert not torch.equal(first, paint_clouds(land(), BANDS, torch.full((4,), 0.5), rng(6))[0])
    assert torch.equal(jitter_backscatter(land(), rng(5)), jitter_backscatter(land(), rng(5)))


# --- radar -----------------------------------------------------------------------------------------------------------


def test_jitter_is_a_gain_an_offset_and_speckle_in_db() -> None:
    s1 = -20 + 15 * torch.rand(64, 1, 64, 64, generator=rng(1))
    varied = jitter_backscatter(s1, rng(2), gain=0.25, offset=3.0)
    x, y = (t.flatten(1) - t.flatten(1).mean(1, keepdim=True) for t in (s1, varied))
    gain = (x * y).sum(1) / x.square().sum(1)
    residual = (y - gain[:, None] * x).std(1)
    assert gain.min() > 0.7
    assert gain.max() < 1.3
    assert gain.max() - gain.min() > 0.4
    assert residual.min() < 0.3
    assert 1.5 < residual.max() < 2.55, "speckle as of single acquisitions"
    offset = (varied - (gain.view(-1, 1, 1, 1) * (s1 + 12) - 12)).mean((1, 2, 3))
    assert 2 < offset.abs().max() < 3.1


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_level_is_told_to_half_of_what_has_one_and_lent_to_a_quarter_of_what_has_none(calibrated: bool) -> None:
    s1 = -16 + 8 * torch.rand(256, 2, 32, 32, generator=rng(1))
    varied = vary_radar(s1, s1 - 1, torch.full((256, 1, 1, 1), calibrated), rng())
    flag = varied[2].bool()
    assert flag.float().mean() == pytest.approx(0.5 if calibrated else 0.25, abs=0.1)
    moved = (varied[1] - (s1 - 1))[:, 0].mean((1, 2))
    fall = (varied[1] - varied[0])[:, 0].mean((1, 2)).nan_to_num(-1)
    if calibrated:
        assert moved[flag].abs().max() < 2.5, "a level that is told is right but for a sensor's error"
        assert moved[~flag].abs().max() > 2.5
        assert (fall[flag] + 1).abs().max() < 1.5, "and so is its change between the dates"
    else:
        assert moved[flag].max() - moved[flag].min() > 4


def test_vh_is_missing_in_half_of_the_samples_at_both_dates_and_vv_never_at_t2() -> None:
    s1 = torch.full((256, 2, 8, 8), -10.0)
    t1, t2, _ = vary_radar(s1, s1, torch.ones(256, 1, 1, 1, dtype=torch.bool), rng())
    gone = t1.isnan().all(1).flatten(1).all(1)
    assert 0.01 < gone.float().mean() < 0.1, "no radar at t1"
    without = t2[:, 1].isnan().flatten(1).all(1)
    assert 0.4 < without.float().mean() < 0.6
    assert torch.equal(t1[~gone].isnan(), t2[~gone].isnan())
    assert t2[:, 0].isfinite().all()


# --- ground, time and turns ------------------------------------------------------------------------------------------


def test_another_ground_is_the_same_function_of_colour_at_both_dates() -> None:
    before = land(64)
    after = before.flip(-1)
    before[3, :, 5, 5] = torch.nan
    tinted, alike = tint([before, after], torch.ones(64, 1, 1, 1), rng())
    changed = (tinted != before).flatten(1).sum(1) > 9
    assert 0.5 < float(changed.float().mean()) < 0.85
    assert torch.equal(alike.flip(-1).nan_to_num()[4:], tinted[4:]), "what did not change, does not change"
    assert torch.equal(tinted.isnan(), before.isnan())
    assert float(tinted.nan_to_num().min()) >= 0
    assert float(tinted.nan_to_num().max()) <= 1
    order = before[changed][0, 0].flatten().argsort()
    assert (tinted[changed][0, 0].flatten()[order].diff() >= 0).all(), "brighter ground stays brighter"
    weaker, _ = tint([before, after], torch.full((64, 1, 1, 1), 0.4), rng())
    apart = [(t - before).nan_to_num().abs().mean() for t in (tinted, weaker)]
    assert 0 < apart[1] < 0.7 * apart[0]


def test_backward_in_time_everything_changes_places() -> None:
    batch = known(batch_of(Patches(count=16)), 0.8)
    before, after = torch.rand(2, 16, 1, 64, 64, generator=rng(1)).round()
    batch = batch._replace(water_t1=before, water_t2=after, flooded=torch.ones_like(batch.flooded))
    turned = backward(batch, 1.0, rng())
    for one, other in (("s1_t1", "s1_t2"), ("s2_t1", "target"), ("water_t1", "water_t2")):
        assert torch.equal(getattr(turned, one), getattr(batch, other))
        assert torch.equal(getattr(turned, other), getattr(batch, one))
    assert torch.equal(turned.clear, batch.clear_t1 == 1)
    assert torch.equal(turned.clear_t1, batch.clear.float())
    assert turned.flooded.isnan().all(), "the flood is at t1, and a mask of it is no mask of t2"
    assert torch.equal(turned.calibrated, batch.calibrated)
    assert torch.equal(turned.labelled, batch.labelled)


def test_backward_goes_a_share_of_what_is_known_to_be_clear_enough() -> None:
    data = batch_of(Patches(count=64))
    share = (backward(known(data), 0.35, rng()).s1_t1 == data.s1_t2).flatten(1).all(1).float().mean()
    assert 0.2 < share < 0.5
    for batch in (data, known(data, 0.2)):
        torch.testing.assert_close(backward(batch, 1.0, rng()), batch, rtol=0, atol=0, equal_nan=True)


def test_fractal_fields_are_uniform_and_smooth() -> None:
    field = fractal_field(2, 64, 64, rng())
    assert torch.equal(field.flatten(1).sort(1).values[0], torch.arange(64 * 64) / (64 * 64 - 1))
    assert (field.diff(dim=-1).abs().mean()) < 0.1


def test_the_eight_symmetries_are_eight() -> None:
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert len({tuple(dihedral([x], which)[0].flatten().tolist()) for which in range(8)}) == 8


@pytest.mark.parametrize("which", range(8))
def test_all_inputs_turn_together(which: int) -> None:
    place = torch.arange(36.0).view(1, 1, 6, 6)
    turned = dihedral([place, place.expand(1, 3, 6, 6) * 2, place > 17], which)
    assert torch.equal(turned[1], turned[0].expand(1, 3, 6, 6) * 2)
    assert torch.equal(turned[2], turned[0] > 17)


# --- all of it together ----------------------------------------------------------------------------------------------


def test_variation_hides_the_target_and_never_shows_what_is_not_clear() -> None:
    data = Patches(count=64, cloudy=tuple(range(0, 64, 2)))
    batch = batch_of(data)
    inputs, truth = vary(batch, data.pols, data.bands, rng())
    seen = inputs.s2_t2.isfinite().all(1, keepdim=True)
    assert not (seen & ~batch.clear).any()
    assert torch.equal(truth.counts, batch.clear & ~seen), "what is shown does not count, nor what is cloudy"
    true = ((inputs.s2_t2 == truth.target) | ~seen).flatten(1).all(1)
    assert 0.8 < float(true.float().mean()) < 1, "a little cloud is left in a tenth of what is shown"
    assert 0.35 < float(seen.flatten(1).any(1).float().mean()) < 0.65, "half of the samples show nothing"
    dropped = inputs.s2_t1.isnan().flatten(1).all(1)
    assert 0 < int(dropped.sum()) < 12
    assert not (inputs.clear_t1.isfinite().flatten(1).any(1) & dropped).any(), "no score of what is not there"
    assert not inputs.s1_t2[:, 0].isnan().any()
    assert not batch.s2_t1.isnan().any(), "the samples themselves stay as they are"


def test_mild_variation_leaves_the_ground_its_colour_more_often() -> None:
    batch = batch_of(Patches(count=64, calibrated=False))
    shares = []
    for name in ("full", "mild"):
        _, truth = VARIATIONS[name](batch, OMBRIA_LIKE.pols, OMBRIA_LIKE.bands, rng())
        shares.append(float((truth.target != batch.target).flatten(1).any(1).float().mean()))
    assert 0.5 < shares[0] < 0.85
    assert 0.1 < shares[1] < 0.5


def test_without_variation_the_inputs_are_the_samples_and_nothing_of_t2_is_shown() -> None:
    batch = known(batch_of(OMBRIA_LIKE), 0.5)
    inputs, truth = VARIATIONS["none"](batch, OMBRIA_LIKE.pols, OMBRIA_LIKE.bands, rng())
    for name in ("s1_t1", "s2_t1", "s1_t2"):
        assert getattr(inputs, name) is getattr(batch, name)
    assert inputs.s2_t2.isnan().all()
    assert not inputs.calibrated.any()
    assert truth.target is batch.target
    assert torch.equal(truth.counts, batch.clear)
    assert torch.equal(truth.clean_t1.isfinite()[:, [OMBRIA_LIKE.bands.index("B8")]], batch.clear_t1 == 1)


@pytest.mark.parametrize("variation", ["full", "none"])
def test_labels_of_water_are_those_given_else_those_of_the_images(variation: str) -> None:
    data = Patches(calibrated=False)  # nothing is painted
    batch = batch_of(data)
    given = torch.arange(6) < 3
    labels = torch.full_like(batch.water_t1, torch.nan)
    labels[:3] = 1
    batch = batch._replace(labelled=given, water_t1=labels, water_t2=1 - labels)
    _, truth = VARIATIONS[variation](batch, data.pols, data.bands, rng())
    assert (truth.water_t1[:3] == 1).all()
    assert (truth.water_t2[:3] == 0).all()
    flooded = (batch.target[3:, [data.bands.index("B8")]] == torch.tensor(0.03)) & batch.clear[3:]
    assert (truth.water_t2[3:][flooded] == 1).all()
    assert (truth.water_t2[3:][~flooded & batch.clear[3:]] != 1).all()
    assert truth.water_t2[3:][~batch.clear[3:]].isnan().all(), "under cloud nothing is known"


def test_new_water_is_water_or_a_published_flood_that_was_no_water_before() -> None:
    nan = torch.nan
    truth = as_they_are(Patches(count=1))[1]._replace(
        water_t1=torch.tensor([0, 0, 1, 1, nan, 0, nan]),
        water_t2=torch.tensor([1, 0, 1, 0, 1, nan, nan]),
        flooded=torch.tensor([nan, 0, 1, nan, nan, 1, 0]),
    )
    assert truth.new_water.tolist() == [True, False, False, False, True, True, False]


@pytest.fixture
def painted_only() -> object:
    """Vary samples without tint, and t1 is never dropped: what differs then was painted."""
    plain = partial(patch.object, augment)
    with plain("tint", lambda images, *_: images):
        yield lambda batch: vary(batch, OMBRIA_LIKE.pols, OMBRIA_LIKE.bands, rng())


def test_only_pixels_without_any_painted_cloud_or_shadow_are_shown(painted_only: object) -> None:
    batch = known(batch_of(Patches(count=32, calibrated=False)))
    forward = batch._replace(clear_t1=torch.full_like(batch.clear_t1, torch.nan))  # unknown: never turned
    inputs, truth = painted_only(forward)
    assert truth.shown_t1.isnan().all(), "what is not known to be clear is not known to be shown"
    with patch.object(augment, "backward", lambda batch, *_: batch):
        inputs, truth = painted_only(batch)
    kept = ~inputs.s2_t1.isnan().flatten(1).all(1)
    assert truth.shown_t1[~kept].isnan().all(), "where S2 is dropped there is nothing to judge"
    shown = truth.shown_t1[kept] == 1
    assert ((truth.shown_t1[kept] == 0) | shown).all()
    change = (inputs.s2_t1 - batch.s2_t1)[kept].abs().amax(1, keepdim=True)
    assert change[shown].max() < HAZE + 0.01
    assert change[~shown].max() > 0.3
    painted = (~shown).flatten(1).any(1).float().mean()
    assert 0.4 < painted < 0.85
    assert (~shown).flatten(1).all(1).any(), "whole windows, too"
    assert torch.equal(truth.clean_t1, batch.s2_t1), "what lies under the clouds is known"


def test_a_clear_sky_score_is_given_to_some_and_falls_with_the_clouds(painted_only: object) -> None:
    with patch.object(augment, "backward", lambda batch, *_: batch):
        inputs, truth = painted_only(known(batch_of(Patches(count=64, calibrated=False)), 0.9))
    scored = inputs.clear_t1.isfinite().flatten(1).all(1)
    assert 0.2 < scored.float().mean() < 0.55
    assert torch.equal(scored, inputs.clear_t1.isfinite().flatten(1).any(1)), "all of a window or none"
    score, shown = inputs.clear_t1[scored], truth.shown_t1[scored]
    assert 0 <= score.min() <= score.max() <= 1
    assert score[shown == 1].mean() > score[shown == 0].mean() + 0.2


@pytest.mark.parametrize("cover", [0.0, 1.0])
def test_ground_is_not_tinted_where_nothing_of_t1_could_tell_the_tint(cover: float) -> None:
    batch = batch_of(Patches(count=32, calibrated=False))
    with (
        patch.object(augment, "backward", lambda batch, *rest: batch),
        patch.object(augment, "sky", lambda n, height, width, rng: torch.full((n, 1, height, width), cover)),
    ):
        inputs, truth = vary(batch, OMBRIA_LIKE.pols, OMBRIA_LIKE.bands, rng(), tinted=1.0)
    hidden = inputs.s2_t1.isnan().flatten(1).all(1) | (cover == 1)
    tinted = (truth.target != batch.target).flatten(1).any(1)
    assert (tinted == ~hidden).all()
