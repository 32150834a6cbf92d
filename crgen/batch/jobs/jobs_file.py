"""Reads a jobs file; reports every error in it with file, line and key."""

from __future__ import annotations

import codecs
import difflib
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crgen.batch.jobs.job import Deliver, Job, JobsFile, Limits, Log, Metrics, Notify, Retention
from crgen.errors import CrgenError, RequestError

Place = tuple[str | int, ...]
"""Keys and indices from the top of a file down to a value: ``("job", 2, "aoi")``."""

_SECTIONS = {kind.__name__.lower(): kind for kind in (Limits, Deliver, Notify, Retention, Metrics, Log)}
_OLD_STATE = "CRGEN_BATCH_STATE"
"""Environment variable that named the state of several schedulers in version 0.1.0."""
_NO_STATE = (
    "what was made is kept in {} beside the jobs file. Copy a SQLite state there, it is taken over; of another "
    "database nothing is, but maps that stand are not made again. Then take this away"
)


class JobsError(RequestError):
    """A jobs file that cannot be used; ``problems`` holds a line for every error."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems[0] + (f" (and {len(problems) - 1} more: crgen batch check)" if problems[1:] else ""))
        self.problems = problems


class Lines:
    """Line numbers of the tables in a jobs file and of their keys, by a scan for how such lines begin."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        table: Place = ()
        jobs = 0
        for number, line in enumerate(text.split("\n"), 1):
            if header := re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line):
                table = tuple(header[1].split("."))
                if table == ("job",):
                    table, jobs = ("job", jobs), jobs + 1
                self._lines.setdefault(table, number)
            elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
                self._lines.setdefault((*table, *key[1].split(".")), number)

    def of(self, place: Place) -> int:
        """Return the line, from 1, of ``place`` or of the nearest table around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)


def _read_toml(path: Path) -> tuple[dict[str, Any], Lines]:
    """Return the content of a file with its line numbers.

    Raises:
        RequestError: if it cannot be read, or is no TOML; with the line.
    """
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
        return tomllib.loads(text), Lines(text)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        reason, _, at = str(error).partition(" (at line ")
        line = at.partition(",")[0]
        raise RequestError(f"{path}{':' + line if line else ''}: {reason}") from None


def read_jobs(path: Path) -> JobsFile:
    """Read a jobs file; relative paths in it start at its folder.

    Raises:
        JobsError: with a line for every error: file, line, key, what to do.
        RequestError: if it cannot be read, or is no TOML.
    """
    content, lines = _read_toml(path)
    defaults = content.pop("defaults", {})
    jobs = content.get("job", [])
    if not isinstance(defaults, dict) or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        raise JobsError([f"{path}:{lines.of(('defaults',))}: write [defaults] once and [[job]] for every job"])
    if "name" in defaults:
        raise JobsError([f"{path}:{lines.of(('defaults', 'name'))}: name: every job needs its own, not a default"])
    if "state" in content or os.environ.get(_OLD_STATE):
        where = f"{path}:{lines.of(('state',))}: [state]" if "state" in content else f"{path}: {_OLD_STATE}"
        raise JobsError([f"{where} is of the past: {_NO_STATE.format(path.with_suffix('.sqlite').name)}"])
    if jobs:
        content["job"] = [{**defaults, **job} for job in jobs]
    else:
        content.pop("job", None)
    try:
        read = JobsFile.model_validate(content)
    except ValidationError as error:
        found = dict.fromkeys(_problem(path, lines, jobs, e) for e in error.errors(include_url=False))
        raise JobsError(list(found)) from None
    read = _located(read, path.absolute().parent)
    if problems := list(_refusals(path, lines, read)):
        raise JobsError(problems)
    return read


def _problem(path: Path, lines: Lines, jobs: list[dict[str, Any]], error: Any) -> str:
    """Return the line for an error that pydantic reports."""
    place: Place = error["loc"]
    who, key = "", place
    known: type[BaseModel] = JobsFile
    if len(place) > 1 and place[0] == "job":
        at = int(place[1])
        known, key = Job, place[2:]
        who = f"job '{jobs[at].get('name', at + 1)}': "
        if key and key[0] not in jobs[at] and error["type"] != "missing":
            place, who = ("defaults", *key), "defaults: "
    elif len(place) > 1:
        known = _SECTIONS.get(str(place[0]), JobsFile)
    name = ".".join(map(str, key))
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
    """Yield the errors that are not of a single value: names given twice, and what a fill refuses."""
    first: dict[str, int] = {}
    for at, job in enumerate(read.job):
        if (other := first.setdefault(job.name, at)) != at:
            here, there = (lines.of(("job", n, "name")) for n in (at, other))
            yield f"{path}:{here}: job '{job.name}': the job of line {there} has that name too"
        try:
            job.request(None, None, None)
        except CrgenError as error:
            yield f"{path}:{lines.of(('job', at))}: job '{job.name}': {error}"


def _located(read: JobsFile, home: Path) -> JobsFile:
    """Return the content of a jobs file of the folder ``home`` with absolute paths."""
    update: dict[str, Any] = {"job": [_at_home(job, home) for job in read.job]}
    for section, key in (("deliver", "to"), ("metrics", "textfile"), ("log", "file")):
        held = getattr(read, section)
        if held is not None and "://" not in (value := getattr(held, key)) and value != "-":
            update[section] = held.model_copy(update={key: _under(home, value)})
    return read.model_copy(update=update)


def _at_home(job: Job, home: Path) -> Job:
    update = {"out": _under(home, job.out)}
    if job.source not in ("gee", "demo"):
        update["source"] = _under(home, job.source)
    if job.credentials is not None:
        update["credentials"] = _under(home, job.credentials)
    for name in ("aoi", "weights"):  # which may be no path
        if (value := getattr(job, name)) is not None and os.path.isfile(_under(home, value)):  # noqa: PTH113
            update[name] = _under(home, value)
    return job.model_copy(update=update)


def _under(home: Path, path: str) -> str:
    """Return the path that a jobs file means: from its folder, or from the user's where it begins with ``~``."""
    return str(home / os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises where there is no home)
