"""Observed pixels stay as they were seen, generated ones are marked, and nothing missing becomes a value."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crgen.pipeline.source.stack import FEATHER
from crgen.pipeline.tiling.composite import compose, observed_share, seen_clear
from crgen.pipeline.tiling.quality import GENERATED_CLASSES, Quality

SHAPE = (12, 15)
masks = arrays(bool, SHAPE)


@given(seen=masks, radar=masks, optical=masks, hidden=masks, unlike=masks, inside=masks)
def test_each_pixel_is_what_its_class_says(seen, radar, optical, hidden, unlike, inside) -> None:
    rng = np.random.default_rng(0)
    generated = rng.uniform(0.1, 0.4, (2, *SHAPE))
    observed = np.where(seen, rng.uniform(0.5, 0.9, (2, *SHAPE)), np.nan).astype(np.float32)
    result = compose(
        np.where(radar, generated, 0),
        observed,
        observed_share(seen),
        radar_t2=radar,
        optical_t1=optical,
        hidden_t1=hidden,
        unlike=unlike,
        inside=inside,
    )
    made, quality = result.reflectance, result.quality
    assert (np.isnan(made).all(0) == (quality == Quality.NODATA)).all()
    assert ((quality == Quality.NODATA) == (~inside | ~(radar | seen))).all()
    watched = quality == Quality.OBSERVED
    assert (made[:, watched] == observed[:, watched]).all()
    told = {
        Quality.GENERATED: optical & ~hidden & ~unlike,
        Quality.GENERATED_CLOUDY_T1: optical & hidden & ~unlike,
        Quality.GENERATED_RADAR_ONLY: ~optical & ~unlike,
        Quality.GENERATED_UNLIKE: unlike,
    }
    assert set(told) == set(GENERATED_CLASSES)
    for value, where in told.items():
        here = quality == value
        assert (made[:, here] == generated[:, here]).all()
        assert where[here].all()
        assert not seen[here].any()
    mixed = quality == Quality.BLENDED
    assert (seen & radar)[mixed].all()
    low, high = np.minimum(generated, observed), np.maximum(generated, observed)
    assert ((made >= low - 1e-9) & (made <= high + 1e-9))[:, mixed].all()


@given(st.integers(1, 10), masks)
def test_the_feather_depends_on_place_not_on_the_part_looked_at(cut: int, seen) -> None:
    wide = np.pad(seen, FEATHER, mode="edge")
    whole = observed_share(wide)
    part = observed_share(wide[cut:])
    assert (whole[cut + FEATHER : -FEATHER, FEATHER:-FEATHER] == part[FEATHER:-FEATHER, FEATHER:-FEATHER]).all()


def test_an_observation_fades_in_over_the_feather() -> None:
    seen = np.zeros((1, 30), bool)
    seen[0, 10:] = True
    share = observed_share(seen)[0]
    assert (share[:10] == 0).all()
    assert (np.diff(share[9 : 10 + FEATHER]) > 0).all()
    assert (share[10 + FEATHER :] == 1).all()


def test_a_pixel_counts_as_seen_only_with_all_bands_and_a_clear_score() -> None:
    s2 = np.full((2, 1, 4), 0.2, np.float32)
    s2[1, 0, 1] = np.nan
    clear = np.array([[0.9, 0.9, 0.3, np.nan]], np.float32)
    assert seen_clear(s2, clear, 0.6).tolist() == [[True, False, False, False]]
