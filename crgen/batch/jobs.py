"""The jobs file: what is asked of every area, and of all of them together."""

from __future__ import annotations

import datetime
import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from crgen.batch.dates import BEFORE_EVENT, LATEST, T1, T2, Day, DaysBefore, Deadline, Duration
from crgen.batch.size import Size
from crgen.batch.toml import Lines, Place, read_toml
from crgen.errors import CrgenError, RequestError
from crgen.pipeline.earthengine import EarthEngine
from crgen.pipeline.files import files_identity, stack_files
from crgen.pipeline.request import FillRequest

STATE = "CRGEN_BATCH_STATE"
"""Environment variable whose URL goes before the file's."""


class JobsError(RequestError):
    """A jobs file that cannot be used; ``problems`` holds a line for everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems[0] + (f" (and {len(problems) - 1} more: crgen batch check)" if problems[1:] else ""))
        self.problems = problems


def _expanded(text: str) -> str:
    """Put environment variables, written ``${NAME}``, into a value that may hold a secret."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ValueError(f"the environment variable {found[1]} is not set")
        return os.environ[found[1]]

    return re.sub(r"\$\{(\w+)\}", value, text)


def _expanded_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expanded_inside(inner) for key, inner in value.items()}
    return _expanded(value) if isinstance(value, str) else value


