"""The scheduler of a jobs file: runs every job that is due in a process of its own, and notes what became of it."""

from __future__ import annotations

import contextlib
import datetime
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
from crgen.batch.tell.json_log import RunLogger, open_log
from crgen.errors import CrgenError, RequestError
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.run.scratch import abandon

GRACE = 30.0
"""Seconds jobs have to stop before they are killed; what they finished is kept either way."""
AFTERWARDS_EVERY = 30.0
"""Seconds between updates of lists, metrics and news while there is work."""
TICK = 5.0
"""Seconds between looks at what is due, at most."""

PROCESSES: Any = multiprocessing.get_context("forkserver")
"""How processes start: at once, for what takes seconds to load, :data:`LOADED`, is loaded once for all."""
LOADED = ["__main__", "crgen.batch.schedule.worker", "distributed"]

Tell = Callable[..., None]
"""Told of what happens: ``tell("done", job="beira", …)``."""


@dataclass
class Summary:
    """What became of the jobs that a scheduler took up."""

    last: dict[str, str] = field(default_factory=dict)
    """By job: done, nothing (no new acquisition), waiting, retry, failed, late or stopped."""

    @property
    def counts(self) -> Counter[str]:
        """Jobs by what became of them."""
        return Counter(self.last.values())

    def note(self, job: str, kind: str) -> None:
        """Remember what became of a job; that nothing came after its product is no news."""
        if kind != "nothing" or job not in self.last:
            self.last[job] = kind

    @property
    def failures(self) -> int:
        """Jobs that were due and are not done."""
        return self.counts["retry"] + self.counts["failed"] + self.counts["late"]


@dataclass
class _Running:
    job: Job
    resumes: bool
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
        tell: told of what happens.
        poll: seconds between looks for new acquisitions; None to leave once nothing is due.
        retry_failed: try again what failed for good, or came too late.

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
        self._log = self._open_log()
        self._afterwards: BaseProcess | None = None
        self._cared_at, self._cared_for = time.monotonic(), -1
        self._retain = self.file.retention is not None
        self._audited: datetime.date | None = None

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
                self._look_after(last=True, patience=GRACE)  # whoever waits for news of what is done by now gets it
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
        return (
            len(running) < limits.total
            and sum(other.device == self._device(job) for other in running) < limits.per_device
            and (
                job.ee_project is None or sum(o.job.ee_project == job.ee_project for o in running) < limits.per_project
            )
        )

    def _device(self, job: Job) -> str:
        """Return where a job computes; what ``auto`` means is asked only where others say it by name."""
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
            today=ledger.today(),
            log=log,
            threads=cores,
            deliver=self.file.deliver,
            processes=self.file.limits.per_project,
            eecu_hours=self.file.limits.eecu_hours,
        )
        here, there = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=work, args=(there, order))
        process.start()
        there.close()
        resumes = begun.unfinished is not None
        self._running[job.name] = _Running(job, resumes, process, here, log, run_id, self._device(job))
        self._say("started", job=job.name, run=run_id, log=str(log), resumes=resumes)

    def _collect(self, timeout: float) -> None:
        """Take in what jobs say, and what became of those that ended."""
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
        outcome = running.outcome or Failed(died(running.process.exitcode))
        running.process.close()
        details = {"run": running.run_id}
        if isinstance(outcome, Failed | Waiting):
            details["reason"] = outcome.reason
        with self.journal.change():
            row = ledger.over(self.journal, job, outcome, str(running.log))
            kind = "nothing" if isinstance(outcome, Nothing) else row["status"]
            self._note(job, kind, product=row["product"], **details)
        if not running.resumes:
            self._looked[job.name] = time.monotonic()
        if isinstance(outcome, Nothing | Waiting):
            running.log.unlink(missing_ok=True)

    def _note(self, job: Job, kind: str, *, product: str | None = None, **details: Any) -> None:
        """Say what became of a job, and note what people are to be told of it."""
        self.summary.note(job.name, kind)
        self._say(kind, job=job.name, **details)
        if self.file.notify is not None and kind in self.file.notify.on:
            picture = str(Path(product).with_suffix(".png")) if product and kind == "done" else None
            body = str(product) if kind == "done" else str(details["reason"])
            self.journal.message(kind, job.name, body, picture, ledger.utc())

    def _say(self, kind: str, **details: Any) -> None:
        self.tell(kind, **details)
        if self._log is not None:
            log = self._log.of(**{"job": "", **details})
            (log.warning if kind in ("retry", "failed", "late", "ignored") else log.info)(kind)

    def _open_log(self) -> RunLogger | None:
        if self.file.log is None:
            return None
        try:
            return open_log(None if self.file.log.file == "-" else Path(self.file.log.file), f"scheduler {os.getpid()}")
        except ModuleNotFoundError as error:
            raise RequestError(f"the JSON log needs {error.name}: pip install 'crgen[batch]'") from None

    def _look_after(self, *, last: bool = False, patience: float | None = None) -> None:
        """Let lists, metrics and people follow what changed, in one process at a time.

        Args:
            last: wait until it is done.
            patience: for so many seconds; what is not done then is done by the next scheduler.
        """
        if self._afterwards is not None and last:
            self._afterwards.join(patience)
        if self._afterwards is not None and self._afterwards.is_alive():
            return
        changes, listed = self.journal.changes()
        unscored = self._audited != ledger.today() and any(job.source == "gee" for job in self.file.job)
        untold = self.file.notify is not None and bool(self.journal.untold())
        owed = changes != listed or self._retain or unscored or untold
        late = time.monotonic() - self._cared_at > AFTERWARDS_EVERY
        if owed and (late or (not self._running and changes != self._cared_for)):
            from crgen.batch.schedule.afterwards import look_after

            self._afterwards = PROCESSES.Process(target=look_after, args=(self.path, self.file, changes), daemon=True)
            self._afterwards.start()
            self._cared_at, self._cared_for, self._retain = time.monotonic(), changes, False
            self._audited = ledger.today()
            if last:
                self._afterwards.join(patience)

    def _just_looked(self, job: str) -> bool:
        since = self._looked.get(job)
        return since is not None and (self.poll is None or time.monotonic() - since < self.poll)

    def _stop(self) -> None:
        """End all jobs, keeping what they finished."""
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
