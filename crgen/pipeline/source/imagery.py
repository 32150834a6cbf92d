"""What a run works on: imagery of an area and two dates."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import xarray as xr

from crgen.errors import RequestError
from crgen.files import ASSETS, pulled_from
from crgen.pipeline.source.area import Area
from crgen.pipeline.source.registration import Shift
from crgen.pipeline.source.stack import OCCURRENCE, manifest_of

SENTINEL1_START = datetime.date(2014, 10, 3)
"""First acquisitions in Earth Engine's ``COPERNICUS/S1_GRD``."""


@dataclass(frozen=True)
class Scene:
    """Imagery of an area, with the grid of the result."""

    stack: xr.Dataset
    """The Stack; may reach beyond ``area`` so that windows at its edge see real surroundings."""
    area: Area
    t1: datetime.date
    t2: datetime.date
    notes: tuple[str, ...]
    calibrated: bool
    """Whether the radar is in true dB."""
    made: tuple[str, ...]
    """Sentinel-2 bands of the result."""
    pulls: tuple[Any, ...] = ()
    """Of Earth Engine, the :class:`~crgen.gee.fetch.arrays.Pull` of the tiles to fetch, and that of its past beside."""
    water: Any = None
    """The tiles that tell how often there was water, alike; fetched only where images do not tell of t1."""

    @property
    def eecu_hours(self) -> float | None:
        """What Earth Engine will compute for the tiles to fetch, an estimate; None where nothing tells it yet."""
        missing = [job for pull in self.pulls for job in pull.missing()]
        if not missing:
            return 0.0
        told = self.pulls[0].fetcher.meter.estimate((job.layer, job.tile) for job in missing)
        return None if told is None else float(told.hours)

    @property
    def days(self) -> dict[str, list[datetime.date]]:
        """Days of acquisition (UTC) by variable, in order, as far as the Stack says them."""
        return {
            name: sorted({datetime.date.fromisoformat(scene["time"][:10]) for scene in chosen})
            for name, chosen in self.scenes.items()
        }

    @property
    def platforms(self) -> dict[str, list[str]]:
        """Satellites by variable, alike."""
        return {name: sorted({scene["platform"] for scene in chosen}) for name, chosen in self.scenes.items()}

    @property
    def water_asset(self) -> dict[str, str] | None:
        """``id`` and ``href`` of the asset that its occurrence of water is of; None for none, or if it is not known."""
        held = pulled_from(manifest_of(self.stack)).get("water")
        return {"id": str(held), "href": f"{ASSETS}{held}"} if held and OCCURRENCE in self.stack else None

    @property
    def scenes(self) -> dict[str, list[dict[str, Any]]]:
        """What the Stack says of its acquisitions, by variable."""
        held: dict[str, list[dict[str, Any]]] = pulled_from(manifest_of(self.stack)).get("scenes", {})
        return held


def radar_days(days: Mapping[str, Sequence[datetime.date]]) -> tuple[str, str] | None:
    """Return the days of the radar of t1 and of t2, several with commas; None where they are not known.

    Args:
        days: days of acquisition by variable, in order.
    """
    t1, t2 = (", ".join(map(str, days.get(name, ()))) for name in ("s1_t1", "s1_t2"))
    return (t1, t2) if t1 and t2 else None


def radar_line(
    days: Mapping[str, Sequence[datetime.date]],
    t1: datetime.date,
    t2: datetime.date,
    platforms: Mapping[str, Sequence[str]],
    shift: Shift | None = None,
) -> str:
    """Return what a person is told of the radar's days, satellites and shift; empty where they are not known."""
    said = []
    if known := radar_days(days):
        for name, acquired, day in zip(("t1", "t2"), known, (t1, t2), strict=True):
            said.append(f"{', '.join(platforms[f's1_{name}'])} of {acquired} for {name} ({day})")
    return ", ".join([*said, *([] if shift is None else [str(shift)])])


def check_dates(t1: datetime.date | None, t2: datetime.date) -> None:
    """Refuse dates that make no sense; of one date alone, t1 is None.

    Raises:
        RequestError: if t2 is not after t1, or a date lies before Sentinel-1 or in the future.
    """
    if t1 is not None and t2 <= t1:
        hint = "swap them" if t2 < t1 else "t1 is the earlier, clearer date"
        raise RequestError(f"t2 ({t2}) must be after t1 ({t1}): {hint}")
    name, first = ("t2", t2) if t1 is None else ("t1", t1)
    if first < SENTINEL1_START:
        raise RequestError(f"{name} ({first}) lies before Sentinel-1, whose archive starts on {SENTINEL1_START}")
    today = datetime.datetime.now(datetime.UTC).date()
    if t2 > today:
        raise RequestError(f"t2 ({t2}) lies in the future; today is {today} (UTC)")
