"""The map of a manifest, with the real geemap."""

import base64
import datetime
import io
import json
from pathlib import Path
from types import SimpleNamespace

import ee
import ipywidgets as widgets
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.warp
from PIL import Image

import crgen as package
import crgen.gee
from crgen.errors import SourceError
from crgen.gee.connection.session import Settings, connect
from crgen.gee.fetch.tile import Tile, grid_of
from crgen.gee.product_layers import OUTLINES
from crgen.pipeline.picture import viewer
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine.acquire import acquire
from crgen.pipeline.tiling.quality import COLOURS, Quality
from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import AREA, open_area


def layers_of(shown) -> dict[str, object]:
    return {layer.name: layer for layer in shown.layers}


def test_a_manifest_becomes_a_map_with_a_split(service: EarthEngineServer) -> None:
    import ipyleaflet

    manifest = open_area().manifest
    shown = crgen.gee.preview(manifest)
    assert shown is not crgen.gee.preview(manifest), "the name stays a function after its first use"
    (split,) = (c for c in shown.controls if isinstance(c, ipyleaflet.SplitMapControl))
    assert split.left_layer.name == "optical t1, 2021-07-09 for 2021-07-10"
    assert split.right_layer.name == "optical t2, 2021-07-21 for 2021-07-22"
    for side in (split.left_layer, split.right_layer):
        assert "/maps/" in side.url
        assert "{z}/{x}/{y}" in side.url
    layers = layers_of(shown)
    radar = {"radar t1, 2021-07-08 for 2021-07-10", "radar t2, 2021-07-20 for 2021-07-22"}
    assert radar | {"footprints of s1_t1", manifest.area.name} <= set(layers)
    south, west = layers[manifest.area.name].data["geometry"]["coordinates"][0][0][::-1]
    assert (round(west, 1), round(south, 1)) == (113.6, 34.7)
    assert not service.tiles, "drawing a map computes nothing yet"


