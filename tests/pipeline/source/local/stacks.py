"""Small Stacks of random pixels."""

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.pipeline.source.stack import CHANNEL_DIM, build_stack

FORMATS = ("stack.zarr", "stack.nc", "stack")
GRID = GeoBox((70, 90), Affine(10, 0, 735_000, 0, -10, 3_845_000), "EPSG:32649")


def make_stack(grid: GeoBox = GRID, seed: int = 0, names=tuple(CHANNEL_DIM)) -> xr.Dataset:
    rng = np.random.default_rng(seed)

    def layer(name: str) -> np.ndarray:
        channels = {"pol": (2,), "band": (3,), None: ()}[CHANNEL_DIM[name]]
        low, high = (-25, -5) if CHANNEL_DIM[name] == "pol" else (0, 1)
        values = rng.uniform(low, high, (*channels, *grid.shape)).astype("float32")
        return np.where(rng.random(values.shape) < 0.05, np.float32(np.nan), values)

    return build_stack(
        grid,
        {name: layer(name) for name in names},
        pols=["VV", "VH"],
        bands=["B3", "B8A", "B11"],
        manifest={"source": "test", "t1": "2021-07-10", "t2": "2021-07-22", "scenes": ["a", "b"]},
    )


def assert_same_pixels(a: xr.Dataset, b: xr.Dataset) -> None:
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        assert a[name].values.tobytes() == b[name].values.tobytes(), name
