"""From an area and two dates to pixels, with the real client over HTTP."""

import datetime
import errno
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from crgen.errors import StackError
from crgen.gee.fetch.tile import Tiling
from crgen.gee.manifest import Manifest
from crgen.pipeline.box import Box
from crgen.pipeline.fill import run
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.plan import lay_out
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine import Acquired, EarthEngine, acquire
from crgen.pipeline.source.stack import manifest_of, stack_geobox
from crgen.pipeline.tiling.reader import StackReader
from tests.earthengine import ground
from tests.earthengine.server import EarthEngineServer

AREA = "113.56,34.70,113.57,34.71"
CHANNELS = Channels(("VV", "VH"), ("B11", "B8", "B3"), 10.0, margin=8)
T1, T2 = datetime.date(2021, 7, 10), datetime.date(2021, 7, 22)


def open_area(
    options: EarthEngine | None = None, aoi: str | None = AREA, channels: Channels = CHANNELS, **changes
) -> Acquired:
    asked = {"t1": T1, "t2": T2, "crs": None} | changes
    return acquire(options or EarthEngine(observed_days=1), channels, aoi=aoi, **asked)


def lonlat(geobox: GeoBox) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of every pixel's centre."""
    a = geobox.affine
    rows, cols = np.indices(geobox.shape)
    to_lonlat = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform
    return to_lonlat(a.c + (cols + 0.5) * a.a, a.f + (rows + 0.5) * a.e)


def test_choosing_reads_no_pixel_and_asks_once_per_collection_and_once_how_clear_it_is(
    service: EarthEngineServer,
) -> None:
    acquired = open_area()
    asked = [request.endpoint for request in service.requests]
    assert asked.count("value:compute") == 4
    assert not service.tiles
    scenes = acquired.manifest.scenes
    assert set(scenes) == {"s1_t1", "s1_t2", "s2_t1", "s2_t2"}
    assert {s.relative_orbit for s in scenes["s1_t1"]} == {s.relative_orbit for s in scenes["s1_t2"]} == {113}
    assert {s.time.date().isoformat() for s in scenes["s2_t1"]} == {"2021-07-09"}
    assert "and counts as observed then" in " ".join(acquired.manifest.notes)


def test_the_stack_holds_the_ground_in_its_own_units_at_its_own_place(service: EarthEngineServer) -> None:
    acquired = open_area()
    stack = acquired.stack.compute(scheduler="threads", num_workers=4)
    assert stack_geobox(stack) == acquired.area.geobox.pad(CHANNELS.margin)
    lon, lat = lonlat(stack_geobox(stack))
    for name in ("s1_t1", "s1_t2"):
        time = acquired.manifest.scenes[name][0].time
        for pol in CHANNELS.pols:
            truth = ground.backscatter(lon, lat, pol, time)
            # Of the nearest pixel, half of one away at most.
            np.testing.assert_allclose(stack[name].sel(pol=pol).values, truth, atol=0.3)
    for name in ("s2_t1", "s2_t2"):
        clear = stack[name.replace("s2", "clear")].values
        assert np.isfinite(clear).all()
        assert stack[name].dtype == np.float32
        assert 0 < float(stack[name].min()) < float(stack[name].max()) < 1.5
    assert len(service.tiles) == 4, "one request per acquisition, with all its bands"


def test_every_pixel_is_looked_at_from_the_same_orbit_at_both_dates(service: EarthEngineServer) -> None:
    # Orbit 113 lies on top and lacks pixels at t1 alone, where 40, which is needed in the east, has them at both dates.
    days = {"t1": datetime.date(2021, 7, 8), "t2": datetime.date(2021, 7, 20)}
    channels = Channels(("VV",), ("B3",), 10.0, margin=0)
    acquired = acquire(EarthEngine(), channels, aoi="114.0,34.6100,114.8,34.6101", crs=None, **days)
    scenes = acquired.manifest.scenes
    assert [list(dict.fromkeys(s.relative_orbit for s in scenes[name])) for name in ("s1_t1", "s1_t2")] == [
        [113, 40]
    ] * 2
    stack = acquired.stack[["s1_t1", "s1_t2"]].compute(scheduler="threads", num_workers=4)
    lon, lat = lonlat(stack_geobox(stack))
    level = (lat > 34.602) & (lat < 34.618)
    gap, beside = level & (lon > 114.021) & (lon < 114.039), level & (lon > 114.041) & (lon < 114.1)
    for where, orbit in ((gap, 40), (beside, 113), (lon > 114.75, 40)):
        for name in ("s1_t1", "s1_t2"):
            time = next(s.time for s in scenes[name] if s.relative_orbit == orbit)
            off = stack[name].sel(pol="VV").values - ground.backscatter(lon, lat, "VV", time)
            # The other orbit's pass is five days earlier: 0.1 dB less.
            assert abs(off[where].mean()) < 0.005, (name, orbit)


