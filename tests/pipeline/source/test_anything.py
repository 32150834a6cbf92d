"""Whatever a stack's files or an area's look like: what comes out is what the plain ones give, or one clear line."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from pyproj import Transformer

from crgen.errors import AreaError, StackError
from crgen.pipeline.source.area import Area, read_area
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.stack import CHANNEL_DIM, stack_geobox

MANY = settings(max_examples=6 * settings().max_examples, suppress_health_check=list(HealthCheck))
"""A hundred and fifty examples each, or forty times as many by ``pytest --hypothesis-profile thorough``."""

POLS, BANDS = ("VV", "VH"), ("B3", "B8", "B11")
NAMED = {
    "plain": {},
    "small": {"VV": "vv", "VH": "vh", "B3": "b03", "B8": "b08", "B11": "b11"},
    "catalogue": {"VV": "vv", "VH": "vh", "B3": "green", "B8": "nir", "B11": "swir16"},
    "SNAP": {"VV": "Sigma0_VV_db", "VH": "Sigma0_VH_db", "B3": "B3", "B8": "B8", "B11": "B11"},
}

# A dtype, with how it can hold reflectance: scale, offset, the number for "none".
OFFSETS = st.sampled_from([0.0, -0.1])
CODINGS = st.one_of(
    st.tuples(
        st.sampled_from(["float32", "float64"]),
        st.just(1.0),
        st.just(0.0),
        st.sampled_from([np.nan, -9999.0, -3.4028234663852886e38]),
    ),
    st.tuples(st.just("uint16"), st.sampled_from([1e-4, 2e-4]), OFFSETS, st.sampled_from([0, 65535, 40000])),
    st.tuples(
        st.sampled_from(["int16", "int32"]),
        st.sampled_from([1e-4, 2e-4]),
        OFFSETS,
        st.sampled_from([-1, -9999, -32768]),
    ),
)
FLAWS = st.sampled_from([None] * 12 + ["gap", "twice", "swap", "drift", "moved", "CRS", "complex"])


@st.composite
def stacks(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "seed": draw(st.integers(0, 999)),
        "shape": draw(st.tuples(st.integers(8, 24), st.integers(8, 24))),
        "place": draw(st.tuples(st.integers(-300, 300), st.integers(0, 900))),
        "step": draw(st.sampled_from([10.0, 20.0, 3.0, 0.5])),
        "crs": draw(st.sampled_from(["EPSG:32649", "EPSG:32733", "EPSG:3857", "EPSG:2263"])),
        "kind": draw(st.sampled_from(["tif", "nc", "zarr"])),
        "coding": draw(CODINGS),
        "north_up": draw(st.booleans()),
        "order": draw(st.permutations(["channel", "y", "x"])),
        "time": draw(st.booleans()),
        "split": draw(st.booleans()),
        "named": draw(st.sampled_from(sorted(NAMED))),
        "stated": draw(st.booleans()),
        "declared": draw(st.sampled_from(["_FillValue", "missing_value", "nodata"])),
        "hole": draw(st.booleans()),
        "chunk": draw(st.integers(3, 30)),
        "block": draw(st.sampled_from([None, 16])),
        "flaw": draw(FLAWS),
    }


def plain(case: dict[str, Any]) -> tuple[GeoBox, dict[str, np.ndarray]]:
    rng = np.random.default_rng(case["seed"])
    size = case["step"]
    corner = 500_000 + case["place"][0] * size, 3_000_000 + case["place"][1] * size
    grid = GeoBox(case["shape"], Affine(size, 0, corner[0], 0, -size, corner[1]), case["crs"])
    arrays = {}
    for name in ("s1_t1", "s1_t2", "s2_t1", "s2_t2", "clear_t2"):
        dim = CHANNEL_DIM[name]
        channels = {"pol": POLS, "band": BANDS, None: ()}[dim]
        low, high = (-25, -5) if dim == "pol" else (0.02, 0.98)
        values = rng.uniform(low, high, (*([len(channels)] if channels else []), *grid.shape))
        values = (values * 2000).round() / 2000
        if case["hole"]:
            values[..., 2:5, 3:6] = np.nan
        arrays[name] = values.astype("float32")
    return grid, arrays


def stored(case: dict[str, Any], name: str, values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Return what a file holds, and what it states of it."""
    if CHANNEL_DIM[name] != "band":
        return values, {"_FillValue": np.float32(np.nan)}
    dtype, scale, offset, none = case["coding"]
    numbers = np.where(np.isnan(values), none, (values - offset) / scale)
    numbers = (numbers.round() if dtype[0] in "ui" else numbers).astype(dtype)
    return numbers, {"scale_factor": scale, "add_offset": offset, case["declared"]: numbers.dtype.type(none)}


