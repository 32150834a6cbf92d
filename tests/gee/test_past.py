"""Earlier looks at a place from Earth Engine: which, with which radar, and what they cost."""

import datetime
import json
from dataclasses import replace
from pathlib import Path

import ee
import numpy as np
import pytest

from crgen.cli.main import app
from crgen.errors import RequestError
from crgen.gee.choose.catalogue import search
from crgen.gee.choose.choice import Candidate, frozen
from crgen.gee.choose.passes import passes_over
from crgen.gee.connection.session import connect
from crgen.gee.fetch.images import layers, past_together
from crgen.gee.manifest import Manifest
from crgen.pipeline.fill import run
from crgen.pipeline.request import EarthEngine, FillRequest
from crgen.pipeline.run.fingerprint import fingerprint_of, identity_of
from crgen.pipeline.run.plan import lay_out
from crgen.pipeline.source.earthengine.settings import connection_settings
from crgen.pipeline.source.past import USUAL
from crgen.pipeline.source.stack import past_days, without_past
from tests.earthengine import faults
from tests.earthengine.client import pixels
from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import CHANNELS, lonlat, open_area
from tests.gee.test_truth import assert_same, radar_truth


def test_clear_days_of_spring_and_of_last_july_each_with_the_radar_of_the_same_orbit(
    service: EarthEngineServer,
) -> None:
    acquired = open_area(past=USUAL)
    manifest = acquired.manifest
    assert [day.isoformat() for day in manifest.past_days] == [
        *("2020-07-14", "2020-07-24", "2020-08-03"),
        *("2021-04-05", "2021-04-15", "2021-04-25", "2021-04-30"),
    ]
    orbit = manifest.scenes["s1_t1"][0].geometry
    for day in manifest.past_days:
        (radar, *_), (optical, *_) = manifest.past[f"s1_{day}"], manifest.past[f"s2_{day}"]
        assert radar.geometry == orbit
        assert abs((radar.time.date() - day).days) <= 6
        assert optical.clear_over_area is not None
        assert optical.clear_over_area >= 0.5
    assert [request.endpoint for request in service.requests].count("value:compute") == 8
    assert not service.tiles
    again = Manifest.parse(json.loads(manifest.to_json()), "here")
    assert again.past == manifest.past


def test_the_past_of_the_stack_is_the_ground_of_its_days_in_few_requests(service: EarthEngineServer) -> None:
    acquired = open_area(past=USUAL)
    stack = acquired.stack.compute(scheduler="threads", num_workers=2)
    assert len(service.tiles) == 4 + 2 + 2, "t1 and t2, two days that are copied, and two for all others together"
    for at, day in enumerate(acquired.manifest.past_days):
        radar = [scene.id for scene in reversed(acquired.manifest.past[f"s1_{day}"])]
        for pol in CHANNELS.pols:
            assert_same(stack.s1_past[at].sel(pol=pol).values, radar_truth(radar, pol, acquired.pull.geobox), 0.001)
        assert (stack.clear_past[at].values >= 0.6).mean() > 0.5
    alone = open_area()
    assert without_past(stack).identical(alone.stack.compute(scheduler="synchronous").assign_attrs(stack.attrs))


def test_of_a_large_area_the_past_costs_fewer_requests_than_the_map_itself(service: EarthEngineServer) -> None:
    large = "113.52,34.59,113.74,34.77"
    with_past, alone = (open_area(aoi=large, **options) for options in ({"past": USUAL}, {}))
    assert min(alone.area.geobox.shape) > 1900
    requests, few = (sum(map(len, one.pulls)) for one in (with_past, alone))
    assert few < requests < 2 * few
    assert not service.tiles


