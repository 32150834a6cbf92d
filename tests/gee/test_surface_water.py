"""How often a place was water, by the JRC's Global Surface Water: asked where nothing tells of t1, and credited."""

import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import crgen
from crgen.cli.main import app
from crgen.gee.manifest import WATER, Manifest
from crgen.pipeline.fill import run
from crgen.pipeline.request import EarthEngine, FillRequest
from crgen.pipeline.run.fingerprint import identity_of
from crgen.pipeline.run.plan import lay_out
from crgen.pipeline.source.past import USUAL
from crgen.pipeline.source.stack import manifest_of
from crgen.pipeline.tiling.water import KNOWN, UNKNOWN
from tests.earthengine import ground
from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import CHANNELS, lonlat, open_area

LAKE = "114.055,34.840,114.062,34.846"
"""Some of the lake's shore."""


@pytest.fixture
def clouded(tiny_weights: Path, tmp_path: Path) -> FillRequest:
    """A map of the shore whose t1 is all cloud, by weights that know nothing."""
    return FillRequest(
        aoi=LAKE,
        t1=datetime.date(2021, 7, 14),
        t2=datetime.date(2021, 7, 22),
        weights=str(tiny_weights),
        past="90d",
        out=tmp_path / "map.tif",
        earth_engine=EarthEngine(min_coverage=0),
    )


def test_the_stack_holds_the_share_of_looks_and_nothing_where_there_never_was_water(
    service: EarthEngineServer,
) -> None:
    acquired = open_area(aoi=LAKE, past=USUAL, channels=replace(CHANNELS, water=True))
    stack = acquired.stack
    share = stack["water_occurrence"].compute().values
    assert len(service.tiles) == 1
    truth = ground.occurrence(*lonlat(stack.odc.geobox)) / 100
    assert np.nanmax(share) == 1
    assert np.isnan(share[truth == 0]).mean() > 0.95
    assert abs(np.nan_to_num(share) - truth).max() < 0.06, "the nearest of its pixels of 28 m"


def test_water_of_before_is_told_from_flood_where_t1_is_cloud_and_the_source_is_credited(
    service: EarthEngineServer, clouded: FillRequest
) -> None:
    unasked = replace(clouded, past="none", out=clouded.out.with_name("plain.tif"))
    assert lay_out(unasked).scene.water is None
    plain = run(unasked)
    water = lay_out(clouded).scene.water
    assert water is not None
    assert len(water.missing()) == len(water) == 1
    result = run(clouded)
    assert not water.missing()
    for paths, told in ((plain.paths, False), (result.paths, True)):
        with rasterio.open(paths.water) as raster:
            before = raster.read(2)
        known = (before >= KNOWN) & (before != UNKNOWN)
        assert known.any() == told
        item, page = json.loads(paths.item.read_text()), paths.page.read_text()
        links = [link["title"] for link in item["links"] if link["rel"] == "derived_from"]
        assert (WATER in links) == told
        assert ("10.1038/nature20584" in json.dumps(item.get("properties").get("sci:publications"))) == told
        assert "Contains modified Copernicus Sentinel data 2021" in page
        assert ("EC JRC/Google" in page) == told
        assert ("10.1038/nature20584" in page) == told
    assert result.areas.before > plain.areas.before
    assert result.areas.unknown_before < plain.areas.unknown_before


def test_a_product_made_before_it_was_known_is_made_again_without_it_and_is_not_due_again(
    service: EarthEngineServer, clouded: FillRequest
) -> None:
    work = lay_out(clouded)
    manifest = Manifest.parse(manifest_of(work.scene.stack), "here")
    assert manifest.water == WATER
    old = clouded.out.with_name("old.json")
    old.write_text(manifest.model_copy(update={"water": None}).to_json())
    again = replace(clouded, aoi=None, t1=None, t2=None, earth_engine=EarthEngine(manifest=old))
    before = lay_out(again)
    assert "water_occurrence" not in before.scene.stack
    assert identity_of(clouded, work) == identity_of(again, before)


def test_nothing_of_it_is_fetched_where_t1_is_clear(service: EarthEngineServer, clouded: FillRequest) -> None:
    clear = replace(clouded, aoi="113.56,34.70,113.565,34.705", t1=datetime.date(2021, 4, 15), clear_threshold=0.1)
    run(clear)
    water = lay_out(replace(clear, out=clear.out.with_name("again.tif"))).scene.water
    assert water is not None
    assert len(water.missing()) == len(water)


def test_a_stack_that_was_pulled_holds_it_and_makes_the_same_water(
    service: EarthEngineServer, clouded: FillRequest
) -> None:
    online = run(clouded)
    service.clear()
    stack = clouded.out.with_name("stack.zarr")
    crgen.pull(
        aoi=clouded.aoi, t1=clouded.t1, t2=clouded.t2, weights=clouded.weights, past="90d", min_coverage=0, out=stack
    )
    local = run(FillRequest(source=str(stack), weights=clouded.weights, out=clouded.out.with_name("local.tif")))
    with rasterio.open(online.paths.water) as one, rasterio.open(local.paths.water) as other:
        assert (one.read() == other.read()).all()
    assert "EC JRC/Google" in local.paths.page.read_text()


def test_a_dry_run_says_what_it_may_cost(service: EarthEngineServer, clouded: FillRequest) -> None:
    asked = ["fill", "--aoi", LAKE, "--t1", "2021-07-14", "--t2", "2021-07-22", "--weights", clouded.weights]
    said = CliRunner().invoke(app, [*asked, "--min-coverage", "0", "--dry-run", "--out", str(clouded.out)])
    assert said.exit_code == 0, said.output
    (line,) = (line for line in said.output.splitlines() if line.startswith("water"))
    assert "up to 1 tiles" in line
    assert "where t1 is not clear" in line
