"""The scheduler of a jobs file: it runs every job that is due in a process of its own, and notes the outcome."""

from __future__ import annotations

import contextlib
import datetime
import logging
import multiprocessing
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from crgen.batch.jobs.job import Job, JobsFile
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import ledger
from crgen.batch.schedule.failures import died
from crgen.batch.schedule.journal import Journal, journal_of, scheduling
from crgen.batch.schedule.messages import Failed, Found, Nothing, Order, Outcome, Stopped, Waiting
from crgen.batch.tell.json_log import open_log
from crgen.errors import CrgenError
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.run.scratch import abandon

GRACE = 30.0
"""Seconds that jobs have to stop before they are killed; finished parts are kept either way."""
AFTERWARDS_EVERY = 30.0
"""Seconds between updates of listings, metrics and notifications while jobs run."""
TICK = 5.0
"""Longest time, in seconds, between checks of what is due."""

PROCESSES: Any = multiprocessing.get_context("forkserver")
"""How processes start: forked from a server of the standard library that has imported :data:`LOADED` once."""
LOADED = ["__main__", "crgen.batch.schedule.worker", "distributed"]

Tell = Callable[..., None]
"""Called with every event: ``tell("done", job="beira", …)``."""


@dataclass
class Summary:
    """The outcomes of the jobs that a scheduler ran."""

    last: dict[str, str] = field(default_factory=dict)
    """By job: done, nothing (no new acquisition), waiting, retry, failed, late or stopped."""

    @property
    def counts(self) -> Counter[str]:
        """Number of jobs by outcome."""
        return Counter(self.last.values())

    @property
    def failures(self) -> int:
        """Number of jobs that were due and are not done."""
        return self.counts["retry"] + self.counts["failed"] + self.counts["late"]

    def note(self, job: str, kind: str) -> None:
        """Note an outcome; that nothing new was acquired after a product does not replace the product's."""
        if kind != "nothing" or job not in self.last:
            self.last[job] = kind


@dataclass
class _Running:
    """A job whose process runs."""

    job: Job
    more: bool
    """Whether new acquisitions are looked for once it has ended: it may finish, or make once more, what was known."""
    process: BaseProcess
    connection: Connection
    log: Path
    run_id: str
    device: str
    outcome: Outcome | None = None


