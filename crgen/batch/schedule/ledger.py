"""What a scheduler writes into its journal, and what follows: which job is due, which one is more urgent.

Functions that write are called within :meth:`Journal.change`.
"""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from crgen.batch.jobs.job import Job
from crgen.batch.schedule.failures import Failure, wait_after
from crgen.batch.schedule.journal import Journal, Row
from crgen.batch.schedule.messages import Done, Found, Nothing, Outcome, Stopped, Waiting

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
    """A job that is to be done now."""

    unfinished: Row | None
    """A product to go on with."""
    finished: frozenset[str]
    """Identities of products that were made, or given up."""


@dataclass(frozen=True)
class GivenUp:
    """A job that was due, but is not begun any more."""

    kind: Literal["late", "failed", "nothing"]
    reason: str


def due(row: Row | None, definition: str, looked: bool) -> bool:
    """Say whether a job that is not running has something to do now.

    Args:
        row: how it stands.
        definition: the digest of what is asked now.
        looked: its acquisitions were looked for a moment ago.
    """
    if row is None or row["definition"] != definition or row["status"] in ("running", "stopped"):
        return True
    if row["status"] == "retry":
        # A moment before the failure means that the clock was set back: waiting by it could take for ever.
        return not row["failed_at"] <= utc() < row["retry_at"]
    return not (row["settled"] or looked)


def urgency(wanted: Job, row: Row | None) -> tuple[int, int, float]:
    """Return what jobs are ordered by: those whose schedulers died come last, then by priority and deadline."""
    deadline = wanted.deadline
    moment = deadline.timestamp() if isinstance(deadline, datetime.datetime) else math.inf
    return (row["lost"] if row else 0, -wanted.priority, moment)


def pending_of(runs: list[Row], row: Row | None) -> Row | None:
    """Return the product that a job was making when it stopped."""
    return next(
        (run for run in runs if row and run["status"] == "pending" and run["identity"] == row["identity"]), None
    )


def passed(wanted: Job, pending: Row | None, now: float) -> str:
    """Return which deadline passed; nothing if none did."""
    if now < _deadline(wanted, pending):
        return ""
    if isinstance(wanted.deadline, datetime.datetime):
        return f"the deadline {wanted.deadline} passed"
    return f"the deadline passed, {wanted.deadline} after its acquisitions were found"


def _deadline(wanted: Job, pending: Row | None) -> float:
    """Return the moment, in seconds since 1970, from which nothing is begun; infinity if there is none."""
    if isinstance(wanted.deadline, datetime.datetime):
        return wanted.deadline.timestamp()
    if wanted.deadline is None or pending is None:
        return math.inf
    return float(pending["found_at"] + wanted.deadline.total_seconds())


def settled(wanted: Job, made: Row) -> bool:
    """Say whether no acquisition can change what is due, until the definition does."""
    if not wanted.fixed:
        return False
    joins = datetime.timedelta(wanted.search_days + LATE_DAYS)
    return wanted.source != "gee" or today() > datetime.date.fromisoformat(made["t2"]) + joins


def interrupted(journal: Journal) -> None:
    """Count an attempt against the jobs that were running when the last scheduler died: one of them may be why."""
    journal.do(
        "UPDATE crgen_job SET status = 'stopped', attempts = attempts + 1, lost = lost + 1 WHERE status = 'running'"
    )


def forgive(journal: Journal) -> None:
    """Let what failed for good, or came too late, be tried again."""
    journal.do("UPDATE crgen_run SET status = 'dropped', reason = 'tried again' WHERE status = 'failed'")
    again = "status = 'stopped', settled = 0, attempts = 0, lost = 0"
    journal.do(f"UPDATE crgen_job SET {again} WHERE status IN ('failed', 'late')")


def begin(journal: Journal, wanted: Job, row: Row | None, definition: str) -> Begun | GivenUp:
    """Write down that a job runs from now on, or that it is not begun any more."""
    now = utc()
    same = row is not None and row["definition"] == definition
    attempts = row["attempts"] if row is not None and same else 0
    values: dict[str, Any] = {"definition": definition, "changed_at": now, "reason": ""}
    if not same:
        values |= {"attempts": 0, "lost": 0, "failed_at": None, "retry_at": None, "settled": False}
    runs = journal.runs(wanted.name)
    pending = pending_of(runs, row)
    if reason := passed(wanted, pending, now):
        if pending is None and same and row is not None and row["status"] == "done":
            _put(journal, wanted, {"settled": True})
            return GivenUp("nothing", reason)
        _put(journal, wanted, values | {"status": "late", "reason": reason, "settled": True})
        return GivenUp("late", reason)
    unfinished = pending if same else None
    if unfinished is not None and attempts > wanted.retries:
        failure = Failure("crash", f"whoever ran it died, {attempts} times")
        values |= _failed(journal, wanted, unfinished, failure, attempts - 1)
        _put(journal, wanted, values)
        return GivenUp("failed", values["reason"])
    _put(journal, wanted, values | {"status": "running"})
    return Begun(unfinished, frozenset(run["identity"] for run in runs if run["status"] in ("done", "failed")))


