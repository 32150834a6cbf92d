"""The shipped weights on real Sentinel imagery: georeferencing kept, plausible reflectance, error reported."""

import functools
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

import crgen
from crgen.pipeline.product.result import Result
from crgen.pipeline.tiling.quality import Quality
from tests.realdata import REAL_DATA, needs_real_data, real_stacks

pytestmark = needs_real_data


@functools.lru_cache
def filled(name: str, folder: Path) -> tuple[Result, xr.Dataset]:
    """A pair's map, made once, and its Stack."""
    stack = real_stacks.PAIRS[name](REAL_DATA)
    crgen.write_stack(stack, folder / f"{name}.zarr")
    return crgen.fill(source=str(folder / f"{name}.zarr"), out=folder / f"{name}.tif"), stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.mark.parametrize("name", ["months_spring_to_summer", "dates_clouds_at_t1"])
def test_belgium_keeps_its_place_and_looks_like_land(name: str, folder: Path) -> None:
    result, stack = filled(name, folder)
    with rasterio.open(result.paths.reflectance) as cog:
        assert cog.crs.to_epsg() == 32631
        assert abs(cog.transform.c + 5 - float(stack.x[0])) < 0.1
        assert abs(cog.transform.f - 5 - float(stack.y[0])) < 0.1
        assert cog.shape == (stack.sizes["y"], stack.sizes["x"])
    image = result.reflectance.compute()
    assert 0.02 < float(image.median()) < 0.5
    assert float(image.quantile(0.99)) < 1.2
    assert result.error["generated"]["RMSE"] < 0.2


def test_a_cloudy_reference_is_not_copied(folder: Path) -> None:
    result, _ = filled("dates_clouds_at_t1", folder)
    assert result.error["generated"]["RMSE"] < 0.5 * result.error["copy of t1"]["RMSE"]


def test_without_an_optical_reference_every_pixel_says_so(folder: Path) -> None:
    result, _ = filled("months_without_optical_t1", folder)
    assert set(np.unique(result.quality)) == {Quality.GENERATED_RADAR_ONLY}


def test_clear_ground_at_t2_stays_as_observed(folder: Path) -> None:
    result, stack = filled("dates_clouds_at_t2", folder)
    seen = (result.quality == Quality.OBSERVED).values
    assert 0.1 < seen.mean() < 0.9
    observed = stack["s2_t2"].sel(band=result.reflectance.band.values).values
    np.testing.assert_allclose(result.reflectance.values[:, seen], observed[:, seen].clip(1e-4), atol=0.51e-4)
