"""The same scene as people really hold it: laid out, encoded and named in other ways. It opens as the plain one, or one
clear line says why not."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

import crgen
from crgen.errors import RequestError, StackError
from crgen.gee.fetch.images import FLOOR
from crgen.pipeline.source.local import units
from crgen.pipeline.source.local.lazy_raster import MEASURABLE
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.stack import build_stack, manifest_of, stack_geobox
from tests.pipeline.source.local.stacks import GRID, assert_same_pixels, make_stack

NAMES = ("s1_t1", "s1_t2", "s2_t1", "s2_t2", "clear_t2")
BANDS = ["B3", "B8A", "B11"]


def scene() -> xr.Dataset:
    """Numbers that survive storing as digital numbers: reflectance in 1e-4, backscatter in hundredths of a dB."""
    stack = make_stack(names=NAMES)
    for name in NAMES:
        digits = 2 if name.startswith("s1") else 4
        stack[name].values[:] = np.maximum(stack[name].values.round(digits), 1e-4 if digits == 4 else -99)
    return stack


def opened(path: Path, **options) -> xr.Dataset:
    return open_stack(path, chunk=32, **options).compute()


def assert_close(got: xr.Dataset, wanted: xr.Dataset) -> None:
    assert set(got.data_vars) == set(wanted.data_vars)
    assert stack_geobox(got) == stack_geobox(wanted)
    for name in wanted.data_vars:
        np.testing.assert_allclose(
            got[name].values, wanted[name].values, atol=2e-3 if name < "s2" else 2e-6, err_msg=name
        )


def write_tiff(path: Path, values: np.ndarray, bands: list[str], **profile) -> None:
    plain = {"driver": "GTiff", "count": len(values), "height": GRID.shape.y, "width": GRID.shape.x}
    place = {"crs": str(GRID.crs), "transform": GRID.affine, "dtype": values.dtype.name}
    with rasterio.open(path, "w", **{**plain, **place, **profile}) as file:
        file.write(values)
        file.descriptions = bands


def refused(path: Path, words: str, **options) -> None:
    with pytest.raises(StackError, match=words) as refusal:
        opened(path, **options)
    assert "\n" not in str(refusal.value)


def without_statement(stack: xr.Dataset) -> xr.Dataset:
    """Take the transform off, as slicing and sorting leave a file that never had one."""
    stack = stack.copy()
    stack["spatial_ref"].attrs = {k: v for k, v in stack.spatial_ref.attrs.items() if k != "GeoTransform"}
    return stack


def stored(tmp_path: Path, stack: xr.Dataset, name: str) -> Path:
    path = tmp_path / name
    if name.endswith(".zarr"):
        stack.drop_encoding().to_zarr(path, zarr_format=2)
    else:
        stack.drop_encoding().to_netcdf(path)
    return path


# Georeferencing


UNEVEN = {
    "rows missing": lambda s: s.isel(y=[*range(30), *range(41, 70)]),
    "columns missing": lambda s: s.isel(x=[*range(30), *range(31, 90)]),
    "a row twice": lambda s: s.isel(y=[*range(30), 29, *range(30, 70)]),
    "columns swapped": lambda s: s.isel(x=[0, 1, 3, 2, *range(4, 90)]),
    "mixed spacing": lambda s: s.isel(y=[*range(0, 40, 2), *range(40, 70)]),
    "spacing that grows": lambda s: s.assign_coords(x=s.x + 0.001 * np.arange(90) ** 2),
    "a place that is none": lambda s: s.assign_coords(y=np.where(np.arange(70) == 3, np.nan, s.y)),
}


@pytest.mark.parametrize("name", ["stack.nc", "stack.zarr"])
@pytest.mark.parametrize("case", UNEVEN)
def test_uneven_coordinates_are_refused_naming_the_axis(tmp_path, name, case):
    path = stored(tmp_path, UNEVEN[case](without_statement(scene())), name)
    axis = "x" if "column" in case or "grows" in case else "y"
    refused(path, f"coordinate {axis} (is not even.*(steps of|steps go)|has values that are not finite)")


@pytest.mark.parametrize("name", ["stack.nc", "stack.zarr"])
def test_rows_that_run_north_and_columns_that_run_west_are_turned(tmp_path, name):
    for turned in ({"y": slice(None, None, -1)}, {"x": slice(None, None, -1), "y": slice(None, None, -1)}):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).unlink(missing_ok=True)
        assert_same_pixels(opened(stored(tmp_path, scene().isel(turned), name)), scene())


def test_a_geotiff_whose_rows_run_north_is_turned(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    for name in NAMES:
        with rasterio.open(folder / f"{name}.tif") as file:
            values, bands = file.read(), list(file.descriptions)
        south_up = GRID.affine * Affine.translation(0, GRID.shape.y) * Affine.scale(1, -1)
        write_tiff(folder / f"{name}.tif", values[:, ::-1], bands, transform=south_up)
    assert_same_pixels(opened(folder), scene())


STATED = {
    "another place": ("GeoTransform", "735200 10 0 3845000 0 -10", "20 columns apart"),
    "a slice's whole": ("GeoTransform", "735000 10 0 3845100 0 -10", "10 rows apart"),
    "corners": ("GeoTransform", "735005 10 0 3844995 0 -10", r"0\.5 columns apart .*corners"),
    "another pixel": ("GeoTransform", "735000 20 0 3845000 0 -20", "apart"),
    "rotated": ("GeoTransform", "735000 10 1 3845000 1 -10", "rotated"),
    "stackstac's": ("transform", [10.0, 0.0, 735005.0, 0.0, -10.0, 3844995.0], "corners"),
    "SNAP's": ("i2m", "10.0,0.0,0.0,-10.0,735500.0,3845000.0", "50 columns apart"),
    "no numbers": ("GeoTransform", "here", "not six numbers"),
}


@pytest.mark.parametrize("case", STATED)
def test_a_stated_transform_that_contradicts_the_coordinates_is_refused(tmp_path, case):
    key, value, words = STATED[case]
    stack = without_statement(scene())
    stack["spatial_ref"].attrs[key] = value
    refused(stored(tmp_path, stack, "stack.nc"), words)


def test_what_is_stated_lays_out_an_array_without_coordinates(tmp_path):
    path = stored(tmp_path, scene().drop_vars(["x", "y"]), "stack.nc")
    assert_same_pixels(opened(path), scene())
    assert stack_geobox(opened(path)) == GRID
    refused(stored(tmp_path, without_statement(scene()).drop_vars(["x", "y"]), "nowhere.nc"), "on no grid")


CRS = {
    "another beside it": lambda s: s.assign_attrs(crs="EPSG:32650"),
    "an epsg of stackstac": lambda s: s.assign_coords(epsg=32650),
}


@pytest.mark.parametrize("case", CRS)
def test_two_crss_are_refused_by_their_short_names(tmp_path, case):
    refused(stored(tmp_path, CRS[case](scene()), "stack.nc"), r"two CRSs: EPSG:32649 .* and EPSG:32650")


@pytest.mark.parametrize("said", ["no_projection", "albers_conical_equal_area"])
def test_a_grid_mapping_that_is_unknown_or_lacks_numbers_is_refused(tmp_path, said):
    stack = scene()
    stack["spatial_ref"].attrs = {"grid_mapping_name": said}
    refused(stored(tmp_path, stack, "stack.nc"), f"CRS of spatial_ref is none .*{said}")


def test_a_manifest_that_is_no_table_says_nothing(tmp_path):
    for i, text in enumerate(("null", "[1]", '"x"')):
        path = stored(tmp_path, scene().assign_attrs(manifest=text), f"{i}.nc")
        assert "stored" not in manifest_of(opened(path))


def test_a_crs_is_found_where_catalogues_and_snap_write_it(tmp_path):
    bare = scene().drop_vars("spatial_ref")
    for name in NAMES:
        bare[name].attrs.clear()
        bare[name].encoding.clear()
    refused(stored(tmp_path, bare, "none.nc"), "states no CRS")
    snap = bare.assign(crs=((), 0, {"wkt": GRID.crs.to_wkt(), "i2m": "10,0,0,-10,735000,3845000"}))
    for i, stack in enumerate((bare.assign_coords({"proj:epsg": 32649}), bare.assign_attrs(crs="epsg:32649"), snap)):
        got = opened(stored(tmp_path, stack, f"{i}.nc"))
        assert_same_pixels(got, scene())
        assert stack_geobox(got) == GRID


# Numbers


def write_folder(folder: Path, **of_optical) -> Path:
    """Write the scene's radar plainly, and its optical images as digital numbers."""
    write_stack(scene(), folder)
    for name in ("s2_t1", "s2_t2"):
        write_optical(folder / f"{name}.tif", scene()[name].values, **of_optical)
    return folder


