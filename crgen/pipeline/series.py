"""Series of dates of one ordinary place, all bands and both polarisations: what changes where nothing is flooded.

The sets and their licences are those of :mod:`crgen.pipeline.worldcereal` and :mod:`crgen.pipeline.biomassters`, and
Hesbaye, Belgium, 20 monthly composites of 1 × 1 km (repository WorldCereal/presto-worldcereal).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import ndimage

from crgen.errors import TrainingError
from crgen.pipeline import biomassters, worldcereal
from crgen.pipeline.worldcereal import Date

POLS = ("VV", "VH")
BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
MONTHS_20 = "WC-INPUTS_belgium_good_2020-08-01_2022-03-31.nc"

GROUND = {
    "belgium_dates": "belgium site",
    "belgium_months": "hesbaye",
    "belgium_20months": "hesbaye",
    "finland_0060c0a5": "finland 0060c0a5",
    "finland_288afc34": "finland 288afc34",
}
"""The series, and the ground each shows: series of one ground overlap, so they stay on one side of any split."""


def series(place: str, root: Path) -> list[Date]:
    """Return all dates of a place in order of time, whatever their clouds.

    Args:
        place: one of :data:`GROUND`.
        root: the folder with the sets: ``worldcereal``, ``biomassters``, ``belgium_20months``.

    Returns:
        Each date's day, backscatter of :data:`POLS` in dB ``(2, y, x)``, reflectance of :data:`BANDS` ``(10, y, x)``
        and where it is free of cloud ``(y, x)``; NaN where data is missing, in whole planes for bands that the set
        lacks. Finland's months have no year and no day: the middle of the month, from September 2020.

    Raises:
        TrainingError: if there is no such series or its files are missing or damaged.
    """
    root = Path(root)
    if place == "belgium_dates":
        return [
            date._replace(clear=np.zeros_like(date.clear)) if str(date.day)[:10] in worldcereal.HAZY else date
            for date in worldcereal.WorldCereal(root / "worldcereal", POLS, BANDS, part="dates").dates
        ]
    if place == "belgium_months":
        bands = worldcereal.MONTHS_BANDS
        dates = worldcereal.WorldCereal(root / "worldcereal", POLS, bands, part="months").dates
        return [date._replace(s2=_all_bands(date.s2, bands)) for date in dates]
    if place == "belgium_20months":
        return list(_read_20months(root / "belgium_20months" / MONTHS_20))
    if place.startswith("finland_") and place in GROUND:
        return list(_read_finland(root / "biomassters", place.removeprefix("finland_")))
    raise TrainingError(f"there is no series '{place}'; choose from {', '.join(GROUND)}")


def _all_bands(s2: worldcereal.Array, bands: tuple[str, ...]) -> worldcereal.Array:
    """Return the planes of :data:`BANDS`, NaN where a set lacks one."""
    whole = np.full((len(BANDS), *s2.shape[1:]), np.nan, np.float32)
    whole[[BANDS.index(band) for band in bands]] = s2
    return whole


def _read_20months(path: Path) -> Iterator[Date]:
    try:
        with xr.open_dataset(path, mask_and_scale=False) as file:
            images = file.load()
    except (OSError, ValueError) as error:
        raise TrainingError(f"'{path}' is missing or damaged ({str(error).splitlines()[0]})") from None
    bands = worldcereal.MONTHS_BANDS

    def planes(names: tuple[str, ...], at: int) -> worldcereal.Array:
        stored = np.stack([images[name].values[at] for name in names]).astype(np.int64) & 0xFFFF
        return np.where(stored == worldcereal.NODATA, np.nan, stored).astype(np.float32)

    for at, day in enumerate(images.t.values):
        with np.errstate(divide="ignore"):
            s1 = 20 * np.log10(planes(POLS, at)) - 83
        s1[~np.isfinite(s1)] = np.nan
        s2 = planes(bands, at) * np.float32(1e-4)
        # As for the other WorldCereal imagery: bright pixels are cloud, and so is what lies within 3 px.
        unclear = ~np.isfinite(s2).all(0) | (s2[bands.index("B2")] > worldcereal.BRIGHT_BLUE)
        clear = ~ndimage.binary_dilation(unclear, iterations=3)
        yield Date(day, s1.astype(np.float32), _all_bands(s2, bands), clear)


def _read_finland(folder: Path, chip: str) -> Iterator[Date]:
    pairs = biomassters.BioMassters(folder, POLS, BANDS, chips=(chip,), max_cloud=1.0, max_gap=11)
    start = min(first for _, first, _ in pairs.pairs)

    def date(month: int, s1: worldcereal.Array, s2: worldcereal.Array, clear: np.ndarray) -> Date:
        day = np.datetime64("2020-09", "M") + month
        return Date((day.astype("datetime64[D]") + 14).astype("datetime64[ns]"), s1, s2, clear[0])

    for index, (_, first, then) in enumerate(pairs.pairs):
        if first != start:
            continue
        sample = pairs[index]
        if index == 0:
            assert sample.clear_t1 is not None
            yield date(first, sample.s1_t1, sample.s2_t1, sample.clear_t1)
        yield date(then, sample.s1_t2, sample.target, sample.clear)
