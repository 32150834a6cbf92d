"""The area's interval follows from the doubt of pixels and from how these go together."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crgen.model.card import WaterErrors
from crgen.pipeline.flood.area import Areas, areas_of, deviation_of, interval_of
from crgen.pipeline.tiling.water import NEW, OLD, OPEN
from tests.pipeline.flood.test_polygons import write_water

ERRORS = WaterErrors(slope=1, near=0.6, reach=60, scene=0)


def exact(doubt: np.ndarray, errors: WaterErrors) -> float:
    """Standard deviation of the sum over pixels of 10 m, pair by pair."""
    places = np.argwhere(doubt >= 0) * 10.0
    distance = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))
    together = errors.near * np.exp(-distance / errors.reach) + (1 - errors.near) * np.eye(len(places))
    flat = doubt.ravel()
    return math.sqrt(flat @ together @ flat)


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), near=st.floats(0, 1), reach=st.floats(40, 2000))
def test_the_deviation_is_that_of_all_pairs_of_pixels(seed, near, reach) -> None:
    rng = np.random.default_rng(seed)
    doubt = np.sqrt(rng.uniform(0, 0.25, (24, 40)))
    errors = ERRORS.model_copy(update={"near": near, "reach": reach})
    blocks = doubt.reshape(3, 8, 5, 8).sum((1, 3))
    found = deviation_of(blocks, float(np.square(doubt).sum()), 8, 10, errors)
    assert found == pytest.approx(exact(doubt, errors), rel=0.03)


def test_doubts_that_have_nothing_in_common_add_up_as_coins_do_and_those_that_have_all_as_one() -> None:
    blocks = np.full((4, 4), 64 * 0.5)
    alone = ERRORS.model_copy(update={"near": 0})
    assert deviation_of(blocks, 1024 * 0.25, 8, 10, alone) == pytest.approx(16)
    as_one = ERRORS.model_copy(update={"near": 1, "reach": 1e7})
    assert deviation_of(blocks, 1024 * 0.25, 8, 10, as_one) == pytest.approx(512, rel=1e-3)


@given(expected=st.floats(1, 1e6), doubt=st.floats(0, 1e6), scene=st.floats(0, 2))
def test_the_interval_is_never_below_nothing_and_widens_with_doubt(expected, doubt, scene) -> None:
    low, high = interval_of(expected, doubt, scene)
    assert 0 <= low <= expected <= high
    wider = interval_of(expected, 2 * doubt + 1, scene + 0.1)
    assert wider[0] <= low
    assert wider[1] >= high


def test_areas_are_on_the_ground_and_the_interval_comes_from_the_raster(tmp_path) -> None:
    t2 = np.zeros((40, 60), np.uint8)
    t2[5:25, 10:40] = 90
    water = write_water(tmp_path, t2, np.zeros_like(t2))
    expected = {NEW: 540.0, OLD: 100.0, OPEN: 60.0}
    assert areas_of(water, expected, None).interval is None
    areas = areas_of(water, expected, ERRORS)
    assert areas.flooded == pytest.approx(54_000, rel=2e-3)
    deviation = exact(np.where(t2 == 90, 0.3, 0.0), ERRORS)
    assert areas.interval == pytest.approx([100 * end for end in interval_of(540, deviation, 0)], rel=0.02)
    held = areas.to_json()
    assert held.keys() == {"flooded_km2", "before_km2", "unknown_before_km2", "flooded_90_km2"}
    assert held["unknown_before_km2"] == pytest.approx(0.006, rel=2e-3)


def test_water_that_is_left_out_of_the_area_adds_no_doubt_to_it(tmp_path) -> None:
    t2, t1 = np.zeros((2, 40, 60), np.uint8)
    t2[5:25, 10:40] = 90
    plain = areas_of(write_water(tmp_path, t2, t1), {NEW: 540.0}, ERRORS)
    t2[25:, :], t1[25:, :] = 50, 50
    assert areas_of(write_water(tmp_path, t2, t1), {NEW: 540.0}, ERRORS) == plain


@pytest.mark.parametrize(
    ("areas", "says"),
    [
        (Areas(12.41e6, (10.9e6, 14.0e6), 1e6, 0), "12.4 km² (10.9–14.0)"),
        (Areas(0, (0, 0), 0, 0), "0.00 km² (0.00–0.00)"),
        (Areas(1.234e9, None, 0, 0.82e6), "1,234 km², and 0.82 km² of water, unknown before"),
    ],
)
def test_a_person_is_told_in_square_kilometres(areas, says) -> None:
    assert areas.text == says


def test_nothing_flooded_has_no_width(tmp_path) -> None:
    zeros = np.zeros((9, 9), np.uint8)
    assert areas_of(write_water(tmp_path, zeros, zeros), {}, ERRORS) == Areas(0, (0, 0), 0, 0)
