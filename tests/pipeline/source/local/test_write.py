"""What is written of a stack comes back, line by line, whole or not at all."""

import json
import subprocess
import sys
import threading
import tracemalloc
import warnings
from datetime import date
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from crgen.errors import OutputError, RequestError
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.stack import build_stack, is_calibrated, manifest_of, stack_geobox
from tests.pipeline.source.local.stacks import FORMATS, assert_same_pixels, make_stack


@settings(max_examples=6, deadline=None)
@given(
    st.integers(0, 1000),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.sampled_from(["EPSG:32649", "EPSG:32733", "EPSG:3857"]),
    st.sets(st.sampled_from(["s2_t2", "clear_t1", "clear_t2", "truth_t2"])),
    st.sets(st.dates(date(2019, 1, 1), date(2021, 7, 1)), max_size=3),
)
def test_every_format_returns_the_same_bytes_grid_and_manifest(tmp_path_factory, seed, shape, crs, optional, past):
    grid = GeoBox(shape, Affine(10, 0, 400_000 + 10 * seed, 0, -10, 3_845_000.5), crs)
    stack = make_stack(grid, seed, ("s1_t1", "s2_t1", "s1_t2", *sorted(optional)), sorted(past))
    for name in FORMATS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="Use `@` matmul")
            path = write_stack(stack, tmp_path_factory.mktemp("trip") / name)
            back = open_stack(path, chunk=32)
            assert_same_pixels(back, stack)
            assert not past or (back.time.values == stack.time.values).all()
        assert stack_geobox(back) == grid
        assert list(back.band.values) == ["B3", "B8A", "B11"]
        assert manifest_of(back)["stored"] == manifest_of(stack)
        assert manifest_of(back) | {"source": "local", "path": name, "t1": "2021-07-10"} == manifest_of(back)


@pytest.mark.parametrize("name", FORMATS)
def test_digital_numbers_come_back_as_they_were(tmp_path, name):
    """Every one up to 2.0, which Earth Engine sends as an integer; other readers find the scale where they look."""
    grid = GeoBox((142, 142), Affine(10, 0, 735_000, 0, -10, 3_845_000), "EPSG:32649")
    stack = make_stack(grid, times=[date(2021, 6, 20)])
    numbers = np.arange(142 * 142).reshape(grid.shape) + np.arange(3)[:, None, None]
    reflectance = np.where(numbers > 20_000, np.float32(np.nan), numbers.astype("float32") * np.float32(1e-4))
    for one in ("s2_t1", "s2_t2", "truth_t2", "s2_past"):
        stack[one] = stack[one].copy(data=np.broadcast_to(reflectance, stack[one].shape))
    path = write_stack(stack, tmp_path / name, dtype="uint16")
    assert_same_pixels(open_stack(path), stack)
    if name == "stack":
        other = rioxarray.open_rasterio(path / "s2_t1.tif", mask_and_scale=True)
        for one, held in (("s2_t1", "uint16"), ("s2_past_2021-06-20", "uint16"), ("s1_t1", "float32")):
            with rasterio.open(path / f"{one}.tif") as file:
                assert set(file.dtypes) == {held}
    else:
        other = xr.open_dataset(path).s2_t1
        assert other.encoding["dtype"] == "uint16"
    np.testing.assert_allclose(other.values, stack.s2_t1.values, rtol=1e-6)


def test_reflectance_that_no_digital_number_holds_becomes_the_nearest(tmp_path):
    stack = make_stack()
    stack["s2_t1"][0, 30:34, 30] = [-0.01, 0.12344, 0.12346, 5.0]
    back = open_stack(write_stack(stack, tmp_path / "stack", dtype="uint16"))
    np.testing.assert_allclose(back.s2_t1[0, 30:34, 30], [0, 0.1234, 0.1235, 5.0], rtol=1e-6)
    with pytest.raises(RequestError, match="not stored as 'int16'; choose from float32, uint16"):
        write_stack(stack, tmp_path / "other", dtype="int16")
    assert not (tmp_path / "other").exists()


