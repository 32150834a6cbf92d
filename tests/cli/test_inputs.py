"""`crgen` where files and machines are as people have them: the map is the plain one's, or one line says why not."""

import datetime
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pyogrio
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from crgen.files import home_cache
from crgen.gee.fetch.cache import default_folder
from crgen.model.find import SHIPPED, cache_folder
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.tiling.quality import Quality
from tests.cli.conftest import AREA, COMMAND, DATES

DAYS = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")


def demo() -> tuple[GeoBox, dict[str, np.ndarray]]:
    grid = read_area("113.545,34.705,113.553,34.711").geobox
    stack = open_demo(grid, *DAYS, pols=("VV", "VH"), bands=BANDS).compute()
    return grid, {str(name): stack[name].values for name in stack.data_vars}


def write(folder: Path, grid: GeoBox, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, values in arrays.items():
        layers = values if values.ndim == 3 else values[None]
        bands = {"s1": ["VV", "VH"], "s2": BANDS, "tr": BANDS}.get(name[:2], [name])
        size = {"height": grid.shape.y, "width": grid.shape.x, "count": len(layers), "dtype": "float32"}
        place = {"crs": str(grid.crs), "transform": grid.affine, "nodata": np.nan}
        with rasterio.open(folder / f"{name}.tif", "w", driver="GTiff", **size, **place) as file:
            file.write(layers)
            file.descriptions = bands
    return folder


@pytest.fixture
def fill_local(crgen, tiny_weights, here):
    def run(source: Path | str, *words: object):
        return crgen("fill", "--source", source, *DATES, "--weights", tiny_weights, "--out", "map.tif", *words)

    return run


def test_zeros_outside_the_swath_are_never_observed_nor_generated_from(fill_local, here):
    grid, arrays = demo()
    arrays["clear_t2"][:] = 1
    third = grid.shape.x // 3
    for name in ("s2_t1", "s2_t2"):
        arrays[name][:, :, :third] = 0
    for name in ("s1_t1", "s1_t2"):
        arrays[name][:, :, : third // 2] = 0
    outcome = fill_local(write(here / "stack", grid, arrays))
    assert outcome.code == 0, outcome.err
    assert "s2_t2 is missing at" in outcome.err
    assert "0 in every band counts as missing" in outcome.err
    with rasterio.open("map_quality.tif") as file:
        quality = file.read(1)
    assert not (quality[:, :third] == Quality.OBSERVED).any()
    assert (quality[:, : third // 2] == Quality.NODATA).all()
    assert (quality[:, third + 9 :] == Quality.OBSERVED).all()


def test_a_stack_across_180_degrees_has_an_item_that_is_cut_there(fill_local, here):
    _, arrays = demo()
    height, width = arrays["clear_t2"].shape
    x, y = Transformer.from_crs(4326, 32760, always_xy=True).transform(179.999, -17)
    grid = GeoBox((height, width), Affine(10, 0, x, 0, -10, y), "EPSG:32760")
    outcome = fill_local(write(here / "stack", grid, arrays))
    assert outcome.code == 0, outcome.err
    item = pystac.Item.from_file("map.json")
    assert shapely.geometry.shape(item.geometry).is_valid
    assert item.geometry["type"] == "MultiPolygon"
    assert item.bbox[0] > 179
    assert item.bbox[2] < -179


def test_a_stack_in_degrees_is_told_in_metres_and_by_its_short_name(fill_local, here):
    _, arrays = demo()
    height, width = arrays["clear_t2"].shape
    grid = GeoBox((height, width), Affine(1.2e-4, 0, 113.5, 0, -1.2e-4, 34.8), "EPSG:4326")
    write(here / "stack", grid, arrays)
    plain = fill_local("stack", "--dry-run")
    assert plain.code == 0, plain.err
    assert "stack, EPSG:4326" in plain.out
    assert "the stack's pixels are 12.0" in plain.err
    assert "m, the weights were trained at 10 m" in plain.err
    inside = fill_local("stack", "--aoi", "113.5005,34.7975,113.5015,34.7985")
    assert inside.code == 0, inside.err
    assert pystac.Item.from_file("map.json").common_metadata.gsd == pytest.approx(12.1, abs=0.1)


def test_any_local_stack_is_told_by_the_short_name_of_its_crs(fill_local, here):
    grid, _ = demo()
    write_stack(open_demo(grid, *DAYS, pols=("VV", "VH"), bands=BANDS), here / "stack")
    assert "stack, EPSG:32649\n" in fill_local("stack", "--dry-run").out


def test_what_is_left_of_an_earlier_map_is_not_shown_with_a_new_one(crgen, refused, fill, here):
    old = [here / name for name in ("map.tif.aux.xml", "map.tif.ovr", "map_quality.tif.msk")]
    for file in old:
        file.write_text("of an earlier map")
    assert "map.tif.aux.xml is left of an earlier map" in refused(6, *fill, "--out", "map.tif")
    assert crgen(*fill, "--out", "map.tif", "--overwrite").code == 0
    assert not any(file.exists() for file in old)

    (here / "map.tif.aux.xml").write_text("<statistics that a viewer keeps>")
    seen = crgen("verify", "map.tif")
    assert seen.code == 0
    assert "note: map.tif.aux.xml: not of this product" in seen.err
    (here / "map.tif.ovr").write_text("pixels")
    long_ago = time.time() - 1000
    os.utime(here / "map.tif.aux.xml", (long_ago, long_ago))
    shown = crgen("verify", "map.tif")
    assert shown.code == 6
    for name in ("map.tif.aux.xml", "map.tif.ovr"):
        assert f"error: {name}: not of this product" in shown.err


def test_a_layer_is_chosen_by_name_and_stands_in_the_settings(crgen, refused, fill, here):
    for name, shape in (
        ("draft", shapely.box(113.6, 34.7, 113.603, 34.703)),
        ("aoi", shapely.box(113.5, 34.7, 113.503, 34.703)),
    ):
        wkb = np.array([shapely.to_wkb(shape)], object)
        pyogrio.raw.write(
            "a.gpkg", wkb, [], [], layer=name, geometry_type="Polygon", crs="EPSG:4326", append=Path("a.gpkg").exists()
        )
    assert "choose one with --layer" in refused(3, *fill, "--aoi", "a.gpkg", "--out", "map.tif")
    assert "--layer x says which layer" in refused(2, *fill, "--layer", "x", "--out", "map.tif")
    assert crgen(*fill, "--aoi", "a.gpkg", "--layer", "aoi", "--out", "map.tif").code == 0
    item = json.loads((here / "map.json").read_text())
    assert item["properties"]["crgen:settings"]["layer"] == "aoi"
    assert crgen("fill", "--manifest", "map.json", "--weights", fill[-1], "--out", "again.tif").code == 0
    assert (here / "again.tif").read_bytes() == (here / "map.tif").read_bytes()


def test_an_item_with_a_byte_order_mark_is_repeated(crgen, fill, here):
    assert crgen(*fill, "--out", "map.tif").code == 0
    (here / "map.json").write_bytes(b"\xef\xbb\xbf" + (here / "map.json").read_bytes())
    outcome = crgen("fill", "--manifest", "map.json", "--weights", fill[-1], "--out", "again.tif")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("option", ["--aoi", "--source", "--out"])
def test_a_name_that_is_no_text_here_is_told_in_one_line(refused, fill, option):
    line = refused(2, *fill, option, os.fsdecode(b"k\xef\xe0.tif"))
    assert line.startswith("'k??.tif' holds letters that are no text in this terminal's encoding (utf-8): set LC_ALL")


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1251", marks=pytest.mark.slow)])
def test_a_terminal_that_knows_few_letters_gets_question_marks(fill, tmp_path, encoding):
    done = subprocess.run(
        [*COMMAND, *fill, "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"29 ? 34 = 986" in done.stdout


def test_a_user_without_a_home_keeps_things_where_he_says(monkeypatch, tmp_path):
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("CRGEN_CACHE", "CRGEN_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert home_cache() is None
    assert cache_folder() == SHIPPED
    with pytest.raises(Exception, match=r"no home folder .* set CRGEN_CACHE"):
        default_folder()
    monkeypatch.setenv("CRGEN_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "earthengine"
    assert cache_folder() == tmp_path / "weights"


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="another user can be had only as root")
def test_a_container_user_without_home_and_passwd_entry_makes_a_map(fill, tmp_path):
    folder = Path("/tmp") / f"crgen-nobody-{os.getpid()}"
    folder.mkdir()
    try:
        shutil.copy(fill[-1], folder / "tiny.safetensors")
        for path in (folder, folder / "tiny.safetensors"):
            os.chown(path, 54321, 54321)
        env = {k: v for k, v in os.environ.items() if k not in ("HOME", "USER", "LOGNAME")}
        words = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *COMMAND)
        done = subprocess.run(
            [*words, *fill[:-1], folder / "tiny.safetensors", "--out", "map.tif"],
            cwd=folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert (folder / "map.tif").exists()
    finally:
        shutil.rmtree(folder)


def test_the_area_of_these_tests_is_small():
    assert read_area(AREA).geobox.shape == (34, 29)
