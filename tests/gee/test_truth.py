"""Pixels against a truth computed apart: at the right place to a fraction of a pixel, whichever zone and hemisphere."""

import datetime

import numpy as np
import pytest

from crgen.pipeline.source.earthengine import Acquired, Channels, EarthEngine, acquire
from crgen.pipeline.source.stack import stack_geobox
from tests.earthengine import truth
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


def acquired(name: str) -> Acquired:
    aoi, crs = PLACES[name]
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