def test_opening_reads_nothing_and_writing_holds_few_chunks(tmp_path):
    big = GeoBox((4096, 4096), Affine(10, 0, 0, 0, -10, 0), "EPSG:32649")
    layers = {"s1_t1": 2, "s1_t2": 2, "s2_t1": 1}
    arrays = {
        n: da.full((c, *big.shape), -9.0 if n < "s2" else 0.2, dtype="float32", chunks=1024) for n, c in layers.items()
    }
    stack = build_stack(big, arrays, pols=["VV", "VH"], bands=["B3"], manifest={})
    whole = sum(a.nbytes for a in arrays.values())
    tracemalloc.start()
    path = write_stack(stack, tmp_path / "big")
    opened = open_stack(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert opened.s1_t1.data.chunksize == (2, 1024, 1024)
    assert peak < whole / 4


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("calibrated", [True, False])
def test_whether_radar_is_calibrated_comes_back(tmp_path, name, calibrated):
    grid = GeoBox((8, 8), Affine(10, 0, 0, 0, -10, 0), "EPSG:32649")
    arrays = {n: np.full((1, 8, 8), -9.0 if n < "s2" else 0.2, np.float32) for n in ("s1_t1", "s1_t2", "s2_t1")}
    manifest = {"t1": "2021-07-10"}
    stack = build_stack(grid, arrays, pols=["VV"], bands=["B3"], manifest=manifest, calibrated=calibrated)
    back = open_stack(write_stack(stack, tmp_path / name))
    assert is_calibrated(back.attrs) is is_calibrated(stack.attrs) is calibrated
    assert manifest_of(back)["stored"] == manifest


@pytest.mark.parametrize("name", ["stack.zarr", "stack"])
def test_a_line_of_chunks_is_written_before_the_next_is_read(tmp_path, name):
    """What comes from a network is then written as it comes, and nothing is left to write after the last of it."""
    grid = GeoBox((3 * 1024, 2048), Affine(10, 0, 0, 0, -10, 0), "EPSG:32649")
    lines: list[int] = []
    lock = threading.Lock()

    def read(block_info) -> np.ndarray:
        with lock:
            lines.append(block_info[None]["chunk-location"][1])
        return np.full(block_info[None]["chunk-shape"], 0.2, np.float32)

    arrays = {
        name: da.map_blocks(read, chunks=((1,), (1024,) * 3, (1024,) * 2), dtype=np.float32, name=name)
        for name in ("s1_t1", "s1_t2", "s2_t1")
    }
    write_stack(build_stack(grid, arrays, pols=["VV"], bands=["B3"], manifest={}), tmp_path / name)
    assert lines == sorted(lines)
    assert len(lines) == 18


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_half_written_is_left_when_writing_fails(tmp_path, name):
    # A file size limit stands in for a full disk: the same calls fail, with EFBIG for ENOSPC.
    script = f"""
import resource, signal, sys
from pathlib import Path
from odc.geo.geobox import GeoBox
from affine import Affine
from tests.pipeline.source.local.stacks import make_stack
from crgen.errors import OutputError
from crgen.pipeline.source.local.write import write_stack
stack = make_stack(GeoBox((400, 400), Affine(10, 0, 0, 0, -10, 0), "EPSG:32649"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_stack(stack, {str(tmp_path / name)!r})
except OutputError as exc:
    print(exc)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[4],
    )
    assert f"cannot write '{tmp_path / name}'" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    folder = write_stack(make_stack(), tmp_path / "stack")
    before = json.loads((folder / "manifest.json").read_text())
    with pytest.raises(OutputError, match="exists already"):
        write_stack(make_stack(seed=1), folder)
    assert json.loads((folder / "manifest.json").read_text()) == before
