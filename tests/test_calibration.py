"""What the calibration fits is what made the numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks.floods.calibration import (
    LAGS,
    Patch,
    areas,
    fit_logit,
    fit_near,
    fit_scene,
    fit_water,
    fit_widths,
    held_by,
    radial,
    read,
    reliability,
    score,
)
from benchmarks.water import Truth

SHAPE = (96, 96)
BANDS = ("B11", "B8", "B3")


def patch_of(
    rng: np.random.Generator, event: str = "a", slope: float = 2.0, offset: float = -1.0, reach: float = 0
) -> Patch:
    """A patch whose labels follow its probabilities, read with a slope and an offset, alike over some pixels."""
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 12, mode="wrap")
    p = 1 / (1 + np.exp(-2 * field / field.std()))
    noise = rng.normal(size=SHAPE)
    if reach:
        noise = ndimage.gaussian_filter(noise, reach, mode="wrap")
    order = noise.ravel().argsort().argsort().reshape(SHAPE) / noise.size  # uniform, alike near by
    water = (order < read(p, slope, offset)).astype(np.float32)
    dry = np.zeros(SHAPE, np.float32)
    ratio = np.abs(rng.standard_t(5, (3, *SHAPE))).astype(np.float32) * 2
    truth = Truth(dry, water, water == 0, np.zeros(SHAPE, bool))
    unet = p.astype(np.float32)
    return Patch(event, "nothing seen", p.astype(np.float32), truth, np.ones(SHAPE, bool), ratio, p > 0.3, unet)


def test_slope_and_offset_are_found_whatever_the_size_of_events() -> None:
    rng = np.random.default_rng(0)
    patches = [patch_of(rng, event) for event in "aaaab"]
    slope, offset = fit_logit(patches)
    assert slope == pytest.approx(2, rel=0.1)
    assert offset == pytest.approx(-1, abs=0.15)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_products_are_summed_by_distance(seed) -> None:
    field = np.random.default_rng(seed).normal(size=(9, 7))
    places = np.argwhere(field > -9)
    distance = np.rint(np.hypot(*(places[:, None] - places).transpose(2, 0, 1))).astype(int)
    flat = field.ravel()
    exact = np.bincount(distance.ravel(), np.outer(flat, flat).ravel(), minlength=LAGS)
    np.testing.assert_allclose(radial(field), exact, atol=1e-8)


def test_doubts_that_go_together_are_found_to() -> None:
    rng = np.random.default_rng(1)
    alone, together = (fit_near([patch_of(rng, reach=reach) for _ in range(3)], 2, -1) for reach in (0, 6))
    assert alone[0] < 0.1
    assert together[0] > 0.5
    assert 30 < together[1] < 400


def test_the_scenes_share_is_the_least_that_holds_nine_in_ten_areas() -> None:
    rng = np.random.default_rng(2)
    found = [(1000 * float(np.exp(0.3 * rng.normal())), 1000.0, 10.0) for _ in range(400)]
    scene = fit_scene(found)
    assert scene == pytest.approx(0.3, abs=0.06)
    assert held_by(found, scene).mean() >= 0.9 > held_by(found, 0.9 * scene).mean()
    assert fit_scene([(1000.0, 1000.0, 10.0)]) == 0


def test_areas_count_new_water_and_what_was_to_be_expected() -> None:
    patch = patch_of(np.random.default_rng(3))
    true, expected, deviation = areas(patch, fit_water([patch]))
    assert true == patch.truth.t2.sum()
    assert expected == pytest.approx(true, rel=0.05)
    assert deviation > 0


def test_widths_hold_nine_in_ten() -> None:
    rng = np.random.default_rng(4)
    widths = fit_widths([patch_of(rng, event) for event in "aabb"], BANDS)
    fresh = patch_of(rng)
    for i, band in enumerate(BANDS):
        assert (fresh.ratio[i] <= widths.bands[band]).mean() == pytest.approx(0.9, abs=0.02)


def test_a_calibrated_probability_has_no_error_and_a_bold_one_has() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(200_000)
    y = (rng.random(p.shape) < p).astype(np.float32)
    assert reliability(p, y)[1] < 0.01
    assert reliability(np.clip(2 * p - 0.5, 0, 1), y)[2] > 0.05


def test_the_tables_leave_out_each_event_in_turn() -> None:
    rng = np.random.default_rng(6)
    table = score([patch_of(rng, event) for event in "aabbcc"], BANDS)
    assert [line.split(" | ")[0] for line in table.splitlines() if line[:5] in ("| a |", "| b |", "| c |")] == [
        "| a",
        "| b",
        "| c",
    ]
    assert "newly under water" in table