def write_optical(
    path: Path,
    values: np.ndarray,
    *,
    dtype: str = "uint16",
    scale=1e-4,
    offset=0.0,
    nodata: float | None = 65535,
    declared: bool = True,
    tagged: bool = True,
    mask: bool = False,
    alpha: bool = False,
    hole: float | None = None,
) -> None:
    scales, offsets = (np.broadcast_to(v, 3)[:, None, None] for v in (scale, offset))
    gone = np.isnan(values)
    if mask or alpha:
        gone = gone.any(axis=0)
    numbers = np.where(gone, 0 if nodata is None else nodata, ((values - offsets) / scales).round())
    numbers = numbers.astype(dtype)
    names = list(BANDS)
    if alpha:
        numbers, names = np.concatenate([numbers, np.where(gone, 0, 255)[None].astype(dtype)]), [*BANDS, "alpha"]
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_tiff(path, numbers, names, **({"nodata": nodata} if declared else {}))
        with rasterio.open(path, "r+") as file:
            if tagged:
                file.scales = [*scales.ravel(), *[1.0] * alpha]
                file.offsets = [*offsets.ravel(), *[0.0] * alpha]
            if mask:
                file.write_mask(np.where(gone, 0, 255).astype("uint8"))
            if alpha:
                file.colorinterp = [*[ColorInterp.undefined] * 3, ColorInterp.alpha]


