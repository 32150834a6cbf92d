"""A finished product: its rasters, what was counted, and what a person should know about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rioxarray
import xarray as xr

from crgen.errors import StackError
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.source.stack import manifest_of
from crgen.pipeline.tiling.counts import Tally


@dataclass(frozen=True)
class Result:
    """A finished product. Rasters open lazily."""

    paths: Paths
    tally: Tally
    notes: tuple[str, ...]
    seconds: float
    resumed: int = 0
    """Chunks taken over from a run that was stopped."""
    radar: str = ""
    """Of which days the radar is, in words; empty where the Stack does not say."""

    @property
    def reflectance(self) -> xr.DataArray:
        """Reflectance at t2, ``(band, y, x)``, NaN where there is none."""
        data = _open(self.paths.reflectance, masked=True)
        return data.assign_coords(band=list(data.attrs["long_name"])) if data.sizes["band"] > 1 else data

    @property
    def quality(self) -> xr.DataArray:
        """The :class:`~crgen.pipeline.tiling.quality.Quality` class of each pixel, ``(y, x)`` uint8."""
        return _open(self.paths.quality, masked=False).squeeze("band", drop=True)

    @property
    def error(self) -> dict[str, dict[str, float]] | None:
        """RMSE, MAE and PSNR of generated pixels and of copying t1, if the truth is known."""
        return errors(self.tally)


def _open(path: Path, *, masked: bool) -> xr.DataArray:
    data = rioxarray.open_rasterio(path, chunks=1024, mask_and_scale=masked)
    assert isinstance(data, xr.DataArray)
    return data


def errors(tally: Tally) -> dict[str, dict[str, float]] | None:
    """Return the scores of the generated pixels and of copying t1 there; None if no truth was known."""
    if not tally.compared:
        return None
    count = tally.compared * tally.bands
    rmse = np.sqrt(tally.squared / count)
    return {
        name: {
            "RMSE": float(rmse[i]),
            "MAE": float(tally.absolute[i] / count),
            "PSNR": float(-20 * np.log10(max(rmse[i], 1e-6))),
        }
        for i, name in enumerate(("generated", "copy of t1"))
    }


def notes_on(tally: Tally, scene: Scene) -> tuple[str, ...]:
    """Return what a person should know about the inputs.

    Raises:
        StackError: if nothing could be made at all.
    """
    if not tally.inside:
        raise StackError("the area holds no pixel centre; enlarge it, or leave --clip out")
    if tally.made == 0:
        variable = max(("s1_t1", "s2_t1", "s1_t2"), key=lambda name: tally.missing[name])
        raise StackError(
            f"no pixel could be made: '{variable}' is missing at {100 * tally.missing[variable] / tally.inside:.0f} % "
            f"of the area, and t2 was not seen clear; nothing was written. Look for another date, or another area"
        )
    assumed = {"s1": " (0 dB over a region counts as missing)", "s2": " (0 in every band counts as missing)"}
    local = manifest_of(scene.stack).get("source") == "local"
    return tuple(
        f"{name} is missing at {100 * count / tally.inside:.1f} % of the area"
        + (assumed.get(name[:2], "") if local else "")
        for name, count in tally.missing.items()
        if count
    )
