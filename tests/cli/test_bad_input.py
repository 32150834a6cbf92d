"""Weights and imagery that do not serve end in one line that names them, and nothing is written."""

import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.stack import build_stack

GRID = GeoBox((70, 90), Affine(10, 0, 735_000, 0, -10, 3_845_000), "EPSG:32649")


def write(path, *, grid=GRID, pols=("VV",), bands=("B11", "B8", "B3"), **missing):
    """Write a stack of plain values, with the variables named in ``missing`` set to that value."""
    values = {"s1_t1": -12.0, "s1_t2": -14.0, "s2_t1": 0.2} | missing
    shapes = {name: len(pols) if name.startswith("s1") else len(bands) for name in values}
    arrays = {name: np.full((shapes[name], *grid.shape), value, np.float32) for name, value in values.items()}
    manifest = {"t1": "2021-07-10", "t2": "2021-07-22"}
    return write_stack(build_stack(grid, arrays, pols=pols, bands=bands, manifest=manifest), path)


@pytest.fixture
def stack(here):
    return write(here / "stack")


@pytest.fixture
def fill_stack(tiny_weights):
    return ("fill", "--weights", tiny_weights, "--source", "stack")


def test_unknown_weights(refused, fill):
    line = refused(5, *fill, "--weights", "better")
    assert "no weights 'better'" in line
    assert "known names" in line


@pytest.mark.parametrize("kept", [0, 7, 5_000, -1])
def test_truncated_weights(refused, fill, here, tiny_weights, kept):
    (here / "cut.safetensors").write_bytes(tiny_weights.read_bytes()[:kept])
    assert "cut.safetensors: not a whole safetensors file" in refused(5, *fill, "--weights", "cut.safetensors")


def test_altered_weights(refused, fill, here, tiny_weights):
    content = bytearray(tiny_weights.read_bytes())
    content[-3] ^= 1
    (here / "bent.safetensors").write_bytes(content)
    assert "digest the card states" in refused(5, *fill, "--weights", "bent.safetensors")


def test_what_is_no_weights_file(refused, fill, here):
    (here / "notes.txt").write_text("weights, one day")
    assert "notes.txt" in refused(5, *fill, "--weights", "notes.txt")
    assert "'.'" in refused(5, *fill, "--weights", ".")


def test_a_stack_fills_by_itself(crgen, fill_stack, stack):
    assert crgen(*fill_stack, "--dry-run").code == 0


@pytest.mark.parametrize(
    ("channels", "words"),
    [
        (
            {"bands": ("B4", "B3", "B2")},
            "'s2_t1' lacks B8, B11: it holds B4, B3, B2, the model needs B2, B3, B4, B8, B11",
        ),
        ({"pols": ("VH",)}, "'s1_t1' lacks VV: it holds VH, the model needs VV"),
    ],
)
def test_a_stack_without_the_channels_of_the_weights(refused, fill_stack, here, channels, words):
    write(here / "stack", **channels)
    assert words in refused(4, *fill_stack)


def test_a_stack_without_a_variable(refused, fill_stack, stack):
    (stack / "s1_t2.tif").unlink()
    assert "lacks s1_t2.tif" in refused(4, *fill_stack)


def test_a_stack_of_two_grids(refused, fill_stack, stack):
    with rasterio.open(stack / "s2_t1.tif", "r+") as file:
        file.transform = Affine(10, 0, 735_005, 0, -10, 3_845_000)
    assert "s1_t1.tif and s2_t1.tif are on different grids" in refused(4, *fill_stack)


def test_a_rotated_grid(refused, fill_stack, stack):
    for path in stack.glob("*.tif"):
        with rasterio.open(path, "r+") as file:
            file.transform = Affine(10, 1, 735_000, 1, -10, 3_845_000)
    assert "not north-up" in refused(4, *fill_stack)


@pytest.mark.parametrize("broken", ["s1_t2.tif", "manifest.json"])
def test_a_damaged_file(refused, fill_stack, stack, broken):
    (stack / broken).write_bytes((stack / broken).read_bytes()[:30])
    assert broken in refused(4, *fill_stack)


def test_damage_that_shows_only_while_the_work_is_under_way(refused, fill_stack, here):
    write(here / "stack", grid=GRID.expand((70, 1100)))
    path = here / "stack" / "s1_t2.tif"
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[offset : offset + 20] = bytes(20)
    path.write_bytes(content)
    assert "s1_t2.tif" in refused(4, *fill_stack)


def test_radar_of_t2_missing_everywhere(refused, fill_stack, here):
    write(here / "stack", s1_t2=np.nan)
    line = refused(4, *fill_stack, "--out", "new/map.tif")
    assert "'s1_t2' is missing at 100 % of the area" in line
    assert "nothing was written" in line


def test_dates_that_contradict_the_stack(refused, fill_stack, stack):
    assert "2021-07-22" in refused(2, *fill_stack, "--t1", "2021-08-01")
    assert "is of t2 2021-07-22, not 2021-07-30; leave --t2 out" in refused(2, *fill_stack, "--t2", "2021-07-30")


def test_an_area_outside_the_stack(refused, fill_stack, stack):
    assert "outside the stack" in refused(3, *fill_stack, "--aoi", "10,50,10.01,50.01")


def test_a_folder_or_file_that_is_no_stack(refused, fill_stack, here):
    (here / "stack").mkdir()
    assert "no GeoTIFF" in refused(4, *fill_stack)
    shutil.rmtree(here / "stack")
    (here / "stack").write_text("not a stack")
    assert "is not a stack" in refused(4, *fill_stack)