def whole_pixels(stack: xr.Dataset) -> xr.Dataset:
    """A mask leaves out a pixel in all bands."""
    for name in ("s2_t1", "s2_t2"):
        stack[name].values[:, np.isnan(stack[name].values).any(axis=0)] = np.nan
    return stack


def test_scale_and_offset_of_a_geotiff_are_applied_to_each_band(tmp_path):
    assert_close(opened(write_folder(tmp_path / "harmonised")), scene())
    assert_close(opened(write_folder(tmp_path / "baseline 4", offset=-0.1)), scene())
    mixed = {"scale": [1e-4, 2e-4, 1e-4], "offset": [-0.1, 0.0, 0.0]}
    got = opened(write_folder(tmp_path / "mixed", **mixed))
    np.testing.assert_allclose(got.s2_t1.values, scene().s2_t1.values, atol=1.01e-4)


@pytest.mark.parametrize("how", ["mask", "alpha"])
def test_masks_and_alpha_bands_leave_out_what_they_say_also_beside_a_nodata_value(tmp_path, how):
    for number, declared in ((0, False), (20000, True)):
        folder = write_folder(tmp_path / f"{how}{number}", nodata=number, declared=declared, **{how: True})
        assert_close(opened(folder), whole_pixels(scene()))


def test_an_offset_without_tags_is_an_option_and_the_advice_names_it(tmp_path):
    folder = write_folder(tmp_path / "stack", offset=-0.1, tagged=False)
    refused(folder, r"--s2-scale 1e-4; .*baseline 04\.00\): .*--s2-offset -0\.1")
    assert_close(opened(folder, s2_scale=1e-4, s2_offset=-0.1), scene())
    with pytest.raises(RequestError, match=r"-0\.1 for -1000"):
        crgen.fill(source=str(folder), s2_scale=1e-4, s2_offset=-1000)


