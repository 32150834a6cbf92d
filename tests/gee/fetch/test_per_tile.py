"""Each tile asks for the scenes that meet it alone, and gets the pixels that all of them would give."""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import ee
import numpy as np
import pytest

from crgen.gee.fetch.arrays import Pull, open_pull
from crgen.gee.fetch.images import lies_on
from crgen.gee.manifest import Manifest
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine import EarthEngine, acquire, connection_settings, scenes_for, wanted_of
from tests.earthengine.client import pixels
from tests.earthengine.server import EarthEngineServer

CHANNELS = Channels(("VV", "VH"), ("B11", "B8", "B3"), 10.0, margin=0)
STRIP = "113.66,34.6100,113.80,34.6101"
DAYS = {"t1": datetime.date(2021, 7, 8), "t2": datetime.date(2021, 7, 20)}


def scenes_in(expression: str) -> set[str]:
    """Assets that an expression loads."""
    return set(re.findall(r'"((?:COPERNICUS|GOOGLE)/[^"]+)"', expression))


@pytest.fixture
def strip(service: EarthEngineServer, ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch) -> Pull:
    """A line of small tiles under two orbits, one of which has a gap at t1 alone, and in tiles of two zones."""
    monkeypatch.setattr("crgen.pipeline.source.earthengine.open_pull.__kwdefaults__", {"largest": 256})
    return acquire(EarthEngine(), CHANNELS, aoi=STRIP, crs="EPSG:32649", **DAYS).pull


def test_a_tile_has_the_pixels_that_all_scenes_would_give_it(strip: Pull) -> None:
    whole = {layer.name: ee.deserializer.fromJSON(layer.expression) for layer in strip.layers}
    fewer = 0
    for job in list(strip.jobs(range(len(strip))))[::4]:
        there = strip.geobox[
            job.tile.row : job.tile.row + job.tile.height, job.tile.col : job.tile.col + job.tile.width
        ]
        where = str(strip.geobox.crs), there.affine, tuple(there.shape)
        all_scenes = pixels(whole[job.layer.name], *where)
        few = pixels(ee.deserializer.fromJSON(job.layer.expression), *where)
        np.testing.assert_array_equal(few, all_scenes)
        fewer += len(job.layer.expression) < max(len(layer.expression) for layer in strip.layers)
    assert fewer


def paper(crs: str = "EPSG:32649") -> Manifest:
    """Scenes for part of 112 to 116° E, 33 to 36.5° N (all of it takes a minute)."""
    area, wanted = wanted_of(CHANNELS, aoi="112.5,33.5,114.5,35.5", crs=crs, **DAYS)
    return scenes_for(EarthEngine(), CHANNELS, area, wanted, strict=False).manifest


def test_of_a_wide_area_a_tile_asks_for_few_of_the_scenes(service: EarthEngineServer, tmp_path: Path) -> None:
    manifest = paper()
    pull, _ = open_pull(manifest, manifest.area.geobox, connection_settings(EarthEngine()), tmp_path)
    before = {layer.name: (len(layer.expression), len(scenes_in(layer.expression))) for layer in pull.layers}
    jobs = list(pull.jobs(range(len(pull))))
    for name, (size, scenes) in before.items():
        of_tiles = [job.layer.expression for job in jobs if job.layer.name == name]
        mean = float(np.mean([len(expression) for expression in of_tiles]))
        held = float(np.mean([len(scenes_in(expression)) for expression in of_tiles]))
        print(f"{name}: {size:,} bytes and {scenes} scenes of all, {mean:,.0f} and {held:.1f} of a tile on average")
        assert mean < 0.75 * size
        assert held < 0.75 * scenes
    assert len(pull.parts) < len(jobs) / 3, "tiles share expressions"


def test_where_no_scene_is_nothing_is_asked_for_and_nothing_is_there(
    service: EarthEngineServer, tmp_path: Path
) -> None:
    area, wanted = wanted_of(CHANNELS, aoi="110.90,34.70,111.05,34.7001", crs="EPSG:32649", **DAYS)
    manifest = scenes_for(EarthEngine(), CHANNELS, area, wanted, strict=False).manifest
    pull, _ = open_pull(manifest, area.geobox, connection_settings(EarthEngine()), tmp_path, largest=256)
    empty = [number for number in range(len(pull)) if pull.job(number) is None]
    assert empty
    assert len(pull.missing()) == len(pull) - len(empty)
    assert np.isnan(pull.arrays()["s2_t1"].blocks[..., 0].compute()).all()
    assert len(service.tiles) <= len(pull) - len(empty)


def test_what_lies_on_the_grid_is_not_resampled(service: EarthEngineServer, strip: Pull) -> None:
    manifest = acquire(EarthEngine(), CHANNELS, aoi=STRIP, crs="EPSG:32649", **DAYS).manifest
    by_zone = {scene.tile[:2]: lies_on(scene, strip.geobox) for scene in manifest.scenes["s2_t1"]}
    assert by_zone == {"49": True, "50": False}
    for job in jobs_of(strip, "s2_t1"):
        zones = {asset.rsplit("_T", 1)[1][:2] for asset in scenes_in(job.layer.expression)}
        if zones == {"49"}:
            assert job.layer.expression.count("Image.resample") == 1, "B11 of 20 m alone"
            break
    else:
        raise AssertionError("no tile of one zone")


def jobs_of(pull: Pull, name: str) -> Iterator:
    return (job for job in pull.jobs(range(len(pull))) if job.layer.name == name)
