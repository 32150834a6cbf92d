"""Reading a jobs file: what is wrong with it is said with file, line and key, all at once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crgen.batch.jobs.job import Deliver, Job, JobsFile, Limits, Log, Metrics, Notify, Retention, State
from crgen.batch.jobs.toml import Lines, Place, read_toml
from crgen.errors import CrgenError, RequestError

STATE = "CRGEN_BATCH_STATE"
"""Environment variable whose URL goes before the file's."""


class JobsError(RequestError):
    """A jobs file that cannot be used; ``problems`` holds a line for everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems[0] + (f" (and {len(problems) - 1} more: crgen batch check)" if problems[1:] else ""))
        self.problems = problems


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
            located[section] = held.model_copy(update={key: _under(home, value)})
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
        sections: dict[str, type[BaseModel]] = {
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
    """Yield what no type can tell: names given twice, and what the options of a fill refuse."""
    first: dict[str, int] = {}
    for at, job in enumerate(read.job):
        place = ("job", at, "name")
        if job.name in first:
            line = lines.of(("job", first[job.name], "name"))
            yield f"{path}:{lines.of(place)}: job '{job.name}': the job of line {line} has that name too"
        first.setdefault(job.name, at)
    for at, job in enumerate(read.job):
        try:
            job.request(None, None, None)
        except CrgenError as error:
            yield f"{path}:{lines.of(('job', at))}: job '{job.name}': {error}"


def _at_home(job: Job, home: Path) -> Job:
    """Return the job with paths that no longer depend on the working folder."""
    update: dict[str, str] = {"out": _under(home, job.out)}
    if job.source not in ("gee", "demo"):
        update["source"] = _under(home, job.source)
    if job.credentials is not None:
        update["credentials"] = _under(home, job.credentials)
    for name in ("aoi", "weights"):
        value = getattr(job, name)
        if value is not None and _is_file(Path(_under(home, value))):
            update[name] = _under(home, value)
    return job.model_copy(update=update)


def _under(home: Path, path: str) -> str:
    """Return a path of a jobs file: from its folder, or from a person's home folder where it begins with ``~``."""
    return str(home / os.path.expanduser(path))  # noqa: PTH111 (pathlib's raises where there is no home)


def _located(state: State, path: Path) -> State:
    url = os.environ.get(STATE) or state.url or f"sqlite:///{path.stem}.sqlite"
    scheme, _, file = url.partition(":///")
    if scheme.startswith("sqlite"):
        url = f"{scheme}:///{_under(path.absolute().parent, file)}"
    return state.model_copy(update={"url": url})


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
