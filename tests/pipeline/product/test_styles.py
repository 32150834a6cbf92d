"""Viewers show a product's rasters as they are meant: by STAC's renders on the web, by .qml in QGIS."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.product.styles import Look, looks_of, qml, renders_of
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality
from tests.pipeline.cog.rasters import write_cog

GRID = GeoBox((4, 5), Affine(10, 0, 0, 0, -10, 0), "EPSG:32649")
BANDS = ("B2", "B3", "B4", "B8", "B11")


def profiles(bands: tuple[str, ...] = BANDS) -> dict[str, RasterProfile]:
    return {
        "reflectance": RasterProfile(GRID, bands, "uint16", 0, scale=1e-4, units="reflectance"),
        "quality": RasterProfile(GRID, ("quality",), "uint8", 0, colours=COLOURS),
        "water": RasterProfile(GRID, ("water", "water_t1"), "uint8", 255, units="%"),
        "error": RasterProfile(GRID, bands, "uint16", 65535, scale=1e-4, units="reflectance"),
    }


def statistics(bands: tuple[str, ...] = BANDS) -> dict[str, list[dict[str, float]]]:
    held = [{"minimum": 1, "maximum": 9000, "mean": 1000 + 100 * i, "stddev": 300} for i in range(len(bands))]
    return {"reflectance": held, "error": [{**held[0], "mean": 250}]}


def looks(bands: tuple[str, ...] = BANDS) -> dict[str, Look]:
    return {look.name: look for look in looks_of(profiles(bands), statistics(bands))}


def test_every_raster_has_a_render_that_spreads_its_stored_values() -> None:
    renders = {name: render.to_dict() for name, render in renders_of(list(looks().values())).items()}
    assert {asset for render in renders.values() for asset in render["assets"]} == set(profiles())
    true = renders["true_colour"]
    assert true["bidx"] == [3, 2, 1]
    assert true["rescale"] == [[600, 1800], [500, 1700], [400, 1600]]
    assert renders["false_colour"]["bidx"] == [5, 4, 2]
    assert (renders["water"]["bidx"], renders["water"]["rescale"]) == ([1], [[0, 100]])
    assert renders["error"]["rescale"] == [[0, 500]]
    assert renders["quality"]["colormap"] == {str(int(q)): list(COLOURS[q]) for q in Quality}


def test_a_style_of_three_bands_names_them_and_stretches_reflectance() -> None:
    root = ET.fromstring(qml(looks()["true_colour"], profiles()["reflectance"]))
    renderer = root.find("pipe/rasterrenderer")
    assert renderer.get("type") == "multibandcolor"
    assert [renderer.get(f"{gun}Band") for gun in ("red", "green", "blue")] == ["3", "2", "1"]
    red = renderer.find("redContrastEnhancement")
    assert [red.findtext("minValue"), red.findtext("maxValue")] == ["0.06", "0.18"]


def test_a_style_of_classes_has_their_colours_and_labels() -> None:
    root = ET.fromstring(qml(looks()["quality"], profiles()["quality"]))
    entries = {entry.get("value"): entry for entry in root.iter("paletteEntry")}
    assert set(entries) == {str(int(q)) for q in Quality}
    assert entries["1"].get("color") == "#2c7bb6"
    assert entries["3"].get("label") == LABELS[Quality.BLENDED]


@pytest.mark.parametrize(("name", "top"), [("water", 100), ("error", 0.05)])
def test_a_style_of_one_band_is_a_ramp_over_its_values(name, top) -> None:
    root = ET.fromstring(qml(looks()[name], profiles()[name]))
    items = [float(item.get("value")) for item in root.iter("item")]
    assert items[0] == 0
    assert items[-1] == pytest.approx(top)
    assert items == sorted(items)


@pytest.mark.parametrize("bands", [("B11", "B8", "B3"), ("B8",), ("B8", "B12"), ("B2", "B8A", "B12", "B5")])
def test_maps_of_other_bands_have_a_style_too(bands) -> None:
    for look in looks(bands).values():
        assert ET.fromstring(qml(look, profiles(bands)[look.asset])).find("pipe/rasterrenderer") is not None
        assert all(1 <= band <= len(profiles(bands)[look.asset].bands) for band in look.bands)


def test_an_empty_map_has_a_style() -> None:
    empty = looks_of(profiles(), {"reflectance": [{} for _ in BANDS], "error": [{}]})
    assert [qml(look, profiles()[look.asset]) for look in empty]


LOAD = """
import json, os, sys
from qgis.core import QgsApplication, QgsRasterLayer

