"""A finished product: its rasters, what was counted, and what a person should know about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rioxarray
import xarray as xr

from crgen.errors import StackError
from crgen.model.card import ModelCard
from crgen.model.usual import unlike_text
from crgen.pipeline.flood.area import Areas
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.past import Learned


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
    areas: Areas | None = None
    """Areas of water; None where the weights predict none."""
    check: dict[str, Any] = field(default_factory=dict)
    """What hidden blocks of t2 said, see :func:`~crgen.pipeline.product.selfcheck.self_check`."""
    past: Learned | None = None
    """What the place's own past taught, if it was asked."""
    error: dict[str, dict[str, float]] | None = None
    """RMSE, MAE and PSNR of generated pixels and of copying t1 there, if the truth is known."""

    @property
    def reflectance(self) -> xr.DataArray:
        """Reflectance at t2, ``(band, y, x)``, NaN where there is none."""
        data = open_raster(self.paths.reflectance, masked=True)
        return data.assign_coords(band=list(data.attrs["long_name"])) if data.sizes["band"] > 1 else data

    @property
    def quality(self) -> xr.DataArray:
        """The :class:`~crgen.pipeline.tiling.quality.Quality` class of each pixel, ``(y, x)`` uint8."""
        return open_raster(self.paths.quality, masked=False).squeeze("band", drop=True)

    @property
    def water(self) -> xr.DataArray | None:
        """Probability of water at t2 and t1 in per cent, ``(band, y, x)``, bands ``water`` and ``water_t1``, NaN where
        it is not known; None where the weights predict none."""
        if not self.paths.water.exists():
            return None
        data = open_raster(self.paths.water, masked=True)
        return data.assign_coords(band=list(data.attrs["long_name"]))

    @property
    def half_width(self) -> xr.DataArray | None:
        """Half the width of the 90 % interval of reflectance where it was generated, ``(band, y, x)``, NaN elsewhere;
        None where the weights predict no variance."""
        if not self.paths.half_width.exists():
            return None
        data = open_raster(self.paths.half_width, masked=True)
        return data.assign_coords(band=list(data.attrs["long_name"])) if data.sizes["band"] > 1 else data


def open_raster(path: Path, *, masked: bool) -> xr.DataArray:
    """Open a raster lazily, ``(band, y, x)``; if ``masked``, with its scale, and NaN where there is no data."""
    data = rioxarray.open_rasterio(path, chunks=1024, mask_and_scale=masked)
    assert isinstance(data, xr.DataArray)
    return data


def notes_on(tally: Tally, card: ModelCard, local: bool) -> tuple[str, ...]:
    """Return what a person should know about the inputs; first of all whether they are unlike the training.

    Args:
        tally: what was counted.
        card: of the weights.
        local: whether they are a stack on disk, of which zeros may be taken as missing though nobody says so.

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
    strange = unlike_text(card.usual, tally.unlike, tally.inside)
    assumed = {"s1": " (0 dB over a region counts as missing)", "s2": " (0 in every band counts as missing)"}
    return (strange,) * bool(strange) + tuple(
        f"{name} is missing at {100 * count / tally.inside:.1f} % of the area"
        + (assumed.get(name[:2], "") if local else "")
        for name, count in tally.missing.items()
        if count
    )
