"""What benchmarks count of water and of ordinary ground, on made arrays."""

import math

import numpy as np
import pytest
import torch

from benchmarks.floods.__main__ import called_water, veil
from benchmarks.floods.levels import as_calibrated
from benchmarks.made import Channels, Made, generate
from benchmarks.ordinary.__main__ import last_three, rmse
from benchmarks.ordinary.pairs import nearest_pairs
from benchmarks.water import Counts, count, of_image, otsu, pooled, truth_of, water_table
from crgen.model.config import preset
from crgen.model.generator import Generator, Prediction
from crgen.training.data.series import GROUND, HELD_OUT, LOW_SUN
from crgen.training.data.worldcereal import Date

BANDS = ("B11", "B8", "B3")
WATER, MEADOW, SNOW = (0.02, 0.03, 0.06), (0.20, 0.30, 0.08), (0.10, 0.75, 0.80)


def picture(*colours: tuple[float, ...]) -> np.ndarray:
    """One row of pixels, ``(3, 1, n)``."""
    return np.array(colours, np.float32).T[:, None]


def test_counts_of_a_window_written_by_hand() -> None:
    before = picture(MEADOW, MEADOW, MEADOW, WATER, MEADOW, MEADOW)
    after = picture(WATER, WATER, MEADOW, WATER, SNOW, MEADOW)
    everywhere, clear = np.ones((1, 6), bool), np.array([[1, 1, 1, 1, 1, 0]], bool)
    truth = truth_of(before, everywhere, after, clear, BANDS, flooded=np.array([[1, 0, 0, 0, 0, 1]], bool))
    assert truth.new.tolist() == [[True, True, False, False, False, False]]
    assert truth.dry.tolist() == [[False, False, True, False, False, False]]
    counts = count(np.array([[1, 0, 1, 1, 1, 1]], bool), truth)
    assert counts == Counts(hits=2, false=1, missed=1, dry=1, dry_called=1, flooded=1, flooded_called=1)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(2 / 3)
    assert counts.f1 == pytest.approx(2 / 3)
    assert counts.false_new == 1
    assert pooled([counts, counts]) == Counts(4, 2, 2, 2, 2, 2, 2)


def test_scores_of_nothing_are_unknown() -> None:
    nothing = Counts()
    assert all(math.isnan(value) for value in (nothing.f1, nothing.precision, nothing.recall, nothing.false_new))


def test_the_table_pools_pixels_and_averages_events() -> None:
    counts = {"row": {"large": [Counts(90, 10, 0)], "small": [Counts(0, 0, 10)]}}
    line = water_table(counts).splitlines()[-1]
    assert "| 0.90 (0.47) |" in line


def test_an_image_of_water_is_water_and_a_missing_one_is_not() -> None:
    assert of_image(picture(WATER, MEADOW, SNOW), BANDS).tolist() == [[True, False, False]]
    assert not of_image(np.full((3, 1, 4), np.nan, np.float32), BANDS).any()


def test_otsu_parts_two_heaps_and_stays_off_nodata() -> None:
    rng = np.random.default_rng(0)
    lake = np.zeros((64, 64), bool)
    lake[20:50, 10:40] = True
    radar = np.where(lake, -20, -9) + rng.normal(0, 1.5, lake.shape).astype(np.float32)
    radar[:8] = np.nan
    found = otsu(radar.astype(np.float32))
    assert not found[:8].any()
    assert (found == lake)[8:].mean() > 0.95
    assert not otsu(np.full((8, 8), np.nan, np.float32)).any()


def test_a_generator_with_a_probability_is_scored_twice_and_one_without_once() -> None:
    image = picture(WATER, MEADOW)
    probability = np.array([[[0.9, 0.9]], [[0.5, 0.4]]], np.float32)
    made = {"both": Made(image, probability), "image": Made(image), "water": Made(None, probability)}
    called = {name: where.tolist() for name, where in called_water(made, BANDS)}
    assert list(called) == ["both, its image", "both, p ≥ .5", "image", "water"]
    assert all(where == [[True, False]] for where in called.values())


