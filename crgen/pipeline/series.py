"""Series of dates of one ordinary place, all bands and both polarisations: what changes where nothing is flooded.

The sets and their licences are those of :mod:`crgen.pipeline.worldcereal` and :mod:`crgen.pipeline.biomassters`, and
Hesbaye, Belgium, 20 monthly composites of 1 × 1 km (repository WorldCereal/presto-worldcereal).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from scipy import ndimage

from crgen.errors import TrainingError
from crgen.model.water import water_label
from crgen.pipeline import biomassters, worldcereal
from crgen.pipeline.worldcereal import Date

POLS = ("VV", "VH")
BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
MONTHS_20 = "WC-INPUTS_belgium_good_2020-08-01_2022-03-31.nc"

MONTHS_20_CLOUDY = ("2021-11-01", "2022-01-01", "2022-02-01")
"""Composites that are cloud or haze to the eye: clear nowhere."""

GROUND = {
    "belgium_dates": "belgium site",
    "belgium_months": "hesbaye",
    "belgium_20months": "hesbaye",
    "finland_0060c0a5": "finland 0060c0a5",
    "finland_288afc34": "finland 288afc34",
}
"""The series, and the ground each shows: series of one ground overlap, so they stay on one side of any split."""


HELD_OUT_FROM = {
    "belgium_dates": "2018-07-20",
    "belgium_months": "2021-08-01",
    "belgium_20months": "2021-08-01",
    "finland_0060c0a5": "2021-06-01",
    "finland_288afc34": "2021-06-01",
}
"""First day kept for scoring: what is trained for scores on other dates of a place sees no target from then on."""

CLEAR_MONTHS = {"0060c0a5": (1, 2, 4, 5, 6, 7, 8, 9, 10), "288afc34": (1, 3, 4, 5, 7, 8, 9, 10, 11)}
"""Months of Finland's chips, from 0 (September), that are free of cloud to the eye. Their cloud probability takes shade
and snow for cloud and misses cloud shadow, so it is not used: other months are clear nowhere."""
LOW_SUN = {"finland_0060c0a5": (11, 1, 2, 3), "finland_288afc34": (10, 12, 1, 2)}
"""Months of the year with snow, ice or long shadows, where :func:`crgen.model.water.water_label` is wrong in places."""


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


def held_out(place: str, date: Date) -> bool:
    """Return whether a date is kept for scoring, see :data:`HELD_OUT_FROM`."""
    return bool(date.day >= np.datetime64(HELD_OUT_FROM[place]))


def low_sun(place: str, date: Date) -> bool:
    """Return whether snow, ice or long shadows mislead the label of water, see :data:`LOW_SUN`."""
    return int(date.day.astype("datetime64[M]").astype(int) % 12 + 1) in LOW_SUN.get(place, ())


def water_labels(place: str, dates: list[Date]) -> list[worldcereal.Array]:
    """Return each date's label of water, ``(y, x)``: 1 water, 0 dry, NaN unknown.

    As :func:`crgen.model.water.water_label`, and under snow, ice and low sun by what the other dates of the place say:
    dry where it always was dry, snow or not; water where the label says so and it always was water; else unknown.
    """
    labels = [
        water_label(torch.from_numpy(date.s2)[None], BANDS, torch.from_numpy(date.clear)[None, None])[0, 0].numpy()
        for date in dates
    ]
    misled = [low_sun(place, date) for date in dates]
    if not any(misled):
        return labels
    good = np.stack([label for label, bad in zip(labels, misled, strict=True) if not bad])
    water, dry = (good == 1).sum(0), (good == 0).sum(0)
    always_dry, always_water = (water == 0) & (dry >= 3), (dry == 0) & (water >= 3)
    for at, date in enumerate(dates):
        if misled[at]:
            known = np.where(always_water & (labels[at] == 1), np.float32(1), np.float32(np.nan))
            labels[at] = np.where(always_dry & date.clear, np.float32(0), known)
    return labels


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
        unclear |= str(day)[:10] in MONTHS_20_CLOUDY
        clear = ~ndimage.binary_dilation(unclear, iterations=3)
        yield Date(day, s1.astype(np.float32), _all_bands(s2, bands), clear)


def _read_finland(folder: Path, chip: str) -> Iterator[Date]:
    pairs = biomassters.BioMassters(folder, POLS, BANDS, chips=(chip,), max_cloud=1.0, max_gap=11)
    start = min(first for _, first, _ in pairs.pairs)

    def date(month: int, s1: worldcereal.Array, s2: worldcereal.Array) -> Date:
        day = (np.datetime64("2020-09", "M") + month).astype("datetime64[D]") + 14
        clear = np.asarray(np.isfinite(s2).all(0) & (month in CLEAR_MONTHS.get(chip, range(12))), bool)
        return Date(day.astype("datetime64[ns]"), s1, s2, clear)

    for index, (_, first, then) in enumerate(pairs.pairs):
        if first != start:
            continue
        sample = pairs[index]
        if index == 0:
            yield date(first, sample.s1_t1, sample.s2_t1)
        yield date(then, sample.s1_t2, sample.target)
