"""What is asked of the catalogue, and that nothing is lost by asking for less."""

import datetime
import json

import pytest

from crgen.gee.choose.catalogue import search
from crgen.gee.choose.description import Asset, Kind
from crgen.gee.connection.session import connect
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.earthengine.settings import connection_settings
from tests.earthengine import faults
from tests.earthengine.server import EarthEngineServer

ZHENGZHOU = (113.5, 34.6, 114.5, 35.0)


S1, S2 = "COPERNICUS/S1_GRD_FLOAT", "COPERNICUS/S2_SR_HARMONIZED"


def found(collection: str) -> tuple[Asset, ...]:
    """What is there of one collection in a month."""
    days = datetime.date(2021, 7, 1), datetime.date(2021, 7, 31)
    radar = collection == S1
    held = search(connect(connection_settings(EarthEngine())), ZHENGZHOU, [days], radar=radar, optical=not radar)
    return held.radar if radar else held.optical


def received() -> int:
    return connect(connection_settings(EarthEngine())).transport.counts["bytes"]


@pytest.mark.parametrize("collection", [S1, S2])
def test_a_brief_description_says_all_that_the_whole_one_does(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, collection: str
) -> None:
    connect(connection_settings(EarthEngine()))
    at = [received()]
    brief = found(collection)
    at.append(received())
    with monkeypatch.context() as whole:
        whole.setattr(Kind, "brief", lambda kind, image: image)
        whole.setattr(Kind, "unbriefed", lambda kind, feature: feature)
        assert found(collection) == brief
    at.append(received())
    assert len(brief) > 10
    print(f"{len(brief)} images: {at[1] - at[0]:,} bytes instead of {at[2] - at[1]:,}")
    assert at[1] - at[0] < (at[2] - at[1]) * (2 / 3 if collection == S1 else 1 / 3)


@pytest.mark.parametrize("collection", [S1, S2])
@pytest.mark.parametrize("how", ["refused", "empty", "of another kind"])
def test_where_the_brief_one_does_not_serve_the_whole_one_is_asked_for(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, collection: str, how: str
) -> None:
    right = found(collection)
    if how == "refused":
        service.add(faults.error(400, "Element.copyProperties: no such thing", endpoint="value:compute", nth=1))
    else:
        changed = {"empty": json.loads('{"properties": {"index": "x", "bands": []}}'), "of another kind": None}[how]
        read = Kind.unbriefed
        monkeypatch.setattr(Kind, "unbriefed", lambda kind, feature: read(kind, changed))
    asked = len(service.requests)
    assert found(collection) == right
    assert len(service.requests) == asked + (2 if collection == S1 else 3)  # and the scores


def test_where_nothing_was_acquired_nothing_more_is_asked(service: EarthEngineServer) -> None:
    connect(connection_settings(EarthEngine()))
    asked = len(service.requests)
    days = datetime.date(2019, 1, 1), datetime.date(2019, 1, 2)
    assert not search(connect(connection_settings(EarthEngine())), ZHENGZHOU, [days], radar=False).optical
    assert len(service.requests) == asked + 1