def test_percent_and_eight_bits_are_both_named_where_both_can_be(tmp_path):
    folder = write_folder(tmp_path / "percent", scale=0.01, tagged=False, dtype="float32", nodata=-9999)
    refused(folder, r"--s2-scale 0\.01 if they are percent, --s2-scale 0\.0039 .* 8 bits")
    got = opened(folder, s2_scale=0.01)
    np.testing.assert_allclose(got.s2_t1.values, scene().s2_t1.values, atol=0.0051)
    refused(
        write_folder(tmp_path / "bytes", scale=1 / 250, tagged=False, dtype="uint8", nodata=255), "0.0039 .* 8 bits"
    )


def test_a_scale_over_what_is_reflectance_already_is_refused(tmp_path):
    refused(write_folder(tmp_path / "tagged"), r"reflectance already .*--s2-scale 0\.0039", s2_scale=0.0039)


def test_a_scale_or_an_offset_that_makes_no_reflectance_of_what_is_there_is_refused(tmp_path):
    tagged = write_folder(tmp_path / "tagged", offset=-0.1)
    refused(tagged, r"states an offset itself \(-0\.1\).*one too many", s2_offset=-0.1)
    old = write_stack(scene(), tmp_path / "old")
    for name in ("s2_t1", "s2_t2"):
        dark = scene()[name] / 5
        write_optical(old / f"{name}.tif", dark.values, tagged=False)
    assert opened(old, s2_scale=1e-4).s2_t1.max() < 0.21
    refused(old, "stored without that offset; leave the option out", s2_scale=1e-4, s2_offset=-0.1)
    percent = write_folder(tmp_path / "percent", scale=0.01, tagged=False)
    refused(percent, "nearly black at --s2-scale 0.0001", s2_scale=1e-4)


