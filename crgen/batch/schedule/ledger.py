"""The state of each job, as the journal keeps it: whether it is due, what is next, and what an outcome changes.

Functions that take the journal write to it, and are called within :meth:`Journal.change`.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crgen.batch.jobs.job import Job
from crgen.batch.jobs.values import LATEST
from crgen.batch.schedule.failures import wait_after
from crgen.batch.schedule.journal import Journal, Row
from crgen.batch.schedule.messages import Done, Failed, Found, Nothing, Outcome, Stopped, Waiting
from crgen.pipeline.product.outputs import Paths

LATE_DAYS = 14
"""Days after which no acquisition joins the catalogue any more."""


def utc() -> float:
    """Return seconds since 1970, by the machine's clock, which somebody may set."""
    return time.time()


def today() -> datetime.date:
    """Return the day, UTC."""
    return datetime.datetime.fromtimestamp(utc(), datetime.UTC).date()


@dataclass(frozen=True)
class Begun:
    """The job is to run now."""

    unfinished: Row | None
    """The product to resume; None to look for acquisitions."""
    finished: frozenset[str]
    """Identities of products that were made, or given up."""
    improve: Row | None = None
    """The product that is made once more, with later images, where no new one is due."""


@dataclass(frozen=True)
class GivenUp:
    """The job is due, but it is not begun any more."""

    kind: Literal["late", "failed", "nothing"]
    """``nothing`` if its newest product was made in time."""
    reason: str


def due(row: Row | None, definition: str, looked: bool) -> bool:
    """Say whether a job that is not running has something to do now; not if it ``looked`` for images a moment ago."""
    if row is None or row["definition"] != definition or row["status"] in ("running", "stopped"):
        return True
    if row["status"] == "retry":
        # If the clock was set back to before the failure, waiting by it could take for ever.
        return not row["failed_at"] <= utc() < row["retry_at"]
    return not (row["settled"] or looked)


def urgency(job: Job, row: Row | None) -> tuple[int, int, float]:
    """Return the sort key of jobs: least often running when the scheduler died, highest priority, earliest deadline."""
    deadline = job.deadline
    moment = deadline.timestamp() if isinstance(deadline, datetime.datetime) else math.inf
    return (row["lost"] if row else 0, -job.priority, moment)


def next_step(job: Job, row: Row | None, runs: Sequence[Row], definition: str) -> Begun | GivenUp:
    """Return what is next for a job that is due, by its row and its runs in the journal and its present definition."""
    pending = _pending(runs, row)
    unchanged = row is not None and row["definition"] == definition
    if utc() >= _deadline(job, pending):
        reason = f"the deadline {job.deadline} passed"
        if isinstance(job.deadline, datetime.timedelta):
            reason = f"the deadline passed, {job.deadline} after its acquisitions were found"
        made = unchanged and pending is None and row is not None and row["status"] == "done"
        return GivenUp("nothing" if made else "late", reason)
    attempts = row["attempts"] if row is not None and unchanged and pending is not None else 0
    if attempts > job.retries:
        return GivenUp("failed", f"the scheduler died while it ran (given up after {attempts} attempts)")
    finished = frozenset(run["identity"] for run in runs if run["status"] in ("done", "failed"))
    owed = (run for run in runs if unchanged and (run["improve_at"] or math.inf) <= utc())
    improve = next((run for run in owed if run["status"] == "done" and _stands(run)), None)
    return Begun(pending if unchanged else None, finished, improve)


def _stands(run: Row) -> bool:
    """Say whether a product is there still; one that was pruned is not made again."""
    return Paths(Path(run["product"])).item.exists()


def improve_at(job: Job, run: Row) -> float | None:
    """Return the moment from which a product is made once more, with later images; None if it is not."""
    day = job.improve_on(datetime.date.fromisoformat(run["t2"]))
    if day is None or run["status"] != "done" or job.improved(run["manifest"]) or not _stands(run):
        return None
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp()


def _pending(runs: Sequence[Row], row: Row | None) -> Row | None:
    """Return the product that a job was making when it stopped."""
    identity = row["identity"] if row else None
    return next((run for run in runs if run["status"] == "pending" and run["identity"] == identity), None)


def _deadline(job: Job, pending: Row | None) -> float:
    """Return the moment, in seconds since 1970, from which nothing is begun; infinity if there is none."""
    if isinstance(job.deadline, datetime.datetime):
        return job.deadline.timestamp()
    if job.deadline is None or pending is None:
        return math.inf
    return float(pending["found_at"] + job.deadline.total_seconds())


def _settled(job: Job, run: Row) -> bool:
    """Say whether no further acquisition can change what is due, until the definition does."""
    if job.t2 == LATEST:
        return False
    joins = datetime.timedelta(job.search_days + LATE_DAYS)
    return job.source != "gee" or today() > datetime.date.fromisoformat(run["t2"]) + joins


def interrupted(journal: Journal) -> None:
    """Count an attempt for the jobs that were running when the last scheduler died: one of them may be the cause."""
    journal.do(
        "UPDATE crgen_job SET status = 'stopped', attempts = attempts + 1, lost = lost + 1 WHERE status = 'running'"
    )


def forgive(journal: Journal) -> None:
    """Make due again what failed for good, or came too late."""
    journal.do("UPDATE crgen_run SET status = 'dropped', reason = 'tried again' WHERE status = 'failed'")
    again = "status = 'stopped', settled = 0, attempts = 0, lost = 0"
    journal.do(f"UPDATE crgen_job SET {again} WHERE status IN ('failed', 'late')")