def found(journal: Journal, wanted: Job, product: Found) -> list[str]:
    """Write down what is being made; return the products of the job that will not be finished now."""
    others = [run for run in journal.runs(wanted.name) if run["identity"] != product.identity]
    for run in others:
        if run["status"] == "pending":
            _put_run(journal, wanted, run["identity"], {"status": "dropped", "reason": "the job was changed"})
    values: dict[str, Any] = {"t1": str(product.t1), "t2": str(product.t2), "product": product.product}
    values |= {"manifest": json.dumps(product.manifest), "status": "pending", "reason": "", "found_at": utc()}
    _put_run(journal, wanted, product.identity, values)
    _put(journal, wanted, {"identity": product.identity, "attempts": 0, "product": product.product})
    return [run["product"] for run in others if run["status"] != "done"]


def over(journal: Journal, wanted: Job, outcome: Outcome, log: str) -> Row:
    """Write down what became of a job; return how it stands now."""
    now = utc()
    row = journal.jobs()[wanted.name]
    runs = {run["identity"]: run for run in journal.runs(wanted.name)}
    values: dict[str, Any] = {"changed_at": now, "log": log, "reason": ""}
    if isinstance(outcome, Stopped):
        values |= {"status": "stopped"}
    elif isinstance(outcome, Waiting):
        values |= _calm(status="waiting", reason=outcome.reason)
    elif isinstance(outcome, Nothing):
        held = runs[outcome.identity]
        values |= _calm(**{name: held[name] for name in ("status", "reason", "product")}, settled=settled(wanted, held))
    elif isinstance(outcome, Done):
        made = runs[outcome.identity]
        spent = {"seconds": outcome.seconds, "windows": outcome.windows}
        _put_run(journal, wanted, outcome.identity, {"status": "done", "finished_at": now, **spent})
        values |= _calm(status="done", product=made["product"], settled=settled(wanted, made))
    else:
        values |= _failed(journal, wanted, runs.get(row["identity"]), outcome.failure, row["attempts"])
    _put(journal, wanted, values)
    return {**row, **values}


def _failed(journal: Journal, wanted: Job, run: Row | None, failure: Failure, attempts: int) -> dict[str, Any]:
    now, attempts = utc(), attempts + 1
    making = run is not None and run["status"] == "pending"
    # While only looking, a passing fault is no reason to ever stop.
    tired = attempts > wanted.retries and (making or failure.kind == "crash")
    if failure.kind != "permanent" and not tired:
        wait = wait_after(attempts, wanted.retry_wait.total_seconds())
        # Who waits for longer than there is time is told so when time is up.
        retry_at = min(now + wait, max(now, _deadline(wanted, run)))
        again = {"status": "retry", "reason": failure.reason, "failed_at": now, "retry_at": retry_at}
        return again | {"attempts": attempts, "lost": 0}
    reason = failure.reason + (f" (given up after {attempts} attempts)" if failure.kind != "permanent" else "")
    if run is None or not making:
        return _calm(status="failed", reason=reason, settled=True)
    _put_run(journal, wanted, run["identity"], {"status": "failed", "finished_at": now, "reason": reason})
    return _calm(status="failed", reason=reason, settled=settled(wanted, run))


def _calm(**values: Any) -> dict[str, Any]:
    """Return what a job's row says when it is not in trouble."""
    return {"attempts": 0, "lost": 0, "failed_at": None, "retry_at": None, "identity": None, "reason": "", **values}


def _put(journal: Journal, wanted: Job, values: Mapping[str, Any]) -> None:
    journal.put("job", {"name": wanted.name}, values)
    journal.do("UPDATE crgen_batch SET changes = changes + 1")


def _put_run(journal: Journal, wanted: Job, identity: str, values: Mapping[str, Any]) -> None:
    journal.put("run", {"job": wanted.name, "identity": identity}, values)
