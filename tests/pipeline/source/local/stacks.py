"""Small Stacks of random pixels."""

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.pipeline.source.stack import CHANNEL_DIM, PAST, build_stack, channel_of, dims_of

FORMATS = ("stack.zarr", "stack.nc", "stack")
GRID = GeoBox((70, 90), Affine(10, 0, 735_000, 0, -10, 3_845_000), "EPSG:32649")


def make_stack(grid: GeoBox = GRID, seed: int = 0, names=tuple(CHANNEL_DIM), times=()) -> xr.Dataset:
    rng = np.random.default_rng(seed)

    def layer(name: str) -> np.ndarray:
        sizes = {"time": len(times), "pol": 2, "band": 3}
        low, high = (-25, -5) if channel_of(name) == "pol" else (0, 1)
        shape = [sizes[dim] for dim in dims_of(name)[:-2]]
        values = rng.uniform(low, high, (*shape, *grid.shape)).astype("float32")
        return np.where(rng.random(values.shape) < 0.05, np.float32(np.nan), values)

    return build_stack(
        grid,
        {name: layer(name) for name in (*names, *(PAST if times else ()))},
        pols=["VV", "VH"],
        bands=["B3", "B8A", "B11"],
        manifest={"source": "test", "t1": "2021-07-10", "t2": "2021-07-22", "scenes": ["a", "b"]},
        times=times,
    )


def assert_same_pixels(a: xr.Dataset, b: xr.Dataset) -> None:
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        assert a[name].values.tobytes() == b[name].values.tobytes(), name
