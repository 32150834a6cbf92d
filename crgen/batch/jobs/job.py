"""The content of a jobs file: what is asked of every area, and of all of them together."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model, model_validator

from crgen.batch.jobs.values import BEFORE_EVENT, LATEST, T1, T2, Day, DaysBefore, Deadline, Duration, Size
from crgen.errors import WeightsError
from crgen.files import files_identity, stack_files
from crgen.pipeline.request import MOST_AFTER, NONE, EarthEngine, FillRequest, options_of, read


def _expanded(value: Any) -> Any:
    """Replace ``${NAME}`` by the environment variable NAME, in a text or in the texts of a table."""
    if isinstance(value, dict):
        return {key: _expanded(inner) for key, inner in value.items()}
    if not isinstance(value, str):
        return value
    try:
        return re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], value)
    except KeyError as error:
        raise ValueError(f"the environment variable {error.args[0]} is not set") from None


Secret = Annotated[str, AfterValidator(_expanded)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_DEFINING = (
    *("name", "aoi", "t1", "t2", "event", "out", "source", "weights", "device", "precision", "crs", "clip"),
    *("generate_all", "dtype", "clear_threshold", "s1_units", "s2_scale", "chunk", "workers", "scheduler", "project"),
    *("credentials", "search_days", "observed_days", "min_coverage", "no_cache", "priority", "deadline", "retries"),
    "retry_wait",
)
"""The options in a job's definition since version 0.1.0; this list must not change. Later options count only where
they differ from their default, so that a new option changes no definition."""

_AS_WRITTEN: dict[Any, Any] = {Path | None: str | None, tuple[str, ...] | None: list[str] | None}
"""Types of options of a fill, and their types in a jobs file."""
_NOT_OF_A_JOB = ("overwrite", "restart", "keep_tiles")
_OPTIONS: dict[str, Any] = {
    option.name: (_AS_WRITTEN.get(type_, type_), option.default)
    for kind in (FillRequest, EarthEngine)
    for option, type_ in options_of(kind)
    if option.name not in _NOT_OF_A_JOB
}
_Options: Any = create_model("_Options", **_OPTIONS)


class Job(_Options, _Section):  # type: ignore[misc]
    """One area. The options of ``crgen fill`` have the same names and defaults here, unless declared anew below."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    t1: T1 | None = None
    t2: T2 | None = None
    event: Day | None = None
    """The day of the event, for ``t1 = "before event"``."""
    out: str = "products"
    """Folder; each job has its own inside."""
    precision: str = FillRequest.precision  # one that is unknown is refused by the request
    no_cache: bool = False
    priority: int = 0
    """Higher goes first."""
    deadline: Deadline | None = None
    """Nothing is begun after this moment, or after so long since the acquisitions were found."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Attempts after the first, before a product is given up."""
    retry_wait: Duration = datetime.timedelta(minutes=1)
    """Longest wait before the first of them; it doubles with each."""
    improve_after: Duration | None = None
    """Once so many days after t2 are over, its map is made once more, with their images as evidence."""
    remake_for_new_weights: bool = False
    """Whether a finished product is due again once another version of crgen ships other weights under their name."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "://" in self.out:
            raise ValueError('out must be a folder on a disk; object stores receive copies: [deliver] to = "s3://…"')
        if self.t1 == BEFORE_EVENT and self.event is None:
            raise ValueError('t1 = "before event" needs the day: event = YYYY-MM-DD')
        if self.t2 == LATEST and self.source != "gee":
            raise ValueError('t2 = "latest" asks Earth Engine; for another source write the day')
        if (later := self.improve_after) is not None:
            if self.source != "gee":
                raise ValueError("improve_after waits for later images of Earth Engine; another source gets none")
            if (self.past or "").strip().lower() == NONE:
                raise ValueError('improve_after learns from later looks at the place, past = "none" from none')
            if later % datetime.timedelta(days=1) or not self.after < later.days <= MOST_AFTER:
                more = f"more than after ({self.after}), " if self.after else ""
                raise ValueError(f"improve_after must be whole days, {more}from 1d to {MOST_AFTER}d")
        if self.source in ("gee", "demo"):
            for key in ("aoi", "t1", "t2"):
                if getattr(self, key) is None:
                    raise ValueError(f"source '{self.source}' needs {key}")
        elif isinstance(self.t1, DaysBefore) and self.t2 is None:
            raise ValueError("t1 counts from t2: write the day t2")
        return self

    @property
    def ee_project(self) -> str | None:
        """The Earth Engine project whose quota it uses; None for other sources."""
        if self.source != "gee":
            return None
        return self.project or os.environ.get("EE_PROJECT_ID") or os.environ.get("GOOGLE_CLOUD_PROJECT") or "default"

    def improved(self, manifest: Mapping[str, Any] | None) -> bool:
        """Say whether the map of a manifest has learned from all images that ``improve_after`` waits for."""
        learned = (manifest or {}).get("rules", {}).get("past_after", 0)
        return self.improve_after is None or learned >= self.improve_after.days

    def improve_on(self, t2: datetime.date) -> datetime.date | None:
        """Return the day from which all these images may be there, for a map of ``t2``; None if none are waited for."""
        return None if self.improve_after is None else t2 + self.improve_after + datetime.timedelta(days=1)

    def earth_engine(self, processes: int = 1) -> EarthEngine:
        """Return the options of Earth Engine; ``processes`` share the project's quota."""
        return EarthEngine(**read(EarthEngine, dict(self)), keep_tiles=not self.no_cache, processes=processes)

    def request(self, t1: datetime.date | None, t2: datetime.date | None, out: Path | None, **more: Any) -> FillRequest:
        """Return the request for :func:`~crgen.pipeline.fill.run`; ``more`` are fields that replace the job's."""
        asked = read(FillRequest, {**dict(self), "t1": t1, "t2": t2, "out": out})
        return FillRequest(**{**asked, "earth_engine": self.earth_engine(), **more})

    @property
    def definition(self) -> str:
        """Digest of all that is asked, and of the files it names: when it changes, the job is due again."""
        area = b""
        if self.aoi:
            with contextlib.suppress(OSError):  # an area may be written as numbers
                area = Path(self.aoi).read_bytes()
        weights = files_identity(Path(self.weights)) if Path(self.weights).is_file() else []
        options = {n: v for n, v in self if n in _DEFINING or v != type(self).model_fields[n].default}
        if self.remake_for_new_weights:
            from crgen.pipeline.run.plan import weights_digest  # torch takes seconds to load

            with contextlib.suppress(WeightsError):  # reported when the job is tried
                options["weights digest"] = weights_digest(self.weights)
        asked = [options, hashlib.sha256(area).hexdigest(), stack_files(self.source), weights]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