Secret = Annotated[str, AfterValidator(_expanded)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Job(_Section):
    """One area, watched. The options of ``crgen fill`` have its names and defaults."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    aoi: str | None = None
    t1: T1 | None = None
    t2: T2 | None = None
    event: Day | None = None
    """The day of the event, for ``t1 = "before event"``."""
    out: str = "products"
    """Folder; each job has its own inside."""
    source: str = "gee"
    weights: str = "base"
    device: str = "auto"
    precision: str = "auto"
    crs: str | None = None
    clip: bool = False
    generate_all: bool = False
    dtype: Literal["uint16", "float32"] = "uint16"
    clear_threshold: float = 0.6
    s1_units: Literal["dB", "linear"] = "dB"
    s2_scale: float = 1.0
    chunk: int = 1024
    workers: int | None = None
    scheduler: str = "threads"
    project: str | None = None
    credentials: str | None = None
    search_days: int = 6
    observed_days: int = 0
    min_coverage: float = 0.9
    no_cache: bool = False
    priority: int = 0
    """Higher goes first."""
    deadline: Deadline | None = None
    """Nothing is begun after this moment, or so long after the acquisitions were found."""
    retries: Annotated[int, Field(ge=0)] = 5
    """Attempts after the first before a product is given up."""
    retry_wait: Duration = datetime.timedelta(minutes=1)
    """Before the first of them; every further one waits twice as long."""

    @model_validator(mode="after")
    def _dates_fit(self) -> Self:
        if self.t1 == BEFORE_EVENT and self.event is None:
            raise ValueError('t1 = "before event" needs the day: event = YYYY-MM-DD')
        if self.t2 == LATEST and self.source != "gee":
            raise ValueError('t2 = "latest" asks Earth Engine; for another source write the day')
        if self.source in ("gee", "demo"):
            for key in ("aoi", "t1", "t2"):
                if getattr(self, key) is None:
                    raise ValueError(f"source '{self.source}' needs {key}")
        elif isinstance(self.t1, DaysBefore) and self.t2 is None:
            raise ValueError("t1 counts from t2: write the day t2")
        return self

    @property
    def fixed(self) -> bool:
        """Whether the days stand in the file."""
        return self.t2 != LATEST

    @property
    def ee_project(self) -> str | None:
        """Whose Earth Engine quota it uses; None if none."""
        if self.source != "gee":
            return None
        return self.project or os.environ.get("EE_PROJECT_ID") or os.environ.get("GOOGLE_CLOUD_PROJECT") or "default"

    def earth_engine(self, processes: int = 1) -> EarthEngine:
        """Return how to ask Earth Engine."""
        return EarthEngine(
            project=self.project,
            credentials=None if self.credentials is None else Path(self.credentials),
            search_days=self.search_days,
            observed_days=self.observed_days,
            min_coverage=self.min_coverage,
            keep_tiles=not self.no_cache,
            processes=processes,
        )

    def request(self, t1: datetime.date | None, t2: datetime.date | None, out: Path | None, **more: Any) -> FillRequest:
        """Return what to ask of :func:`~crgen.pipeline.fill.run`; ``more`` are fields of it that go first."""
        same = (
            *(
                "aoi",
                "source",
                "weights",
                "device",
                "precision",
                "crs",
                "clip",
                "generate_all",
                "dtype",
                "clear_threshold",
            ),
            *("s1_units", "s2_scale", "chunk", "workers", "scheduler"),
        )
        fields = {name: getattr(self, name) for name in same}
        return FillRequest(**{**fields, "t1": t1, "t2": t2, "out": out, "earth_engine": self.earth_engine(), **more})

    @property
    def definition(self) -> str:
        """A digest of all that is asked and of the files it names: once it changes, what failed is tried again."""
        area = _content(self.aoi) if self.aoi else b""
        weights = files_identity(Path(self.weights)) if Path(self.weights).is_file() else []
        asked = [dict(self), hashlib.sha256(area).hexdigest(), stack_files(self.source), weights]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()


class Limits(_Section):
    """How much runs at once."""

    total: Annotated[int, Field(ge=1)] = 1
    """Jobs of one scheduler."""
    per_project: Annotated[int, Field(ge=1)] = 1
    """Jobs of all schedulers that use the quota of one Earth Engine project."""
    per_device: Annotated[int, Field(ge=1)] = 1
    """Jobs on one device of one machine, as ``device`` names it."""


class State(_Section):
    """Where schedulers keep what they know."""

    url: Secret = ""
    """SQLAlchemy URL of SQLite or PostgreSQL; a SQLite file beside the jobs file if empty."""
    lease: Duration = datetime.timedelta(seconds=60)
    """How long a scheduler may be silent before others take it for dead."""


class Deliver(_Section):
    """Where finished products are copied to."""

    to: Secret
    """A folder, or the URL of one in an object store."""
    storage_options: Annotated[dict[str, Any], AfterValidator(_expanded_inside)] = {}


class Notify(_Section):
    """Who is told of what."""

    urls: list[Secret]
    """As apprise writes them."""
    on: list[Literal["done", "failed", "late"]] = ["done", "failed", "late"]


class Retention(_Section):
    """Which products are taken away at the end, as ``crgen batch prune`` does, from the folders of the jobs."""

    older_than: Duration | None = None
    max_size: Size | None = None
    """Of all products in one folder, bytes."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.older_than is None and self.max_size is None:
            raise ValueError("says nothing: write older_than, max_size or both")
        return self


class Metrics(_Section):
    """What Prometheus is told."""

    textfile: str
    """In the folder of node_exporter's textfile collector."""


class Log(_Section):
    """The log for machines."""

    file: str
    """Lines of JSON are added to it; ``-`` for standard error."""


class JobsFile(_Section):
    """A whole jobs file."""

    job: Annotated[list[Job], Field(min_length=1)]
    limits: Limits = Limits()
    state: State = State()
    deliver: Deliver | None = None
    notify: Notify | None = None
    retention: Retention | None = None
    metrics: Metrics | None = None
    log: Log | None = None

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [job.name for job in self.job]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two jobs are named '{twice[0]}'")
        return self


def read_jobs(path: Path) -> JobsFile:
    """Read a jobs file; relative paths in it start at its folder.

    Raises:
        JobsError: with a line for everything that is wrong: file, line, key, what to do.
        RequestError: if it cannot be read, or is not TOML.
    """
    content, lines = read_toml(path)
    defaults = content.pop("defaults", {})
    jobs = content.get("job", [])
    if not isinstance(defaults, dict) or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise JobsError([f"{path}:{lines.of(('defaults',))}: write [defaults] once and [[job]] for every job"])
    if "name" in defaults:
        raise JobsError([f"{path}:{lines.of(('defaults', 'name'))}: name: every job needs its own, not a default"])
    content["job"] = [{**defaults, **job} for job in jobs]
    if "job" in content and not jobs:
        del content["job"]
    try:
        read = JobsFile.model_validate(content)
    except ValidationError as error:
        wrong = dict.fromkeys(_problem(path, lines, jobs, e) for e in error.errors(include_url=False))
        raise JobsError(list(wrong)) from None
    home = path.absolute().parent
    located: dict[str, Any] = {"job": [_at_home(job, home) for job in read.job], "state": _located(read.state, path)}
    for section, key in (("deliver", "to"), ("metrics", "textfile"), ("log", "file")):
        held = getattr(read, section)
        if held is not None and "://" not in (value := getattr(held, key)) and value != "-":
            located[section] = held.model_copy(update={key: str(home / value)})
    read = read.model_copy(update=located)
    if problems := list(_refusals(path, lines, read)):
        raise JobsError(problems)
    return read


def _problem(path: Path, lines: Lines, jobs: list[dict[str, Any]], error: Any) -> str:
    place: Place = error["loc"]
    who = ""
    known: Any = JobsFile
    if place[:1] == ("job",) and len(place) > 1:
        at = place[1]
        assert isinstance(at, int)
        known, key = Job, place[2:]
        who = f"job '{jobs[at].get('name', at + 1)}': "
        if key and key[0] not in jobs[at] and error["type"] != "missing":
            place, who = ("defaults", *key), "defaults: "
    else:
        key = place
        sections: dict[str, type[_Section]] = {
            "limits": Limits, "state": State, "deliver": Deliver, "notify": Notify, "retention": Retention,
            "metrics": Metrics, "log": Log,
        }  # fmt: skip
        known = sections.get(str(place[0]), JobsFile) if len(place) > 1 else JobsFile
    name = ".".join(str(k) for k in key)
    what = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(key[-1]), known.model_fields, 1)
        what = "there is no such key" + (f"; did you mean {near[0]}?" if near else "")
    elif error["type"] == "missing":
        what = "is missing" if name != "job" else "there are no jobs: write at least one [[job]]"
    elif error["type"] == "string_pattern_mismatch":
        what = f"'{error['input']}' must be up to 64 letters, digits, - and _"
    return f"{path}:{lines.of(place)}: {who}{name + ': ' if name else ''}{what[0].lower()}{what[1:]}"


