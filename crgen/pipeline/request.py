"""What is asked of `crgen fill`."""

from __future__ import annotations

import datetime
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from crgen.errors import RequestError
from crgen.gee.choose.clear_share import CLEAR_FROM
from crgen.model.config import PrecisionName
from crgen.pipeline.source.earthengine import EarthEngine
from crgen.pipeline.source.open import ALL


@dataclass(frozen=True)
class FillRequest:
    """What is asked of a run; every field that is not about speed decides the result.

    Raises:
        RequestError: if a value makes no sense.
    """

    aoi: str | None = None
    """GeoJSON or other vector file, or ``west,south,east,north``; None for the whole of a local stack."""
    t1: datetime.date | None = None
    t2: datetime.date | None = None
    source: str = "gee"
    """``gee``, ``demo``, or the path of a local stack."""
    out: Path | None = None
    """The reflectance COG; its companions are named after it. None: ``<area>_<t1>_<t2>.tif`` here."""
    weights: str = "base"
    bands: tuple[str, ...] | None = None
    """Sentinel-2 bands to make, or ``("all",)``; None: B2, B3, B4, B8, B11 and B12, as far as the weights make and a
    local stack holds them."""
    device: str = "auto"
    precision: PrecisionName = "auto"
    """What the generator computes in. ``auto``: reduced where the device is faster so and the result hardly moves."""
    crs: str | None = None
    clip: bool = False
    """Leave out pixels outside the polygon, not only outside its bounding box."""
    generate_all: bool = False
    """Leave observations of t2 out of the result."""
    dtype: Literal["uint16", "float32"] = "uint16"
    clear_threshold: float = CLEAR_FROM
    s1_units: Literal["dB", "linear"] = "dB"
    s1_calibrated: bool = True
    """Whether Sentinel-1 is in true dB; else its level means nothing, and only its contrast counts."""
    s2_scale: float = 1.0
    chunk: int = 1024
    workers: int | None = None
    scheduler: str = "threads"
    """Who works: ``threads`` of this process, ``processes`` of this machine, or a dask scheduler at ``tcp://…``."""
    overwrite: bool = False
    restart: bool = False
    """Throw away what a stopped run of other inputs, weights or settings left."""
    earth_engine: EarthEngine = field(default_factory=EarthEngine)
    """How to ask Earth Engine, for source ``gee``."""

    def __post_init__(self) -> None:
        choices = {"dtype": ("uint16", "float32"), "s1_units": ("dB", "linear"), "precision": get_args(PrecisionName)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise RequestError(f"{name} '{getattr(self, name)}' is not one of {', '.join(allowed)}")
        if not 0 < self.clear_threshold <= 1:
            raise RequestError(f"the clear threshold is {self.clear_threshold}; give a score above 0 and up to 1")
        if not (math.isfinite(self.s2_scale) and self.s2_scale > 0):
            raise RequestError(f"the Sentinel-2 scale is {self.s2_scale}; give a positive factor, e.g. 1e-4")
        if self.bands is not None and (not self.bands or len(set(self.bands)) < len(self.bands)):
            raise RequestError("name at least one band, each once, e.g. B4,B3,B2")
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


def parse_bands(text: str | None) -> tuple[str, ...] | None:
    """Return the bands a person wrote with commas between, or ``all``, in upper or lower case; None as it is."""
    if text is None:
        return None
    names = tuple(name.strip().upper() for name in text.split(",") if name.strip())
    return ALL if names == ("ALL",) else names
