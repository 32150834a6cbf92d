"""Pixels against a truth computed apart: at the right place to a fraction of a pixel, whichever zone and hemisphere."""

import datetime
import io
from collections.abc import Callable
from dataclasses import replace

import ee
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.gee.choose.catalogue import as_geojson
from crgen.gee.fetch.images import Layer, radar_image
from crgen.gee.fetch.tile import Tile, read_tile
from crgen.gee.manifest import Scene
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine import Acquired, EarthEngine, acquire
from crgen.pipeline.source.stack import stack_geobox
from tests.earthengine import catalogue, ground, sentinel1, truth
from tests.earthengine.client import pixels
from tests.earthengine.images import Band, Grid, Pixels, Projection
from tests.earthengine.server import EarthEngineServer

CHANNELS = Channels(("VV", "VH"), ("B11", "B8", "B3"), 10.0, margin=4)
#: Area, CRS of the map, CRS of the scenes: both sides of 114°E in both zones, the seam of two slices, the south.
PLACES = {
    "west of 114°E in zone 49": ("113.985,34.650,113.995,34.658", "EPSG:32649"),
    "west of 114°E in zone 50": ("113.985,34.650,113.995,34.658", "EPSG:32650"),
    "east of 114°E in zone 49": ("114.005,34.650,114.015,34.658", "EPSG:32649"),
    "east of 114°E in zone 50": ("114.005,34.650,114.015,34.658", "EPSG:32650"),
    "where two slices meet": ("113.56,34.690,113.57,34.74", "EPSG:32649"),
    "zone 36 south": ("34.850,-19.840,34.860,-19.830", None),
}
LAKE = {
    "calm water in zone 49": ("114.050,34.824,114.070,34.836", "EPSG:32649"),
    "calm water in zone 50": ("114.050,34.824,114.070,34.836", "EPSG:32650"),
}
#: What lower backscatter is raised to, dB.
FLOOR = {"VV": -30.0, "VH": -35.0}
DAY_2 = datetime.date(2021, 7, 22)


def acquired(name: str) -> Acquired:
    aoi, crs = (PLACES | LAKE)[name]
    t1, t2 = datetime.date(2021, 7, 10), datetime.date(2021, 7, 22)
    return acquire(EarthEngine(observed_days=2), CHANNELS, aoi=aoi, t1=t1, t2=t2, crs=crs)


def radar_truth(ids: list[str], pol: str, geobox: GeoBox) -> np.ndarray:
    """The nearest pixel of the last scene that has one, raised to the floor, and the seams of the pass closed."""
    wider = geobox.pad(3)
    there = truth.mosaic(ids, pol, str(wider.crs), wider.affine, tuple(wider.shape), truth.nearest)
    return truth.closed(np.maximum(there, FLOOR[pol]))[3:-3, 3:-3]