def test_several_orbits_are_shown_as_they_are_mapped(
    service: EarthEngineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """West of 114.04° the orbit on top lacks t1, so that the one below shows at both dates."""
    drawn: list[ee.Image] = []
    draw = ee.Image.getMapId
    monkeypatch.setattr(ee.Image, "getMapId", lambda image, style: (drawn.append(image), draw(image, style))[1])
    days = {"t1": datetime.date(2021, 7, 8), "t2": datetime.date(2021, 7, 20)}
    channels = Channels(("VV",), ("B3",), 10.0, margin=0)
    acquired = acquire(EarthEngine(), channels, aoi="114.0,34.6100,114.8,34.6101", crs=None, **days)
    assert len({scene.geometry for scene in acquired.manifest.scenes["s1_t1"]}) == 2
    crgen.gee.preview(acquired.manifest)
    part = acquired.pull.geobox[:, :600]
    for name, image in zip(("s1_t1", "s1_t2"), drawn[:2], strict=True):
        shown = image.select("VV").unmask(-99, False)
        ask = {"expression": shown, "fileFormat": "NPY", "grid": grid_of(part, Tile(0, 0, *part.shape))}
        mapped = acquired.stack[name].sel(pol="VV").values[:, :600]
        answer = connect(Settings.from_environment()).call("pixels", lambda ask=ask: ee.data.computePixels(ask))
        pixels = np.load(io.BytesIO(answer))["VV"]
        alike = pixels == np.nan_to_num(mapped, nan=-99)
        assert alike.mean() > 0.9999, "but where a centre lies on the edge of two pixels"


def test_without_an_optical_image_of_t2_the_radar_is_on_the_right(service: EarthEngineServer) -> None:
    import ipyleaflet

    manifest = open_area().manifest
    radar = {name: scenes for name, scenes in manifest.scenes.items() if name != "s2_t2"}
    shown = crgen.gee.preview(manifest.model_copy(update={"scenes": radar}))
    (split,) = (c for c in shown.controls if isinstance(c, ipyleaflet.SplitMapControl))
    assert split.right_layer.name == "radar t2, 2021-07-20 for 2021-07-22"


def test_a_choice_without_radar_is_refused_in_a_line(service: EarthEngineServer, tmp_path: Path) -> None:
    manifest = open_area().manifest
    optical = {name: scenes for name, scenes in manifest.scenes.items() if name.startswith("s2")}
    (tmp_path / "choice.json").write_text(manifest.model_copy(update={"scenes": optical}).to_json(), "utf-8-sig")
    with pytest.raises(SourceError, match="without scenes of s1_t1, s1_t2"):
        crgen.gee.preview(tmp_path / "choice.json")


def test_a_product_without_the_notebook_extra_says_so(service: EarthEngineServer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("crgen.gee.maps.find_spec", lambda name: None)
    manifest = json.loads(open_area().manifest.to_json())
    item = {"properties": {"crgen:manifest": manifest}, "assets": {"reflectance": {"href": "./flood.tif"}}}
    (tmp_path / "flood.json").write_text(json.dumps(item))
    result = SimpleNamespace(paths=SimpleNamespace(item=tmp_path / "flood.json"))
    for source in (result, tmp_path / "flood.json"):
        shown = crgen.gee.preview(source)
        texts = [c.widget.value for c in shown.controls if isinstance(getattr(c, "widget", None), widgets.HTML)]
        assert any("flood.tif is not shown: it needs pip install 'crgen[notebook]'" in text for text in texts), texts


def test_a_product_has_the_layers_of_its_page_and_each_lies_where_it_should(
    service: EarthEngineServer, tiny_weights: Path, tmp_path: Path
) -> None:
    days = {"t1": "2021-07-10", "t2": "2021-07-22"}
    result = package.fill(
        aoi=AREA, **days, past="none", observed_days=1, weights=str(tiny_weights), out=tmp_path / "a map's.tif"
    )
    shown = crgen.gee.preview(result)
    layers = layers_of(shown)
    of_product = {
        *("result, true colour", "result, false colour", "t2 observed, true colour", "t2 observed, false colour"),
        *("probability of water at t2", "how far reflectance may be off", "quality classes"),
    }
    assert of_product | {"radar t1, 2021-07-08 for 2021-07-10", "radar t2, 2021-07-20 for 2021-07-22"} <= set(layers)
    held = {
        name for layer, (name, _) in OUTLINES.items() if pyogrio.read_info(result.paths.flood, layer=layer)["features"]
    }
    assert held == set(layers) & {name for name, _ in OUTLINES.values()}
    with rasterio.open(result.paths.quality) as raster:
        classes = raster.read(1)
        x, y = raster.xy(10, 20)
        (lon,), (lat,) = rasterio.warp.transform(raster.crs, 4326, [x], [y])
    for name, alike in (("quality classes", classes), ("t2 observed, true colour", classes == 1)):
        overlay = layers[name]
        assert overlay.visible is False
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(overlay.url.partition(",")[2]))).convert("RGBA"))
        (south, west), (north, east) = overlay.bounds
        assert south < lat < north
        assert west < lon < east
        row, col = (
            int(n * s)
            for n, s in zip(pixels.shape, ((north - lat) / (north - south), (lon - west) / (east - west)), strict=False)
        )
        if name.startswith("t2"):
            assert (pixels[row, col, 3] > 0) == alike[10, 20]
        else:
            near = [np.abs(pixels[row, col, :3].astype(int) - COLOURS[q][:3]).sum() for q in Quality]
            assert np.argmin(near) == classes[10, 20]


def test_outlines_are_called_and_coloured_as_on_the_page() -> None:
    assert {layer: name for layer, (name, _) in OUTLINES.items()} == viewer.NAMES
    assert {layer: colour for layer, (_, colour) in OUTLINES.items()} == viewer.OUTLINES
