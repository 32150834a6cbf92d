"""Where the truth is known, a finished map is told its error: of generated pixels alone, beside copying t1."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.product import truth
from crgen.pipeline.product.truth import Truth, compare
from crgen.pipeline.source.area import Area
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.tiling.quality import COLOURS, GENERATED_CLASSES, Quality
from tests.pipeline.cog.rasters import write_cog

DAYS = date(2021, 7, 10), date(2021, 7, 22)
BANDS = ("B2", "B3", "B4", "B8")
MADE = ("B8", "B3", "B4", "B2")
SHAPE = (90, 70)
GRID = GeoBox(SHAPE, Affine(10, 0, 735_000, 0, -10, 3_846_000), "EPSG:32649")


@pytest.fixture(scope="module")
def stack() -> xr.Dataset:
    """Wider than the map; t1 and the truth each miss some of it."""
    stack = open_demo(GRID.pad(20), *DAYS, pols=("VV",), bands=BANDS).compute()
    stack["s2_t1"][{"band": 0, "y": slice(20, 30)}] = np.nan
    stack["truth_t2"][{"band": 3, "x": slice(60, 200)}] = np.nan
    return stack


def scene_of(stack: xr.Dataset) -> Scene:
    chunks = {"y": 50, "x": 64}
    return Scene(stack.chunk(chunks), Area("a", GRID, box(*GRID.extent.boundingbox)), *DAYS, (), True, MADE)


def test_generated_pixels_are_scored_beside_copying_t1(
    stack: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 9999, (4, *SHAPE), np.uint16)
    quality = rng.choice([int(one) for one in Quality], (1, *SHAPE)).astype(np.uint8)
    rasters = {name: tmp_path / f"{name}.tif" for name in ("reflectance", "quality")}
    write_cog(rasters["reflectance"], RasterProfile(GRID, MADE, "uint16", 0, scale=1e-4), image)
    write_cog(rasters["quality"], RasterProfile(GRID, ("quality",), "uint8", 0, colours=COLOURS), quality)

    found = compare(scene_of(stack), rasters)
    inner = stack.isel(y=slice(20, -20), x=slice(20, -20)).sel(band=list(MADE))
    here = np.isin(quality[0], GENERATED_CLASSES)
    here &= (np.isfinite(inner.truth_t2) & np.isfinite(inner.s2_t1)).all("band").values
    assert 500 < here.sum() < 0.5 * here.size
    assert found.error is not None
    for name, made in (("generated", image * 1e-4), ("copy of t1", inner.s2_t1.values)):
        off = (made - inner.truth_t2.values)[:, here]
        rmse = np.sqrt(np.square(off).mean())
        expected = {"RMSE": rmse, "MAE": np.abs(off).mean(), "PSNR": -20 * np.log10(rmse)}
        assert found.error[name] == pytest.approx(expected, rel=1e-5)
    assert found.image is not None
    shown = inner.truth_t2.sel(band=["B4", "B3", "B2"]).transpose("y", "x", "band").values
    np.testing.assert_array_equal(found.image, shown)

    monkeypatch.setattr(truth, "LONGEST", 30)
    small = compare(scene_of(stack), rasters).image
    assert small is not None
    assert small.shape == (30, 24, 3)
    np.testing.assert_array_equal(small, shown[::3, ::3])

    observed = np.full_like(quality, Quality.OBSERVED)
    write_cog(rasters["quality"], RasterProfile(GRID, ("quality",), "uint8", 0, colours=COLOURS), observed)
    assert compare(scene_of(stack), rasters).error is None, "nothing was generated"


def test_without_a_truth_nothing_is_read(stack: xr.Dataset) -> None:
    assert compare(scene_of(stack.drop_vars("truth_t2")), {}) == Truth()
