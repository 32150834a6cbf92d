"""Against the real Earth Engine, for whoever has an account: ``pytest -m live`` (a few requests, some seconds).

Needs credentials and a project as ``crgen doctor`` finds them. What these show, no local server can: the service's own
serialisation, resampling, masks and metadata.
"""

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crgen.gee.choose.clear_share import CLEAR_FROM
from crgen.gee.connection.session import Settings, disconnect
from crgen.gee.doctor import examine
from crgen.gee.fetch.tile import grid_of
from crgen.pipeline.source.earthengine import Acquired, Channels, EarthEngine, acquire

pytestmark = pytest.mark.live

# Zhengzhou, on the seam of two radar slices where there is one; the flood of 20 July 2021.
AREA = "113.60,34.74,113.62,34.76"
CHANNELS = Channels(("VV", "VH"), ("B11", "B8", "B3"), 10.0, margin=0)


@pytest.fixture(autouse=True)
def _real_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CRGEN_EE_URL", raising=False)
    monkeypatch.setenv("CRGEN_CACHE", str(tmp_path))
    disconnect()


@pytest.fixture
def acquired() -> Acquired:
    days = {"t1": datetime.date(2021, 7, 10), "t2": datetime.date(2021, 7, 22)}
    return acquire(EarthEngine(observed_days=3, min_coverage=0.5), CHANNELS, aoi=AREA, crs=None, **days)


def test_doctor_finds_all_that_is_needed() -> None:
    checks = list(examine(Settings.from_environment()))
    assert not [check for check in checks if not check.ok], checks


def test_scenes_are_found_on_one_orbit_with_their_scores(acquired: Acquired) -> None:
    scenes = acquired.manifest.scenes
    orbits = [{(s.relative_orbit, s.direction) for s in scenes[name]} for name in ("s1_t1", "s1_t2")]
    assert orbits[0] == orbits[1]
    assert all(scene.score and scene.clear_over_area is not None for scene in scenes["s2_t1"])
    assert not [note for note in acquired.manifest.notes if "left out" in note], "metadata is as crgen expects it"


def test_pixels_come_in_the_units_of_the_stack(acquired: Acquired) -> None:
    stack = acquired.stack.compute()
    for name in ("s1_t1", "s1_t2"):
        values = stack[name].values
        assert np.isfinite(values).mean() > 0.99
        assert -25 < np.nanmedian(values[0]) < 0
        assert np.nanmin(values[0]) >= -30
        assert np.nanmin(values[1]) >= -35
        assert np.nanmedian(values[1]) < np.nanmedian(values[0]), "VH lies below VV"
    optical = stack["s2_t1"].values
    assert np.isfinite(optical).mean() > 0.99
    assert 0 < np.nanmedian(optical) < 1.2
    assert 0 <= float(stack["clear_t1"].min()) <= float(stack["clear_t1"].max()) <= 1


def test_the_clear_share_is_that_of_the_pixels(acquired: Acquired) -> None:
    shares = [scene.clear_over_area for scene in acquired.manifest.scenes["s2_t1"]]
    if len(shares) > 1:
        pytest.skip("the image of t1 is a mosaic")
    seen = float((acquired.stack["clear_t1"].values >= CLEAR_FROM).mean())
    assert shares[0] == pytest.approx(seen, abs=0.05)


def test_a_tile_and_its_parts_hold_the_same_pixels(acquired: Acquired) -> None:
    job = next(acquired.pull.jobs(range(len(acquired.pull))))
    whole = acquired.pull.fetcher.get(job)
    for part in job.tile.halves():
        pixels = acquired.pull.fetcher.get(replace(job, tile=part))
        rows, cols = slice(part.row, part.row + part.height), slice(part.col, part.col + part.width)
        np.testing.assert_array_equal(pixels, whole[rows, cols])


def test_ten_metre_bands_of_the_same_zone_are_passed_on_untouched(acquired: Acquired) -> None:
    """The grid is the scene's own: reflectance must be the asset's digital numbers, whatever resampling does."""
    import ee

    (layer,) = (layer for layer in acquired.pull.layers if layer.name == "s2_t1")
    job = next(job for job in acquired.pull.jobs(range(len(acquired.pull))) if job.layer.name == layer.name)
    scene = acquired.manifest.scenes["s2_t1"][0]
    if scene.tile is None or not scene.tile.startswith("49"):
        pytest.skip("the nearest scene is of another UTM zone")
    asked = {"expression": ee.Image(scene.id).select(["B8", "B3"]), "fileFormat": "NUMPY_NDARRAY"}
    raw = ee.data.computePixels({**asked, "grid": grid_of(acquired.pull.geobox, job.tile)})
    pixels = acquired.pull.fetcher.get(job)
    inside = pixels["valid"] == 1
    for band in ("B8", "B3"):
        np.testing.assert_array_equal(pixels[band][inside], raw[band][inside])
