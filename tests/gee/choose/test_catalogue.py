"""What is asked of the catalogue, and that nothing is lost by asking for less."""

import datetime
import json

import pytest

from crgen.gee.choose import catalogue
from crgen.gee.choose.catalogue import Asset, search
from crgen.gee.connection.session import connect
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.earthengine import connection_settings
from tests.earthengine import faults
from tests.earthengine.server import EarthEngineServer

ZHENGZHOU = (113.5, 34.6, 114.5, 35.0)


def optical() -> tuple[Asset, ...]:
    days = datetime.date(2021, 7, 1), datetime.date(2021, 7, 31)
    return search(connect(connection_settings(EarthEngine())), ZHENGZHOU, [days], radar=False).optical


def received() -> int:
    return connect(connection_settings(EarthEngine())).transport.counts["bytes"]


def test_a_brief_description_says_all_that_the_whole_one_does(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(connection_settings(EarthEngine()))
    at = [received()]
    brief = optical()
    at.append(received())
    with monkeypatch.context() as whole:
        whole.setattr(catalogue, "_brief", lambda image: image)
        whole.setattr(catalogue, "_unbriefed", lambda feature: feature)
        assert optical() == brief
    at.append(received())
    assert len(brief) > 10
    print(f"{len(brief)} images: {at[1] - at[0]:,} bytes instead of {at[2] - at[1]:,}")
    assert at[1] - at[0] < (at[2] - at[1]) / 3


@pytest.mark.parametrize("how", ["refused", "empty", "of another kind"])
def test_where_the_brief_one_does_not_serve_the_whole_one_is_asked_for(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    right = optical()
    if how == "refused":
        service.add(faults.error(400, "Element.copyProperties: no such thing", endpoint="value:compute", nth=1))
    else:
        changed = {"empty": json.loads('{"properties": {"index": "x", "bands": []}}'), "of another kind": None}[how]
        read = catalogue._unbriefed
        monkeypatch.setattr(catalogue, "_unbriefed", lambda feature: read(changed))
    asked = len(service.requests)
    assert optical() == right
    assert len(service.requests) == asked + 3


def test_where_nothing_was_acquired_nothing_more_is_asked(service: EarthEngineServer) -> None:
    connect(connection_settings(EarthEngine()))
    asked = len(service.requests)
    days = datetime.date(2019, 1, 1), datetime.date(2019, 1, 2)
    assert not search(connect(connection_settings(EarthEngine())), ZHENGZHOU, [days], radar=False).optical
    assert len(service.requests) == asked + 1
