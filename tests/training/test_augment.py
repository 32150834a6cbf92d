"""Painted clouds, jittered radar, and the symmetries of the square."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crgen.training import augment
from crgen.training.augment import (
    VARIATIONS,
    cloud_opacity,
    dihedral,
    fractal_field,
    jitter_backscatter,
    paint_clouds,
    tint,
    vary,
)
from crgen.training.data.dataset import collate
from tests.training.patches import Patches

BANDS = ("B11", "B8", "B3")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def land(n: int = 4, side: int = 64) -> Tensor:
    return 0.05 + 0.2 * torch.rand(n, 3, side, side, generator=rng(9))


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


def test_the_same_seed_paints_the_same_clouds_and_another_others() -> None:
    torch.manual_seed(1)
    first = paint_clouds(land(), BANDS, torch.full((4,), 0.5), rng(5))[0]
    torch.manual_seed(2)
    assert torch.equal(first, paint_clouds(land(), BANDS, torch.full((4,), 0.5), rng(5))[0])
    assert not torch.equal(first, paint_clouds(land(), BANDS, torch.full((4,), 0.5), rng(6))[0])
    assert torch.equal(jitter_backscatter(land(), rng(5)), jitter_backscatter(land(), rng(5)))


def test_jitter_is_a_gain_an_offset_and_speckle_in_db() -> None:
    s1 = -20 + 15 * torch.rand(64, 1, 64, 64, generator=rng(1))
    varied = jitter_backscatter(s1, rng(2), gain=0.25, offset=3.0)
    x, y = (t.flatten(1) - t.flatten(1).mean(1, keepdim=True) for t in (s1, varied))
    gain = (x * y).sum(1) / x.square().sum(1)
    residual = (y - gain[:, None] * x).std(1)
    assert gain.min() > 0.73
    assert gain.max() < 1.27
    assert gain.max() - gain.min() > 0.4
    assert residual.max() <= 1.02
    offset = (varied - (gain.view(-1, 1, 1, 1) * (s1 + 12) - 12)).mean((1, 2, 3))
    assert 2 < offset.abs().max() < 3.1


def test_another_ground_is_the_same_function_of_colour_at_both_dates() -> None:
    before = land(64)
    after = before.flip(-1)
    before[3, :, 5, 5] = torch.nan
    tinted, alike = tint([before, after], rng())
    changed = (tinted != before).flatten(1).sum(1) > 9
    assert 0.5 < float(changed.float().mean()) < 0.85
    assert torch.equal(alike.flip(-1).nan_to_num()[4:], tinted[4:]), "what did not change, does not change"
    assert torch.equal(tinted.isnan(), before.isnan())
    assert float(tinted.nan_to_num().min()) >= 0
    assert float(tinted.nan_to_num().max()) <= 1
    order = before[changed][0, 0].flatten().argsort()
    assert (tinted[changed][0, 0].flatten()[order].diff() >= 0).all(), "brighter ground stays brighter"


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


def test_variation_hides_the_target_and_never_shows_what_is_not_clear() -> None:
    data = Patches(count=64, cloudy=tuple(range(0, 64, 2)))
    batch = collate([data[i] for i in range(64)])
    varied, s2_t2 = vary(batch, data.bands, rng())
    seen = s2_t2.isfinite().all(1, keepdim=True)
    assert not (seen & ~batch.clear).any()
    true = ((s2_t2 == varied.target) | ~seen).flatten(1).all(1)
    assert 0.8 < float(true.float().mean()) < 1, "a little cloud is left in a tenth of what is shown"
    assert 0.5 < float(seen.any(1).any(1).any(1).float().mean()) < 0.85
    shares = []
    for name in ("full", "mild"):
        again, _ = VARIATIONS[name](batch, data.bands, rng())
        shares.append(float((again.target != batch.target).flatten(1).any(1).float().mean()))
    assert 0.5 < shares[0] < 0.85
    assert 0.1 < shares[1] < 0.5
    dropped = varied.s2_t1.isnan().flatten(1).all(1)
    assert 0 < int(dropped.sum()) < 12
    assert not varied.s1_t2.isnan().any()
    assert not batch.s2_t1.isnan().any(), "the samples themselves stay as they are"


def test_only_pixels_without_any_painted_cloud_or_shadow_count_as_reliable() -> None:
    data = Patches(count=32)
    batch = collate([data[i] for i in range(32)])
    batch = batch._replace(clear_t1=torch.ones_like(batch.clear_t1))
    with patch.object(augment, "tint", lambda images, *_: images), patch.object(augment, "drop_images", lambda i, _: i):
        varied, _ = vary(batch, data.bands, rng())
    reliable = varied.clear_t1 == 1
    assert ((varied.clear_t1 == 0) | reliable).all()
    change = (varied.s2_t1 - batch.s2_t1).abs().amax(1, keepdim=True)
    assert change[reliable].max() < 0.06
    assert change[~reliable].max() > 0.3
    painted = (~reliable).flatten(1).any(1)
    assert 0.2 < float(painted.float().mean()) < 0.8, "half of the samples are painted"
