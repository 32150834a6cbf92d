"""How far a map is off where the truth is known, as of the demo and of stacks that hold ``truth_t2``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from crgen.pipeline.box import lattice_box
from crgen.pipeline.cog.profile import display_bands
from crgen.pipeline.picture.thumbnail import LONGEST
from crgen.pipeline.product.result import open_raster
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.source.stack import stack_geobox
from crgen.pipeline.tiling.quality import GENERATED_CLASSES


class Truth(NamedTuple):
    """What the truth says of a map."""

    error: dict[str, dict[str, float]] | None = None
    """RMSE, MAE and PSNR of generated pixels and of copying t1 there; None where the truth is not known."""
    image: NDArray[np.float32] | None = None
    """Some pixels of the truth across the map, ``(y, x, band)``, with the bands that it is shown in."""


def compare(scene: Scene, rasters: Mapping[str, Path]) -> Truth:
    """Return what the truth says of finished rasters, if the Stack holds it; in bounded memory.

    Args:
        scene: the imagery of the map.
        rasters: the files of its reflectance and quality.
    """
    if "truth_t2" not in scene.stack:
        return Truth()
    rows, columns = lattice_box(scene.area.geobox).slices(lattice_box(stack_geobox(scene.stack)))
    stack = scene.stack.isel(y=rows, x=columns)
    truth, copy = (stack[name].sel(band=list(scene.made)).data.astype(np.float64) for name in ("truth_t2", "s2_t1"))
    image = open_raster(rasters["reflectance"], masked=True).data
    quality = open_raster(rasters["quality"], masked=False).data[0]
    compared = da.isin(quality, GENERATED_CLASSES) & da.isfinite(truth).all(0) & da.isfinite(copy).all(0)
    errors = [da.where(compared, made - truth, 0.0) for made in (image, copy)]
    step = -(-max(compared.shape) // LONGEST)
    shown = stack.truth_t2.sel(band=list(display_bands(scene.made))).transpose("y", "x", "band")
    small = shown[::step, ::step].data  # means over blocks that chunks cut would hold all chunks at once
    moments = [(abs(error).sum(), (error**2).sum()) for error in errors]
    found = compute(compared.sum(), moments, small, scheduler="threads")  # type: ignore[no-untyped-call]
    count, moments, small = found
    if not count:
        return Truth(None, small)
    made, copied = (_scores(absolute, squared, count * len(scene.made)) for absolute, squared in moments)
    return Truth({"generated": made, "copy of t1": copied}, small)


def _scores(absolute: float, squared: float, count: int) -> dict[str, float]:
    rmse = float(np.sqrt(squared / count))
    return {"RMSE": rmse, "MAE": float(absolute / count), "PSNR": float(-20 * np.log10(max(rmse, 1e-6)))}
