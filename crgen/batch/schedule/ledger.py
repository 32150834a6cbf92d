"""What a scheduler writes down: which job it took, what is being made, what became of it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from crgen.batch.jobs.job import Job, Limits
from crgen.batch.schedule import leases
from crgen.batch.schedule.failures import Failure, wait_after
from crgen.batch.schedule.leases import Observer
from crgen.batch.schedule.messages import Done, Found, Nothing, Outcome, Stopped, Waiting
from crgen.batch.schedule.state import Row, State, held, job, jobs_in, run, upsert

LATE_DAYS = 14
"""Days after which no acquisition joins the catalogue any more."""
FREE = {"owner": None, "project": None, "device": None}


@dataclass(frozen=True)
class Claim:
    """A job that a scheduler holds."""

    job: Job
    definition: str
    unfinished: Row | None
    """A run to go on with."""
    finished: frozenset[str]
    """Identities of runs that are over."""


@dataclass(frozen=True)
class GivenUp:
    """A job that was due, but is not begun any more."""

    job: Job
    kind: Literal["late", "failed", "nothing"]
    reason: str


class Ledger:
    """One scheduler's view of the state.

    Args:
        state: the database.
        owner: names the scheduler.
        machine: names the machine.
        observer: judges other schedulers' leases.
    """

    def __init__(self, state: State, owner: str, machine: str, observer: Observer) -> None:
        self.state, self.owner, self.machine, self.observer = state, owner, machine, observer

    def claim(
        self, asked: Mapping[str, Job], definitions: Mapping[str, str], looked: set[str], limits: Limits
    ) -> Claim | GivenUp | None:
        """Take the most urgent job that is due and within the limits.

        Args:
            asked: the jobs by name.
            definitions: their digests.
            looked: those whose acquisitions were looked for a moment ago.
            limits: how much may run at once.
        """

        def work(connection: sa.Connection) -> Claim | GivenUp | None:
            self.state.alone(connection)
            rows = jobs_in(connection)
            self.observer.see(rows)
            busy = {n: row for n, row in rows.items() if row["owner"] and not self.observer.dead(row)}
            if sum(row["owner"] == self.owner for row in busy.values()) >= limits.total:
                return None
            for wanted in sorted(asked.values(), key=lambda j: urgency(j, rows.get(j.name))):
                row = rows.get(wanted.name)
                if wanted.name in busy or not due(row, definitions[wanted.name], wanted.name in looked):
                    continue
                device = f"{self.machine} {wanted.device}"
                projects = [b["project"] for b in busy.values() if b["project"]]
                devices = [b["device"] for b in busy.values()]
                if (
                    projects.count(wanted.ee_project) >= limits.per_project
                    or devices.count(device) >= limits.per_device
                ):
                    continue
                return self._take(connection, wanted, row, definitions[wanted.name], device)
            return None

        return self.state.do(work)

    def _take(
        self, connection: sa.Connection, wanted: Job, row: Row | None, definition: str, device: str
    ) -> Claim | GivenUp:
        now, name = leases.utc(), wanted.name
        values: dict[str, Any] = {"definition": definition, "changed_at": now}
        if row is None or row["definition"] != definition:
            values |= {"attempts": 0, "lost": 0, "failed_at": None, "retry_at": None, "settled": False}
        elif row["owner"]:
            values |= {"attempts": row["attempts"] + 1, "lost": row["lost"] + 1}
        runs = [dict(r) for r in connection.execute(sa.select(run).where(run.c.job == name)).mappings()]
        pending = next((r for r in runs if row and r["identity"] == row["identity"] and r["status"] == "pending"), None)
        unfinished = pending if row is not None and row["definition"] == definition else None
        if reason := passed(wanted, pending, now):
            if pending is None and row is not None and (row["definition"], row["status"]) == (definition, "done"):
                upsert(connection, job, {"name": name}, {"settled": True})
                return GivenUp(wanted, "nothing", reason)
            ending: Any = values | FREE | {"status": "late", "reason": reason, "settled": True, "beat": 0}
            upsert(connection, job, {"name": name}, ending)
            return GivenUp(wanted, "late", reason)
        if unfinished and values.get("attempts", 0) > wanted.retries:
            failure = Failure("crash", f"whoever ran it died, {values['attempts']} times")
            values |= self._failed(connection, wanted, unfinished, failure, values["attempts"] - 1, now)
            upsert(connection, job, {"name": name}, values | FREE)
            return GivenUp(wanted, "failed", values["reason"])
        values |= {"owner": self.owner, "beat": (row["beat"] if row else 0) + 1, "status": "running", "reason": ""}
        values |= {"project": wanted.ee_project, "device": device}
        upsert(connection, job, {"name": name}, values)
        over = frozenset(r["identity"] for r in runs if r["status"] in ("done", "failed"))
        return Claim(wanted, definition, unfinished, over)

    def forgive(self) -> None:
        """Let what failed for good, or came too late, be tried again."""

        def work(connection: sa.Connection) -> None:
            connection.execute(
                run.update().where(run.c.status == "failed").values(status="dropped", reason="tried again")
            )
            over = sa.and_(job.c.status.in_(("failed", "late")), job.c.owner.is_(None))
            connection.execute(job.update().where(over).values(status="stopped", settled=False, attempts=0, lost=0))

        self.state.do(work)

    def found(self, claim: Claim, found: Found) -> list[str] | None:
        """Write down what is being made.

        Returns:
            The products of the job that will not be finished now; None if it is no longer this scheduler's.
        """
        name = claim.job.name
        obsolete: list[str] = []

        def work(connection: sa.Connection) -> None:
            values = {"t1": str(found.t1), "t2": str(found.t2), "product": found.product, "manifest": found.manifest}
            key = {"job": name, "identity": found.identity}
            others = sa.and_(run.c.job == name, run.c.identity != found.identity)
            dropped = sa.and_(others, run.c.status == "pending")
            connection.execute(run.update().where(dropped).values(status="dropped", reason="the job was changed"))
            obsolete[:] = connection.execute(sa.select(run.c.product).where(others, run.c.status != "done")).scalars()
            upsert(connection, run, key, values | {"status": "pending", "reason": "", "found_at": leases.utc()})
            mine = job.update().where(held(name, self.owner))
            connection.execute(mine.values(identity=found.identity, attempts=0, product=found.product))

        return obsolete if self._if_held(name, work) else None

    def over(self, claim: Claim, outcome: Outcome, log: str, today: datetime.date) -> str | None:
        """Write down what became of a job and let go of it.

        Returns:
            The job's new status; None if it was no longer this scheduler's.
        """
        wanted, now = claim.job, leases.utc()
        status: list[str] = []

        def work(connection: sa.Connection) -> None:
            row = connection.execute(sa.select(job).where(job.c.name == wanted.name)).mappings().one()
            pending = self._run(connection, wanted.name, row["identity"])
            values: dict[str, Any] = {"changed_at": now, "log": log, "reason": ""}
            if isinstance(outcome, Stopped):
                values |= {"status": "stopped"}
            elif isinstance(outcome, Waiting):
                values |= _calm(status="waiting", reason=outcome.reason)
            elif isinstance(outcome, Nothing):
                held_run = self._run(connection, wanted.name, outcome.identity)
                assert held_run is not None
                values |= _calm(status=held_run["status"], reason=held_run["reason"], product=held_run["product"])
                values |= {"settled": settled(wanted, held_run, today)}
            elif isinstance(outcome, Done):
                made = self._run(connection, wanted.name, outcome.identity)
                assert made is not None
                where = sa.and_(run.c.job == wanted.name, run.c.identity == outcome.identity)
                spent = {"seconds": outcome.seconds, "windows": outcome.windows}
                connection.execute(run.update().where(where).values(status="done", finished_at=now, **spent))
                values |= _calm(status="done", product=made["product"], settled=settled(wanted, made, today))
            else:
                values |= self._failed(connection, wanted, pending, outcome.failure, row["attempts"], now)
            connection.execute(job.update().where(job.c.name == wanted.name).values(**values, **FREE))
            status[:] = [values["status"]]

        return status[0] if self._if_held(wanted.name, work) else None

    def _failed(
        self, connection: sa.Connection, wanted: Job, pending: Row | None, failure: Failure, attempts: int, now: float
    ) -> dict[str, Any]:
        attempts += 1
        making = pending is not None and pending["status"] == "pending"
        # While only looking, a passing fault is no reason to ever stop.
        tired = attempts > wanted.retries and (making or failure.kind == "crash")
        if failure.kind != "permanent" and not tired:
            wait = wait_after(attempts, wanted.retry_wait.total_seconds())
            # Who waits for longer than there is time is told so when time is up.
            retry_at = min(now + wait, max(now, deadline_of(wanted, pending)))
            again = {"status": "retry", "reason": failure.reason, "failed_at": now, "retry_at": retry_at}
            return again | {"attempts": attempts, "lost": 0}
        reason = failure.reason + (f" (given up after {attempts} attempts)" if failure.kind != "permanent" else "")
        values = _calm(status="failed", reason=reason, settled=True)
        if making:
            assert pending is not None
            where = sa.and_(run.c.job == wanted.name, run.c.identity == pending["identity"])
            connection.execute(run.update().where(where).values(status="failed", finished_at=now, reason=reason))
            values["settled"] = settled(wanted, pending, datetime.datetime.fromtimestamp(now, datetime.UTC).date())
        return values

    def _run(self, connection: sa.Connection, name: str, identity: str | None) -> Row | None:
        where = sa.and_(run.c.job == name, run.c.identity == identity)
        row = connection.execute(sa.select(run).where(where)).mappings().first()
        return dict(row) if row else None

    def _if_held(self, name: str, work: Callable[[sa.Connection], None]) -> bool:
        def guarded(connection: sa.Connection) -> bool:
            mine = sa.select(job.c.name).where(held(name, self.owner))
            if connection.execute(mine.with_for_update()).first() is None:
                return False
            work(connection)
            return True

        return self.state.do(guarded)


def due(row: Row | None, definition: str, looked: bool) -> bool:
    """Say whether a job that nobody holds has something to do now."""
    if row is None or row["definition"] != definition or row["status"] in ("running", "stopped"):
        return True
    if row["status"] == "retry":
        # A moment before the failure means that the clock was set back: waiting by it could take for ever.
        return not row["failed_at"] <= leases.utc() < row["retry_at"]
    return not (row["settled"] or looked)


def urgency(wanted: Job, row: Row | None) -> tuple[int, int, float]:
    """Return what jobs are ordered by: those whose schedulers died come last, then by priority and deadline."""
    deadline = wanted.deadline
    moment = deadline.timestamp() if isinstance(deadline, datetime.datetime) else float("inf")
    return (row["lost"] if row else 0, -wanted.priority, moment)


def passed(wanted: Job, pending: Row | None, now: float) -> str:
    """Return which deadline passed; nothing if none did."""
    if now < deadline_of(wanted, pending):
        return ""
    if isinstance(wanted.deadline, datetime.datetime):
        return f"the deadline {wanted.deadline} passed"
    return f"the deadline passed, {wanted.deadline} after its acquisitions were found"


def deadline_of(wanted: Job, pending: Row | None) -> float:
    """Return the moment, in seconds since 1970, from which nothing is begun; infinity if there is none."""
    if isinstance(wanted.deadline, datetime.datetime):
        return wanted.deadline.timestamp()
    if wanted.deadline is None or pending is None:
        return math.inf
    return float(pending["found_at"] + wanted.deadline.total_seconds())


def settled(wanted: Job, made: Row, today: datetime.date) -> bool:
    """Say whether no acquisition can change what is due, until the definition does."""
    if not wanted.fixed:
        return False
    t2 = datetime.date.fromisoformat(made["t2"])
    return wanted.source != "gee" or today > t2 + datetime.timedelta(wanted.search_days + LATE_DAYS)


def _calm(**values: Any) -> dict[str, Any]:
    """Return what a job's row says when it is not in trouble."""
    return {"attempts": 0, "lost": 0, "failed_at": None, "retry_at": None, "identity": None, "reason": "", **values}