def _refusals(path: Path, lines: Lines, read: JobsFile) -> Iterator[str]:
    """Yield what the options of a fill refuse, though their types are right."""
    for at, job in enumerate(read.job):
        try:
            job.request(None, None, None)
        except CrgenError as error:
            yield f"{path}:{lines.of(('job', at))}: job '{job.name}': {error}"


def _at_home(job: Job, home: Path) -> Job:
    """Return the job with paths that no longer depend on the working folder."""
    update: dict[str, str] = {"out": str(home / job.out)}
    if job.source not in ("gee", "demo"):
        update["source"] = str(home / job.source)
    if job.credentials is not None:
        update["credentials"] = str(home / job.credentials)
    for name in ("aoi", "weights"):
        value = getattr(job, name)
        if value is not None and _is_file(home / value):
            update[name] = str(home / value)
    return job.model_copy(update=update)


def _located(state: State, path: Path) -> State:
    url = os.environ.get(STATE) or state.url or f"sqlite:///{path.stem}.sqlite"
    scheme, _, file = url.partition(":///")
    if scheme.startswith("sqlite"):
        url = f"{scheme}:///{path.absolute().parent / file}"
    return state.model_copy(update={"url": url})


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _content(aoi: str) -> bytes:
    try:
        return Path(aoi).read_bytes()
    except OSError:
        return b""
