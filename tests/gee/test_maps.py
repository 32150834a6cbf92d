"""The map of a manifest, with the real geemap."""

import json
from pathlib import Path
from types import SimpleNamespace

import ipywidgets as widgets
import pytest

import crgen.gee
from crgen.errors import SourceError
from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import open_area


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
