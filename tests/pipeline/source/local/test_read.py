"""Stacks on disk: what is written comes back, units are checked, damage is told in one line."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.errors import StackError
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.stack import build_stack, manifest_of, stack_geobox
from tests.pipeline.source.local.stacks import FORMATS, GRID, assert_same_pixels, make_stack
from tests.realdata import REAL_DATA, needs_real_data, real_stacks


def edit_tiff(path: Path, change=lambda values: values, **profile) -> None:
    with rasterio.open(path) as file:
        values, descriptions, old = file.read(), file.descriptions, file.profile
    values = change(values)
    new = {**old, "predictor": 1, "dtype": values.dtype.name, "count": len(values), **profile}
    with rasterio.open(path, "w", **new) as file:
        file.write(values)
        if len(values) == len(descriptions):
            file.descriptions = descriptions


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_stack(make_stack(), tmp_path / "stack")


@pytest.mark.parametrize("name", FORMATS)
def test_the_callers_grid_on_the_same_lattice_crops_and_pads_to_the_pixel(tmp_path, name):
    stack = make_stack()
    path = write_stack(stack, tmp_path / name)
    # 20 columns beyond the east, 10 rows beyond the north.
    wanted = GeoBox((50, 60), Affine(10, 0, 735_000 + 500, 0, -10, 3_845_000 + 100), "EPSG:32649")
    got = open_stack(path, geobox=wanted, chunk=16).compute()
    assert stack_geobox(got) == wanted
    inside = got.s2_t1.values[:, 10:, :40]
    assert inside.tobytes() == stack.s2_t1.values[:, :40, 50:].tobytes()
    assert np.isnan(got.s2_t1.values[:, :10]).all()
    assert np.isnan(got.s2_t1.values[:, :, 40:]).all()
    assert np.isnan(got.clear_t1.values[:10]).all()


def ramp_stack(grid: GeoBox) -> xr.Dataset:
    """A stack whose values are a linear function of position."""
    x, y = np.meshgrid(grid.coords["x"].values, grid.coords["y"].values)
    ramp = ((x - 735_000) / 2000 + (3_845_000 - y) / 4000).astype("float32")
    arrays = {"s1_t1": ramp[None] - 20, "s1_t2": ramp[None] - 20, "s2_t1": ramp[None]}
    return build_stack(grid, arrays, pols=["VV"], bands=["B3"], manifest={})


@pytest.mark.parametrize("crs", ["EPSG:32649", "EPSG:32650"])
def test_another_grid_is_sampled_at_exact_places_whatever_the_chunks(tmp_path, crs):
    path = write_stack(ramp_stack(GRID), tmp_path / "stack.zarr")
    wanted = (
        GeoBox((60, 70), Affine(10, 0, 735_103.7, 0, -10, 3_844_951.2), crs)
        if crs == "EPSG:32649"
        else GeoBox.from_geopolygon(GRID.extent.to_crs(crs).buffer(-100), 10, crs)
    )
    got = open_stack(path, geobox=wanted, chunk=17).compute()
    x, y = np.meshgrid(wanted.coords["x"].values, wanted.coords["y"].values)
    if crs != "EPSG:32649":
        from pyproj import Transformer

        x, y = Transformer.from_crs(crs, "EPSG:32649", always_xy=True).transform(x, y)
    exact = (x - 735_000) / 2000 + (3_845_000 - y) / 4000
    west, south, east, north = GRID.boundingbox
    deep = (x > west + 10) & (x < east - 10) & (y > south + 10) & (y < north - 10)
    outside = (x < west) | (x > east) | (y < south) | (y > north)
    assert deep.mean() > 0.7
    assert np.abs(got.s2_t1.values[0] - exact)[deep].max() < 1e-5
    assert np.isnan(got.s2_t1.values[0][outside]).all()
    assert_same_pixels(got, open_stack(path, geobox=wanted, chunk=64).compute())


def test_a_hole_stays_a_hole_when_resampled(tmp_path):
    stack = ramp_stack(GRID)
    stack.s2_t1[:, 20:30, 20:30] = np.nan
    path = write_stack(stack, tmp_path / "stack.zarr")
    fine = GeoBox((140, 180), Affine(5, 0, 735_000, 0, -5, 3_845_000), "EPSG:32649")
    hole = np.isnan(open_stack(path, geobox=fine).s2_t1.values[0])
    assert hole[40:60, 40:60].all()
    assert hole.sum() == 400


def test_a_stack_elsewhere_is_not_padded_into_emptiness(folder):
    with pytest.raises(StackError, match="lies elsewhere"):
        open_stack(folder, geobox=GeoBox((50, 50), Affine(10, 0, 300_000, 0, -10, 3_845_000), "EPSG:32649"))


def test_integers_and_their_nodata_become_float_and_nan(folder):
    expected = make_stack().s2_t1.values
    edit_tiff(
        folder / "s2_t1.tif",
        lambda v: np.nan_to_num(v * 1e4, nan=65535).round().astype("uint16"),
        nodata=65535,
    )
    with pytest.raises(StackError, match=r"looks like DN .*--s2-scale 1e-4"):
        open_stack(folder)
    for name in ("s2_t2", "truth_t2"):
        (folder / f"{name}.tif").unlink()
    scaled = open_stack(folder, s2_scale=1e-4).s2_t1.values
    assert scaled.dtype == np.float32
    assert (np.isnan(scaled) == np.isnan(expected)).all()
    assert np.nanmax(np.abs(scaled - expected)) < 1e-4


def test_linear_power_is_named_and_converted_when_told(folder):
    expected = make_stack().s1_t1.values
    for name in ("s1_t1", "s1_t2"):
        edit_tiff(folder / f"{name}.tif", lambda v: 10 ** (v / 10))
    with pytest.raises(StackError, match=r"looks like linear power .*--s1-units linear"):
        open_stack(folder)
    got = open_stack(folder, s1_units="linear").s1_t1.values
    assert np.allclose(got, expected, atol=1e-4, equal_nan=True)


UNITS = {
    "8-bit reflectance": ("s2_t1", lambda v: v * 255, "looks like DN"),
    "reflectance of dark DN": ("s2_t1", lambda v: v * 1500, "looks like DN"),
    "radar DN": ("s1_t2", lambda v: v + 300, "does not look like backscatter in dB"),
    "radar nodata": ("s1_t1", lambda v: np.where(np.isnan(v), -9999, v), "undeclared nodata"),
    "clear in percent": ("clear_t1", lambda v: v * 100, "score from 0 to 1"),
}


@pytest.mark.parametrize("case", UNITS)
def test_values_in_other_units_are_named_not_guessed(folder, case):
    name, change, words = UNITS[case]
    edit_tiff(folder / f"{name}.tif", lambda v: change(v).astype("float32"))
    with pytest.raises(StackError, match=words) as refusal:
        open_stack(folder)
    assert name in str(refusal.value)


def test_wrong_unit_options_are_named_too(folder):
    with pytest.raises(StackError, match="not linear power"):
        open_stack(folder, s1_units="linear")
    with pytest.raises(StackError, match=r"reflectance already .*--s2-scale 0\.0001 is wrong"):
        open_stack(folder, s2_scale=1e-4)
    edit_tiff(folder / "s2_t1.tif", lambda v: v * 100)
    with pytest.raises(StackError, match="nearly black"):
        open_stack(folder, s2_scale=1e-6)


def test_missing_values_in_the_sample_are_no_alarm(folder):
    for name in ("s1_t2", "s2_t1"):
        edit_tiff(folder / f"{name}.tif", lambda v: np.full_like(v, np.nan))
    assert np.isnan(open_stack(folder).s1_t2.values).all()


def test_dates_come_from_the_manifest_and_must_agree_with_it(folder):
    assert manifest_of(open_stack(folder, t1="2021-07-10"))["t2"] == "2021-07-22"
    with pytest.raises(StackError, match=r"t2 = 2021-07-22 but 2021-08-01 was asked for"):
        open_stack(folder, t2="2021-08-01")


GRIDS = {
    "another place": ({"transform": Affine(10, 0, 735_005, 0, -10, 3_845_000)}, "transforms"),
    "another CRS": ({"crs": "EPSG:32650"}, "CRS EPSG:32649 and EPSG:32650"),
    "no CRS": ({"crs": None}, "no CRS"),
}


@pytest.mark.parametrize("case", GRIDS)
def test_files_on_different_grids_are_named(folder, case):
    profile, words = GRIDS[case]
    edit_tiff(folder / "s2_t1.tif", **profile)
    with pytest.raises(StackError, match=words) as refusal:
        open_stack(folder)
    assert "s2_t1.tif" in str(refusal.value)


def damage(folder: Path, case: str) -> None:
    s2 = folder / "s2_t1.tif"
    if case == "missing file":
        s2.unlink()
    elif case == "empty folder":
        for file in folder.iterdir():
            file.unlink()
    elif case == "not a tiff":
        s2.write_text("hello")
    elif case == "unnamed bands":
        edit_tiff(s2, lambda v: v[:2])
    elif case == "unknown band":
        with rasterio.open(s2, "r+") as file:
            file.descriptions = ["B3", "B8A", "B99"]
        (folder / "s2_t2.tif").unlink()
        (folder / "truth_t2.tif").unlink()
    elif case == "other bands":
        with rasterio.open(s2, "r+") as file:
            file.descriptions = ["B3", "B8A", "B12"]
    elif case == "bad manifest":
        (folder / "manifest.json").write_text("{")
    elif case == "no date":
        (folder / "manifest.json").write_text('{"t1": "06/01/2021"}')


DAMAGED = {
    "missing file": "lacks s2_t1.tif",
    "empty folder": "no GeoTIFF",
    "not a tiff": "cannot be opened",
    "unnamed bands": "does not say what its bands are",
    "unknown band": "'B99'",
    "other bands": "s2_t1.tif holds B3, B8A, B12 but s2_t2.tif holds B3, B8A, B11",
    "bad manifest": "manifest.json",
    "no date": "t1 is no date .06/01/2021",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_broken_folder_is_told_in_one_line(folder, case):
    damage(folder, case)
    with pytest.raises(StackError, match=DAMAGED[case]) as refusal:
        open_stack(folder)
    assert "\n" not in str(refusal.value)


def test_opening_reads_no_more_than_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("crgen.pipeline.source.local.write.CHUNK", 16)
    monkeypatch.setattr("crgen.pipeline.source.local.units.SAMPLE", 4)
    path = write_stack(make_stack(), tmp_path / "stack.zarr")
    (path / "s1_t1" / "0.0.0").write_bytes(b"?")
    stack = open_stack(path)
    with pytest.raises(StackError, match="damaged"):
        stack.s1_t1.compute()


@pytest.mark.parametrize("name", FORMATS)
def test_a_truncated_stack_is_told_in_one_line_when_opened_or_read(tmp_path, name):
    path = write_stack(make_stack(), tmp_path / name)
    victim = {"stack.zarr": path / "s1_t1" / "0.0.0", "stack": path / "s1_t1.tif"}.get(name, path)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size * 2 // 3])
    with pytest.raises(StackError, match=r"damaged|complete") as refusal:
        open_stack(path).s1_t1.compute()
    assert "\n" not in str(refusal.value)


def test_other_things_are_not_stacks(tmp_path):
    with pytest.raises(StackError, match="no stack at"):
        open_stack(tmp_path / "nowhere.zarr")
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(StackError, match="not a stack"):
        open_stack(tmp_path / "picture.png")
    (tmp_path / "broken.nc").write_bytes(b"CDF")
    with pytest.raises(StackError, match=r"broken\.nc' cannot be opened"):
        open_stack(tmp_path / "broken.nc")
    (tmp_path / "broken.zarr").mkdir()
    (tmp_path / "broken.zarr" / "zarr.json").write_text("{")
    with pytest.raises(StackError, match=r"broken\.zarr' cannot be opened"):
        open_stack(tmp_path / "broken.zarr")
    make_stack().drop_vars("s1_t2").to_netcdf(tmp_path / "less.nc")
    with pytest.raises(StackError, match="lacks the variables s1_t2"):
        open_stack(tmp_path / "less.nc")


@needs_real_data
@pytest.mark.parametrize("name", real_stacks.PAIRS)
def test_real_imagery_keeps_its_place_and_looks_plausible(tmp_path, name):
    made = real_stacks.PAIRS[name](REAL_DATA)
    stack = open_stack(write_stack(made, tmp_path / "stack")).compute()
    assert_same_pixels(stack, made)
    if not name.startswith("finland"):
        kind = "S2_L2A_10m_*" if name.startswith("dates") else "worldcereal_pre*"
        with xr.open_dataset(next((REAL_DATA / "worldcereal").glob(kind))) as source:
            for axis in ("x", "y"):
                assert np.abs(stack[axis].values - source[axis].values).max() < 0.01 * 10
    assert -15 < np.nanmedian(stack.s1_t2.sel(pol="VV")) < -5
    assert -25 < np.nanmedian(stack.s1_t2.sel(pol="VH")) < -10
    clear = stack.truth_t2 if "truth_t2" in stack else stack.s2_t1
    assert np.nanmin(clear) >= 0
    assert (clear == 0).mean() < 0.001, "only the darkest water reads zero"
    assert np.nanmedian(clear.sel(band="B8")) > 2 * np.nanmedian(clear.sel(band="B4"))
    assert 0.1 < np.nanmedian(clear.sel(band="B8")) < 0.6


@needs_real_data
def test_the_pairs_show_what_their_names_say():
    gap = real_stacks.PAIRS["months_without_optical_t1"](REAL_DATA)
    assert np.isnan(gap.s2_t1).all()
    assert not np.isnan(gap.truth_t2).any()
    for name, when in (
        ("dates_clouds_at_t1", "t1"),
        ("dates_clouds_at_t2", "t2"),
        ("finland_clouds_at_t2", "t2"),
    ):
        stack = real_stacks.PAIRS[name](REAL_DATA)
        cloudy = stack[f"clear_{when}"].values < 0.3
        blue = stack[f"s2_{when}"].sel(band="B2").values
        assert 0.1 < cloudy.mean() < 0.7
        assert blue[cloudy].mean() > 1.5 * blue[~cloudy].mean()


def test_a_folder_says_the_days_of_its_past_in_its_file_names(tmp_path):
    days = [date(2020, 7, 15), date(2021, 6, 1)]
    stack = make_stack(times=days)
    folder = write_stack(stack, tmp_path / "stack")
    (folder / "s1_past_2021-06-01.tif").rename(folder / "s1_past_2021-05-29.tif")
    (folder / "clear_past_2020-07-15.tif").unlink()
    opened = open_stack(folder)
    assert [str(day)[:10] for day in opened.time.values] == ["2020-07-15", "2021-06-01"]
    assert np.array_equal(opened.s1_past, stack.s1_past, equal_nan=True)
    assert np.isnan(opened.clear_past[0]).all()
    assert np.array_equal(opened.clear_past[1], stack.clear_past[1], equal_nan=True)
    (folder / "s2_past_2020-07-15.tif").rename(folder / "s2_past_summer.tif")
    with pytest.raises(StackError, match=r"s2_past_summer.tif' does not say its day: name it s2_past_YYYY-MM-DD.tif"):
        open_stack(folder)


def test_a_past_in_any_order_is_read_in_order_and_one_without_dates_is_refused(tmp_path):
    stack = make_stack(times=[date(2020, 7, 15), date(2021, 6, 1)])
    stack.isel(time=[1, 0]).to_zarr(tmp_path / "turned.zarr", zarr_format=2)
    assert_same_pixels(open_stack(tmp_path / "turned.zarr"), stack)
    stack.assign_coords(time=[1, 2]).to_zarr(tmp_path / "numbered.zarr", zarr_format=2)
    with pytest.raises(StackError, match="'time' does not hold dates"):
        open_stack(tmp_path / "numbered.zarr")
    stack.isel(time=[0, 0]).to_zarr(tmp_path / "twice.zarr", zarr_format=2)
    with pytest.raises(StackError, match="2020-07-15 twice"):
        open_stack(tmp_path / "twice.zarr")
