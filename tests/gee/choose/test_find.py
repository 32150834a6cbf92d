"""Radar of fewer polarisations is taken where that of all covers too little, and only there."""

from datetime import date, timedelta

import numpy as np
import pytest

from crgen.errors import StackError
from crgen.gee.choose.catalogue import Catalogue
from crgen.gee.choose.choice import Choice
from crgen.gee.choose.description import Asset
from crgen.gee.choose.find import find_scenes, newest_pass
from crgen.gee.choose.past import with_past
from crgen.gee.connection.session import STANDARD, Settings
from crgen.gee.fetch.arrays import open_pull
from crgen.gee.fetch.cache import default_folder
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine.scenes import scenes_for, wanted_of
from crgen.pipeline.source.earthengine.settings import connection_settings
from tests.earthengine.server import EarthEngineServer
from tests.gee.choose.test_choice import AREA, BANDS, RULES, T1, T2, WANTED, optical, radar, taken

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
    return find_scenes(Settings(), AREA, WANTED, pols=("VV", "VH"), needed_pols=needed, bands=BANDS, rules=RULES)


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


def test_scenes_are_asked_for_at_the_endpoint_for_aggregations(
    held: list[Asset], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for module in ("find", "past"):
        monkeypatch.setattr(f"crgen.gee.choose.{module}.connect", lambda settings: asked.append(settings.url))
    monkeypatch.setattr("crgen.gee.choose.past.search", lambda *_: Catalogue())
    held += BOTH
    with_past(Settings(), found().manifest, [(T1, T1)], lambda looks: [], rules=RULES)
    newest_pass(Settings(), AREA, pols=("VV",), rules=RULES, until=T2, within_days=45)
    assert set(asked) == {STANDARD}


def test_weights_that_need_both_are_refused(held: list[Asset]) -> None:
    held += ALONE
    with pytest.raises(StackError):
        found(needed=())


def test_the_newest_pass_has_both_polarisations_if_any_has(held: list[Asset]) -> None:
    asked = {"pols": ("VV", "VH"), "needed_pols": ("VV",), "rules": RULES, "until": T2, "within_days": 45}
    held += ALONE
    assert newest_pass(Settings(), AREA, **asked) == T2
    assert newest_pass(Settings(), AREA, **{**asked, "needed_pols": ()}) is None
    held += [BOTH[0]]
    assert newest_pass(Settings(), AREA, **asked) == T1 + timedelta(3)


KENYA = "37.40,{south},37.42,{north}"


@pytest.mark.parametrize(("south", "north"), [(-0.51, -0.49), (1.04, 1.08)], ids=["south", "north"])
def test_a_pass_across_the_equator_is_one_though_its_number_changes(
    service: EarthEngineServer, south: float, north: float
) -> None:
    """Two slices meet in the area: south of the equator the first has number 29 and the second, which crosses it, 29 at
    its start and 30 at its end; north of it one has 29 and 30, the other 30."""
    channels = Channels(("VV",), ("B3",), 10.0, margin=0)
    days = {"t1": date(2021, 7, 9), "t2": date(2021, 7, 21)}
    area, wanted = wanted_of(channels, aoi=KENYA.format(south=south, north=north), crs=None, **days)
    options = EarthEngine()
    choice = scenes_for(options, channels, area, wanted, strict=False)
    scenes = choice.manifest.scenes["s1_t1"]
    assert len(scenes) == 2
    assert {scene.relative_orbit for scene in scenes} == ({29} if south < 0 else {29, 30})
    assert len({scene.geometry for scene in scenes}) == 1
    assert len({(scene.platform, scene.orbit) for scene in scenes}) == 1
    assert choice.manifest.coverage["s1_t1"] == choice.manifest.coverage["s1_t2"] == 1
    pull, _ = open_pull(choice.manifest, area.geobox, connection_settings(options), default_folder())
    for name, array in pull.arrays().items():
        assert np.isfinite(array.compute()).all(), name


def test_a_tile_in_two_parts_is_whole(service: EarthEngineServer) -> None:
    channels = Channels(("VV",), ("B3",), 10.0, margin=0)
    days = {"t1": date(2021, 7, 29), "t2": date(2021, 8, 1)}
    area, wanted = wanted_of(channels, aoi="113.75,34.75,113.77,34.77", crs=None, **days)
    choice = scenes_for(EarthEngine(search_days=0), channels, area, wanted, strict=False)
    assert [scene.tile for scene in choice.manifest.scenes["s2_t1"]].count("49SGU") == 2
    assert choice.manifest.coverage["s2_t1"] == 1


def test_of_two_processings_the_one_with_a_score_is_taken(service: EarthEngineServer) -> None:
    channels = Channels(("VV",), ("B3",), 10.0, margin=0)
    days = {"t1": date(2021, 7, 29), "t2": date(2021, 8, 1)}
    area, wanted = wanted_of(channels, aoi="115.20,34.69,115.22,34.71", crs=None, **days)
    choice = scenes_for(EarthEngine(search_days=0), channels, area, wanted, strict=False)
    (scene,) = choice.manifest.scenes["s2_t1"]
    assert scene.tile == "50SLD"
    assert scene.score is not None
