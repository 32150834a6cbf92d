"""Viewers show a product's rasters as they are meant: by STAC's renders on the web, by .qml in QGIS."""

from xml.etree import ElementTree as ET

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.product.styles import Look, looks_of, qml, renders_of
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

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
