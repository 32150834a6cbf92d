"""The scheduler: takes jobs that are due, runs each in a process of its own, and notes what became of them."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import platform
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from crgen.batch.jobs.job import Job, JobsFile
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import leases
from crgen.batch.schedule.failures import died
from crgen.batch.schedule.leases import Observer
from crgen.batch.schedule.ledger import Claim, GivenUp, Ledger, due
from crgen.batch.schedule.messages import Failed, Found, Nothing, Order, Outcome, Stopped, Waiting
from crgen.batch.schedule.state import State, beat
from crgen.batch.schedule.summary import Summary
from crgen.batch.tell.json_log import RunLogger, open_log
from crgen.batch.tell.notify import Event
from crgen.errors import CrgenError, RequestError
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.run.scratch import abandon

GRACE = 30.0
"""Seconds jobs have to stop before they are killed; what they finished is kept either way."""
CHORES_EVERY = 30.0
"""Seconds between updates of lists and metrics while there is work."""
TICK = 5.0
"""Seconds between looks at the state, at most."""

Tell = Callable[..., None]
"""Told of what happens: ``tell("done", job="beira", …)``."""


def forkserver(*loaded: str) -> BaseContext:
    """Return how to start processes that have a job's libraries loaded, which takes seconds, once for all.

    Args:
        loaded: further modules, those of the main program.
    """
    context = multiprocessing.get_context("forkserver")
    # dask looks for distributed whenever it computes.
    context.set_forkserver_preload(["crgen.batch.schedule.worker", "distributed", *loaded])
    return context


@dataclass
class _Running:
    claim: Claim
    process: BaseProcess
    connection: Connection
    log: Path
    run_id: str
    outcome: Outcome | None = None
    lost: bool = False


class Scheduler:
    """Runs the jobs of a file.

    Args:
        path: the jobs file.
        tell: told of what happens.
        poll: seconds between looks for new acquisitions; None to leave once nothing is due.
        processes: how to start the processes of jobs; by default :func:`forkserver`.
        retry_failed: try again what failed for good, or came too late.

    Raises:
        CrgenError: if the file or the state cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        tell: Tell,
        poll: float | None = None,
        processes: BaseContext | None = None,
        retry_failed: bool = False,
    ) -> None:
        self.processes = processes or forkserver()
        self.path, self.tell, self.poll = path, tell, poll
        self.machine = platform.node() or "localhost"
        self.name = f"{self.machine}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.summary = Summary()
        self._running: dict[str, _Running] = {}
        self._looked: dict[str, float] = {}
        self._read = self._stamp()
        self._take_up(read_jobs(path))
        self.state = State(self.file.state.url)
        self.lease = self.file.state.lease.total_seconds()
        self.observer = Observer(self.lease)
        self.ledger = Ledger(self.state, self.name, self.machine, self.observer)
        if retry_failed:
            self.ledger.forgive()
        self._log = self._open_log()
        self._events: list[Event] = []
        self._chores: BaseProcess | None = None
        self._changed, self._chored = self.file.retention is not None, time.monotonic()
        self._warm = False
        self._renewed = time.monotonic()

    def run(self) -> Summary:
        """Work until nothing is due, or until stopped.

        Raises:
            CrgenError: if the state cannot be used any more.
        """
        try:
            while True:
                self._reload()
                started = self._start_what_is_due()
                idle = not self._running and not started
                self._do_chores(idle)
                if idle and self.poll is None and not self._in_doubt():
                    return self.summary
                if self._running or not started:
                    self._collect(min(TICK, self.lease / 4))
                self._renew()
        except BaseException:
            self._stop()
            self._do_chores(idle=True)  # whoever waits for news of what is done by now gets it
            raise
        finally:
            if self._chores is not None:
                self._chores.join(GRACE)
            self.state.close()

    def _do_chores(self, idle: bool) -> None:
        """Let lists, metrics and people know what changed, one process at a time."""
        if self._chores is not None and (idle or not self._chores.is_alive()):
            self._chores.join(GRACE if idle else None)
            self._chores = None
        late = time.monotonic() - self._chored > CHORES_EVERY
        if self._changed and self._chores is None and (idle or late):
            self._chored = time.monotonic()
            from crgen.batch.schedule.afterwards import do_chores

            self._chores = _process(self.processes, do_chores, self.file, self._events, self.name)
            self._chores.start()
            self._changed, self._events = False, []

    def _open_log(self) -> RunLogger | None:
        if self.file.log is None:
            return None
        try:
            return open_log(None if self.file.log.file == "-" else Path(self.file.log.file), self.name)
        except ModuleNotFoundError as error:
            raise RequestError(f"the JSON log needs {error.name}: pip install 'crgen[batch]'") from None

    def _start_what_is_due(self) -> bool:
        started = False
        while self._anything_due():
            if not self._warm:
                # Loading the libraries takes seconds in which no lease could be renewed: before one is taken.
                first = _process(self.processes, os.getpid)
                first.start()
                first.join()
                self._warm = True
            claim = self.ledger.claim(self.jobs, self.definitions, self._just_looked(), self.file.limits)
            if claim is None:
                break
            started = True
            if isinstance(claim, GivenUp):
                self._note(claim.job, claim.kind, reason=claim.reason)
            else:
                self._start(claim)
            self._collect(0)
            self._renew()
        return started

    def _anything_due(self) -> bool:
        rows = self.state.jobs()
        self.observer.see(rows)
        looked = self._just_looked()
        for name in self.jobs:
            row = rows.get(name)
            free = row is None or not row["owner"] or self.observer.dead(row)
            if free and name not in self._running and due(row, self.definitions[name], name in looked):
                return True
        return False

    def _start(self, claim: Claim) -> None:
        wanted = claim.job
        now = datetime.datetime.now(datetime.UTC)
        run_id = f"{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        log = self.path.absolute().parent / "logs" / wanted.name / f"{run_id}.log"
        cores = max(1, (os.cpu_count() or 1) // self.file.limits.total)
        order = Order(
            job=wanted if wanted.workers else wanted.model_copy(update={"workers": cores}),
            unfinished=claim.unfinished,
            finished=claim.finished,
            today=datetime.datetime.fromtimestamp(leases.utc(), datetime.UTC).date(),
            log=log,
            threads=cores,
            deliver=self.file.deliver,
            processes=self.file.limits.per_project,
        )
        here, there = self.processes.Pipe(duplex=False)
        from crgen.batch.schedule.worker import work

        process = _process(self.processes, work, there, order)
        process.start()
        there.close()
        self._running[wanted.name] = _Running(claim, process, here, log, run_id)
        self._say("started", job=wanted.name, run=run_id, log=str(log), resumes=claim.unfinished is not None)

    def _collect(self, timeout: float) -> None:
        """Take in what jobs say, and what became of those that ended."""
        everyone = [thing for r in self._running.values() for thing in (r.connection, r.process.sentinel)]
        if everyone:
            wait(everyone, timeout)
        elif timeout:
            time.sleep(timeout)
        for running in list(self._running.values()):
            ended = not running.process.is_alive()
            self._hear(running)
            if ended:
                self._end(running)

    def _hear(self, running: _Running) -> None:
        with contextlib.suppress(EOFError, OSError):
            while running.connection.poll():
                said: Any = running.connection.recv()
                if not isinstance(said, Found):
                    running.outcome = said
                elif (obsolete := self.ledger.found(running.claim, said)) is not None:
                    for product in obsolete:
                        with contextlib.suppress(OSError):
                            abandon(Paths(Path(product)))
                    self._say(
                        "found",
                        job=running.claim.job.name,
                        run=running.run_id,
                        product=said.product,
                        t1=said.t1,
                        t2=said.t2,
                    )
                else:
                    self._lose(running)

    def _lose(self, running: _Running) -> None:
        """End a job that another scheduler holds now: this one was silent for too long."""
        running.lost = True
        running.process.kill()

    def _end(self, running: _Running) -> None:
        claim = running.claim
        del self._running[claim.job.name]
        running.connection.close()
        running.process.join()
        outcome = running.outcome or Failed(died(running.process.exitcode))
        running.process.close()
        today = datetime.datetime.fromtimestamp(leases.utc(), datetime.UTC).date()
        status = None if running.lost else self.ledger.over(claim, outcome, str(running.log), today)
        if claim.unfinished is None:
            self._looked[claim.job.name] = time.monotonic()
        if isinstance(outcome, Nothing | Waiting):
            running.log.unlink(missing_ok=True)
        details = {"run": running.run_id}
        if isinstance(outcome, Failed):
            details["reason"] = outcome.failure.reason
        elif isinstance(outcome, Waiting):
            details["reason"] = outcome.reason
        kind = "lost" if status is None else "nothing" if isinstance(outcome, Nothing) else status
        self._note(claim.job, kind, **details)

    def _note(self, wanted: Job, kind: str, **details: Any) -> None:
        self.summary.note(wanted.name, kind)
        self._changed = True
        self._say(kind, job=wanted.name, **details)
        if self.file.notify is not None and kind in self.file.notify.on:
            product = self.state.jobs()[wanted.name]["product"] if kind == "done" else None
            self._events.append(
                Event(
                    kind,
                    wanted.name,
                    f"crgen: {wanted.name} {kind}",
                    str(details.get("reason") or product),
                    Path(product).with_suffix(".png") if product else None,
                )
            )

    def _say(self, kind: str, **details: Any) -> None:
        self.tell(kind, **details)
        if self._log is not None:
            log = self._log.of(**{"job": "", **details})
            (log.warning if kind in ("retry", "failed", "late", "lost", "ignored") else log.info)(kind)

    def _renew(self) -> None:
        if time.monotonic() - self._renewed < self.lease / 4:
            return
        for name in beat(self.state, self.name, list(self._running)):
            self._lose(self._running[name])
        self._renewed = time.monotonic()

    def _in_doubt(self) -> bool:
        """Say whether somebody holds a job of whom it is not known yet whether they live."""
        rows = self.state.jobs()
        self.observer.see(rows)
        held = [row for name, row in rows.items() if name in self.jobs and row["owner"]]
        return not all(self.observer.alive(row) for row in held)

    def _just_looked(self) -> set[str]:
        if self.poll is None:
            return set(self._looked)
        now = time.monotonic()
        return {name for name, when in self._looked.items() if now - when < self.poll}

    def _stop(self) -> None:
        """End all jobs, keeping what they finished, and give their leases back."""
        for running in self._running.values():
            running.process.terminate()
        end = time.monotonic() + GRACE
        while self._running:
            self._collect(0.2)
            with contextlib.suppress(CrgenError):
                self._renew()
            if time.monotonic() > end:
                for running in self._running.values():
                    running.outcome = running.outcome or Stopped()
                    running.process.kill()

    def _reload(self) -> None:
        """Take up a jobs file that was changed; one that is wrong changes nothing."""
        stamp = self._stamp()
        if stamp == self._read:
            if self.poll is not None and time.monotonic() - self._defined > self.poll:
                self._take_up(self.file)
            return
        self._read = stamp
        try:
            self._take_up(read_jobs(self.path))
        except CrgenError as error:
            self._say("ignored", reason=f"the jobs file was changed, but is wrong: {error}")

    def _take_up(self, file: JobsFile) -> None:
        self.file = file
        self.jobs = {job.name: job for job in file.job}
        self.definitions = {job.name: job.definition for job in file.job}
        self._defined = time.monotonic()

    def _stamp(self) -> tuple[int, int]:
        try:
            stat = self.path.stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size


def _process(context: BaseContext, target: Callable[..., Any], *args: Any) -> BaseProcess:
    process: BaseProcess = context.Process(target=target, args=args)  # type: ignore[attr-defined]
    return process
