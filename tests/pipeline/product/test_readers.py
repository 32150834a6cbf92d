"""Other people's readers open a product by its Item, and find the ground where it is, with the values that it has."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pystac
import pytest
import rasterio

import crgen
from crgen.pipeline.product.outputs import Paths

AOI = "113.53,34.71,113.54,34.72"


@pytest.fixture(scope="module")
def product(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    out = tmp_path_factory.mktemp("read") / "map.tif"
    days = {"t1": "2021-07-10", "t2": "2021-07-22"}
    return crgen.fill(aoi=AOI, **days, source="demo", weights=str(tiny_weights), out=out).paths


@pytest.fixture(scope="module")
def item(product: Paths) -> pystac.Item:
    """The Item, its hrefs made absolute as a catalogue gives them."""
    item = pystac.Item.from_file(product.item)
    item.make_asset_hrefs_absolute()
    return item


@pytest.fixture(scope="module")
def reflectance(product: Paths) -> np.ndarray:
    with rasterio.open(product.reflectance) as cog:
        return np.where(cog.read() == 0, np.nan, cog.read() * 1e-4)


def test_odc_stac_loads_bands_and_classes_onto_the_maps_own_grid(product, item) -> None:
    odc_stac = pytest.importorskip("odc.stac", reason="odc-stac is not installed")
    loaded = odc_stac.load([item], bands=["reflectance.1", "water", "quality"])
    with rasterio.open(product.reflectance) as cog, rasterio.open(product.quality) as quality:
        assert loaded.odc.geobox.affine == cog.transform
        assert loaded.odc.geobox.crs.epsg == cog.crs.to_epsg()
        np.testing.assert_array_equal(loaded["reflectance.1"][0], cog.read(1))
        np.testing.assert_array_equal(loaded["quality"][0], quality.read(1))
    assert loaded["reflectance.1"].nodata == 0
    assert loaded["water"].nodata == 255


def test_stackstac_stacks_it_on_the_maps_own_grid(item, product) -> None:
    stackstac = pytest.importorskip("stackstac", reason="stackstac is not installed")
    has = item.properties
    # Of the projection extension it reads only what came before proj:code, so the grid is given; of rasters, those of
    # one band.
    grid = {
        "epsg": int(has["proj:code"].split(":")[1]),
        "bounds": has["proj:bbox"],
        "resolution": has["proj:transform"][0],
    }
    values = {"rescale": False, "fill_value": np.uint8(0), "dtype": "uint8"}
    stack = stackstac.stack([item.to_dict()], assets=["quality"], **grid, **values, snap_bounds=False)
    with rasterio.open(product.quality) as quality:
        assert stack.shape == (1, 1, *quality.shape)
        np.testing.assert_array_equal(stack[0, 0].compute(scheduler="synchronous"), quality.read(1))


def test_rio_tiler_shows_it_as_its_renders_say(product, item, reflectance) -> None:
    rio_tiler = pytest.importorskip("rio_tiler.io", reason="rio-tiler is not installed")
    renders = json.loads(product.item.read_text())["properties"]["renders"]
    for render in renders.values():
        (asset,) = render["assets"]
        with rio_tiler.Reader(item.assets[asset].href) as reader:
            image = reader.preview(indexes=tuple(render["bidx"]), max_size=None)
            assert image.array.shape[0] == len(render["bidx"])
            if "rescale" in render:
                image.rescale([tuple(ends) for ends in render["rescale"]])
                assert image.array.dtype == np.uint8
            assert image.render().startswith(b"\x89PNG")
    with rio_tiler.Reader(item.assets["reflectance"].href) as reader:
        row, col = (size // 2 for size in reader.dataset.shape)
        at = reader.dataset.xy(row, col)
        point = reader.point(*at, coord_crs=reader.dataset.crs)
        whole = reader.part(item.bbox)
    np.testing.assert_array_equal(point.array.filled(0) * 1e-4, np.nan_to_num(reflectance[:, row, col]))
    assert whole.array.count() > 0, "the Item's box, in degrees, is where the raster lies"


def test_the_styles_of_qgis_name_bands_that_show_what_they_say(product) -> None:
    """QGIS's own reader asks for the elements that are looked up here."""
    shown = {}
    for path in product.folder.glob("*.qml"):
        root = ET.parse(path).getroot()
        assert root.tag == "qgis"
        (renderer,) = root.findall("pipe/rasterrenderer")
        raster = product.rasters[next((key for key in product.rasters if path.stem.endswith(key)), "reflectance")]
        numbers = [renderer.get(name) for name in ("redBand", "greenBand", "blueBand", "band") if renderer.get(name)]
        with rasterio.open(raster) as cog:
            shown[path.stem.removeprefix("map").strip("_")] = [cog.descriptions[int(n) - 1] for n in numbers]
    assert ["B4", "B3", "B2"] in shown.values()
    assert ["B11", "B8", "B3"] in shown.values()
    assert ["quality"] in shown.values()
    assert len(shown) == 5, shown