def write_tiffs(folder: Path, case: dict[str, Any], grid: GeoBox, arrays: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    turned = grid.affine if case["north_up"] else grid.affine * Affine(1, 0, 0, 0, -1, grid.shape.y)
    for name, values in arrays.items():
        numbers, said = stored(case, name, values)
        numbers = numbers if numbers.ndim == 3 else numbers[None]
        numbers = numbers if case["north_up"] else numbers[:, ::-1]
        channels = {"pol": POLS, "band": BANDS, None: (name,)}[CHANNEL_DIM[name]]
        place = turned * Affine.translation(2, 0) if case["flaw"] == "moved" and name == "s2_t1" else turned
        crs = "EPSG:32601" if case["flaw"] == "CRS" and name == "s1_t2" else case["crs"]
        if case["flaw"] == "complex" and name == "s1_t1":
            numbers = numbers.astype("complex64")
        alone = case["split"] and CHANNEL_DIM[name] is not None
        for group in ([i] for i in range(len(channels))) if alone else [list(range(len(channels)))]:
            label = f"{name}_{channels[group[0]]}" if alone else name
            tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16} if case["block"] else {}
            size = {"height": grid.shape.y, "width": grid.shape.x, "count": len(group), "dtype": numbers.dtype.name}
            none = float(said.get("_FillValue", said.get(case["declared"], np.nan)))
            with rasterio.open(
                folder / f"{label}.tif", "w", driver="GTiff", crs=crs, transform=place, nodata=none, **size, **tiled
            ) as file:
                file.write(numbers[group])
                file.descriptions = [NAMED[case["named"]].get(channels[i], channels[i]) for i in group]
                if "scale_factor" in said:
                    file.scales, file.offsets = [said["scale_factor"]] * len(group), [said["add_offset"]] * len(group)
    return folder


def write_dataset(path: Path, case: dict[str, Any], grid: GeoBox, arrays: dict[str, np.ndarray]) -> Path:
    names = NAMED[case["named"]]
    coords = xr_coords(grid, dims=("y", "x"))
    held = {}
    for name, values in arrays.items():
        numbers, said = stored(case, name, values)
        attrs = {"grid_mapping": "spatial_ref", **said}
        dim = CHANNEL_DIM[name]
        channels = {"pol": POLS, "band": BANDS, None: ()}[dim]
        if dim is None:
            held[name] = xr.DataArray(numbers, dims=("y", "x"), attrs=attrs)
        elif case["split"]:
            for i, label in enumerate(channels):
                held[f"{name}_{names.get(label, label)}"] = xr.DataArray(numbers[i], dims=("y", "x"), attrs=attrs)
        else:
            array = xr.DataArray(
                numbers, dims=(dim, "y", "x"), coords={dim: [names.get(c, c) for c in channels]}, attrs=attrs
            )
            held[name] = array.transpose(*(dim if d == "channel" else d for d in case["order"]))
    stack = xr.Dataset(held).assign_coords(coords)
    if not case["stated"]:
        stack.spatial_ref.attrs.pop("GeoTransform")
    if case["time"]:
        stack = stack.expand_dims(time=[0])
    if not case["north_up"]:
        stack = stack.isel(y=slice(None, None, -1))
    match case["flaw"]:
        case "gap":
            stack = stack.drop_isel(y=[4])
        case "twice":
            stack = stack.isel(x=[*range(5), 4, *range(5, grid.shape.x)])
        case "swap":
            stack = stack.isel(y=[1, 0, *range(2, grid.shape.y)])
        case "drift":
            stack = stack.assign_coords(x=stack.x + case["step"] * 0.01 * np.arange(grid.shape.x) ** 2)
        case "moved":
            stack.spatial_ref.attrs["GeoTransform"] = " ".join(
                map(str, (grid.affine * Affine.translation(2, 0)).to_gdal())
            )
        case "CRS":
            stack.attrs["crs"] = "EPSG:32601"
        case "complex":
            first = next(n for n in stack if str(n).startswith("s1_t1"))
            stack[first] = stack[first].astype("complex64")
            stack[first].attrs = {"grid_mapping": "spatial_ref"}  # netCDF takes no complex _FillValue
    if case["kind"] == "nc":
        stack.to_netcdf(path, engine="netcdf4", auto_complex=True)
    else:
        stack.to_zarr(path, zarr_format=2, consolidated=True)
    return path


@pytest.mark.slow
@MANY
@given(stacks())
def test_any_stack_opens_as_the_plain_one_or_is_refused_in_one_line(tmp_path_factory, case):
    grid, arrays = plain(case)
    folder = tmp_path_factory.mktemp("any")
    flaw = case["flaw"] if case["kind"] != "tif" or case["flaw"] in ("moved", "CRS", "complex") else None
    writer = write_tiffs if case["kind"] == "tif" else write_dataset
    path = writer(folder / ("stack" if case["kind"] == "tif" else f"stack.{case['kind']}"), case, grid, arrays)
    if flaw:
        with pytest.raises(StackError) as refusal:
            open_stack(path)
        assert "\n" not in str(refusal.value)
        return
    got = open_stack(path, chunk=case["chunk"]).compute()
    assert stack_geobox(got) == grid
    assert (tuple(got.pol.values), tuple(got.band.values)) == (POLS, BANDS)
    for name, values in arrays.items():
        np.testing.assert_allclose(
            got[name].values, values, atol=1.01e-4 if name.startswith("s2") else 2e-6, err_msg=name
        )