class Limits(_Section):
    """How many jobs of the file run at once."""

    total: Annotated[int, Field(ge=1)] = 1
    per_project: Annotated[int, Field(ge=1)] = 1
    """Those that use the quota of one Earth Engine project."""
    per_device: Annotated[int, Field(ge=1)] = 1
    """Those that compute on one device."""
    eecu_hours: Annotated[float, Field(gt=0)] | None = None
    """Of a calendar month, UTC: once an Earth Engine project has used them, no new product is begun with it."""


class Deliver(_Section):
    """Where finished products are copied to."""

    to: Secret
    """A folder, or the URL of one in an object store."""
    storage_options: Annotated[dict[str, Any], AfterValidator(_expanded)] = {}


class Notify(_Section):
    """Who is notified of what."""

    urls: list[Secret]
    """URLs of apprise."""
    on: list[Literal["done", "failed", "late"]] = ["done", "failed", "late"]


class Retention(_Section):
    """Which products are removed from the folders of the jobs at the end, as by ``crgen batch prune``."""

    older_than: Duration | None = None
    max_size: Size | None = None
    """Of all products in one folder, bytes."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.older_than is None and self.max_size is None:
            raise ValueError("says nothing: write older_than, max_size or both")
        return self


class Metrics(_Section):
    """Metrics for Prometheus."""

    textfile: str
    """In the folder of node_exporter's textfile collector."""


class Log(_Section):
    """The log for programs."""

    file: str
    """Lines of JSON are appended to it; ``-`` for standard error."""


class JobsFile(_Section):
    """A whole jobs file."""

    job: Annotated[list[Job], Field(min_length=1)]
    limits: Limits = Limits()
    deliver: Deliver | None = None
    notify: Notify | None = None
    retention: Retention | None = None
    metrics: Metrics | None = None
    log: Log | None = None
