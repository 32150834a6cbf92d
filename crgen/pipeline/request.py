"""The options of a fill: the command line, the schema of jobs files and what Python passes are all made from them."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from crgen.errors import RequestError
from crgen.model.config import PrecisionName

ALL = ("all",)
"""Asks for every band that the weights make."""
NONE, YEAR = "none", "1y"
MOST_AFTER = 366
"""Days after t2 within which looks can tell of its light."""
"""Ask for no past, and for the usual one."""


def option(default: Any, help: str, flag: str | None = None) -> Any:
    """Return a dataclass field that is an option.

    Args:
        default: the value where nothing is asked. Of True, the command line's flag makes False.
        help: the line that ``--help`` shows.
        flag: how the command line spells the option, if not as the field is named.
    """
    return field(default=default, metadata={"help": help, "flag": flag})


def options_of(kind: type) -> Iterator[tuple[Field[Any], Any]]:
    """Yield the fields of a dataclass that are options, each with its type."""
    types = get_type_hints(kind)
    return ((f, types[f.name]) for f in fields(kind) if "help" in f.metadata)


@dataclass(frozen=True)
class EarthEngine:
    """How to ask Earth Engine.

    Raises:
        RequestError: if a value makes no sense.
    """

    project: str | None = option(None, "Cloud project. (EE_PROJECT_ID, or what the credentials say)")
    credentials: Path | None = option(None, "Service account's JSON key. (what 'earthengine authenticate' stored)")
    search_days: int = option(6, "Days around a date within which acquisitions serve it.")
    """A satellite comes back after 12 days: 6 reach every orbit."""
    observed_days: int = option(0, "Days around t2 within which an optical image counts as observed.")
    min_coverage: float = option(0.9, "Share of the area that radar, and the optical image of t1, must cover.")
    radar_not_before: datetime.date | None = option(
        None, "Day of the event, YYYY-MM-DD: no earlier radar stands for t2, however near."
    )
    keep_tiles: bool = option(True, "Do not keep fetched tiles for later runs.", "--no-cache")
    manifest: Path | None = None
    """A manifest, or a product's STAC Item, whose scenes to use again."""
    processes: int = 1
    """Processes that ask at the same time, and share what one may ask at once."""
    patience: float = math.inf
    """Seconds of fruitless asking after which a request is given up, if that is sooner than usual."""

    def __post_init__(self) -> None:
        if not (0 <= self.search_days <= 366 and 0 <= self.observed_days <= 366):
            raise RequestError("--search-days and --observed-days must be from 0 to 366")
        if self.observed_days > self.search_days:
            raise RequestError(
                f"--observed-days is {self.observed_days}, but only {self.search_days} days around t2 are searched; "
                "raise --search-days too"
            )
        if not 0 <= self.min_coverage <= 1:
            raise RequestError(f"--min-coverage is {self.min_coverage}; give a share from 0 to 1")


