"""A local stack as a run opens it: its name, and what a person is told of the area."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.plan import lay_out
from crgen.pipeline.source.local.write import write_stack
from tests.pipeline.source.local.stacks import GRID, make_stack


@pytest.fixture
def request_of_stack(tmp_path, tiny_weights) -> FillRequest:
    path = write_stack(make_stack().assign_coords(band=["B3", "B8", "B11"]), tmp_path / "stack.zarr")
    return FillRequest(source=str(path), weights=str(tiny_weights), out=tmp_path / "map.tif", device="cpu")


def test_a_warped_stack_still_tells_how_the_area_was_read(request_of_stack, tmp_path):
    west, south, east, north = GRID.geographic_extent.boundingbox
    bow = [[west, south], [east, north], [east, south], [west, north], [west, south]]
    aoi = tmp_path / "bow.geojson"
    aoi.write_text(json.dumps({"type": "Polygon", "coordinates": [bow]}))
    for crs in (None, "EPSG:32650"):
        notes = lay_out(replace(request_of_stack, aoi=str(aoi), crs=crs)).scene.notes
        assert any("was repaired" in note for note in notes), crs


def test_a_stack_is_called_by_its_folder_however_it_is_named(request_of_stack, monkeypatch):
    monkeypatch.chdir(Path(request_of_stack.source))
    assert lay_out(replace(request_of_stack, source=".")).scene.area.name == "stack"