class Scheduler:
    """Runs the jobs of a file.

    Args:
        path: the jobs file.
        tell: called with every event.
        poll: seconds between searches for new acquisitions; None to end once nothing is due.
        retry_failed: make due again what failed for good, or came too late.

    Raises:
        CrgenError: if the file cannot be used.
    """

    def __init__(self, path: Path, *, tell: Tell, poll: float | None = None, retry_failed: bool = False) -> None:
        self.path, self.tell, self.poll, self.retry_failed = path, tell, poll, retry_failed
        self.summary = Summary()
        self._running: dict[str, _Running] = {}
        self._looked: dict[str, float] = {}
        self._read = self._stamp()
        self._take_up(read_jobs(path))
        self._log = None if self.file.log is None else open_log(self.file.log.file, f"scheduler {os.getpid()}")
        self._afterwards: BaseProcess | None = None
        self._afterwards_at, self._afterwards_of = time.monotonic(), -1
        self._tidied: datetime.date | None = None

    def run(self) -> Summary:
        """Work until nothing is due, or until stopped.

        Raises:
            BusyError: if another scheduler works on the file.
            CrgenError: if the journal cannot be used.
        """
        PROCESSES.set_forkserver_preload(LOADED)
        with scheduling(self.path), Journal(journal_of(self.path)) as self.journal:
            with self.journal.change():
                ledger.interrupted(self.journal)
                if self.retry_failed:
                    ledger.forgive(self.journal)
            try:
                while True:
                    self._reload()
                    self._start_what_is_due()
                    if not self._running and self.poll is None:
                        self._look_after(last=True)
                        return self.summary
                    self._look_after()
                    self._collect(TICK)
            except BaseException:
                self._stop()
                self._look_after(last=True, patience=GRACE)  # people are told of what is done by now
                raise

    def _start_what_is_due(self) -> None:
        rows = self.journal.jobs()
        for job in sorted(self.jobs.values(), key=lambda job: ledger.urgency(job, rows.get(job.name))):
            row, definition = rows.get(job.name), self.definitions[job.name]
            if job.name in self._running or not ledger.due(row, definition, self._just_looked(job.name)):
                continue
            if not self._has_room(job):
                continue
            with self.journal.change():
                begun = ledger.begin(self.journal, job, row, definition)
                if isinstance(begun, ledger.GivenUp):
                    self._note(job, begun.kind, reason=begun.reason)
            if isinstance(begun, ledger.Begun):
                self._start(job, begun)

    def _has_room(self, job: Job) -> bool:
        """Say whether one more job is within the limits."""
        limits, running = self.file.limits, self._running.values()
        device, project = self._device(job), job.ee_project
        same_device = sum(other.device == device for other in running)
        same_project = sum(other.job.ee_project == project for other in running if project is not None)
        return len(running) < limits.total and same_device < limits.per_device and same_project < limits.per_project

    def _device(self, job: Job) -> str:
        """Return the device of a job; ``auto`` is resolved only if another job names a device."""
        named = str(job.device)
        if named != "auto" or all(other.device == "auto" for other in self.jobs.values()):
            return named
        from crgen.pipeline.run.plan import usual_device  # torch takes seconds to load

        return usual_device()

    def _start(self, job: Job, begun: ledger.Begun) -> None:
        from crgen.batch.schedule.worker import work

        run_id = f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
        log = self.path.absolute().parent / "logs" / job.name / f"{run_id}.log"
        cores = max(1, (os.cpu_count() or 1) // self.file.limits.total)
        order = Order(
            job=job if job.workers else job.model_copy(update={"workers": cores}),
            unfinished=begun.unfinished,
            finished=begun.finished,
            improve=begun.improve,
            today=ledger.today(),
            log=log,
            threads=cores,
            deliver=self.file.deliver,
            limits=self.file.limits,
        )
        here, there = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=work, args=(there, order))
        process.start()
        there.close()
        resumes = begun.unfinished is not None
        self._running[job.name] = _Running(
            job, resumes or begun.improve is not None, process, here, log, run_id, self._device(job)
        )
        self._say("started", job=job.name, run=run_id, log=str(log), resumes=resumes)

    def _collect(self, timeout: float) -> None:
        """Receive what processes of jobs send, and end those that have exited."""
        everyone = [thing for r in self._running.values() for thing in (r.connection, r.process.sentinel)]
        if everyone:
            wait(everyone, timeout)
        else:
            time.sleep(min(timeout, self.poll or timeout))
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
                    continue
                with self.journal.change():
                    obsolete = ledger.found(self.journal, running.job, said)
                for product in obsolete:
                    with contextlib.suppress(OSError):
                        abandon(Paths(Path(product)))
                about = {"product": said.product, "t1": said.t1, "t2": said.t2}
                self._say("found", job=running.job.name, run=running.run_id, **about)

    def _end(self, running: _Running) -> None:
        job = running.job
        del self._running[job.name]
        running.connection.close()
        running.process.join()
        outcome = running.outcome or died(running.process.exitcode)
        running.process.close()
        details = {"run": running.run_id}
        if isinstance(outcome, Failed | Waiting):
            details["reason"] = outcome.reason
        with self.journal.change():
            row = ledger.over(self.journal, job, outcome, str(running.log))
            kind = "nothing" if isinstance(outcome, Nothing) else row["status"]
            self._note(job, kind, product=row["product"], **details)
        if not running.more:
            self._looked[job.name] = time.monotonic()
        if isinstance(outcome, Nothing | Waiting):
            running.log.unlink(missing_ok=True)

    def _note(self, job: Job, kind: str, *, product: str | None = None, **details: Any) -> None:
        """Tell an outcome, and note in the journal the message to send about it."""
        self.summary.note(job.name, kind)
        self._say(kind, job=job.name, **details)
        if self.file.notify is not None and kind in self.file.notify.on:
            picture = str(Path(product).with_suffix(".png")) if product and kind == "done" else None
            self.journal.message(kind, job.name, str(details.get("reason", product)), picture, ledger.utc())

    def _say(self, kind: str, **details: Any) -> None:
        self.tell(kind, **details)
        if self._log is not None:
            level = logging.WARNING if kind in ("retry", "failed", "late", "ignored") else logging.INFO
            self._log.log(level, kind, extra={"job": "", **details})

    def _look_after(self, *, last: bool = False, patience: float | None = None) -> None:
        """Bring listings, metrics and notifications up to date in a process of their own, one at a time.

        Args:
            last: wait for its end.
            patience: for at most so many seconds; what is not done by then is done by the next scheduler.
        """
        if self._afterwards is not None:
            if last:
                self._afterwards.join(patience)
            if self._afterwards.is_alive():
                return
        changes, listed = self.journal.changes()
        daily = self.file.retention is not None or any(job.source == "gee" for job in self.file.job)  # audits
        untidy = daily and self._tidied != ledger.today()
        if changes == listed and not untidy and not (self.file.notify is not None and self.journal.untold()):
            return
        waited = time.monotonic() - self._afterwards_at > AFTERWARDS_EVERY
        if waited or (not self._running and changes != self._afterwards_of):
            from crgen.batch.schedule.afterwards import look_after

            self._afterwards = PROCESSES.Process(target=look_after, args=(self.path, self.file, changes), daemon=True)
            self._afterwards.start()
            self._afterwards_at, self._afterwards_of = time.monotonic(), changes
            self._tidied = ledger.today()
            if last:
                self._afterwards.join(patience)

    def _just_looked(self, job: str) -> bool:
        since = self._looked.get(job)
        return since is not None and (self.poll is None or time.monotonic() - since < self.poll)

    def _stop(self) -> None:
        """Stop all jobs; their finished parts are kept."""
        for running in self._running.values():
            running.process.terminate()
        end = time.monotonic() + GRACE
        while self._running:
            self._collect(0.2)
            if time.monotonic() > end:
                for running in self._running.values():
                    running.outcome = running.outcome or Stopped()
                    running.process.kill()

    def _reload(self) -> None:
        """Read the jobs file again if it was changed; keep to the old one if the new one is wrong."""
        stamp = self._stamp()
        try:
            if stamp != self._read:
                self._read = stamp
                self._take_up(read_jobs(self.path))
            elif self.poll is not None and time.monotonic() - self._defined > self.poll:
                self._take_up(self.file)  # the files that it names may have changed
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