application = QgsApplication([], False)
application.initQgis()
said = {}
for raster, style in json.loads(sys.argv[1]):
    layer = QgsRasterLayer(raster)
    if style:
        message, loaded = layer.loadNamedStyle(style)
        assert loaded, message
    renderer = layer.renderer()
    one = {"type": renderer.type(), "bands": renderer.usesBands()}
    if one["type"] == "multibandcolor":
        stretch = renderer.redContrastEnhancement()
        one["red"] = [stretch.minimumValue(), stretch.maximumValue()]
    if one["type"] == "paletted":
        one["classes"] = {c.value: [c.label, list(c.color.getRgb())] for c in renderer.classes()}
    block = renderer.block(1, layer.extent(), layer.width(), layer.height())
    colours = [block.color(0, col) for col in range(layer.width())]
    one["colours"] = [[c >> 16 & 255, c >> 8 & 255, c & 255, c >> 24 & 255] for c in colours]
    said[style or raster] = one
print(json.dumps(said), flush=True)
os._exit(0)  # QGIS crashes where its own objects outlive it
"""
"""What QGIS makes of rasters with styles, read by its own classes."""


@cache
def python_of_qgis() -> str | None:
    """The interpreter that has QGIS's classes; None where it is not installed."""
    for python in (sys.executable, "/usr/bin/python3"):
        if (
            Path(python).exists()
            and not subprocess.run(
                [python, "-c", "import qgis.core"], capture_output=True, env=environment(), check=False
            ).returncode
        ):
            return python
    return None


def environment() -> dict[str, str]:
    held = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL", "PROJ"))}
    return held | {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}


def test_qgis_itself_reads_the_styles_and_draws_what_they_say(tmp_path: Path) -> None:
    python = python_of_qgis()
    if python is None:
        pytest.skip("QGIS's Python classes are not installed (Debian: apt-get install python3-qgis)")
    pixels = {
        "reflectance": np.linspace(400, 2000, 5 * 4 * 5).reshape(5, 4, 5).astype(np.uint16),
        "quality": np.tile(np.arange(1, 6, dtype=np.uint8), (1, 4, 1)),
        "water": np.tile(np.array([0, 10, 50, 100, 255], np.uint8), (2, 4, 1)),
        "error": np.tile(np.array([0, 125, 250, 500, 65535], np.uint16), (5, 4, 1)),
    }
    for name, profile in profiles().items():
        write_cog(tmp_path / f"{name}.tif", profile, pixels[name])
    pairs = []
    for name, look in looks().items():
        style = tmp_path / f"{name}.qml"
        style.write_bytes(qml(look, profiles()[look.asset]))
        pairs.append((str(tmp_path / f"{look.asset}.tif"), str(style)))
    (tmp_path / "reflectance.qml").write_bytes((tmp_path / "true_colour.qml").read_bytes())
    pairs.append((str(tmp_path / "reflectance.tif"), ""))
    done = subprocess.run(
        [python, "-c", LOAD, json.dumps(pairs)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = {Path(name).name: one for name, one in json.loads(done.stdout.splitlines()[-1]).items()}
    true = said["true_colour.qml"]
    assert (true["type"], true["bands"]) == ("multibandcolor", [3, 2, 1])
    assert true["red"] == pytest.approx([0.06, 0.18]), "in reflectance: QGIS applies scale and offset"
    assert said["reflectance.tif"] == true, "a style under the raster's name is loaded with it"
    assert said["false_colour.qml"]["bands"] == [5, 4, 2]
    quality = said["quality.qml"]
    assert quality["type"] == "paletted"
    assert quality["classes"] == {str(float(q)): [LABELS[q], list(COLOURS[q])] for q in Quality}
    assert quality["colours"] == [list(COLOURS[Quality(value)]) for value in range(1, 6)]
    water = said["water.qml"]["colours"]
    assert water[3] == [0x08, 0x30, 0x6B, 255], "100 %"
    assert water[0][3] == 0, "dry ground is transparent"
    assert water[4][3] == 0, "so is no data"
    error = said["error.qml"]["colours"]
    assert error[0] == [0xFF, 0xFF, 0xD4, 255]
    assert error[3] == [0x99, 0x34, 0x04, 255]
    assert error[4][3] == 0
