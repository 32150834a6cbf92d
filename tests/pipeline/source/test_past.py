"""Which earlier looks at a place are learned from, and that the demo scene has them."""

import datetime
from datetime import date, timedelta

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from crgen.errors import RequestError
from crgen.pipeline.request import parse_past
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.past import CLEAR, MOST, RECENT, SEASON, USUAL, Asked, Look, asked_for, choose_looks

T1, T2 = date(2021, 7, 10), date(2021, 7, 22)
YEAR = USUAL

looks = st.lists(
    st.builds(Look, st.dates(T2 - timedelta(800), T2 + timedelta(60)), st.floats(0, 1)), unique_by=lambda look: look.day
)


@given(looks, st.integers(0, 30))
def test_up_to_eight_clear_days_before_t1_recent_or_of_the_same_season(found: list[Look], after: int) -> None:
    days = choose_looks(found, T1, T2, Asked(YEAR.before, after))
    clear = {look.day: look.clear for look in found}
    before = [day for day in days if day < T1]
    assert days == sorted(set(days))
    assert len(before) <= MOST
    assert T1 not in days
    assert T2 not in days
    for day in before:
        apart = (T2 - day).days
        assert clear[day] >= CLEAR
        assert apart <= RECENT or abs(apart - 365) <= SEASON
    assert all((day - T2).days <= after for day in days)
    between = {day for day, share in clear.items() if T1 < day < T2 and share > 0}
    assert between <= set(days)


@given(looks)
def test_without_a_past_nothing_is_taken(found: list[Look]) -> None:
    assert choose_looks(found, T1, T2, asked_for("none")) == []


def test_where_both_kinds_abound_the_nearest_of_each_are_taken() -> None:
    every_day = [Look(T2 - timedelta(n), 1.0) for n in range(13, 500)]
    apart = [(T2 - day).days for day in choose_looks(every_day, T1, T2, YEAR)]
    assert apart == [366, 365, 364, 17, 16, 15, 14, 13]


@pytest.mark.parametrize(("text", "days"), [("1y", 365), ("6m", 180), ("90d", 90), ("None", 0)])
def test_how_far_to_look_is_written_as_a_time(text: str, days: int) -> None:
    assert parse_past(text) == days
    asked = asked_for(text)
    assert asked is not None
    assert asked.before == (days + SEASON if text == "1y" else days)
    assert asked_for(None) is None


@pytest.mark.parametrize("text", ["", "1", "0d", "-1y", "year", "99y"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="--past"):
        parse_past(text)


def test_the_demo_goes_back_a_year_with_the_seasons_light_and_without_the_flood() -> None:
    place = GeoBox((128, 128), Affine(40, 0, 730_000, 0, -40, 3_850_240), "EPSG:32649")
    stack = open_demo(place, T1, T2, pols=("VV",), bands=("B3", "B8", "B11"), past=YEAR)
    plain = open_demo(place, T1, T2, pols=("VV",), bands=("B3", "B8", "B11"))
    for name in plain.data_vars:
        assert np.array_equal(stack[name], plain[name]), name
    days = [datetime.date.fromisoformat(str(day)[:10]) for day in stack.time.values]
    assert min((T2 - day).days for day in days) > 0
    assert any((T2 - day).days > 300 for day in days)
    for at, day in enumerate(days):
        if day < T1:
            assert float((stack.clear_past[at] > 0.6).mean()) > 0.3
    radar = stack.s1_past.values
    assert radar.shape == (len(days), 1, 128, 128)
    assert np.median(radar[0]) == pytest.approx(np.median(stack.s1_t1.values), abs=3)
    new_water = (stack.s1_t2.values < -17) & (stack.s1_t1.values > -14)
    assert new_water.mean() > 0.01
    assert np.mean(radar[0][new_water] < -17) < 0.2