def test_a_veil_lies_over_the_whole_window_in_its_share() -> None:
    ground, rng = torch.full((1, 3, 32, 32), 0.1), torch.Generator().manual_seed(0)
    hazy = veil(ground, BANDS, 0.3, rng)
    assert (hazy > 0.1).all()
    assert hazy[2].mean() == pytest.approx(0.7 * 0.1 + 0.3 * 0.6, abs=0.01)


def test_radar_given_as_calibrated_keeps_what_changed_between_the_dates() -> None:
    land, water = np.full((1, 4, 4), -8.3, np.float32), np.full((1, 4, 4), -20, np.float32)
    for seed in range(20):
        first, then = as_calibrated(land, water, np.random.default_rng(seed))
        assert -12 <= first.mean() <= -6
        assert 0.6 * 11.7 <= (first - then).mean() <= 1.1 * 11.7


def dates(days: list[int], clear: list[float]) -> list[Date]:
    """Dates of a place of ten pixels, so many days after one another, a share of each clear."""
    start = np.datetime64("2020-01-01", "ns")
    return [
        Date(
            start + np.timedelta64(day, "D"),
            np.zeros((2, 1, 10), np.float32),
            np.full((3, 1, 10), day, np.float32),
            (np.arange(10) < 10 * share)[None],
        )
        for day, share in zip(days, clear, strict=True)
    ]


def test_a_target_has_the_latest_clear_date_that_is_not_too_near() -> None:
    some = dates([0, 5, 10, 14, 100], [1, 1, 1, 0.2, 1])
    assert nearest_pairs(some) == [(0, 2)]


def test_the_mean_of_the_last_three_skips_clouds() -> None:
    some = dates([0, 10, 20, 30, 40], [1, 1, 1, 0.2, 0.8])
    mean = last_three(some, 4)
    assert mean[0, 0, 0] == pytest.approx((10 + 20 + 40) / 3)
    assert mean[0, 0, 9] == pytest.approx((10 + 20) / 2)


def test_error_over_no_pixels_is_unknown() -> None:
    x, y = np.zeros((2, 1, 3)), np.ones((2, 1, 3))
    assert rmse(x, y, np.array([[True, False, False]])) == 1
    assert math.isnan(rmse(x, y, np.zeros((1, 3), bool)))


def test_every_series_has_a_day_from_which_it_is_held_out() -> None:
    assert set(HELD_OUT) == set(GROUND)
    assert set(LOW_SUN) <= set(GROUND)


class Known(Generator):
    """Copies t1, and tells what it was given."""

    def generate(self, s1_t1, s2_t1, s1_t2, s2_t2, **more):  # type: ignore[no-untyped-def]
        self.given, self.calibrated = (s1_t1, s2_t1, s1_t2, s2_t2), more["calibrated"]
        return Prediction(s2_t1.nan_to_num(0))


def test_a_window_of_any_size_and_order_of_channels_is_given_to_a_generator() -> None:
    generator = Known(preset("base", pols=("VV",), bands=("B11", "B8", "B3")))
    generator.register_parameter("place", torch.nn.Parameter(torch.zeros(1)))
    bands, pols = ("B3", "B4", "B8", "B11"), ("VV", "VH")
    s2 = np.random.default_rng(0).random((4, 40, 50)).astype(np.float32)
    radar = np.zeros((2, 40, 50), np.float32)
    made = generate(generator, (radar, s2, radar, np.full_like(s2, np.nan)), Channels(pols, bands), calibrated=True)
    assert [image.shape for image in generator.given] == [(1, n, 64, 64) for n in (1, 3, 1, 3)]
    assert generator.calibrated.tolist() == [True]
    assert made.reflectance is not None
    assert made.reflectance.shape == (4, 40, 50)
    np.testing.assert_allclose(made.reflectance[[0, 2, 3]], s2[[0, 2, 3]])
    assert np.isnan(made.reflectance[1]).all()
    assert made.water is None
