"""Radar of fewer polarisations is taken where that of all covers too little, and only there."""

from datetime import timedelta

import pytest

from crgen.errors import StackError
from crgen.gee.choose.catalogue import Asset, Catalogue
from crgen.gee.choose.choice import Choice, Rules
from crgen.gee.choose.find import find_scenes, newest_pass
from crgen.gee.connection.session import Settings
from tests.gee.choose.test_choice import AREA, BANDS, T1, T2, WANTED, optical, radar, taken

ALONE = tuple(radar(day, 40, bands=("VV", "angle"), hour=9) for day in (T1, T2))
BOTH = tuple(radar(day + timedelta(3), 113) for day in (T1, T2))
STRIP = tuple(radar(day + timedelta(3), 113, east=0.3) for day in (T1, T2))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[Asset]:
    """What the catalogue holds."""
    assets: list[Asset] = []
    where = "crgen.gee.choose.find"
    monkeypatch.setattr(f"{where}.connect", lambda settings: None)
    monkeypatch.setattr(
        f"{where}.search", lambda *_, **__: Catalogue(tuple(assets), (optical(T1),), frozenset({optical(T1).index}))
    )
    monkeypatch.setattr(f"{where}.with_clear_shares", lambda session, catalogue, *_: catalogue)
    return assets


def found(needed: tuple[str, ...] = ("VV",)) -> Choice:
    return find_scenes(Settings(), AREA, WANTED, pols=("VV", "VH"), needed_pols=needed, bands=BANDS, rules=Rules())


def test_both_polarisations_are_taken_from_days_away_rather_than_one(held: list[Asset]) -> None:
    held += [*ALONE, *BOTH]
    assert found().manifest.pols == ("VV", "VH")
    assert taken(found(), "s1_t1") == [BOTH[0].id]


@pytest.mark.parametrize("others", [(), STRIP])
def test_vv_alone_is_taken_where_both_cover_too_little_and_a_note_says_so(held: list[Asset], others) -> None:
    held += [*ALONE, *others]
    choice = found()
    assert choice.manifest.pols == ("VV",)
    assert ALONE[0].id in taken(choice, "s1_t1")
    assert "radar with VV and VH covers too little of the area, so VV alone is used" in choice.manifest.notes


def test_weights_that_need_both_are_refused(held: list[Asset]) -> None:
    held += ALONE
    with pytest.raises(StackError):
        found(needed=())


def test_the_newest_pass_has_both_polarisations_if_any_has(held: list[Asset]) -> None:
    asked = {"pols": ("VV", "VH"), "needed_pols": ("VV",), "rules": Rules(), "until": T2, "within_days": 45}
    held += ALONE
    assert newest_pass(Settings(), AREA, **asked) == T2
    assert newest_pass(Settings(), AREA, **{**asked, "needed_pols": ()}) is None
    held += [BOTH[0]]
    assert newest_pass(Settings(), AREA, **asked) == T1 + timedelta(3)
