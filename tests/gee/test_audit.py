"""A map is scored against the clear Sentinel-2 that Earth Engine has by now."""

import csv
import datetime
import json
import shutil
import time
from pathlib import Path

import pytest

import crgen as package
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import afterwards, ledger
from crgen.errors import RequestError
from crgen.pipeline.audit import NotYetError, audit
from tests.cli.conftest import crgen, here  # noqa: F401
from tests.earthengine import faults
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


def test_where_earth_engine_is_away_a_batch_waits_seconds_for_its_audits_and_for_one_of_them(
    service: EarthEngineServer,
    product: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(afterwards, "AUDIT_PATIENCE", 0.5)
    monkeypatch.setattr(ledger, "today", lambda: datetime.date(2021, 8, 3))
    for name in ("north", "south"):
        shutil.copytree(product.parent, product.parent.parent / "maps" / name)
    jobs = [
        f"[[job]]\nname = '{name}'\naoi = '{AREA}'\nt1 = '2021-07-10'\nt2 = '2021-07-22'" for name in ("north", "south")
    ]
    path = product.with_name("jobs.toml")
    path.write_text(
        "\n".join([f"[defaults]\nout = '{product.parent.parent / 'maps'}'", *jobs, "[log]\nfile = 'log.json'"])
    )
    service.add(faults.error(503, "away", endpoint="value:compute"))
    start = time.monotonic()
    afterwards.look_after(path, read_jobs(path), 0)
    assert time.monotonic() - start < 20, "not CRGEN_EE_PATIENCE, 15 minutes"
    said = [json.loads(line) for line in Path("log.json").read_text().splitlines()]
    (gone,) = (line["message"] for line in said if "Earth Engine" in line["message"])
    assert "did not deliver" in gone
    assert not list(path.parent.parent.rglob(".audited")), "asked again when it is back"
    service.reset()
    afterwards.look_after(path, read_jobs(path), 0)
    assert len(list((product.parent.parent / "maps").glob("*/map_audit.json"))) == 2
