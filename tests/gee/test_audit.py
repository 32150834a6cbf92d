"""A map is scored against the clear Sentinel-2 that Earth Engine has by now."""

import csv
import datetime
import json
from pathlib import Path

import pytest

import crgen as package
from crgen.errors import RequestError
from crgen.pipeline.audit import NotYetError, audit
from tests.cli.conftest import crgen, here  # noqa: F401
from tests.earthengine.server import EarthEngineServer

AREA = "113.56,34.70,113.563,34.703"


@pytest.fixture
def product(service: EarthEngineServer, tiny_weights: Path, here: Path) -> Path:  # noqa: F811
    days = {"t1": "2021-07-10", "t2": "2021-07-22"}
    package.fill(aoi=AREA, **days, past="none", weights=str(tiny_weights), out="map.tif")
    service.clear()
    return here / "map.tif"


def test_a_map_is_scored_against_the_clearest_day_that_came_since(
    service: EarthEngineServer,
    product: Path,
    crgen,  # noqa: F811
) -> None:
    outcome = crgen("audit", product)
    assert outcome.code == 0, outcome.err
    scores = json.loads(product.with_name("map_audit.json").read_text())
    assert scores["day"] == "2021-07-29"
    assert "against Sentinel-2 of 2021-07-29, 7 days after: RMSE" in outcome.out
    assert 0 < scores["share"] <= 1
    with product.with_name("track_record.csv").open(newline="") as file:
        assert [(line["product"], line["day"]) for line in csv.DictReader(file)] == [("map", "2021-07-29")]
    stack = product.with_name("later.zarr")
    package.pull(aoi=AREA, t1="2021-07-22", t2="2021-07-29", past="none", out=stack)
    assert audit(product, stack).scores == scores, "the same as by hand"


def test_what_was_scored_against_the_clearest_day_is_left_alone(service: EarthEngineServer, product: Path) -> None:
    scored = datetime.date.fromisoformat(audit(product).scores["day"])
    service.clear()
    with pytest.raises(NotYetError, match=r"clearer over .*map\.tif than that of 2021-07-29"):
        audit(product, unless=scored)
    assert not service.tiles


def test_a_map_that_nothing_tells_of_yet_says_so(service: EarthEngineServer, product: Path, crgen) -> None:  # noqa: F811
    item = json.loads(product.with_suffix(".json").read_text())
    item["properties"]["crgen:t2"] = "2021-08-01"
    product.with_suffix(".json").write_text(json.dumps(item))
    outcome = crgen("audit", product)
    assert outcome.code == 4
    assert "nothing tells of" in outcome.err
    assert "no Sentinel-2 of 2021-08-02 to 2021-08-21 that Earth Engine has" in outcome.err
    assert not list(product.parent.glob("*audit*"))


def test_a_map_of_another_source_needs_a_stack(tiny_weights: Path, here: Path) -> None:  # noqa: F811
    days = {"t1": "2021-07-10", "t2": "2021-07-22"}
    package.fill(aoi=AREA, **days, source="demo", weights=str(tiny_weights), out="map.tif")
    with pytest.raises(RequestError, match="not of Earth Engine: give a later stack, with --against"):
        audit(here / "map.tif")
