"""A product's rasters arrive whole, with all they should say about themselves, or not at all."""

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.shutil import copy
from rio_cogeo.cogeo import cog_validate

from crgen.files import publish
from crgen.pipeline.cog.profile import band_statistics, composites, display_bands
from crgen.pipeline.cog.splice import splice
from crgen.pipeline.cog.tiles import encode
from crgen.pipeline.tiling.quality import COLOURS, Quality
from tests.pipeline.cog.rasters import dn_image, profile_of, quality_profile, reflectance_profile, write_cog


def test_every_piece_of_metadata_arrives_in_a_valid_cog(tmp_path):
    image = dn_image((700, 1100))
    path = write_cog(tmp_path / "fill.tif", reflectance_profile((700, 1100)), image)

    assert cog_validate(str(path), strict=True) == (True, [], [])
    with rasterio.open(path) as cog:
        np.testing.assert_array_equal(cog.read(), image)
        assert cog.transform == Affine(10, 0, 500_000, 0, -10, 4_000_000)
        assert cog.crs.to_epsg() == 32631
        assert cog.descriptions == ("B2", "B3", "B4")
        assert cog.colorinterp == (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
        assert (cog.scales, cog.offsets, cog.units) == ((1e-4,) * 3, (0.0,) * 3, ("1",) * 3)
        assert cog.nodata == 0
        assert cog.tags()["CRGEN_MODEL"] == "base"
        assert cog.block_shapes == [(512, 512)] * 3
        assert cog.overviews(1) == [2, 4]
        structure = cog.tags(ns="IMAGE_STRUCTURE")
        assert (structure["LAYOUT"], structure["COMPRESSION"], structure["PREDICTOR"]) == (
            "COG",
            "DEFLATE",
            "2",
        )
    assert [p.name for p in tmp_path.iterdir()] == ["fill.tif"]


def test_statistics_are_those_of_the_valid_pixels(tmp_path):
    image = dn_image((600, 600))
    image[:, :200] = 0
    statistics = band_statistics(write_cog(tmp_path / "a.tif", reflectance_profile((600, 600)), image))
    valid = image[1, 200:].astype(float)
    assert statistics[1]["mean"] == pytest.approx(valid.mean())
    assert statistics[1]["stddev"] == pytest.approx(valid.std())
    assert (statistics[1]["minimum"], statistics[1]["maximum"]) == (valid.min(), valid.max())
    assert statistics[1]["valid_percent"] == pytest.approx(100 * 400 / 600, abs=0.01)


def test_rioxarray_reads_reflectance_with_nan_for_missing(tmp_path):
    image = dn_image((40, 50))
    image[:, 3, 4] = 0
    path = write_cog(tmp_path / "a.tif", reflectance_profile((40, 50)), image)
    with rioxarray.open_rasterio(path, mask_and_scale=True) as array:
        expected = np.where(image == 0, np.nan, image * 1e-4)
        np.testing.assert_allclose(array.values, expected, atol=1e-7)


def test_overviews_never_average_valid_pixels_with_nodata(tmp_path):
    image = np.full((3, 1024, 1024), 5000, "uint16")
    image[:, ::2] = 0
    path = write_cog(tmp_path / "a.tif", reflectance_profile((1024, 1024)), image)
    with rasterio.open(path, overview_level=0) as overview:
        assert overview.shape == (512, 512)
        assert (overview.read() == 5000).all()


def test_quality_has_a_palette_and_overviews_of_whole_classes(tmp_path):
    image = np.full((1, 1024, 1024), Quality.OBSERVED, "uint8")
    image[:, 1::2, 1::2] = Quality.BLENDED
    path = write_cog(tmp_path / "q.tif", quality_profile((1024, 1024)), image)
    assert cog_validate(str(path), strict=True) == (True, [], [])
    with rasterio.open(path) as cog:
        assert cog.colorinterp == (ColorInterp.palette,)
        assert cog.colormap(1)[Quality.GENERATED] == COLOURS[Quality.GENERATED]
        assert cog.nodata == Quality.NODATA
    with rasterio.open(path, overview_level=0) as overview:
        assert (overview.read() == Quality.OBSERVED).all()


def test_float_product_keeps_nan_as_missing(tmp_path):
    image = np.random.default_rng(0).random((3, 600, 600), dtype="float32")
    image[:, :100] = np.nan
    path = write_cog(tmp_path / "f.tif", profile_of((600, 600), dtype="float32", nodata=float("nan")), image)
    assert cog_validate(str(path), strict=True) == (True, [], [])
    with rasterio.open(path) as cog:
        np.testing.assert_array_equal(cog.read(), image)
        assert cog.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "3"
    assert band_statistics(path)[0]["mean"] == pytest.approx(np.nanmean(image[0]), abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (513, 3)])
