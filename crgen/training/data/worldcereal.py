"""WorldCereal's public test imagery as training samples: two dates of one place in Belgium.

Repository WorldCereal/worldcereal-classification (MIT). ``dates``: real acquisitions of 640 × 640 m, 2017-08 to 2018-11
(Sentinel-2 L2A with scene classification, Sentinel-1 GRD; 20 m bands and radar are repeated to 10 m). ``months``:
monthly composites of 1 × 1 km, 2020-11 to 2021-10.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import validate_call
from scipy import ndimage

from crgen.errors import TrainingError
from crgen.training.data.channels import Several, positions
from crgen.training.data.dataset import Sample

POLS = ("VV", "VH")
MONTHS_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")
DATES_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
RADIOMETRY = "WorldCereal: backscatter in dB, reflectance = DN / 10,000 (Sentinel-2 L2A)"
CLEAR_SCL = (4, 5, 6, 7)
"""Scene classes that count as clear: vegetation, bare, water, unclassified."""
NODATA = 65_535
DATES = "00002806639B424A_32631_2017-08-01_2018-11-30.nc"
MONTHS = "worldcereal_preprocessed_inputs.nc"
HAZY = ("2017-08-24", "2017-10-23", "2018-05-24", "2018-06-10", "2018-06-25", "2018-07-13", "2018-07-18", "2018-11-27")
"""Days that are hazy or overcast to the eye where the scene classification says clear: never a later date."""
BRIGHT_BLUE = 0.16
"""Reflectance of B2 above which a pixel is taken for cloud that the scene classification missed."""

_ANGLES = ("sunAzimuthAngles", "sunZenithAngles", "viewAzimuthMean", "viewZenithMean")

Array = NDArray[np.float32]


class Date(NamedTuple):
    """One place at one date."""

    day: np.datetime64
    s1: Array
    """``(pol, y, x)`` in dB."""
    s2: Array
    """``(band, y, x)``, reflectance."""
    clear: NDArray[np.bool_]
    """``(y, x)``."""


class WorldCereal:
    """All pairs of dates whose later one is clear enough.

    Args:
        folder: where the NetCDF files are.
        pols: polarisations to hand out, in this order.
        bands: bands to hand out.
        part: ``dates`` (64 × 64 px) or ``months`` (100 × 100 px).
        max_days: most days between the two.
        min_clear: least share of clear pixels at the later date.
        between: first and last day of use (``"2018-03-01", "2018-10-31"``); all if not given.

    Raises:
        TrainingError: if the files are missing or damaged, no pair is left, or a channel is not in the data.
    """

    @validate_call
    def __init__(
        self,
        folder: Path,
        pols: tuple[str, ...] = POLS,
        bands: tuple[str, ...] = MONTHS_BANDS,
        *,
        part: Literal["dates", "months"] = "dates",
        max_days: int = 120,
        min_clear: float = 0.5,
        between: Several[tuple[str, str] | None] = None,
    ) -> None:
        self.pols, self.bands, self.part = pols, bands, part
        channels = (
            positions(pols, POLS, "WorldCereal"),
            positions(bands, DATES_BANDS if part == "dates" else MONTHS_BANDS, f"WorldCereal's {part}"),
        )
        read = _read_dates if part == "dates" else _read_months
        try:
            dates = read(folder)
        except (OSError, KeyError, ValueError) as error:
            raise TrainingError(
                f"WorldCereal's {part} in {folder} are missing or damaged ({str(error).splitlines()[0]})"
            ) from None
        self.dates = [d._replace(s1=d.s1[channels[0]], s2=d.s2[channels[1]]) for d in dates]
        if between is not None:
            first, last = (np.datetime64(day) for day in between)
            self.dates = [d for d in self.dates if first <= d.day <= last]
        self.pairs = [
            (a, b)
            for a, b in combinations(self.dates, 2)
            if (b.day - a.day) / np.timedelta64(1, "D") <= max_days
            and b.clear.mean() >= min_clear
            and str(b.day)[:10] not in HAZY
        ]
        if not self.pairs:
            raise TrainingError(f"no pair of WorldCereal's {part} has a later date with {min_clear:.0%} clear")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        a, b = self.pairs[index]
        name = f"{str(a.day)[:10]}→{str(b.day)[:10]}"
        return Sample(a.s1, a.s2, b.s1, b.s2, b.clear[None], name, self.part, a.clear[None])


def _read_months(folder: Path) -> list[Date]:
    with xr.open_dataset(folder / MONTHS) as file:
        images = file.load()

    def values(month: Any, name: str) -> Array:
        stored = month[name].values.astype(np.int64) & 0xFFFF
        return np.where(stored == NODATA, np.nan, stored).astype(np.float32)

    dates = []
    for at, day in enumerate(images.t.values):
        month = images.isel(t=at)
        with np.errstate(divide="ignore"):
            s1 = np.stack([20 * np.log10(values(month, f"S1-SIGMA0-{p}")) - 83 for p in POLS])
        s2 = np.stack([values(month, f"S2-L2A-B{b[1:]:0>2}") for b in MONTHS_BANDS]) * np.float32(1e-4)
        s1[~np.isfinite(s1)] = np.nan
        dates.append(Date(day, s1.astype(np.float32), s2, _clear(s2, np.isfinite(s2).all(0), MONTHS_BANDS)))
    return dates


def _read_dates(folder: Path) -> list[Date]:
    def opened(name: str, **options: Any) -> xr.Dataset:
        with xr.open_dataset(folder / f"{name}_{DATES}", **options) as file:
            return file.load()

    # Scene classes and angles are whole numbers with a fill value that is none: they do not decode.
    fine, coarse = opened("S2_L2A_10m"), opened("S2_L2A_20m", drop_variables=["SCL", *_ANGLES])
    classes, radar = opened("S2_L2A_20m", mask_and_scale=False)["SCL"], opened("S1_GRD-ASCENDING_20m")
    if not (fine.timestamp.values == coarse.timestamp.values).all():
        raise ValueError("the 10 m and 20 m files hold other dates")
    dates = []
    for at, day in enumerate(fine.timestamp.values):
        names = [band if band == "B8A" else f"B{band[1:]:0>2}" for band in DATES_BANDS]
        planes = [fine[name].values[at] if name in fine else _repeat(coarse[name].values[at]) for name in names]
        s2 = np.stack(planes).astype(np.float32)
        seen = _repeat(np.isin(classes.values[at], CLEAR_SCL))
        near = int(np.abs(radar.timestamp.values - day).argmin())
        s1 = np.stack([_repeat(radar[p].values[near]) for p in POLS]).astype(np.float32)
        dates.append(Date(day, s1, s2, _clear(s2, seen & np.isfinite(s2).all(0), DATES_BANDS)))
    return dates


def _repeat(image: Any) -> Any:
    """Repeat 20 m pixels to 10 m."""
    return image.repeat(2, axis=-2).repeat(2, axis=-1)


def _clear(s2: Array, seen: NDArray[np.bool_], bands: tuple[str, ...]) -> NDArray[np.bool_]:
    """Take away bright pixels, and what lies within 3 px of anything that is not clear."""
    clear = seen & ~(s2[bands.index("B2")] > BRIGHT_BLUE)
    return np.asarray(~ndimage.binary_dilation(~clear, iterations=3), dtype=bool) if not clear.all() else clear
