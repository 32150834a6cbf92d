"""Pixels against a truth computed apart: at the right place to a fraction of a pixel, whichever zone and hemisphere."""

import datetime
from dataclasses import replace

import ee
import numpy as np
import pytest
from affine import Affine

from crgen.gee.choose.catalogue import as_geojson
from crgen.gee.fetch.images import Layer, radar_image
from crgen.gee.manifest import Scene
from crgen.pipeline.source.earthengine import Acquired, Channels, EarthEngine, acquire
from crgen.pipeline.source.stack import stack_geobox
from tests.earthengine import catalogue, ground, sentinel1, truth
from tests.earthengine.client import pixels
from tests.earthengine.images import Band, Grid, Pixels
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


def acquired(name: str) -> Acquired:
    aoi, crs = (PLACES | LAKE)[name]
    t1, t2 = datetime.date(2021, 7, 10), datetime.date(2021, 7, 22)
    return acquire(EarthEngine(observed_days=2), CHANNELS, aoi=aoi, t1=t1, t2=t2, crs=crs)


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
                expected = truth.mosaic(ids, pol, *where, truth.bilinear_or_nearest)
                assert difference(stack[variable].sel(pol=pol).values, expected) < 0.005
        else:
            for band in CHANNELS.bands:
                expected = np.round(truth.mosaic(ids, band, *where, truth.bilinear)) / 10_000
                assert difference(stack[variable].sel(band=band).values, expected) < 2.5e-4
            scores = [scene.score for scene in reversed(chosen)]
            expected = truth.mosaic(scores, "cs_cdf", *where, truth.bilinear)
            assert difference(stack[variable.replace("s2", "clear")].values, expected) < 1e-3


@pytest.mark.parametrize("name", PLACES)
def test_half_a_pixel_would_show(service: EarthEngineServer, name: str) -> None:
    """Against the ground itself, which knows no pixels and no zones."""
    found = acquired(name)
    stack = found.stack["s1_t1"].compute()
    geobox = stack_geobox(found.stack)
    time = found.manifest.scenes["s1_t1"][0].time

    def error(right: float, down: float) -> float:
        moved = geobox.affine * geobox.affine.translation(right, down)
        ideal = truth.backscatter(str(geobox.crs), moved, tuple(geobox.shape), "VV", time)
        return float(np.abs(stack.sel(pol="VV").values - ideal).mean())

    still = error(0, 0)
    assert still < 0.02
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
            expected = truth.bilinear_or_nearest(scene.id, pol, *where, floor=floor)
            # Neighbours differ by 20 dB here: this is less than a hundredth of a pixel.
            assert difference(got, expected) < 0.02


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