def test_tiny_rasters_are_valid_too(tmp_path, shape):
    image = dn_image(shape, 2)
    path = write_cog(tmp_path / "t.tif", reflectance_profile(shape, ("B11", "B8")), image)
    assert cog_validate(str(path), strict=True) == (True, [], [])
    with rasterio.open(path) as cog:
        np.testing.assert_array_equal(cog.read(), image)


@pytest.mark.parametrize("profile", [reflectance_profile((600, 600)), quality_profile((600, 600))])
def test_pixels_never_written_are_nodata(tmp_path, profile):
    path = tmp_path / "a.tif"
    publish([(splice(path, profile, []).path, path)])
    with rasterio.open(path) as cog:
        assert (cog.read() == 0).all()
        assert not cog.read_masks().any()
    assert band_statistics(path)[0] == {"valid_percent": 0.0}


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_order_threads_and_block_size_do_not_change_a_byte(tmp_path_factory, data):
    """Also where blocks share tiles, or are larger than the raster."""
    shape = data.draw(st.sampled_from([(600, 700), (64, 1537), (1030, 261)]))
    kind = data.draw(st.sampled_from(["uint16", "float32", "quality"]))
    rng = np.random.default_rng(1)
    if kind == "quality":
        profile, image = quality_profile(shape), rng.integers(0, 5, (1, *shape)).astype("uint8")
    elif kind == "float32":
        profile = profile_of(shape, dtype="float32", nodata=float("nan"))
        image = rng.random((3, *shape), dtype="float32")
        image[image < 0.1] = np.nan
    else:
        profile, image = reflectance_profile(shape), rng.integers(0, 3000, (3, *shape)).astype("uint16")
    size = data.draw(st.sampled_from([132, 256, 336, 512, 2048]))
    count = -(-shape[0] // size) * -(-shape[1] // size)
    order = data.draw(st.permutations(range(count)))
    folder = tmp_path_factory.mktemp("cog")
    plain = write_cog(folder / "a.tif", profile, image)
    mixed = write_cog(folder / "b.tif", profile, image, size=size, order=order, threads=4)
    assert plain.read_bytes() == mixed.read_bytes()
    assert cog_validate(str(plain), strict=True) == (True, [], [])
    with rasterio.open(plain) as cog:
        np.testing.assert_array_equal(cog.read(), image)


@pytest.mark.parametrize("kind", ["uint16", "float32", "quality"])
def test_pixels_overviews_and_statistics_are_those_of_gdals_own_cog(tmp_path, kind):
    shape = (512, 1536)
    rng = np.random.default_rng(2)
    if kind == "quality":
        profile, image = quality_profile(shape), rng.integers(0, 5, (1, *shape)).astype("uint8")
    elif kind == "float32":
        profile = profile_of(shape, dtype="float32", nodata=float("nan"))
        image = rng.random((3, *shape), dtype="float32")
        image[image < 0.3] = np.nan
    else:
        profile, image = reflectance_profile(shape), rng.integers(0, 3000, (3, *shape)).astype("uint16")
        image[image < 1000] = 0
    ours = write_cog(tmp_path / "ours.tif", profile, image)
    options = {"driver": "GTiff", "dtype": profile.dtype, "nodata": profile.nodata, "crs": "EPSG:32631"}
    with rasterio.open(
        tmp_path / "plain.tif",
        "w",
        count=len(image),
        height=shape[0],
        width=shape[1],
        transform=Affine.scale(10),
        **options,
    ) as plain:
        if kind == "quality":
            plain.write_colormap(1, COLOURS)
        plain.write(image)
    copy(
        tmp_path / "plain.tif",
        tmp_path / "gdal.tif",
        driver="COG",
        blocksize=512,
        compress="DEFLATE",
        predictor="YES",
        overview_resampling="MODE" if kind == "quality" else "AVERAGE",
        statistics="YES",
    )
    for level in (None, 0, 1):
        more = {} if level is None else {"overview_level": level}
        with rasterio.open(ours, **more) as a, rasterio.open(tmp_path / "gdal.tif", **more) as b:
            np.testing.assert_array_equal(a.read(), b.read())
    for mine, theirs in zip(band_statistics(ours), band_statistics(tmp_path / "gdal.tif"), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert ours.stat().st_size < 1.01 * (tmp_path / "gdal.tif").stat().st_size


def test_a_file_too_large_for_a_classic_tiff_is_a_bigtiff_with_the_same_pixels(tmp_path, monkeypatch):
    image = dn_image((700, 1100))
    classic = write_cog(tmp_path / "classic.tif", reflectance_profile((700, 1100)), image)
    monkeypatch.setattr("crgen.pipeline.cog.splice.CLASSIC_LIMIT", classic.stat().st_size - 1)
    big = write_cog(tmp_path / "big.tif", reflectance_profile((700, 1100)), image)
    assert (classic.read_bytes()[2], big.read_bytes()[2]) == (42, 43)
    assert cog_validate(str(big), strict=True) == (True, [], [])
    with rasterio.open(big) as cog:
        np.testing.assert_array_equal(cog.read(), image)
        assert cog.tags()["CRGEN_MODEL"] == "base"
    monkeypatch.setattr("crgen.pipeline.cog.splice.CLASSIC_LIMIT", classic.stat().st_size)
    exact = write_cog(tmp_path / "exact.tif", reflectance_profile((700, 1100)), image)
    assert exact.read_bytes() == classic.read_bytes()


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (("B2", "B3", "B4", "B8"), ("B4", "B3", "B2")),
        (("B3", "B8", "B11"), ("B11", "B8", "B3")),
        (("B8", "B4", "B11", "B12"), ("B8", "B4", "B11")),
        (("B8", "B4"), ("B8",)),
    ],
)
def test_display_is_true_colour_where_it_can_be(tmp_path, bands, shown):
    assert display_bands(bands) == shown
    path = write_cog(tmp_path / "a.tif", reflectance_profile((8, 8), bands), dn_image((8, 8), len(bands)))
    guns = (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if len(shown) == 3 else (ColorInterp.gray,)
    with rasterio.open(path) as cog:
        found = dict(zip(cog.descriptions, cog.colorinterp, strict=True))
        assert tuple(found.pop(b) for b in shown) == guns
        assert set(found.values()) <= {ColorInterp.undefined}


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (("B2", "B3", "B4", "B8", "B11", "B12"), (("B4", "B3", "B2"), ("B11", "B8", "B3"))),
        (("B2", "B3", "B4", "B8"), (("B4", "B3", "B2"),)),
        (("B3", "B8", "B11"), (("B11", "B8", "B3"),)),
        (("B12", "B8", "B4", "B5"), (("B12", "B8", "B4"),)),
        (("B8", "B4"), (("B8",),)),
    ],
)
def test_true_and_false_colour_are_shown_where_they_can_be(bands, shown):
    assert composites(bands) == shown


def test_blocks_that_do_not_fit_are_refused():
    profile = reflectance_profile((64, 64))
    with pytest.raises(ValueError, match="leaves the 64 × 64 raster"):
        encode(profile, 12, 0, dn_image((64, 64)))
    with pytest.raises(ValueError, match="float64"):
        encode(profile, 0, 0, np.ones((3, 64, 64)))
    for at, shape in (((2, 0), (62, 64)), ((0, 0), (64, 30))):
        with pytest.raises(ValueError, match="multiples of 4"):
            encode(profile, *at, dn_image(shape))
