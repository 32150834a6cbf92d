"""Schedulers as processes of their own that start in no time."""

import datetime
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from crgen.batch.schedule import ledger, scheduler
from crgen.batch.schedule.journal import Journal, journal_of
from crgen.batch.schedule.scheduler import Scheduler, Summary
from crgen.errors import BusyError
from tests.processes import ctx


def schedule(path: Path, answer: Connection | None = None, **environment: str) -> None:
    """Run a scheduler in this process, from which its jobs are forked; answer with its summary.

    Args:
        path: the jobs file.
        answer: where to send the summary.
        environment: variables for it and its jobs; ``TODAY`` is the day it takes today for.
    """
    import tests.batch.light  # noqa: F401

    os.environ.update(environment)
    if "TODAY" in environment:
        noon = datetime.datetime.fromisoformat(f"{environment['TODAY']}T12:00:00+00:00").timestamp()
        start = time.monotonic()
        ledger.utc = lambda: noon + time.monotonic() - start
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    scheduler.PROCESSES = multiprocessing.get_context("fork")
    end = time.monotonic() + 10
    while True:
        try:
            summary = Scheduler(path, tell=say).run()
            break
        except BusyError:  # processes that a scheduler forked hold its lock, until they too are gone
            assert time.monotonic() < end
    if answer is not None:
        answer.send(summary)


def watch(path: Path, **environment: str) -> None:
    """Be `crgen batch run --watch`, by the clock (seconds since 1970) in the file ``CLOCK``."""
    import tests.batch.light  # noqa: F401
    from crgen.cli.main import main

    ledger.utc = lambda: float(Path(environment["CLOCK"]).read_text() or "0")
    scheduler.PROCESSES = multiprocessing.get_context("fork")
    sys.argv = ["crgen", "batch", "run", str(path), "--watch", "0.1s"]
    main()


def in_process(path: Path, **environment: str) -> Summary:
    """Run a scheduler in a process that has everything loaded; return what it did."""
    here, there = ctx.Pipe(duplex=False)
    process = ctx.Process(target=schedule, args=(path, there), kwargs=environment)
    process.start()
    there.close()
    summary: Summary = here.recv()
    process.join()
    return summary


def until(scheduler: BaseProcess, seen: Callable[[], object]) -> None:
    """Wait until something is seen while a scheduler runs."""
    end = time.monotonic() + 120
    while not seen():
        assert scheduler.is_alive()
        assert time.monotonic() < end
        time.sleep(0.02)


def terminate(scheduler: BaseProcess) -> None:
    """Ask a scheduler to stop, and wait until it has."""
    assert scheduler.pid is not None
    os.kill(scheduler.pid, signal.SIGTERM)
    scheduler.join(60)


def say(kind: str, **details: object) -> None:
    print(kind, details, file=sys.stderr, flush=True)


class state_of:  # noqa: N801 (it reads as a function)
    """What the journal of a jobs file says, read anew each time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _look(self, at: Callable[[Journal], Any]) -> Any:
        with Journal(journal_of(self.path), look_only=True) as journal:
            return at(journal)

    def jobs(self) -> dict[str, Any]:
        return self._look(Journal.jobs)

    def runs(self) -> list[Any]:
        return self._look(Journal.runs)

    def untold(self) -> list[Any]:
        return self._look(Journal.untold)
