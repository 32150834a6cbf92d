"""Series of ordinary places: which pairs are trained on, how often, and what is known of their water."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from crgen.errors import TrainingError
from crgen.training.data import series as module
from crgen.training.data.dataset import Mixture
from crgen.training.data.kinds import KINDS, held_out_spec, open_data
from crgen.training.data.series import BANDS, GROUND, HELD_OUT, POLS, Series, held_out, low_sun, series, water_labels
from crgen.training.data.worldcereal import Date
from tests.realdata import REAL_DATA, needs_real_data

SIDES = {"belgium_dates": 8, "finland_0060c0a5": 16}
DRY, LAKE, SHADOW, SNOW = (0.3, 0.2, 0.1), (0.01, 0.02, 0.05), (0.02, 0.04, 0.03), (0.1, 0.8, 0.85)
"""B11, B8, B3."""


def date(day: str, side: int = 8, clear: float = 1.0, colours: tuple[tuple[float, ...], ...] = (DRY,)) -> Date:
    """A date in stripes of colours, of which the upper rows are clear."""
    s2 = np.full((len(BANDS), side, side), 0.1, np.float32)
    for at, colour in enumerate(colours):
        for band, value in zip(("B11", "B8", "B3"), colour, strict=True):
            s2[BANDS.index(band), :, at :: len(colours)] = value
    known = np.zeros((side, side), bool)
    known[: round(clear * side)] = True
    s1 = np.full((2, side, side), [[[-10.0]], [[-16.0]]], np.float32)
    return Date(np.datetime64(day, "ns"), s1, s2, known)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places with a date every tenth day, every fourth of them half cloudy."""

    def made(place: str, root: Path) -> list[Date]:
        start = np.datetime64("2017-09-01" if place == "belgium_dates" else "2020-09-01")
        days = (str(start + 10 * i) for i in range(44))
        return [date(day, SIDES[place], 0.4 if i % 4 == 0 else 1.0) for i, day in enumerate(days)]

    monkeypatch.setattr(module, "series", made)
    monkeypatch.setattr(module, "GROUND", {place: GROUND[place] for place in SIDES})


@pytest.mark.usefixtures("places")
def test_a_date_that_is_held_out_is_in_no_training_pair_on_either_side() -> None:
    parts = {part: Series(Path(), part=part) for part in ("train", "held out", "all")}
    for place, a, b in parts["train"].pairs:
        assert not held_out(place, a)
        assert not held_out(place, b)
    for place, _, b in parts["held out"].pairs:
        assert held_out(place, b)
    for place, spans in HELD_OUT.items():
        if place in SIDES:
            scored = [str(b.day)[:10] for name, _, b in parts["held out"].pairs if name == place]
            assert all(any(first <= day <= last for day in scored) for first, last in spans), "every span is scored"
    lost = len(parts["all"]) - len(parts["train"]) - len(parts["held out"])
    assert lost > 0, "a pair from a held-out date to one that is not serves neither"


@pytest.mark.usefixtures("places")
def test_pairs_are_8_to_70_days_apart_and_end_clear() -> None:
    data = Series(Path(), part="all")
    days = {(b.day - a.day) / np.timedelta64(1, "D") for _, a, b in data.pairs}
    assert days == {10, 20, 30, 40, 50, 60, 70}
    assert all(b.clear.mean() >= 0.5 for _, _, b in data.pairs)
    assert any(a.clear.mean() < 0.5 for _, a, _ in data.pairs), "t1 may be cloudy"
    assert len(Series(Path(), part="all", min_clear=0.3)) > len(data)


@pytest.mark.usefixtures("places")
def test_places_are_drawn_by_their_side_and_their_pairs_alike() -> None:
    data = Series(Path(), part="train")
    total = {place: sum(w for w, p in zip(data.weights.tolist(), data.pairs, strict=True) if p[0] == place)
             for place in SIDES}  # fmt: skip
    assert total["finland_0060c0a5"] == pytest.approx(2 * total["belgium_dates"]), "16 and 8 px"
    for place in SIDES:
        assert len({w for w, p in zip(data.weights.tolist(), data.pairs, strict=True) if p[0] == place}) == 1
    mixture, rng = Mixture([(data, 1.0)]), torch.Generator().manual_seed(0)
    drawn = [data.pairs[mixture.draw(rng)][0] for _ in range(1000)]
    assert drawn.count("finland_0060c0a5") == pytest.approx(667, abs=60)


