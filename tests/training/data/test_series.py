"""Series of ordinary places, from the real imagery beside the checkout."""

import numpy as np
import pytest

from crgen.errors import TrainingError
from crgen.training.data.series import BANDS, GROUND, held_out, low_sun, series, water_labels
from tests.realdata import REAL_DATA, needs_real_data

LACKING = {"belgium_months": {"B8A"}, "belgium_20months": {"B8A"}}


def test_an_unknown_series_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(TrainingError, match="belgium_dates"):
        series("atlantis", REAL_DATA)


@needs_real_data
@pytest.mark.parametrize("place", GROUND)
def test_a_series_is_of_one_form(place: str) -> None:
    if place == "belgium_20months" and not (REAL_DATA / place).is_dir():
        pytest.skip("belgium_20months is not on this machine")
    dates = series(place, REAL_DATA)
    days = [date.day for date in dates]
    assert days == sorted(set(days))
    for date in dates:
        assert date.s1.shape == (2, *date.clear.shape)
        assert date.s2.shape == (10, *date.clear.shape)
        assert np.isfinite(date.s2[0][date.clear]).all()
        assert np.isfinite(date.s1).all()
        assert -25 < np.median(date.s1[1]) < np.median(date.s1[0]) < -3
        assert {b for b, plane in zip(BANDS, date.s2, strict=True) if np.isnan(plane).all()} >= LACKING.get(
            place, set()
        )
    held = [held_out(place, date) for date in dates]
    assert any(held)
    assert not all(held)


@needs_real_data
def test_snow_and_long_shadows_are_not_called_water() -> None:
    dates = series("finland_0060c0a5", REAL_DATA)
    labels = water_labels("finland_0060c0a5", dates)
    winter = [label for date, label in zip(dates, labels, strict=True) if low_sun("finland_0060c0a5", date)]
    assert len(winter) == 4
    for label in winter:
        assert (label == 1).mean() < 0.02
        assert (label == 0).mean() > 0.9