def assert_same(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """The same pixels, but for one in a thousand whose centre lies between two stored ones."""
    assert np.isfinite(expected).mean() > 0.9
    same = (np.isnan(got) & np.isnan(expected)) | (np.abs(got - expected) < tolerance)
    assert same.mean() > 0.999


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference; the same pixels must be there."""
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    return float(np.nanmax(np.abs(got - expected)))


@pytest.mark.parametrize("name", PLACES)
def test_every_variable_is_where_it_belongs(service: EarthEngineServer, name: str) -> None:
    found = acquired(name)
    stack = found.stack.compute()
    geobox = stack_geobox(stack)
    where = str(geobox.crs), geobox.affine, tuple(geobox.shape)
    scenes = found.manifest.scenes
    assert {"s1_t1", "s1_t2", "s2_t1"} <= set(scenes)
    assert len(scenes["s1_t1"]) == (2 if "slices" in name else 1)
    for variable, chosen in scenes.items():
        ids = [scene.id for scene in reversed(chosen)]
        if variable.startswith("s1"):
            for pol in CHANNELS.pols:
                assert_same(stack[variable].sel(pol=pol).values, radar_truth(ids, pol, geobox), 0.001)
        else:
            for band in CHANNELS.bands:
                expected = np.round(truth.mosaic(ids, band, *where, truth.bilinear)) / 10_000
                assert difference(stack[variable].sel(band=band).values, expected) < 2.5e-4
            scores = [scene.score for scene in reversed(chosen)]
            expected = truth.mosaic(scores, "cs_cdf", *where, truth.bilinear)
            assert difference(stack[variable.replace("s2", "clear")].values, expected) < 1e-3


@pytest.mark.parametrize("name", PLACES)
def test_half_a_pixel_would_show(service: EarthEngineServer, name: str) -> None:
    """Against the ground itself, which knows no pixels and no zones. (Radar is of the nearest pixel: see above.)"""
    found = acquired(name)
    stack = found.stack["s2_t1"].compute()
    geobox = stack_geobox(found.stack)
    optical = found.manifest.scenes["s2_t1"][0]
    taken = datetime.datetime.strptime(optical.id.rsplit("/", 1)[1][:15], "%Y%m%dT%H%M%S").replace(tzinfo=datetime.UTC)

    def error(right: float, down: float) -> float:
        moved = str(geobox.crs), geobox.affine * geobox.affine.translation(right, down), tuple(geobox.shape)
        ideal = truth.reflectance(*moved, "B8", taken, 1 - optical.clear)
        return float(np.abs(stack.sel(band="B8").values - ideal).mean())

    still = error(0, 0)
    assert still < 1e-3
    assert min(error(0.5, 0), error(-0.5, 0), error(0, 0.5), error(0, -0.5)) > 4 * still


@pytest.mark.parametrize("name", LAKE)
def test_no_pixel_of_calm_water_is_missing(service: EarthEngineServer, name: str) -> None:
    found = acquired(name)
    stack = found.stack[["s1_t1", "s1_t2"]].compute()
    geobox = stack_geobox(stack)
    where = str(geobox.crs), geobox.affine, tuple(geobox.shape)
    assert ground.on_lake(*truth.centres(*where, "EPSG:4326")).mean() > 0.8
    for variable, radar in stack.data_vars.items():
        (scene,) = found.manifest.scenes[str(variable)]
        for pol, floor in FLOOR.items():
            got = radar.sel(pol=pol).values
            assert np.isfinite(got).all()
            assert floor <= got.min() < floor + 0.1
            assert_same(got, radar_truth([scene.id], pol, geobox), 0.001)


@pytest.mark.parametrize("name", LAKE)
@pytest.mark.parametrize("pol", ["VV", "VH"])
def test_speckle_deviates_alike_at_both_dates(service: EarthEngineServer, name: str, pol: str) -> None:
    """Though every scene has its own lattice: on land beside the lake, whose ideal backscatter is known."""
    _, crs = LAKE[name]
    found = acquire(
        EarthEngine(), CHANNELS, aoi="114.045,34.812,114.075,34.848", crs=crs, t1=datetime.date(2021, 7, 10), t2=DAY_2
    )
    stack = found.stack[["s1_t1", "s1_t2"]].compute()
    geobox = stack_geobox(stack)
    where = str(geobox.crs), geobox.affine, tuple(geobox.shape)
    lon, lat = truth.centres(*where, "EPSG:4326")
    land = (ground._from_lake(lon, lat) < ground.SPECKLED - 50) & (ground._from_lake(lon, lat) > ground.LAKE[2] + 50)
    assert land.sum() > 20_000
    deviations = []
    for variable, radar in stack.data_vars.items():
        time = found.manifest.scenes[str(variable)][0].time
        ideal = truth.backscatter(*where, pol, time)
        bright = land & (ideal > -18)
        power = 10 ** ((radar.sel(pol=pol).values - ideal)[bright] / 10)
        assert power.mean() == pytest.approx(1, abs=0.03), "power is kept, which a mean of dB would lower"
        deviations.append(power.std())
    assert deviations[0] == pytest.approx(deviations[1], rel=0.03)
    assert min(deviations) > 0.9 * ground.LOOKS**-0.5


def image_of(scenes: list[str], pols: tuple[str, ...] = ("VV", "VH")) -> ee.Image:
    """crgen's image of some assets, as of a manifest."""
    by_id = {asset: catalogue.images()[asset] for asset in scenes}
    frozen = [
        Scene(
            id=asset,
            href="",
            platform="S1A",
            time=datetime.datetime.fromtimestamp(image.properties["system:time_start"] / 1000, datetime.UTC),
            days_apart=0,
            relative_orbit=image.properties["relativeOrbitNumber_start"],
            orbit=image.properties["orbitNumber_start"],
            direction=image.properties["orbitProperties_pass"],
            coverage=1.0,
            footprint=as_geojson(image.footprint),
        )
        for asset, image in by_id.items()
    ]
    return radar_image(frozen, pols)


def around(lon: float, lat: float, shape: tuple[int, int]) -> tuple[str, Affine, tuple[int, int]]:
    x, y = truth.project("EPSG:4326", "EPSG:32649", lon, lat)
    return "EPSG:32649", Affine(10, 0, round(x, -1) - 5 * shape[1], 0, -10, round(y, -1) + 5 * shape[0]), shape


#: The lake, and where track 113 ends beside it, as longitude and latitude.
WATER, EDGE = ground.LAKE[:2], max(sentinel1.TRACKS[113].strip(sentinel1.HALF_SWATH, 20_000, 60_000).exterior.coords)


@pytest.mark.parametrize("pol", ["VV", "VH"])
def test_a_polarisation_is_the_same_with_the_other_and_alone(ee_client: EarthEngineServer, pol: str) -> None:
    scenes = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210720T102855")
    where = around(*WATER, (80, 90))
    both, alone = (pixels(image_of(scenes, pols), *where) for pols in (("VV", "VH"), (pol,)))
    np.testing.assert_array_equal(both[pol], alone[pol])
    assert both["valid"].all()
    assert both[pol].min() >= FLOOR[pol]


@pytest.mark.parametrize("masked", ["VV", "VH"])
def test_a_polarisation_that_is_missing_takes_nothing_of_the_other(
    ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, masked: str
) -> None:
    (asset,) = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210720T102855")
    where = around(*WATER, (80, 90))
    layer = Layer("s1_t2", "", (("VV", "f4"), ("VH", "f4"), ("valid", "u1")))
    whole = layer.decode(pixels(image_of([asset]), *where))
    stored = catalogue.images()[asset]
    hole = ground.on_lake

    def without(band: Band) -> Band:
        def read(grid: Grid) -> Pixels:
            values, mask = band.read(grid)
            return values, np.where(hole(*grid.centres("EPSG:4326")), 0.0, mask)

        return replace(band, compute=read) if band.name == masked else band

    monkeypatch.setitem(catalogue.images(), asset, stored.map_bands(without))
    got = layer.decode(pixels(image_of([asset]), *where))
    kept = {"VV": 1, "VH": 0}[masked]
    np.testing.assert_array_equal(got[kept], whole[kept])
    gone = np.isnan(got[1 - kept])
    assert gone.mean() == pytest.approx(ground.on_lake(*truth.centres(*where, "EPSG:4326")).mean(), abs=0.02)
    np.testing.assert_array_equal(got[1 - kept][~gone], whole[1 - kept][~gone])
    # Another orbit that has both shows there with both, not with the missing one alone.
    other = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210715T1020")
    stacked, below = (layer.decode(pixels(image_of(assets), *where)) for assets in ([asset, *other], other))
    np.testing.assert_array_equal(stacked, np.where(gone, below, whole))


def stored_otherwise(monkeypatch: pytest.MonkeyPatch, asset: str, change: Callable[[Grid, Pixels], Pixels]) -> None:
    """Let an asset hold other pixels."""

    def changed(band: Band) -> Band:
        return replace(band, compute=lambda grid: change(grid, band.read(grid)))

    monkeypatch.setitem(catalogue.images(), asset, catalogue.images()[asset].map_bands(changed))


RADAR = Layer("s1_t2", "", (("VV", "f4"), ("VH", "f4"), ("valid", "u1")))


def test_pixels_that_are_not_finite_are_missing_and_not_asked_for_again(
    ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asset,) = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210720T102855")
    where = around(*WATER, (40, 50))
    whole = RADAR.decode(pixels(image_of([asset]), *where))

    def broken(grid: Grid, held: Pixels) -> Pixels:
        return np.where(ground.on_lake(*grid.centres("EPSG:4326")), np.nan, held[0]), held[1]

    stored_otherwise(monkeypatch, asset, broken)
    buffer = io.BytesIO()
    np.save(buffer, pixels(image_of([asset]), *where))
    got = RADAR.decode(read_tile(buffer.getvalue(), RADAR, Tile(0, 0, 40, 50)))
    lake = np.isnan(got[0])
    assert lake.mean() > 0.5
    np.testing.assert_array_equal(got, np.where(lake, np.nan, whole))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_between_slices_of_a_pass_two_pixels_are_closed_and_no_more(
    ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    slices = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210720T1028")[1:3]
    where = around(113.30, 34.69, (30, 40))
    y = where[1].f - 150

    def cut(south: bool) -> Callable[[Grid, Pixels], Pixels]:
        def change(grid: Grid, held: Pixels) -> Pixels:
            row = np.floor((y - grid.centres("EPSG:32649")[1]) / 10)
            away = (row >= width) if south else (row < 0)
            lon, lat = grid.centres("EPSG:4326")
            level = 10 ** (ground.backscatter(lon, lat, "VV", datetime.datetime(2021, 7, 20, tzinfo=datetime.UTC)) / 10)
            return level, away.astype(float)

        return change

    for asset, south in zip(slices, (True, False), strict=True):
        stored_otherwise(monkeypatch, asset, cut(south))
        image = catalogue.images()[asset]
        lattice = Projection("EPSG:32649", where[1][:6])
        monkeypatch.setitem(
            catalogue.images(), asset, image.map_bands(lambda band, at=lattice: replace(band, projection=at))
        )
    got = RADAR.decode(pixels(image_of(slices), *where))[0]
    open_rows = np.flatnonzero(np.isnan(got).all(1))
    assert list(open_rows) == ([] if width <= 2 else list(range(15, 15 + width)))
    assert np.isfinite(np.delete(got, open_rows, axis=0)).all()
    alone = RADAR.decode(pixels(image_of(slices[:1]), *where))[0]
    assert np.isnan(alone[: 15 + width]).all(), "a pass does not grow beyond its outline"


def test_a_scene_in_decibel_of_an_older_manifest_gives_the_same_pixels(ee_client: EarthEngineServer) -> None:
    (power,), (decibel,) = (
        truth.find(collection, "S1A_IW_GRDH_1SDV_20210720T102855") for collection in (catalogue.S1, catalogue.S1_DB)
    )
    where = around(*WATER, (60, 70))
    got, old = (RADAR.decode(pixels(image_of([asset]), *where)) for asset in (power, decibel))
    np.testing.assert_allclose(got, old, atol=1e-4)


def test_a_score_that_is_only_partly_there_is_none(
    ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = acquired("west of 114°E in zone 49")
    (layer,) = (layer for layer in found.pull.layers if layer.name == "s2_t1")
    whole = found.stack["clear_t1"].values
    for scene in found.manifest.scenes["s2_t1"]:

        def fading(grid: Grid, held: Pixels) -> Pixels:
            share = np.where(np.arange(grid.width) % 64 < 32, 0.4, 1.0)
            return held[0], held[1] * share

        stored_otherwise(monkeypatch, scene.score, fading)
    geobox = found.pull.geobox
    asked = ee.deserializer.fromJSON(layer.expression)
    got = layer.decode(pixels(asked, str(geobox.crs), geobox.affine, tuple(geobox.shape)))
    clear = got[-1]
    assert np.isfinite(got[:-1]).all(), "the image itself is there"
    assert 0.3 < np.isnan(clear).mean() < 0.7
    there = np.isfinite(clear)
    np.testing.assert_array_equal(clear[there], whole[there])


def test_border_noise_of_old_scenes_is_masked_near_the_edge_and_water_within_is_not(
    ee_client: EarthEngineServer,
) -> None:
    old = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20170717T102855")
    water = pixels(image_of(old), *around(*WATER, (80, 90)))
    assert water["valid"].all()
    assert water["VV"].min() == FLOOR["VV"]

    where = around(*EDGE, (40, 900))
    edge = pixels(image_of(old), *where)
    noise = truth.nearest(old[0], "VV", *where) == -40
    assert noise.any()
    assert not edge["valid"][noise].any()
    beside = np.isfinite(truth.nearest(old[0], "VV", *where)) & ~noise
    assert edge["valid"][beside].mean() > 0.99
    clean = truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210720T102855")
    assert pixels(image_of(clean), *where)["valid"][noise].all(), "a later scene has data up to its edge"


def test_a_dark_pixel_near_the_edge_of_a_later_scene_stays(
    ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The day decides: what was masked as border noise before 2018-03-13 is water from then on."""
    monkeypatch.setattr(ground, "LAKE", (EDGE[0] - 0.02, EDGE[1], 3000.0))
    ground_at = around(EDGE[0] - 0.02, EDGE[1], (40, 60))
    shares = {}
    for day in ("20170717", "20210720"):
        scenes = truth.find(catalogue.S1, f"S1A_IW_GRDH_1SDV_{day}T102855")
        shares[day] = pixels(image_of(scenes), *ground_at)["valid"].mean()
    assert shares["20210720"] == 1
    assert shares["20170717"] < 1
