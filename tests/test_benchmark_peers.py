"""What the race beside geedim and xee counts as the same pixels, on small made results."""

from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from affine import Affine

from benchmarks.peers.outcome import different, of_geedim, of_xee

IMAGES = {
    "s1_t1": [("scene", ["VV", "VH"], False)],
    "s1_t2": [("other", ["VV", "VH"], False)],
    "s2_t1": [("optical", ["B2"], False), ("optical", ["B11"], True)],
}
POWER = np.array([[[0.1, 1e-9], [1.0, np.nan]]], "f4")
"""A value, one below every floor, another value, none."""
IN_DB = {"VV": [[-10, -30], [0, np.nan]], "VH": [[-10, -35], [0, np.nan]]}
NUMBERS = np.array([[[1000, 0], [20_000, 1]]], "f4")


def write(path: Path, values: np.ndarray, nodata: float) -> None:
    profile = {"driver": "GTiff", "width": 2, "height": 2, "count": len(values), "dtype": values.dtype}
    with rasterio.open(path, "w", **profile, nodata=nodata, transform=Affine(10, 0, 0, 0, -10, 0)) as out:
        out.write(values)


def check(planes: dict[str, np.ndarray]) -> None:
    for name in ("s1_t1", "s1_t2"):
        np.testing.assert_allclose(planes[name], [IN_DB["VV"], IN_DB["VH"]], atol=1e-5)
    np.testing.assert_array_equal(planes["s2_t1"], np.repeat(NUMBERS * np.float32(1e-4), 2, axis=0))


def test_files_and_stores_of_the_peers_become_the_units_of_a_stack(tmp_path: Path) -> None:
    radar = np.repeat(np.nan_to_num(POWER, nan=-np.inf), 2, axis=0)
    optical = np.repeat(NUMBERS, 2, axis=0)
    for name in ("s1_t1", "s1_t2"):
        write(tmp_path / f"{name}.tif", radar, -np.inf)
    write(tmp_path / "s2_t1.tif", optical, -np.inf)
    check(of_geedim(tmp_path, IMAGES))
    (tmp_path / "one").mkdir()
    write(tmp_path / "one" / "all.tif", np.concatenate([radar, radar, optical]), -np.inf)
    check(of_geedim(tmp_path / "one", IMAGES))
    dims = ("time", "y", "x")
    twice = np.repeat(POWER, 2, axis=0)
    xr.Dataset({"VV": (dims, twice), "VH": (dims, twice)}).to_zarr(tmp_path / "VV-VH.zarr")
    for band in ("B2", "B11"):
        xr.Dataset({band: (dims, NUMBERS)}).to_zarr(tmp_path / f"{band}.zarr")
    check(of_xee(tmp_path, IMAGES))


def test_results_that_differ_are_told_by_variable() -> None:
    one = {"s1_t1": np.array([[[-10.0, np.nan]]], "f4"), "s2_t1": np.array([[[0.1, 0.2]]], "f4")}
    assert different(one, {name: values.copy() for name, values in one.items()}) == ""
    rounded = {**one, "s1_t1": one["s1_t1"] + np.float32(1e-4)}
    assert different(one, rounded) == ""
    other = {"s1_t1": np.array([[[-10.0, -12.0]]], "f4"), "s2_t1": one["s2_t1"] + np.float32(1e-4)}
    told = "s1_t1: 50.00% of values missing in one alone; s2_t1: 100.00% of values differ, by up to 0.0001"
    assert different(one, other) == told
