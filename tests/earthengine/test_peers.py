"""What other clients ask of Earth Engine: downloads as GeoTIFF, collections as the bands of one image."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ee
import numpy as np
import pytest
import rasterio
import requests
from affine import Affine
from rasterio.io import MemoryFile

from tests.earthengine import catalogue, faults, truth
from tests.earthengine.client import pixels, valued
from tests.earthengine.server import EarthEngineServer

PLACE = "EPSG:32649", Affine(10, 0, 770_000, 0, -10, 3_832_000), (40, 60)
RADAR = sorted(truth.find(catalogue.S1, "S1A_IW_GRDH_1SDV_20210720T1028"))[1]


def test_choices_slices_and_iterations(ee_client: EarthEngineServer) -> None:
    numbers = ee.List([1, 2, 3, 4])
    assert numbers.slice(1).getInfo() == [2, 3, 4]
    assert numbers.slice(0, -1, 2).getInfo() == [1, 3]
    assert [numbers.contains(3).getInfo(), numbers.contains(5).getInfo()] == [True, False]
    taken = [ee.Algorithms.If(given, "yes", "no").getInfo() for given in (True, 2, "a", ee.List([]), False, 0, "")]
    assert taken == ["yes"] * 4 + ["no"] * 3
    image = ee.Image.constant([1, 2, 3]).rename(["a", "b", "c"])
    assert image.slice(1).bandNames().getInfo() == ["b", "c"]
    assert image.slice(0, 2).bandNames().getInfo() == ["a", "b"]


def test_a_collection_becomes_bands_and_columns(ee_client: EarthEngineServer) -> None:
    scenes = ee.ImageCollection(catalogue.S1).filterDate("2021-07-10", "2021-07-11").limit(2)
    assert scenes.toDictionary().getInfo() == {}
    together = scenes.iterate(lambda scene, image: ee.Image(image).addBands(scene, [0]), ee.Image())
    names = ee.Image(together).bandNames().getInfo()
    first = [scene["bands"][0]["id"] for scene in scenes.getInfo()["features"]]
    assert names == ["constant", first[0], first[1] if first[0] != first[1] else f"{first[0]}_1"]
    columns = ["system:id", "system:time_start"]
    ids, times = scenes.reduceColumns(ee.Reducer.toList().repeat(2), columns).get("list").getInfo()
    assert ids == [scene["id"] for scene in scenes.getInfo()["features"]]
    assert times == scenes.aggregate_array("system:time_start").getInfo()


def download(image: ee.Image, format: str = "GEO_TIFF") -> requests.Response:
    """The answer to a download of ``PLACE``, asked for without a token."""
    crs, transform, (height, width) = PLACE
    url = image.getDownloadURL(
        {"crs": crs, "crs_transform": list(transform[:6]), "dimensions": [width, height], "format": format}
    )
    return requests.get(url, timeout=10)


def read(answer: requests.Response) -> tuple[dict[str, Any], np.ndarray]:
    with MemoryFile(answer.content) as file, file.open() as raster:
        return raster.profile, raster.read()


def test_a_download_holds_the_same_pixels_on_the_grid_asked_for(ee_client: EarthEngineServer) -> None:
    answer = download(ee.Image(RADAR).select(["VV", "VH"]).toFloat())
    profile, bands = read(answer)
    crs, transform, shape = PLACE
    assert (profile["crs"], profile["transform"]) == (rasterio.CRS.from_string(crs), transform)
    assert (profile["dtype"], bands.shape) == ("float32", (2, *shape))
    for name, band in zip(("VV", "VH"), bands, strict=True):
        np.testing.assert_array_equal(band, valued(ee.Image(RADAR), name, *PLACE).astype("f4"))
    asked = ee_client.tiles[0]
    assert (asked.endpoint, asked.status, asked.bytes) == (faults.DOWNLOAD, 200, len(answer.content))
    assert asked.grid is not None
    assert asked.grid["dimensions"] == {"width": 60, "height": 40}


def test_masked_pixels_of_a_download_are_its_nodata(ee_client: EarthEngineServer) -> None:
    steps = ee.Image.constant([7, 8]).toUint16()
    profile, bands = read(download(steps.updateMask(steps.gt(7))))
    assert (profile["dtype"], profile["nodata"], bands[:, 0, 0].tolist()) == ("uint16", 0, [0, 8])
    profile, bands = read(download(steps.updateMask(steps.gt(7)).toFloat()))
    assert (profile["dtype"], profile["nodata"], bands[:, 0, 0].tolist()) == ("float32", -np.inf, [-np.inf, 8])


def test_clipped_to_bounds_an_image_is_masked_outside_its_whole_pixels(ee_client: EarthEngineServer) -> None:
    crs, transform, _ = PLACE
    shape = ee.Geometry.Rectangle([2, 3, 5, 4], ee.Projection(crs, list(transform[:6])), False)
    clipped = ee.Image.constant(1).toByte().reproject(crs, list(transform[:6])).clipToBoundsAndScale(shape)
    (band,) = clipped.getInfo()["bands"]
    assert (band["dimensions"], band["crs_transform"]) == ([3, 1], [10, 0, 770_020, 0, -10, 3_831_970])
    kept = pixels(clipped.mask(), crs, transform, (8, 8))["constant"]
    assert (kept.nonzero()[0].tolist(), kept.nonzero()[1].tolist()) == ([3, 3, 3], [2, 3, 4])


def test_downloads_are_limited_and_named(ee_client: EarthEngineServer) -> None:
    image = ee.Image(RADAR).select(["VV", "VH"])
    crs, transform, _ = PLACE
    with pytest.raises(ee.EEException, match=r"Total request size .* must be less than or equal to 33554432 bytes"):
        image.getDownloadURL({"crs": crs, "crs_transform": list(transform[:6]), "dimensions": [2048, 2048]})
    with pytest.raises(ee.EEException, match=r"\(10001x1\) must be less than or equal to 10000"):
        image.getDownloadURL({"crs": crs, "crs_transform": list(transform[:6]), "dimensions": [10_001, 1]})
    missing = requests.get(f"{ee_client.url}/v1/projects/p/thumbnails/none:getPixels", timeout=10)
    assert missing.status_code == 404
    ee_client.add(faults.memory_limit(1000), faults.error(400, faults.MEMORY, endpoint=faults.DOWNLOAD, above_pixels=9))
    assert download(image).json()["error"]["message"] == faults.MEMORY


def test_what_is_remembered_costs_nothing(ee_client: EarthEngineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    image = ee.Image(RADAR).select(["VV"])
    ee_client.change(remember=True)
    first = pixels(image, *PLACE)
    monkeypatch.setattr("tests.earthengine.pixels.compute", lambda *_: pytest.fail("it is known"))
    np.testing.assert_array_equal(pixels(image, *PLACE), first)
    assert [tile.status for tile in ee_client.tiles] == [200, 200]
    assert len(ee_client.served_twice()) == 1


def test_threads_that_come_together_wait_for_one_catalogue() -> None:
    made, begun = [], threading.Barrier(8)

    @catalogue.once
    def make() -> object:
        made.append(1)
        time.sleep(0.05)
        return object()

    def get(_: int) -> object:
        begun.wait()
        return make()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(get, range(8)))) == 1
    assert made == [1]