degrees = st.one_of(
    st.tuples(st.floats(-180, 180), st.floats(-84, 84)), st.tuples(st.floats(113.5, 113.6), st.floats(34.7, 34.8))
)
near = st.tuples(st.floats(113.5, 113.6), st.floats(34.7, 34.8))
rings = st.lists(near, min_size=3, max_size=9).map(lambda points: [*points, points[0]])
polygons = st.one_of(
    rings.map(shapely.Polygon),
    st.tuples(near, st.floats(1e-5, 0.05)).map(lambda c: shapely.Point(c[0]).buffer(c[1], 3)),
)
simple = st.one_of(
    polygons,
    degrees.map(shapely.Point),
    st.lists(degrees, min_size=2, max_size=5).map(shapely.LineString),
    st.sampled_from([shapely.Polygon(), shapely.Point(), shapely.GeometryCollection()]),
)
geometries = st.one_of(
    simple,
    st.lists(polygons, max_size=3).map(shapely.MultiPolygon),
    st.lists(simple, max_size=3).map(shapely.GeometryCollection),
    st.lists(degrees, min_size=4, max_size=6).map(lambda points: shapely.Polygon([*points, points[0]])),
)


def contains_all(area: Any, shapes: list[shapely.Geometry], crs: str) -> bool:
    """Say whether a grid covers the corners of shapes in degrees."""
    corners = shapely.get_coordinates(shapes)
    x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(corners[:, 0], corners[:, 1])
    left, bottom, right, top = area.geobox.boundingbox
    slack = 0.2 * area.geobox.resolution.x
    inside = (x >= left - slack) & (x <= right + slack) & (y >= bottom - slack) & (y <= top + slack)
    return bool(inside.all())


def read_or_refusal(path: Path) -> Area | str:
    try:
        return read_area(path)
    except AreaError as refusal:
        return str(refusal)


@pytest.mark.slow
@MANY
@example([shapely.Polygon([(0, 0), (132, 0), (-60, 0), (0, 0)])], "GPKG", "EPSG:32649")  # crosses itself in degrees
@example([shapely.Polygon([(0, 0), (0, 3e-213), (1, 1), (0, 0)])], "GPKG", "EPSG:4326")  # too thin to be told from none
@given(
    st.lists(geometries, min_size=1, max_size=4),
    st.sampled_from(["GPKG", "GeoJSON", "FlatGeobuf", "KML", "zip"]),
    st.sampled_from(["EPSG:4326", "EPSG:32649", "EPSG:3857", None]),
)
def test_any_area_is_covered_whole_or_refused_in_one_line(tmp_path_factory, shapes, driver, crs):
    folder = tmp_path_factory.mktemp("area")
    path = (
        folder
        / {"GPKG": "a.gpkg", "GeoJSON": "a.geojson", "FlatGeobuf": "a.fgb", "KML": "a.kml", "zip": "a.zip"}[driver]
    )
    if driver == "zip":
        features = [
            {"type": "Feature", "properties": {}, "geometry": shapely.geometry.mapping(shape)} for shape in shapes
        ]
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("in/a.geojson", json.dumps({"type": "FeatureCollection", "features": features}))
    else:
        held = np.array(shapes, object)
        if crs not in ("EPSG:4326", None) and driver in ("GPKG", "FlatGeobuf"):
            moved = Transformer.from_crs(4326, crs, always_xy=True).transform
            held = shapely.transform(held, lambda xy: np.column_stack(moved(xy[:, 0], xy[:, 1])))
        else:
            crs = "EPSG:4326"
        if not np.isfinite(shapely.get_coordinates(held)).all():
            return
        try:
            pyogrio.raw.write(
                path, shapely.to_wkb(held), [], [], geometry_type="Unknown", crs=crs, driver=driver, layer="a"
            )
        except Exception:  # what a format cannot hold
            return
    area = read_or_refusal(path)
    if isinstance(area, str):
        assert "\n" not in area
        assert "a." in area
        return
    assert area.polygon.is_valid
    assert area.polygon.area > 0
    told = any("geometry that can be read" in note for note in area.notes)
    if driver != "zip":  # GDAL writes none of a collection with a point without coordinates
        assert told == any(wkb is None for wkb in pyogrio.raw.read(path)[2])
    solid = [
        part
        for shape in shapes
        for part in shapely.get_parts(shape)
        if part.geom_type == "Polygon" and part.is_valid and part.area > 1e-9  # about ten square metres
    ]
    if solid and not told and all(max(abs(np.diff(part.exterior.xy[0]))) < 90 for part in solid):
        assert contains_all(area, solid, str(area.geobox.crs))
