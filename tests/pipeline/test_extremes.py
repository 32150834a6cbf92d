"""Scenes at the ends of what there is, by the shipped weights: no change in the radar, and no land at all."""

import datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import crgen
from crgen.pipeline.product.result import Result
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from crgen.training.events import CLEAR

DAYS = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
GRID = "113.532,34.714,113.539,34.72"


@pytest.fixture
def scene() -> xr.Dataset:
    """Nothing of t2 is seen, all of t1 is clear."""
    stack = open_demo(read_area(GRID).geobox, *DAYS, pols=("VV", "VH"), bands=BANDS).compute().drop_vars("truth_t2")
    nothing = {"s2_t2": stack["s2_t2"] * np.nan, "clear_t2": stack["clear_t2"] * 0}
    return stack.assign(nothing | {"clear_t1": xr.ones_like(stack["clear_t1"])})


def filled(stack: xr.Dataset, folder: Path) -> Result:
    crgen.write_stack(stack, folder / "scene.zarr")
    return crgen.fill(source=str(folder / "scene.zarr"), out=folder / "map.tif")


def test_radar_that_has_not_changed_floods_nothing(scene: xr.Dataset, tmp_path: Path) -> None:
    result = filled(scene.assign(s1_t2=scene["s1_t1"]), tmp_path)
    assert result.areas is not None
    assert result.areas.flooded < 0.05 * scene["s1_t1"][0].size * 100
    assert np.isfinite(result.reflectance.values).all()


def test_an_area_without_land_is_water_at_both_dates_and_none_of_it_is_new(scene: xr.Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def noisy(like: xr.DataArray, levels: list[float], deviation: float) -> xr.DataArray:
        level = np.array(levels)[:, None, None]
        return like.copy(data=(level + deviation * rng.standard_normal(like.shape)).astype(np.float32))

    colour = [CLEAR[band] + 0.01 for band in BANDS]
    sea = scene.assign(
        {name: noisy(scene[name], [-21.0, -28.0], 1.5) for name in ("s1_t1", "s1_t2")}
        | {"s2_t1": noisy(scene["s2_t1"], colour, 0.001)}
    )
    result = filled(sea, tmp_path)
    assert result.areas is not None
    assert result.areas.flooded < 0.05 * scene["s1_t1"][0].size * 100
    assert float((result.water >= 50).mean()) > 0.95
