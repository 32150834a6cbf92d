"""Outlines of water hold exactly the pixels of their class, whatever strips they were read in."""

import tempfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from scipy import ndimage

import crgen.pipeline.flood.polygons as polygons
from crgen.errors import OutputError
from crgen.files import partial_name, publish
from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.flood.polygons import LAYERS, RESOLVED, classes_of, write_polygons
from tests.pipeline.cog.rasters import write_cog

CORNER = Affine(10, 0, 709_280, 0, -10, 3_850_000)


def write_water(folder: Path, t2: np.ndarray, t1: np.ndarray) -> Path:
    grid = GeoBox(t2.shape, CORNER, "EPSG:32649")
    path = folder / "map_water.tif"
    write_cog(path, RasterProfile(grid, ("water", "water_t1"), "uint8", 255), np.stack([t2, t1]).astype(np.uint8))
    return path


def outlines_in(path: Path) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Geometries and fields by layer."""
    held = {}
    for layer in LAYERS:
        meta, _, wkb, fields = pyogrio.raw.read(path, layer=layer)
        held[layer] = shapely.from_wkb(wkb), dict(zip(meta["fields"], fields, strict=True))
    return held


def made(folder: Path, t2: np.ndarray, t1: np.ndarray) -> Path:
    path = folder / "map_flood.gpkg"
    publish([(write_polygons(path, write_water(folder, t2, t1), "2021-07-24", "2021-07-22"), path)])
    return path


@settings(max_examples=12)
@given(seed=st.integers(0, 10_000), blobs=st.floats(0, 4), strip=st.sampled_from([4, 7, 512]))
def test_outlines_hold_the_resolved_pixels_of_their_class_in_any_strips(seed, blobs, strip) -> None:
    rng = np.random.default_rng(seed)

    def smooth() -> np.ndarray:
        return ndimage.gaussian_filter(rng.normal(size=(30, 40)), blobs)

    t2, t1 = (np.clip(50 + 60 * f / f.std(), 0, 100).round() for f in (smooth(), smooth()))
    for date in (t2, t1):
        date[rng.random(date.shape) < 0.05] = 255
    before, polygons.STRIP = polygons.STRIP, strip
    try:
        with tempfile.TemporaryDirectory() as name:
            held = outlines_in(made(Path(name), t2, t1))
    finally:
        polygons.STRIP = before
    classes = classes_of(t2.astype(np.uint8), t1.astype(np.uint8))
    for kind, layer in enumerate(LAYERS, 1):
        shapes, fields = held[layer]
        parts, count = ndimage.label(classes == kind)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        large = np.flatnonzero(sizes * 100 >= RESOLVED * 0.999)
        large = large[large > 0]
        assert len(shapes) == len(large)
        if not len(shapes):
            continue
        assert all(shape.is_valid and shape.geom_type == "Polygon" for shape in shapes)
        drawn = rasterize(shapes, (30, 40), transform=CORNER, dtype="uint8")
        assert (drawn.astype(bool) == np.isin(parts, large)).all()
        assert sorted(fields["area_m2"]) == pytest.approx(sorted(100 * sizes[large]), rel=2e-3)
        mean = ndimage.mean(t2, parts, large)
        assert sorted(fields["probability"]) == pytest.approx(sorted(mean))
        assert set(fields["radar"]) == {"2021-07-24"}


def test_water_is_new_old_or_of_unknown_past_and_what_is_not_known_is_none() -> None:
    t2 = np.array([[90, 90, 90, 90, 49, 255, 50]], np.uint8)
    t1 = np.array([[10, 90, 50, 255, 0, 0, 0]], np.uint8)
    assert classes_of(t2, t1).tolist() == [[1, 2, 3, 3, 0, 0, 1]]


def test_without_water_the_layers_are_there_and_empty(tmp_path) -> None:
    held = outlines_in(made(tmp_path, np.zeros((5, 7)), np.full((5, 7), 255)))
    assert [len(shapes) for shapes, _ in held.values()] == [0, 0, 0]


def test_the_same_map_has_the_same_bytes_and_many_outlines_are_written_in_parts(tmp_path, monkeypatch) -> None:
    t2 = 100 * (np.indices((60, 60)).sum(0) // 4 % 2)
    first, second = (tmp_path / name for name in "ab")
    for folder in (first, second):
        folder.mkdir()
        path = made(folder, t2, np.zeros(t2.shape))
    assert path.read_bytes() == (first / path.name).read_bytes()
    monkeypatch.setattr(polygons, "AT_ONCE", 3)
    (tmp_path / "c").mkdir()
    again, whole = (outlines_in(made(folder, t2, np.zeros(t2.shape))) for folder in (tmp_path / "c", first))
    assert len(whole["flood"][0]) > 6
    assert {shape.wkb for shape in again["flood"][0]} == {shape.wkb for shape in whole["flood"][0]}


def test_it_lies_where_the_map_lies(tmp_path) -> None:
    t2 = np.zeros((6, 8))
    t2[2:5, 3:6] = 100
    path = made(tmp_path, t2, np.zeros(t2.shape))
    info = pyogrio.read_info(path, layer="flood")
    with rasterio.open(tmp_path / "map_water.tif") as raster:
        assert rasterio.crs.CRS.from_user_input(info["crs"]) == raster.crs
    assert tuple(info["total_bounds"]) == (709_310, 3_849_950, 709_340, 3_849_980)


def test_a_disk_that_refuses_leaves_nothing(tmp_path, monkeypatch) -> None:
    water = write_water(tmp_path, np.full((5, 5), 100), np.zeros((5, 5)))

    def full(*_, **__):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(pyogrio.raw, "write", full)
    path = tmp_path / "map_flood.gpkg"
    with pytest.raises(OutputError, match=r"cannot write .*map_flood\.gpkg: No space left on device"):
        write_polygons(path, water, "2021-07-24", "2021-07-22")
    assert not partial_name(path).exists()