def test_the_radar_of_the_past_is_of_the_orbit_that_both_dates_show_there_or_missing(
    service: EarthEngineServer, ee_client: EarthEngineServer
) -> None:
    """In a gap of orbit 113 both dates show orbit 40, which was not heard in April: 113 must not stand for it."""
    days = {"t1": datetime.date(2021, 7, 8), "t2": datetime.date(2021, 7, 20)}
    acquired = open_area(EarthEngine(), aoi="114.0,34.6100,114.8,34.6101", **days)
    manifest, geobox = acquired.manifest, acquired.area.geobox
    april = datetime.date(2021, 4, 15)
    heard = search(
        connect(connection_settings(EarthEngine())), (114.0, 34.61, 114.8, 34.62), [(april, april)], optical=False
    )
    passes = passes_over(heard.radar, manifest.area.polygon, manifest.area.crs, CHANNELS.pols)
    scenes = frozen([Candidate(f"s1_{april}", overpass, 0, fits=True) for overpass in passes], frozenset())
    assert {scene.relative_orbit for scene in scenes} == {113}
    past = manifest.model_copy(update={"past": {f"s1_{april}": scenes}})
    (layer,) = past_together(past, {"s1_past": [april]})
    (layer_t1,) = (layer for layer in layers(manifest) if layer.name == "s1_t1")
    part = geobox[:, : 6_000 // 10]
    where = str(part.crs), part.affine, tuple(part.shape)
    then, now = (one.decode(pixels(ee.deserializer.fromJSON(one.expression), *where)) for one in (layer, layer_t1))
    lon, lat = lonlat(part)
    level = (lat > 34.602) & (lat < 34.618)
    gap, beside = level & (lon > 114.021) & (lon < 114.039), level & (lon > 114.041) & (lon < 114.06)
    assert np.isfinite(now[:, gap]).all(), "of orbit 40"
    assert np.isnan(then[:, gap]).all()
    assert np.isfinite(then[:, beside]).all()
    truth = radar_truth([scene.id for scene in reversed(scenes)], "VV", part)
    assert_same(then[0][beside], truth[beside], 0.001)


def test_a_past_without_radar_is_left_out_and_nothing_of_it_fetched(service: EarthEngineServer, tmp_path: Path) -> None:
    acquired = open_area(past=USUAL)
    copied = [layer.name for layer in acquired.pull.layers if layer.name in acquired.manifest.past]
    assert copied
    held = acquired.manifest.model_copy(update={"past": {name: acquired.manifest.past[name] for name in copied}})
    path = tmp_path / "choice.json"
    path.write_text(held.to_json())
    again = open_area(EarthEngine(manifest=path), aoi=None, t1=None, t2=None, past=USUAL)
    assert "s2_past" not in again.stack
    assert len(again.pull.layers) == 4
    assert any("goes with the place's past" in note for note in again.manifest.notes)


def test_that_the_past_was_chosen_by_metadata_is_said(service: EarthEngineServer) -> None:
    service.add(faults.error(400, faults.TIMED_OUT, endpoint="value:compute", nth=8))
    manifest = open_area(past=USUAL).manifest
    (note,) = [note for note in manifest.notes if "how clear the area is" in note]
    assert note.startswith("of the place's past: ")


@pytest.fixture
def request_(tiny_weights: Path, tmp_path: Path) -> FillRequest:
    return FillRequest(
        aoi="113.56,34.70,113.57,34.71",
        t1=datetime.date(2021, 7, 10),
        t2=datetime.date(2021, 7, 22),
        weights=str(tiny_weights),
        out=tmp_path / "map.tif",
    )


def test_a_fill_learns_from_the_past_unless_told_not_to_and_its_identity_stays(
    service: EarthEngineServer, request_: FillRequest
) -> None:
    plain = replace(request_, past="none", out=request_.out.with_name("plain.tif"))
    with_past, without = lay_out(request_), lay_out(plain)
    assert "s2_past" in with_past.scene.stack
    assert "s2_past" not in without.scene.stack
    assert identity_of(request_, with_past) == identity_of(plain, without)
    assert fingerprint_of(request_, with_past)["inputs"] != fingerprint_of(plain, without)["inputs"]
    service.requests.clear()
    alone = run(plain)
    few = len(service.tiles)
    learned = run(request_)
    assert alone.past is None
    assert learned.past is not None
    assert "earlier pairs" in learned.past.line
    assert len(service.tiles) - few <= 2 * few
    item = json.loads(learned.paths.item.read_text())
    assert len(item["properties"]["crgen:manifest"]["past"]) == 16
    assert item["properties"]["crgen:past"]["pairs"] >= 4


def test_a_product_is_made_again_with_its_past(service: EarthEngineServer, request_: FillRequest) -> None:
    import crgen

    first = run(request_)
    options = {"weights": request_.weights, "manifest": first.paths.item}
    again = crgen.fill(**options, out=first.paths.folder / "again.tif")
    assert again.paths.reflectance.read_bytes() == first.paths.reflectance.read_bytes()
    assert again.past is not None
    assert again.past.described() == first.past.described()


def test_a_pulled_stack_holds_the_past_and_a_fill_learns_the_same_of_it(
    service: EarthEngineServer, request_: FillRequest, tmp_path: Path
) -> None:
    import crgen

    live = run(request_)
    asked = {"aoi": request_.aoi, "t1": request_.t1, "t2": request_.t2, "weights": request_.weights}
    for name in ("stack.zarr", "folder"):
        fetched = len(service.tiles)
        stack = crgen.pull(**asked, out=tmp_path / name)
        assert len(service.tiles) == fetched, "everything was on disk already"
        assert len(past_days(stack)) == 8
        offline = crgen.fill(source=str(tmp_path / name), weights=request_.weights, out=tmp_path / f"{name}.tif")
        assert offline.paths.reflectance.read_bytes() == live.paths.reflectance.read_bytes()
        assert offline.past is not None
        assert live.past is not None
        assert offline.past.described() == live.past.described()
    assert not past_days(crgen.pull(**asked, past="none", out=tmp_path / "without.zarr"))


def test_exports_hold_the_two_dates_alone_and_say_so(
    service: EarthEngineServer, request_: FillRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"pull --aoi {request_.aoi} --t1 2021-07-10 --t2 2021-07-22 --out s.zarr --export gcs --to bucket --past 1y"
    with pytest.raises(RequestError, match="leave out --past"):
        app(asked.split(), standalone_mode=False)


def test_a_dry_run_says_what_the_past_adds(
    service: EarthEngineServer, request_: FillRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"--aoi {request_.aoi} --t1 2021-07-10 --t2 2021-07-22 --weights {request_.weights} --out {request_.out}"
    app(["fill", *asked.split(), "--dry-run"], standalone_mode=False)
    said = " ".join(capsys.readouterr().out.split())
    past = "8 looks from 2020-07-14 to 2021-07-21, 2 of them fetched whole; 4 of the tiles"
    assert past in said
    assert "requests 7 for pixels" in said
    app([*f"pull {asked} --dry-run".replace(".tif", ".zarr").split()], standalone_mode=False)
    pulled = " ".join(capsys.readouterr().out.split())
    assert past in pulled
    assert "requests 8 for pixels" in pulled, "how often there was water too"
    app(["fill", *asked.split(), "--dry-run", "--past", "none"], standalone_mode=False)
    assert "looks from" not in capsys.readouterr().out


def test_python_lists_the_looks_without_reading_a_pixel(service: EarthEngineServer) -> None:
    import crgen

    looks = crgen.past("113.56,34.70,113.57,34.71", "2021-07-22", t1="2021-07-10")
    assert [str(look.day) for look in looks][:3] == ["2020-07-14", "2020-07-24", "2020-08-03"]
    assert all(look.clear >= 0.5 for look in looks if look.day < datetime.date(2021, 7, 10))
    assert looks[0].radar == datetime.date(2020, 7, 13)
    assert not service.tiles
    assert crgen.past("113.56,34.70,113.57,34.71", "2021-07-22", past="none") == []
