"""What the calibration fits is what made the numbers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks.floods.calibration import (
    LAGS,
    Patch,
    areas,
    blocks_of,
    fit_near,
    fit_reading,
    fit_scene,
    fit_water,
    fit_widths,
    half_widths,
    held_by,
    interval_score,
    radial,
    read,
    reliability,
    score,
)
from benchmarks.water import Truth
from crgen.model.card import ErrorWidths, WaterErrors

SHAPE = (96, 96)
BANDS = ("B11", "B8", "B3")


READING = WaterErrors(slope=0.8, near=0, reach=1, scene=0)


def patch_of(rng: np.random.Generator, event: str = "a", reach: float = 0, condition: str = "nothing seen") -> Patch:
    """A patch whose labels follow its probabilities as they are to be read, alike over some pixels."""
    field = ndimage.gaussian_filter(rng.normal(size=SHAPE), 12, mode="wrap")
    p = 1 / (1 + np.exp(-3 * field / field.std() + rng.normal(size=SHAPE)))
    noise = rng.normal(size=SHAPE)
    if reach:
        noise = ndimage.gaussian_filter(noise, reach, mode="wrap")
    order = noise.ravel().argsort().argsort().reshape(SHAPE) / noise.size  # uniform, alike near by
    water = (order < read(p, READING)).astype(np.float32)
    dry = np.zeros(SHAPE, np.float32)
    ratio = np.abs(rng.standard_t(5, (3, *SHAPE))).astype(np.float32) * 2
    truth = Truth(dry, water, water == 0, np.zeros(SHAPE, bool))
    unet = p.astype(np.float32)
    stated = rng.uniform(0.005, 0.05, ratio.shape).astype(np.float32)
    seen = np.ones(SHAPE, bool)
    hidden = np.zeros(SHAPE, np.float32)
    return Patch(event, condition, p.astype(np.float32), truth, seen, ratio * stated, stated, hidden, p > 0.3, unet)


def test_how_probabilities_are_to_be_read_is_found_whatever_the_size_of_events() -> None:
    rng = np.random.default_rng(0)
    found = fit_reading([patch_of(rng, event) for event in "aaaab"])
    assert found.slope == pytest.approx(READING.slope, rel=0.05)
    p = patch_of(rng).p
    np.testing.assert_allclose(read(p, found), read(p, READING), atol=0.05)


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
    alone, together = (fit_near([patch_of(rng, reach=reach) for _ in range(3)], READING) for reach in (0, 6))
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
    seen = [patch_of(rng, event, condition="10% of t2 seen") for event in "aabb"]
    for patch in seen:
        patch.error[:] *= 2
    widths = fit_widths([patch_of(rng, event) for event in "aabb"] + seen, BANDS)
    fresh = patch_of(rng)
    for i, band in enumerate(BANDS):
        assert (fresh.ratio[i] <= widths.bands[band]).mean() == pytest.approx(0.9, abs=0.02)
        assert (2 * fresh.ratio[i] <= widths.seen[band]).mean() == pytest.approx(0.9, abs=0.02)


def test_what_t1_does_not_show_has_as_much_wider_intervals_as_it_is_worse() -> None:
    rng = np.random.default_rng(7)
    patches = [patch_of(rng, event) for event in "aabb"]
    for patch in patches:
        patch.hidden[:48] = 1
        patch.error[:, :48] *= 2
    known = fit_widths([*patches, patch_of(rng, condition="10% of t2 seen")], BANDS)
    assert known.hidden == pytest.approx(2, abs=0.1)
    held = patches[0].error <= half_widths(patches[0], [], BANDS, known)
    for rows in (slice(48), slice(48, None)):
        assert held[:, rows].mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("worst", "wider"), [(1, (0.95, 1.05)), (4, (1.2, 4))])
def test_where_events_differ_intervals_are_wider_than_hold_nine_in_ten_of_these(worst, wider) -> None:
    """An event that was not fitted to may differ as much from those that were."""
    rng = np.random.default_rng(10)
    patches = [patch_of(rng, event) for event in "abc"]
    patches[0].error[:] *= worst
    seen = patch_of(rng, condition="10% of t2 seen")
    known = fit_widths([*patches, seen], BANDS)
    as_one = fit_widths([*(replace(patch, event="a") for patch in patches), seen], BANDS)
    for band in BANDS:
        assert wider[0] < known.bands[band] / as_one.bands[band] < wider[1]


def test_a_scene_that_is_worse_than_others_has_wider_intervals_where_some_of_it_was_seen() -> None:
    rng = np.random.default_rng(8)
    own = [patch_of(rng, condition="10% of t2 seen") for _ in range(30)]
    for patch in own:
        patch.error[:] *= 3
    known = ErrorWidths(bands=dict.fromkeys(BANDS, 4.0), seen=dict.fromkeys(BANDS, 4.0), blocks=0.5)
    half = half_widths(own[0], [blocks_of(patch, known) for patch in own[1:]], BANDS, known)
    assert (own[0].error <= half).mean() == pytest.approx(0.9, abs=0.03)
    alone = half_widths(own[0], [], BANDS, known)
    assert (own[0].error <= alone).mean() < 0.75


def test_the_score_of_an_interval_is_least_where_it_holds_nine_in_ten() -> None:
    error = np.abs(np.random.default_rng(9).normal(size=100_000))
    scores = {half: float(interval_score(error, half).mean()) for half in (0.8, 1.2, 1.645, 2.1, 3.0)}
    assert min(scores, key=scores.__getitem__) == 1.645


def test_a_calibrated_probability_has_no_error_and_a_bold_one_has() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(200_000)
    y = (rng.random(p.shape) < p).astype(np.float32)
    assert reliability(p, y)[1] < 0.01
    assert reliability(np.clip(2 * p - 0.5, 0, 1), y)[2] > 0.05


def test_the_tables_leave_out_each_event_in_turn() -> None:
    rng = np.random.default_rng(6)
    table = score(
        [
            patch_of(rng, event, condition=condition)
            for event in "aabbcc"
            for condition in ("nothing seen", "10% of t2 seen")
        ],
        BANDS,
    )
    assert [line.split(" | ")[0] for line in table.splitlines() if line[:5] in ("| a |", "| b |", "| c |")] == [
        "| a",
        "| b",
        "| c",
    ]
    assert "newly under water" in table
    assert "| **all** |" in table