def test_the_radar_of_a_map_four_days_after_the_peak_is_of_the_pass_after_it(service: EarthEngineServer) -> None:
    acquired = open_area(aoi="114.05,34.70,114.06,34.71", t2=datetime.date(2021, 7, 24))
    scenes = acquired.manifest.scenes
    assert {(s.relative_orbit, s.time.date().isoformat()) for s in scenes["s1_t2"]} == {(40, "2021-07-27")}
    assert {(s.relative_orbit, s.time.date().isoformat()) for s in scenes["s1_t1"]} == {(40, "2021-07-15")}


def test_what_was_fetched_is_not_asked_for_again(service: EarthEngineServer) -> None:
    first = open_area().stack.compute()
    count = len(service.tiles)
    again = open_area()
    assert not again.pull.missing()
    np.testing.assert_array_equal(again.stack.compute()["s1_t1"], first["s1_t1"])
    assert len(service.tiles) == count
    assert not service.served_twice()


def test_a_folder_for_tiles_that_cannot_be_written_is_told_and_ends_no_run(
    service: EarthEngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = open_area().stack.compute()["s1_t1"]
    (tmp_path / "file").write_text("no folder can be here")
    for cache in (str(tmp_path / "file" / "cache"), None):
        if cache is None:
            monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
            monkeypatch.delenv("CRGEN_CACHE")
        else:
            monkeypatch.setenv("CRGEN_CACHE", cache)
        service.clear()
        acquired = open_area()
        (note,) = acquired.notes
        assert "tiles are not kept beyond this run" in note
        assert "CRGEN_CACHE" in note
        np.testing.assert_array_equal(acquired.stack.compute()["s1_t1"], right)
        assert service.tiles


def test_tiles_in_a_folder_that_can_only_be_read_are_not_asked_for_again(
    service: EarthEngineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = open_area().stack.compute()["s1_t1"]
    next((tmp_path / "cache").rglob("*.tile")).unlink()
    before = sorted(path.name for path in (tmp_path / "cache").rglob("*"))

    def refuse(dir: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    service.clear()
    with monkeypatch.context() as mounted:
        mounted.setattr("crgen.files.tempfile.TemporaryFile", refuse)
        acquired = open_area()
    (note,) = acquired.notes
    assert "Read-only file system; choose another folder" in note
    np.testing.assert_array_equal(acquired.stack.compute()["s1_t1"], right)
    assert len(service.tiles) == 1, "the one that was not there"
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*")) == before


def test_a_damaged_tile_on_disk_is_fetched_again(service: EarthEngineServer, tmp_path: Path) -> None:
    first = open_area().stack.compute()
    for path in (tmp_path / "cache").rglob("*.tile"):
        path.write_bytes(path.read_bytes()[:-100])
    np.testing.assert_array_equal(open_area().stack.compute()["s2_t1"], first["s2_t1"])


def test_tiles_of_any_size_hold_the_same_pixels(service: EarthEngineServer, tmp_path: Path, monkeypatch) -> None:
    whole = open_area().stack.compute()
    monkeypatch.setattr("crgen.pipeline.source.earthengine.open_pull.__kwdefaults__", {"largest": 64})
    cut = open_area()
    assert cut.pull.tiling.side == 64
    for name, array in cut.stack.compute().data_vars.items():
        np.testing.assert_array_equal(array.values, whole[name].values)


@pytest.mark.parametrize("block", [(0, 0), (-1, -1), (1, 1)])
def test_whichever_tile_is_read_its_neighbours_are_fetched_meanwhile(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, block: tuple[int, int]
) -> None:
    """Writers read in any order: dask begins with the last tile of a line."""
    monkeypatch.setattr("crgen.pipeline.source.earthengine.open_pull.__kwdefaults__", {"largest": 64})
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", "8")
    service.change(latency=2.0)
    open_area().stack["s2_t1"].data.blocks[:, block[0], block[1]].compute()
    assert service.max_concurrency["image:computePixels"] == 8


def test_an_area_a_little_further_asks_for_the_tiles_at_its_new_edges_alone(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crgen.pipeline.source.earthengine.open_pull.__kwdefaults__", {"largest": 64})
    first = open_area()
    pixels = first.stack.compute()
    asked = len(service.tiles)
    moved = open_area(aoi="113.562,34.701,113.572,34.711")
    common = stack_geobox(first.stack).overlap_roi(moved.pull.geobox)
    shared = [
        tile for tile in Tiling(stack_geobox(first.stack)[common], 64).tiles if (tile.height, tile.width) == (64, 64)
    ]
    assert 0 < len(shared) < len(moved.pull.tiling.tiles)
    missing = moved.pull.missing()
    for name in ("s1_t1", "s1_t2"):  # which optical scene lies on top may differ: it is chosen by the area
        here = sum(job.layer.name == name for job in missing)
        assert len(moved.pull.tiling.tiles) - here == len(shared)
    again = moved.stack.compute()
    assert len(service.tiles) == asked + len(missing)
    y, x = np.intersect1d(pixels.y, again.y), np.intersect1d(pixels.x, again.x)
    for name in ("s1_t1", "s1_t2"):
        np.testing.assert_array_equal(again[name].sel(y=y, x=x).values, pixels[name].sel(y=y, x=x).values)


def test_a_fill_reads_every_pixel_that_it_fetches_around_its_area_and_lacks_none(
    service: EarthEngineServer, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no window reads would be fetched for nothing; beyond what is fetched windows would see reflections."""
    read_to: set[tuple[Box, Box]] = set()
    read = StackReader.read

    def spy(self: StackReader, box: Box, *rest, **more):
        read_to.add((self.box, box))
        return read(self, box, *rest, **more)

    monkeypatch.setattr(StackReader, "read", spy)
    asked = {"aoi": "113.5637,34.70,113.566,34.702", "t1": T1, "t2": T2, "past": "none"}
    options = EarthEngine(observed_days=1)
    run(FillRequest(weights=str(tiny_weights), out=tmp_path / "map.tif", earth_engine=options, **asked))
    ((fetched,), boxes) = {held for held, _ in read_to}, np.array([box for _, box in read_to])
    assert fetched == (boxes[:, 0].min(), boxes[:, 1].max(), boxes[:, 2].min(), boxes[:, 3].max())


def test_a_manifest_repeats_the_run(service: EarthEngineServer, tmp_path: Path) -> None:
    first = open_area()
    path = tmp_path / "run.json"
    path.write_text(first.manifest.to_json())
    assert Manifest.read(path) == first.manifest
    queries = len([r for r in service.requests if r.endpoint == "value:compute"])
    again = open_area(EarthEngine(manifest=path), aoi=None, t1=None, t2=None)
    assert len([r for r in service.requests if r.endpoint == "value:compute"]) == queries
    assert again.area.geobox == first.area.geobox
    assert again.area.polygon.equals_exact(first.area.polygon, 0)
    assert manifest_of(again.stack)["scenes"] == manifest_of(first.stack)["scenes"]
    assert again.manifest.expressions == first.manifest.expressions
    assert json.loads(first.manifest.to_json())["source"] == "gee"


def test_a_manifest_of_vv_and_three_bands_serves_weights_that_can_do_without_others(
    service: EarthEngineServer, tmp_path: Path, tiny_weights: Path
) -> None:
    """As crgen 0.1 wrote them."""
    held = open_area().manifest.model_copy(update={"pols": ("VV",)})
    path = tmp_path / "run.json"
    path.write_text(held.to_json())
    again = {"aoi": None, "t1": None, "t2": None, "crs": None}
    with pytest.raises(StackError, match="without scenes with VH, which this map needs"):
        acquire(EarthEngine(manifest=path), CHANNELS, **again)
    scene = lay_out(FillRequest(weights=str(tiny_weights), earth_engine=EarthEngine(manifest=path))).scene
    assert scene.made == ("B3", "B8", "B11")
    assert scene.stack.pol.values.tolist() == ["VV"]
    assert manifest_of(scene.stack)["scenes"] == json.loads(held.to_json())["scenes"]
    with pytest.raises(StackError, match="without scenes with B4, which this map needs"):
        lay_out(FillRequest(weights=str(tiny_weights), bands=("B4",), earth_engine=EarthEngine(manifest=path)))


def test_a_pull_travels_to_other_processes_as_a_small_thing(service: EarthEngineServer) -> None:
    pull = open_area().pull
    assert pickle.loads(pickle.dumps(pull)) == pull
    assert len(pickle.dumps(pull)) < 100_000


def test_no_scenes_names_the_nearest(service: EarthEngineServer) -> None:
    with pytest.raises(StackError, match=r"no usable Sentinel-1 .*Nearest: 2021-08-01 \(S1A orbit 113, 100 %"):
        open_area(t2=datetime.date(2021, 8, 20))


def test_too_little_is_refused_with_the_share_to_accept(service: EarthEngineServer) -> None:
    with pytest.raises(StackError, match=r"covers only .* % of the area .*--min-coverage 0\.\d"):
        open_area(aoi="109.0,34.70,111.5,34.71")
