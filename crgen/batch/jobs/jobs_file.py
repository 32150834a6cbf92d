"""Reading a jobs file: what is wrong with it is said with file, line and key, all at once."""

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
    """A jobs file that cannot be used; ``problems`` holds a line for everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(problems[0] + (f" (and {len(problems) - 1} more: crgen batch check)" if problems[1:] else ""))
        self.problems = problems


class Lines:
    """Where the tables of a file and the keys in them stand, by a plain scan for how they begin."""

    def __init__(self, text: str, content: dict[str, Any]) -> None:
        self._lines: dict[Place, int] = {}
        last: dict[Place, int] = {}  # index of the last element of each array of tables
        table: Place = ()
        for number, line in enumerate(text.split("\n"), 1):
            header = re.match(r"\s*(\[\[?)([^\[\]]+)\]", line)
            key = re.match(r"""\s*((?:[\w.-]|\s|"[^"]*"|'[^']*')+?)\s*=""", line)
            if header is not None and (names := _names(header[2])):
                place: Place = ()
                *above, own = names
                for name in above:
                    place = (*place, name)
                    place = (*place, last[place]) if place in last else place
                place = (*place, own)
                if header[1] == "[[":
                    last[place] = last.get(place, -1) + 1
                    place = (*place, last[place])
                if _holds(content, place):  # else it is a line of a value
                    table = place
                    self._lines[table] = number
            elif key is not None and _holds(content, place := (*table, *_names(key[1]))):
                self._lines.setdefault(place, number)

    def of(self, place: Place) -> int:
        """Return the line, from 1, of the innermost key on the way to ``place`` that was found."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 1)


def _holds(content: Any, place: Place) -> bool:
    for step in place:
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _names(key: str) -> tuple[str, ...]:
    return tuple(name.strip("\"'") for name in re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", key))


def read_toml(path: Path) -> tuple[dict[str, Any], Lines]:
    """Return the content of a file, and where it stands.

    Raises:
        RequestError: if it cannot be read, naming the line where it is not TOML.
    """
    try:
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8).decode()
        content = tomllib.loads(text)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        reason, _, at = str(error).partition(" (at line ")
        line = at.partition(",")[0]
        raise RequestError(f"{path}{':' + line if line else ''}: {reason}") from None
    return content, Lines(text, content)


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
    if "state" in content or os.environ.get(_OLD_STATE):
        where = f"{path}:{lines.of(('state',))}: [state]" if "state" in content else f"{path}: {_OLD_STATE}"
        raise JobsError([f"{where} is of the past: {_NO_STATE.format(path.with_suffix('.sqlite').name)}"])
    content["job"] = [{**defaults, **job} for job in jobs]
    if "job" in content and not jobs:
        del content["job"]
    try:
        read = JobsFile.model_validate(content)
    except ValidationError as error:
        wrong = dict.fromkeys(_problem(path, lines, jobs, e) for e in error.errors(include_url=False))
        raise JobsError(list(wrong)) from None
    home = path.absolute().parent
    located: dict[str, Any] = {"job": [_at_home(job, home) for job in read.job]}
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
    who, key = "", place
    known: type[BaseModel] = JobsFile
    if place[:1] == ("job",) and len(place) > 1:
        at = place[1]
        assert isinstance(at, int)
        known, key = Job, place[2:]
        who = f"job '{jobs[at].get('name', at + 1)}': "
        if key and key[0] not in jobs[at] and error["type"] != "missing":
            place, who = ("defaults", *key), "defaults: "
    elif len(place) > 1:
        known = _SECTIONS.get(str(place[0]), JobsFile)
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
        if (other := first.setdefault(job.name, at)) != at:
            here, there = (lines.of(("job", n, "name")) for n in (at, other))
            yield f"{path}:{here}: job '{job.name}': the job of line {there} has that name too"
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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
