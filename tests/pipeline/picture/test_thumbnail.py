"""Thumbnails are means of what is there, whatever the chunks, and never need the whole raster in memory."""

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.picture.thumbnail import Thumbnail, cog_thumbnail
from crgen.pipeline.tiling.quality import COLOURS, Quality
from tests.pipeline.cog.rasters import write_cog


def plain_means(image, step):
    """Block means written out with loops."""
    count, height, width = image.shape
    starts = [(y, x) for y in range(0, height, step) for x in range(0, width, step)]
    small = np.full((count, -(-height // step), -(-width // step)), np.nan)
    for y, x in starts:
        for band in range(count):
            block = image[band, y : y + step, x : x + step]
            if np.isfinite(block).any():
                small[band, y // step, x // step] = np.nanmean(block)
    return small


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 60), st.integers(1, 60)),
    chunk=st.integers(3, 70),
    longest=st.integers(4, 80),
    seed=st.integers(0, 100),
)
def test_means_of_valid_pixels_whatever_the_chunks(shape, chunk, longest, seed):
    rng = np.random.default_rng(seed)
    image = rng.random(shape, dtype="float32")
    image[rng.random(shape) < 0.4] = np.nan
    thumbnail = Thumbnail(shape, longest=longest)
    for row in range(0, shape[1], chunk):
        for col in range(0, shape[2], chunk):
            reduced = thumbnail.reduce(row, col, image[:, row : row + chunk, col : col + chunk])
            thumbnail.put(row, col, *reduced)
    small = thumbnail.mean()
    assert max(small.shape[1:]) <= longest
    np.testing.assert_allclose(small, plain_means(image, -(-max(shape[1:]) // longest)), rtol=1e-5)


def test_backscatter_is_averaged_as_power():
    thumbnail = Thumbnail((1, 1, 2), decibel=True, longest=1)
    thumbnail.put(0, 0, *thumbnail.reduce(0, 0, np.array([[[0.0, -20.0]]], "float32")))
    assert thumbnail.mean().item() == pytest.approx(10 * np.log10(0.505), abs=1e-4)


def test_a_cog_gives_reflectance_of_the_bands_asked_for(tmp_path):
    geobox = GeoBox((1030, 2050), Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    image = np.empty((3, 1030, 2050), "uint16")
    image[:] = np.array([1000, 2000, 3000])[:, None, None]
    image[:, :, :1025] = 0
    profile = RasterProfile(geobox, ("B2", "B3", "B4"), "uint16", 0, scale=1e-4)
    write_cog(tmp_path / "a.tif", profile, image)
    small = cog_thumbnail(tmp_path / "a.tif", ("B4", "B2"))
    assert small.shape == (2, 502, 1000)
    assert np.isnan(small[:, :, :499]).all()
    np.testing.assert_allclose(small[0, :, 501:], 0.3, rtol=1e-6)
    np.testing.assert_allclose(small[1, :, 501:], 0.1, rtol=1e-6)


def test_classes_are_picked_never_averaged(tmp_path):
    geobox = GeoBox((900, 900), Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    image = np.random.default_rng(0).choice([Quality.OBSERVED, Quality.GENERATED_RADAR_ONLY], (1, 900, 900))
    write_cog(
        tmp_path / "q.tif",
        RasterProfile(geobox, ("quality",), "uint8", 0, colours=COLOURS),
        image.astype("uint8"),
    )
    assert set(np.unique(cog_thumbnail(tmp_path / "q.tif", longest=100))) == {1, 4}