def test_a_band_in_another_unit_than_the_others_is_named(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    for name in ("s2_t1", "s2_t2"):
        numbers = np.nan_to_num(scene()[name].values * 1e4, nan=0).round().astype("uint16")
        write_tiff(folder / f"{name}.tif", numbers, BANDS, nodata=0)
        with rasterio.open(folder / f"{name}.tif", "r+") as file:
            file.scales = [1, 1e-4, 1]
    refused(folder, "looks like DN")
    refused(folder, "nearly black in B8A alone .*same tags", s2_scale=1e-4)


def test_a_band_that_is_black_over_the_sea_alone_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(units, "SAMPLE", 8)
    folder = write_stack(scene(), tmp_path / "coast")
    for name in ("s2_t1", "s2_t2"):
        numbers = np.nan_to_num(scene()[name].values * 1e4, nan=0).round().astype("uint16")
        sea = slice(numbers.shape[1] // 4, None)
        numbers[2, sea] = np.minimum(numbers[2, sea], 1)
        write_tiff(folder / f"{name}.tif", numbers, BANDS, nodata=0)
    assert opened(folder, s2_scale=1e-4).s2_t1.max() > 0.01


def test_a_number_for_none_is_told_as_it_is_stored_and_many_numbers_are_another_unit(tmp_path):
    folder = write_folder(tmp_path / "optical", nodata=-9999, declared=False, dtype="int16", tagged=False)
    refused(folder, "gdal_edit -a_nodata -9999$", s2_scale=1e-4)
    radar = write_stack(scene(), tmp_path / "radar")
    hundredths = (np.nan_to_num(scene().s1_t1.values, nan=-327.68) * 100).astype("int16")
    write_tiff(radar / "s1_t1.tif", hundredths, ["VV", "VH"])
    refused(radar, "does not look like backscatter in dB")


@pytest.mark.parametrize("name", ["stack.nc", "stack.zarr"])
def test_dimensions_that_are_no_axes_are_told_with_the_names_that_are(tmp_path, name):
    stack = scene().rename(x="col", y="row")
    (stack.to_zarr if name.endswith("zarr") else stack.to_netcdf)(tmp_path / name)
    refused(tmp_path / name, r"has dimensions .*'row', 'col'.* expected .*'y', 'x'")


NUMBERS = {
    "CF": {"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": np.int16(-7)},
    "missing_value": {"scale_factor": 1e-4, "add_offset": -0.1, "missing_value": np.int16(-7)},
    "odc-stac": {"scale_factor": 1e-4, "add_offset": -0.1, "nodata": -7},
    "rioxarray": {"scales": [1e-4] * 3, "offsets": [-0.1] * 3, "nodatavals": [-7.0] * 3},
    "valid_range": {"scale_factor": 1e-4, "add_offset": -0.1, "valid_range": np.array([0, 20000], "int16")},
    "valid_min": {"scale_factor": 1e-4, "add_offset": -0.1, "valid_min": np.int16(0)},
    "valid range as meant": {"scale_factor": 1e-4, "add_offset": -0.1, "valid_range": [-0.05, 2.0]},
}


@pytest.mark.parametrize("name", ["stack.nc", "stack.zarr"])
@pytest.mark.parametrize("case", NUMBERS)
def test_what_a_variable_states_of_its_numbers_is_honoured(tmp_path, name, case):
    stack = scene()
    for variable in ("s2_t1", "s2_t2"):
        values = stack[variable].values
        numbers = np.where(np.isnan(values), -7, (values + 0.1) / 1e-4).round().astype("int16")
        attrs = {"grid_mapping": "spatial_ref", **NUMBERS[case]}
        stack[variable] = (("band", "y", "x"), numbers, attrs)
    for variable in stack.variables.values():
        variable.encoding.clear()
    if name.endswith(".zarr"):
        group = zarr.open_group(stored(tmp_path, stack, name))
        group["s2_t1"].attrs["comment"] = "as it stands in the store"
        zarr.consolidate_metadata(tmp_path / name)
    else:
        stored(tmp_path, stack, name)
    assert_close(opened(tmp_path / name), scene())


def test_unsigned_bytes_and_numbers_never_written_are_read_as_netcdf_means_them(tmp_path):
    stack = scene()
    clear = np.where(np.isnan(stack.clear_t2), 255, stack.clear_t2 * 200).round().astype("uint8")
    attrs = {"_Unsigned": "true", "_FillValue": np.int8(-1), "scale_factor": 1 / 200}
    stack["clear_t2"] = (("y", "x"), clear.view("int8"), attrs)
    stack["s1_t1"] = stack.s1_t1.fillna(9.969209968386869e36)
    encoding = {"s1_t1": {"_FillValue": None}}
    stack.to_netcdf(tmp_path / "stack.nc", encoding=encoding)
    got = opened(tmp_path / "stack.nc")
    np.testing.assert_allclose(got.clear_t2, scene().clear_t2, atol=0.0026)
    assert got.s1_t1.values.tobytes() == scene().s1_t1.values.tobytes()


def test_attributes_that_make_no_sense_are_told_in_one_line(tmp_path):
    for i, (attrs, words) in enumerate(
        [
            ({"scale_factor": 0.0}, "scale 0"),
            ({"nodata": "none"}, "nodata that is no number"),
            ({"valid_range": [1.0, 2.0, 3.0]}, "valid_range of 3"),
            ({"scales": [1.0, 2.0]}, "3 channels, but its attribute scales has 2"),
        ]
    ):
        stack = scene()
        stack["s2_t1"].attrs |= attrs
        refused(stored(tmp_path, stack, f"{i}.nc"), words)


def test_zeros_that_nobody_declared_are_missing_where_they_cannot_be_data(tmp_path):
    folder = write_folder(tmp_path / "stack", nodata=0, declared=False)
    for name in ("s2_t1", "s2_t2"):
        with rasterio.open(folder / f"{name}.tif", "r+") as file:
            values = file.read()
            values[:, :, :30], values[:, 40:44, 60:64], values[0, 5:9, 50:54] = 0, 0, 0
            file.write(values)
    for name in ("s1_t1", "s1_t2"):
        with rasterio.open(folder / f"{name}.tif", "r+") as file:
            values = file.read()
            values[:, :, 80:], values[:, 30:40, 40:50], values[:, 50, 50], values[0, 20, 20:40] = 0, 0, 0, 0
            values[:, 60:, 0] = 0
            file.write(values)
    got = opened(folder)
    optical, radar = got.s2_t1.values, got.s1_t1.values
    assert np.isnan(optical[:, :, :30]).all()
    assert np.isnan(optical[:, 40:44, 60:64]).all()
    assert (optical[0, 5:9, 50:54] == 0).any(), "dark in one band is dark"
    assert np.isnan(radar[:, :, 80:]).all()
    assert np.isnan(radar[:, 30:40, 40:50]).all(), "a hole larger than a field"
    assert np.isnan(radar[:, 60:, 0]).all(), "a strip along the edge"
    assert (radar[:, 50, 50] == 0).all(), "one pixel may be 0 dB"
    assert (radar[0, 20, 20:40] == 0).any(), "0 dB in one polarisation"
    assert_same_pixels(got, open_stack(folder, chunk=7).compute())


def test_what_was_pulled_keeps_its_zeros(tmp_path):
    stack = scene()
    stack.s2_t1[:, :20] = 0
    stack.attrs["manifest"] = json.dumps({"source": "gee"})
    assert (opened(write_stack(stack, tmp_path / "stack")).s2_t1[:, :20] == 0).all()


def test_numbers_that_no_measurement_reaches_are_missing_wherever_they_stand(tmp_path):
    wide = GeoBox((70, 900), GRID.affine, GRID.crs)
    stack = make_stack(wide, names=NAMES)
    stack.s1_t1[:, :, :9], stack.s2_t1[:, :, :9], stack.s2_t2[:, :, :9], stack.clear_t2[:, :9] = -999, -9999, 65535, 255
    got = opened(write_stack(stack, tmp_path / "stack"))
    assert all(np.isnan(got[name].values[..., :9]).all() for name in ("s1_t1", "s2_t1", "s2_t2", "clear_t2"))
    assert all(got[name].values[..., 9:].tobytes() == stack[name].values[..., 9:].tobytes() for name in NAMES)


def test_saturated_integers_are_missing_and_small_undeclared_numbers_are_refused(tmp_path):
    folder = write_folder(tmp_path / "saturated", nodata=65535, declared=False)
    assert_close(opened(folder), scene())
    refused(
        write_folder(tmp_path / "low", nodata=-9999, declared=False, dtype="int16", tagged=False),
        "undeclared nodata value .*gdal_edit -a_nodata -",
        s2_scale=1e-4,
    )


def test_linear_power_with_a_few_negatives_is_linear_power(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    for name in ("s1_t1", "s1_t2"):
        power = 10 ** (scene()[name].values / 10)
        power[:, 10, 10:20] = -0.002
        write_tiff(folder / f"{name}.tif", power.astype("float32"), ["VV", "VH"], nodata=np.nan)
    refused(folder, "looks like linear power .*--s1-units linear")
    radar = opened(folder, s1_units="linear").s1_t1.values
    assert (radar[:, 10, 10:20] == np.array([[FLOOR["VV"]], [FLOOR["VH"]]], "float32")).all()
    radar[:, 10, 10:20] = scene().s1_t1.values[:, 10, 10:20]
    np.testing.assert_allclose(radar, scene().s1_t1.values, atol=1e-4)
    assert MEASURABLE == FLOOR


def test_complex_data_are_refused(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    write_tiff(folder / "s1_t1.tif", scene().s1_t1.values.astype("complex64"), ["VV", "VH"])
    refused(folder, "complex numbers")


# Names and order


ORDERS = {
    "channels last": lambda s: s.transpose("y", "x", ...),
    "x before y": lambda s: s.transpose("x", "y", ...),
    "a time of one": lambda s: s.expand_dims(time=[np.datetime64("2021-07-10")]),
    "lat and lon": lambda s: s.rename(y="latitude", x="longitude"),
    "other words": lambda s: s.rename(pol="polarization", y="Y", x="X"),
    "names of catalogues": lambda s: s.assign_coords(pol=["vv", "vh"], band=["green", "nir08", "swir16"]),
    "names of Copernicus": lambda s: s.assign_coords(band=["B03_10m", "B8A_20m", "B11_20m"]),
    "names of SNAP": lambda s: s.assign_coords(pol=["Sigma0_VV_db", "Sigma0_VH_mst_10Jul2021_db"]),
}


@pytest.mark.parametrize("name", ["stack.nc", "stack.zarr"])
@pytest.mark.parametrize("case", ORDERS)
def test_other_orders_and_names_are_the_same_stack(tmp_path, name, case):
    assert_same_pixels(opened(stored(tmp_path, ORDERS[case](scene()), name)), scene())


def test_two_dates_in_one_file_are_not_one(tmp_path):
    twice = xr.concat([scene(), scene()], "time").assign_coords(time=[0, 1])
    refused(stored(tmp_path, twice, "stack.nc"), "2 steps along time; select one")


def per_channel() -> dict[str, xr.DataArray]:
    held = {}
    for name in NAMES:
        dim = scene()[name].dims[0]
        if dim == "y":
            held[name] = scene()[name]
        else:
            for label in scene()[dim].values:
                held[f"{name}_{label}"] = scene()[name].sel({dim: label}, drop=True)
    return held


@pytest.mark.parametrize("name", ["stack.nc", "stack.zarr"])
def test_a_variable_for_each_channel_is_the_same_stack(tmp_path, name):
    assert_same_pixels(opened(stored(tmp_path, xr.Dataset(per_channel()), name)), scene())


def test_a_file_for_each_channel_is_the_same_stack(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    for name, array in per_channel().items():
        write_tiff(folder / f"{name.replace('B3', 'B03')}.TIF", array.values[None], [None], nodata=np.nan)
    assert_same_pixels(opened(folder), scene())


def test_a_folder_of_netcdf_files_with_a_variable_for_each_channel_as_odc_stac_makes_them(tmp_path):
    folder = tmp_path / "stack"
    folder.mkdir()
    names = {"VV": "vv", "VH": "vh", "B3": "green", "B8A": "nir08", "B11": "swir16"}
    for name in NAMES:
        dim = scene()[name].dims[0]
        held = (
            scene()[[name]]
            if dim == "y"
            else scene()[name].to_dataset(dim).rename({n: names[n] for n in scene()[dim].values})
        )
        stored(folder, held.expand_dims(time=[0]), f"{name}.nc")
    assert_same_pixels(opened(folder), scene())


def test_channels_in_another_order_at_another_date_are_put_in_order(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    write_tiff(folder / "s2_t2.tif", scene().s2_t2.values[[2, 0, 1]], ["B11", "B3", "B8A"], nodata=np.nan)
    assert_same_pixels(opened(folder), scene())


def test_two_files_or_variables_for_one_are_refused(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    shutil.copy(folder / "s2_t1.tif", folder / "s2_t1.tiff")
    refused(folder, r"s2_t1 twice, in s2_t1\.tif and in s2_t1\.tiff")
    (folder / "s2_t1.tiff").rename(folder / "s2_t1_B3.tif")
    refused(folder, r"s2_t1 twice, in s2_t1\.tif and in s2_t1_B3\.tif")
    stack = scene().assign(S1_T1=scene().s1_t1)
    refused(stored(tmp_path, stack, "stack.nc"), "s1_t1 twice")


def test_a_geotiff_that_lies_nowhere_is_refused(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    write_tiff(folder / "s1_t1.tif", scene().s1_t1.values, ["VV", "VH"], transform=Affine.identity())
    refused(folder, "no geotransform")


PAM = "<PAMDataset>{}</PAMDataset>"
BESIDE = {
    "a world file": (".tfw", "10\n0\n0\n-10\n{x}\n{y}\n", (5, -5)),
    "a world file of any format": (".wld", "10\n0\n0\n-10\n{x}\n{y}\n", (5, -5)),
    "GDAL's": (".tif.aux.xml", PAM.format("<GeoTransform>{x}, 10, 0, {y}, 0, -10</GeoTransform>"), (0, 0)),
}


@pytest.mark.parametrize("case", BESIDE)
def test_a_file_beside_a_geotiff_that_puts_it_elsewhere_is_refused(tmp_path, case):
    ending, text, (right, down) = BESIDE[case]
    folder = write_stack(scene(), tmp_path / "stack")
    beside = folder / f"s2_t1{ending}"
    x, y = GRID.affine.c + right, GRID.affine.f + down
    for agrees in ((x, y), (x + 1e-4, y)):
        beside.write_text(text.format(x=agrees[0], y=agrees[1]))
        assert_same_pixels(opened(folder), scene())
    for elsewhere, off in (((x + 100, y), "10"), ((x, y - 30), "3"), ((x - 5, y + 5), r"0\.7071")):
        beside.write_text(text.format(x=elsewhere[0], y=elsewhere[1]))
        refused(folder, rf"two places: s2_t1\.tif and {re.escape(beside.name)} say {off} pixels apart")


def test_a_crs_beside_a_geotiff_is_its_own_or_it_is_refused(tmp_path):
    folder = write_stack(scene(), tmp_path / "stack")
    beside = folder / "s1_t2.tif.aux.xml"
    for srs in ("EPSG:32649", pyproj.CRS.from_epsg(32649).to_wkt("WKT1_ESRI")):
        beside.write_text(PAM.format(f"<SRS>{srs}</SRS><Metadata><MDI key='seen'>1</MDI></Metadata>"))
        assert_same_pixels(opened(folder), scene())
    beside.write_text(PAM.format("<SRS>EPSG:32650</SRS>"))
    refused(folder, r"two CRSs: EPSG:32649 \(s1_t2\.tif\) and EPSG:32650 \(s1_t2\.tif\.aux\.xml\)")


# On the ground


def test_a_grid_of_oblong_degrees_is_warped_where_a_crs_is_named(tmp_path):
    grid = GeoBox((70, 90), Affine(1.1e-4, 0, 113.5, 0, -9e-5, 34.8), "EPSG:4326")
    arrays = {name: scene()[name].values for name in NAMES}
    stack = build_stack(GRID, arrays, pols=["VV", "VH"], bands=BANDS, manifest={})
    folder = write_stack(stack, tmp_path / "stack")
    for name in NAMES:
        with rasterio.open(folder / f"{name}.tif") as file:
            values, bands = file.read(), list(file.descriptions)
        write_tiff(folder / f"{name}.tif", values, bands, transform=grid.affine, crs="EPSG:4326", nodata=np.nan)
    refused(folder, "square pixels")
    lies = grid.extent.to_crs("EPSG:32649").boundingbox
    wanted = GeoBox.from_bbox(
        (lies.left + 200, lies.bottom + 200, lies.left + 500, lies.bottom + 500), "EPSG:32649", resolution=10
    )
    assert np.isfinite(opened(folder, geobox=wanted).s2_t1).mean() > 0.7
