"""What would run now, and what it would cost; changes nothing."""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import dataclass
from pathlib import Path

from crgen.batch.jobs.job import Job
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule.due import NothingYet, find, known, request_of, require_compute, with_past
from crgen.batch.schedule.journal import Journal, Row, is_scheduled, journal_of
from crgen.batch.schedule.ledger import GivenUp, due, improve_at, next_step, today, urgency
from crgen.errors import CrgenError, SourceError
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.plan import Plan as Work
from crgen.pipeline.run.plan import lay_out, rate_of

Rates = dict[tuple[str, ...], float]
"""Windows a second by weights, device and precision: measured once for all jobs."""


@dataclass(frozen=True)
class Planned:
    """What would become of one job."""

    job: str
    what: str
    """``would run``, ``would resume``, or why nothing would."""
    t1: datetime.date | None = None
    t2: datetime.date | None = None
    pixels: int = 0
    windows: int = 0
    seconds: float = 0.0
    """For the windows, at the rate measured now."""
    requests: int = 0
    """Of pixels, to Earth Engine."""
    download: int = 0
    """Bytes, uncompressed."""
    product: str = ""
    eecu_hours: float | None = 0.0
    """Of Earth Engine's compute, an estimate; None where nothing tells it yet."""


def plan_jobs(path: Path) -> list[Planned]:
    """Look for the acquisitions of every job of a file; return the most urgent job first.

    Raises:
        CrgenError: if the file or its journal cannot be used.
    """
    file = read_jobs(path)
    scheduled = is_scheduled(path)
    with Journal(journal_of(path), look_only=True) as journal:
        rows, runs = journal.jobs(), journal.runs()
    rates: Rates = {}
    planned = []
    for job in sorted(file.job, key=lambda job: urgency(job, rows.get(job.name))):
        row = rows.get(job.name)
        if scheduled and row is not None and row["status"] == "running":
            planned.append(Planned(job.name, "running"))
        else:
            own = [run for run in runs if run["job"] == job.name]
            planned.append(_plan(job, row, own, rates, file.limits.eecu_hours))
    return planned


def _plan(job: Job, row: Row | None, runs: list[Row], rates: Rates, eecu_hours: float | None) -> Planned:
    definition = job.definition
    if row is not None and not due(row, definition, False):
        state = row["status"]
        if state == "retry":
            state += f" until {_moment(row['retry_at'])}"
        return Planned(job.name, ": ".join(filter(None, (state, row["reason"]))))
    step = next_step(job, row, runs, definition)
    if isinstance(step, GivenUp):
        return Planned(job.name, f"{'nothing new' if step.kind == 'nothing' else step.kind}: {step.reason}")
    with tempfile.TemporaryDirectory(prefix="crgen-batch-") as name:
        try:
            if step.unfinished is not None:
                request = request_of(job, step.unfinished, Path(name))
                return _cost(job, "would resume", request, lay_out(request), rates)
            what, ended = "would run", {r["identity"]: r for r in runs if r["status"] in ("done", "failed")}
            try:
                found, request, work = find(job, today(), Path(name))
                held = found.among(ended)
            except NothingYet:
                if step.improve is None:
                    raise
                held = step.improve["identity"]
            if held is not None and step.improve is not None:
                found, request = with_past(job, known(step.improve), today(), Path(name))
                what, work = "would improve", lay_out(request)
            elif held is not None:
                over = ended[held]
                again = improve_at(job, over)
                what = f"nothing new: {over['status']}{f', once more from {_moment(again)} on' if again else ''}"
                return Planned(job.name, what, found.t1, found.t2, product=over["product"])
            try:
                require_compute(job, eecu_hours, today())
            except SourceError as error:
                return Planned(job.name, f"would not be begun: {error}", found.t1, found.t2)
            return _cost(job, what, request, work, rates)
        except NothingYet as waits:
            return Planned(job.name, f"waiting: {waits}")
        except CrgenError as error:
            return Planned(job.name, f"would fail: {error}")


def _moment(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _cost(job: Job, what: str, request: FillRequest, work: Work, rates: Rates) -> Planned:
    key = (work.model.sha256, work.device, request.precision)
    if key not in rates:
        rates[key], _ = rate_of(request, work)
    missing = [tile for pull in work.scene.pulls for tile in pull.missing()]
    windows = work.grid.window_count
    return Planned(
        job=job.name,
        what=what,
        t1=work.scene.t1,
        t2=work.scene.t2,
        pixels=work.pixels,
        windows=windows,
        seconds=windows / rates[key],
        requests=len(missing),
        download=sum(tile.bytes for tile in missing),
        product=str(work.paths.reflectance),
        eecu_hours=work.scene.eecu_hours,
    )