@dataclass(frozen=True)
class FillRequest:
    """What is asked of a run; every field that is not about speed decides the result.

    Raises:
        RequestError: if a value makes no sense.
    """

    aoi: str | None = option(None, "Area: GeoJSON or other vector file, or west,south,east,north in degrees.")
    """None for the whole of a local stack."""
    layer: str | None = option(None, "Layer of the area's file, where several hold polygons.")
    t1: datetime.date | None = option(None, "Day of the earlier images, YYYY-MM-DD.")
    t2: datetime.date | None = option(None, "Day to map, YYYY-MM-DD.")
    source: str = option("gee", "Where the imagery comes from: gee, demo, or the PATH of a stack.")
    out: Path | None = option(None, "The .tif to make; its companions stand beside it. (AREA_T1_T2.tif)")
    weights: str = option("base", "Name (see 'crgen models') or path of the weights.")
    bands: tuple[str, ...] | None = option(
        None, "Sentinel-2 bands to make, e.g. B4,B3,B2, or all. (B2,B3,B4,B8,B11,B12)"
    )
    """``("all",)`` for all. None: the usual six, as far as the weights make and a local stack holds them."""
    device: str = option("auto", "auto, cpu, cuda or mps.")
    precision: PrecisionName = option(
        "auto", "What the generator computes in; reduced by itself only where the map hardly changes."
    )
    crs: str | None = option(None, "Grid of the map, e.g. EPSG:32650. (the area's UTM zone)")
    clip: bool = option(False, "No data outside the polygon.")
    generate_all: bool = option(False, "The generator's image alone, without observations of t2.")
    dtype: Literal["uint16", "float32"] = option("uint16", "Reflectance × 10000, or reflectance.")
    clear_threshold: float = option(0.6, "Clear-sky score from which a pixel of t2 counts as seen.")
    s1_units: Literal["dB", "linear"] = option("dB", "Unit of a stack's backscatter.")
    s1_calibrated: bool = option(
        True, "A stack's backscatter has no true level: only contrast counts.", "--s1-uncalibrated"
    )
    s2_scale: float = option(1.0, "Factor from a stack's Sentinel-2 values to reflectance.")
    s2_offset: float = option(0.0, "Added after that factor; -0.1 for numbers of processing baseline 04.00 and later.")
    past: str | None = option(
        None, "Learn from other looks at the place, as far back as 1y, 90d …; or none. (1y for gee; what a stack holds)"
    )
    after: int = option(0, "Days after t2 within which looks tell of its light.")
    chunk: int = option(1024, "Side of a unit of work in pixels; bounds the memory.")
    workers: int | None = option(
        None, "Threads that read and encode while one computes, or processes. (the machine's cores)"
    )
    scheduler: str = option("threads", "Who works: threads, processes, or a dask scheduler at tcp://HOST:PORT.")
    overwrite: bool = option(False, "Replace an existing product.")
    restart: bool = option(False, "Throw away what a stopped run left, where it cannot be gone on with.")
    earth_engine: EarthEngine = field(default_factory=EarthEngine)
    """How to ask Earth Engine, for source ``gee``."""

    def __post_init__(self) -> None:
        for f, kind in options_of(FillRequest):
            if get_origin(kind) is Literal and (value := getattr(self, f.name)) not in get_args(kind):
                raise RequestError(f"{f.name} '{value}' is not one of {', '.join(get_args(kind))}")
        if not 0 < self.clear_threshold <= 1:
            raise RequestError(f"the clear threshold is {self.clear_threshold}; give a score above 0 and up to 1")
        if not (math.isfinite(self.s2_scale) and self.s2_scale > 0):
            raise RequestError(f"the Sentinel-2 scale is {self.s2_scale}; give a positive factor, e.g. 1e-4")
        if not -1 < self.s2_offset < 1:
            raise RequestError(
                f"the Sentinel-2 offset is {self.s2_offset:g}; it is added to reflectance, so give e.g. -0.1 for -1000"
            )
        if self.bands is not None and (not self.bands or len(set(self.bands)) < len(self.bands)):
            raise RequestError("name at least one band, each once, e.g. B4,B3,B2")
        parse_past(self.past or NONE)
        check_after(self.after)
        if self.chunk < 1 or (self.workers is not None and self.workers < 1):
            raise RequestError("the chunk size and the number of workers must be positive")
        for name in ("source", "weights", "crs"):
            if getattr(self, name) == "":
                raise RequestError(f"{name} is empty; give a value, or leave the option out")
        if self.scheduler not in ("threads", "processes") and not re.fullmatch(
            r"(tcp|tls|ws|wss)://.+", self.scheduler
        ):
            raise RequestError(
                f"the scheduler '{self.scheduler}' is not one of threads, processes, or a dask scheduler's tcp://host:port"
            )
        if self.out is not None and self.out.suffix.lower() not in (".tif", ".tiff"):
            raise RequestError(f"the output '{self.out}' is not a .tif: name the file to make, e.g. result.tif")
        if self.out is not None and re.match(r"\w{2,}:/", self.out.as_posix()):
            raise RequestError(f"the output '{self.out}' is a URL: make it on a disk, and copy it from there")
        if self.out is not None and set(";!") & set(str(self.out)):
            raise RequestError(
                f"no outlines can be written beside '{self.out}': leave ; and ! out of its name and folder"
            )


def parse_date(value: datetime.date | str | None, name: str) -> datetime.date | None:
    """Return the day a person wrote as ``YYYY-MM-DD``.

    Raises:
        RequestError: if it is no such day.
    """
    if value is None or isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise RequestError(f"{name} '{value}' is not a day: write it as YYYY-MM-DD, e.g. 2021-07-22") from None


def parse_past(text: str) -> int:
    """Return the days that a person wrote as ``1y``, ``6m`` or ``90d``; 0 for ``none``.

    Raises:
        RequestError: if it is no such time.
    """
    found = re.fullmatch(r"(\d+)\s*([dmy])", text.strip().lower())
    days = int(found[1]) * {"d": 1, "m": 30, "y": 365}[found[2]] if found else 0
    if text.strip().lower() != NONE and not 0 < days <= 3660:
        raise RequestError(f"--past is '{text}'; give a time such as 1y, 6m or 90d, up to 10y, or none")
    return days


def check_after(days: int) -> None:
    """Refuse days after t2 that make no sense.

    Raises:
        RequestError: if they are fewer than none or more than a year.
    """
    if not 0 <= days <= MOST_AFTER:
        raise RequestError(f"--after is {days}; give days from 0 to {MOST_AFTER}")


def parse_bands(value: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the bands a person wrote, in upper or lower case, in one text with commas between or as several, or all.

    None stays as it is.
    """
    if isinstance(value, str):
        value = [name for name in value.split(",") if name.strip()]
    names = None if value is None else tuple(name.strip().upper() for name in value)
    return ALL if names == ("ALL",) else names


def read(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``options`` that are fields of a dataclass: days, paths and bands may be text, and bands a list.

    Raises:
        RequestError: if a day is none.
    """
    values = {}
    for name, type_ in get_type_hints(kind).items():
        if name in options:
            value, types = options[name], (type_, *get_args(type_))
            if datetime.date in types:
                value = parse_date(value, name)
            elif tuple[str, ...] in types:
                value = parse_bands(value)
            elif Path in types and value is not None:
                value = Path(value)
            values[name] = value
    return values