def begin(journal: Journal, job: Job, row: Row | None, definition: str) -> Begun | GivenUp:
    """Note that a job runs from now on, or that it is not begun any more."""
    runs = journal.runs(job.name)
    step = next_step(job, row, runs, definition)
    if isinstance(step, GivenUp) and step.kind == "nothing":
        _put(journal, job, {"settled": True})
        return step
    values: dict[str, Any] = {"definition": definition, "changed_at": utc(), "reason": ""}
    if row is None or row["definition"] != definition:
        values |= {"attempts": 0, "lost": 0, "failed_at": None, "retry_at": None, "settled": False}
        # Made of what was asked before; the one that is asked for still is found again.
        journal.do("UPDATE crgen_run SET improve_at = NULL WHERE job = ?", job.name)
    if isinstance(step, Begun):
        values |= {"status": "running"}
    elif step.kind == "late":
        values |= {"status": "late", "reason": step.reason, "settled": True}
    else:
        values |= _give_up(journal, job, _pending(runs, row), step.reason)
    _put(journal, job, values)
    return step


def found(journal: Journal, job: Job, product: Found) -> list[str]:
    """Note the product that is being made; return those of the job that will not be finished now."""
    others = [run for run in journal.runs(job.name) if run["identity"] != product.identity]
    for run in others:
        if run["status"] == "pending":
            _put_run(journal, job, run["identity"], {"status": "dropped", "reason": "the job was changed"})
    values: dict[str, Any] = {"t1": str(product.t1), "t2": str(product.t2), "product": product.product}
    values |= {"manifest": json.dumps(product.manifest), "status": "pending", "reason": "", "found_at": utc()}
    _put_run(journal, job, product.identity, values)
    _put(journal, job, {"identity": product.identity, "attempts": 0, "product": product.product})
    return [run["product"] for run in others if run["status"] != "done"]


def over(journal: Journal, job: Job, outcome: Outcome, log: str) -> Row:
    """Note the outcome of a job; return its row."""
    row = journal.jobs()[job.name]
    runs = {run["identity"]: run for run in journal.runs(job.name)}
    run = runs.get(outcome.identity if isinstance(outcome, Nothing) else row["identity"])
    values: dict[str, Any] = {"changed_at": utc(), "log": log, "reason": ""}
    if isinstance(outcome, Stopped):
        values |= {"status": "stopped"}
    elif isinstance(outcome, Waiting):
        values |= _calm(status="waiting", reason=outcome.reason)
    elif isinstance(outcome, Failed):
        values |= _failed(journal, job, run, outcome, row["attempts"] + 1)
    else:
        assert run is not None
        if isinstance(outcome, Done):
            spent = {"seconds": outcome.seconds, "windows": outcome.windows, "finished_at": utc()}
            run = {**run, "status": "done"}
            _put_run(journal, job, run["identity"], {"status": "done", **spent})
        again = improve_at(job, run)
        _put_run(journal, job, run["identity"], {"improve_at": again})
        settled = again is None and _settled(job, run)
        values |= _calm(**{name: run[name] for name in ("status", "reason", "product")}, settled=settled)
    _put(journal, job, values)
    return {**row, **values}


def _failed(journal: Journal, job: Job, run: Row | None, outcome: Failed, attempts: int) -> dict[str, Any]:
    """Return the changes of a job's row that failed: it is retried, or given up."""
    making = run is not None and run["status"] == "pending"
    # While acquisitions are only looked for, a transient failure is no reason to stop for good.
    exhausted = attempts > job.retries and (making or outcome.kind == "crash")
    if outcome.kind == "permanent" or exhausted:
        tried = "" if outcome.kind == "permanent" else f" (given up after {attempts} attempts)"
        return _give_up(journal, job, run if making else None, outcome.reason + tried)
    now = utc()
    wait = wait_after(attempts, job.retry_wait.total_seconds())
    retry_at = min(now + wait, max(now, _deadline(job, run)))  # so that a passed deadline is told in time
    again = {"status": "retry", "reason": outcome.reason, "failed_at": now, "retry_at": retry_at}
    return again | {"attempts": attempts, "lost": 0}


def _give_up(journal: Journal, job: Job, run: Row | None, reason: str) -> dict[str, Any]:
    """Note that a product, if it was known, has failed for good; return the changes of the job's row."""
    if run is None:
        return _calm(status="failed", reason=reason, settled=True)
    _put_run(journal, job, run["identity"], {"status": "failed", "finished_at": utc(), "reason": reason})
    return _calm(status="failed", reason=reason, settled=_settled(job, run))


def _calm(**values: Any) -> dict[str, Any]:
    """Return the changes of a job's row that is not retried."""
    return {"attempts": 0, "lost": 0, "failed_at": None, "retry_at": None, "identity": None, "reason": "", **values}


def _put(journal: Journal, job: Job, values: Mapping[str, Any]) -> None:
    journal.put("job", {"name": job.name}, values)
    journal.do("UPDATE crgen_batch SET changes = changes + 1")


def _put_run(journal: Journal, job: Job, identity: str, values: Mapping[str, Any]) -> None:
    journal.put("run", {"job": job.name, "identity": identity}, values)