@pytest.mark.usefixtures("places")
def test_a_sample_holds_what_was_asked_for_and_nan_where_a_set_lacks_it() -> None:
    data = Series(Path(), ("VH",), ("B11", "B9", "B3"), places=("belgium_dates",))
    sample = data[0]
    assert sample.s1_t1.shape == (1, 8, 8)
    assert (sample.s1_t1 == -16).all()
    for image in (sample.s2_t1, sample.target):
        assert image.shape == (3, 8, 8)
        assert np.isnan(image[1]).all()
        assert np.isclose(image[[0, 2], 0, 0], (0.3, 0.1)).all()
    assert sample.s1_calibrated
    assert sample.event == "belgium site"
    assert re.fullmatch(r"belgium_dates 2017-\d\d-\d\d→2017-\d\d-\d\d", sample.name)
    assert sample.clear_t1 is not None
    assert sample.water is not None
    assert all(label.shape == (1, 8, 8) for label in sample.water)
    assert (sample.water[1] == 0).all()
    with pytest.raises(TrainingError, match="a series has no HH"):
        Series(Path(), ("HH",))
    with pytest.raises(TrainingError, match="no pair of dates is left of belgium_dates"):
        Series(Path(), places=("belgium_dates",), min_clear=1.1)


@pytest.mark.usefixtures("places")
def test_as_a_kind_of_data_its_held_out_part_is_what_is_scored() -> None:
    spec = held_out_spec("series:x,places=belgium_dates")
    assert KINDS["series"].held_out == {"part": "held out"}
    scored = open_data(spec, ("VV",), ("B3",))
    assert all(held_out(place, b) for place, _, b in scored.pairs)
    assert {place for place, *_ in scored.pairs} == {"belgium_dates"}


def test_under_snow_and_long_shadows_other_dates_say_what_is_water() -> None:
    """Stripes: dry ground under snow, a lake, dry ground in shadow, ice on a lake, and a field flooded once."""
    summer = [
        date(f"2021-0{month}-15", 20, 1.0, (DRY, LAKE, DRY, LAKE, LAKE if month == 6 else DRY))
        for month in (5, 6, 7, 8)
    ]
    winter = date("2021-12-15", 20, 0.5, (SNOW, LAKE, SHADOW, SNOW, SHADOW))
    *before, label = water_labels("finland_288afc34", [*summer, winter])
    assert low_sun("finland_288afc34", winter)
    assert not any(low_sun("finland_288afc34", day) for day in summer)
    assert not low_sun("belgium_dates", winter)
    for stripes in before:
        assert (stripes[:, :4] == (0, 1, 0, 1)).all()
    known = label[:10]
    assert (known[:, 0::5] == 0).all(), "snow on ground that always was dry"
    assert (known[:, 1::5] == 1).all(), "a lake that always was one"
    assert (known[:, 2::5] == 0).all(), "shadow, that looks like water"
    assert np.isnan(known[:, 3::5]).all(), "ice"
    assert np.isnan(known[:, 4::5]).all(), "shadow or flood: who knows"
    assert np.isnan(label[10:]).all(), "cloud"


def test_a_series_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no series 'atlantis'; choose from belgium_dates"):
        series("atlantis", tmp_path)
    with pytest.raises(TrainingError, match="is missing or damaged"):
        series("belgium_20months", tmp_path)


@needs_real_data
@pytest.mark.parametrize("place", GROUND)
def test_the_real_series_are_of_one_form(place: str) -> None:
    if place == "belgium_20months" and not (REAL_DATA / place).is_dir():
        pytest.skip("the series belgium_20months (../shared/data) is not on this machine")
    dates = series(place, REAL_DATA)
    days = [day.day for day in dates]
    assert days == sorted(set(days))
    for day in dates:
        assert day.s1.shape == (len(POLS), *day.clear.shape)
        assert day.s2.shape == (len(BANDS), *day.clear.shape)
        assert np.isfinite(day.s2[0][day.clear]).all()
        assert -25 < np.nanmedian(day.s1[1]) < np.nanmedian(day.s1[0]) < -3
        whole = np.isnan(day.s2).all((1, 2))
        lacking = {band for band, gone in zip(BANDS, whole, strict=True) if gone}
        assert lacking in (set(BANDS), {"B8A"} if place in ("belgium_months", "belgium_20months") else set())
    held = [held_out(place, day) for day in dates]
    assert 0 < sum(held) < 0.5 * len(held)


@needs_real_data
def test_real_snow_and_long_shadows_are_not_called_water() -> None:
    dates = series("finland_0060c0a5", REAL_DATA)
    labels = water_labels("finland_0060c0a5", dates)
    winter = [i for i, day in enumerate(dates) if low_sun("finland_0060c0a5", day) and day.clear.any()]
    assert len(winter) >= 3
    for i in winter:
        assert (labels[i] == 1).mean() < 0.02
        assert (labels[i] == 0).mean() > 0.9
