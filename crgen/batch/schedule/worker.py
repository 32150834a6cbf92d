"""One job in a process of its own: find what is due, make it, say what became of it."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

import torch

from crgen.batch.products.deliver import deliver
from crgen.batch.schedule.due import NothingYet, find, frozen, require_compute, taught
from crgen.batch.schedule.failures import failure_of
from crgen.batch.schedule.messages import Done, Failed, Found, Nothing, Order, Outcome, Stopped, Waiting
from crgen.errors import OutputError
from crgen.pipeline.fill import run
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.scratch import InUse, OtherRun, sweep
from crgen.pipeline.source.earthengine.settings import interrupt
from crgen.pipeline.verify import verify

HANDOVER = 60.0
"""Seconds that the process of a scheduler which died has to let go of the product."""


class _Stop(BaseException):
    """A signal asked the process to stop."""


def work(connection: Connection, order: Order) -> None:
    """Do a job and send what became of it; everything it prints goes to its log."""
    _into(order.log)
    _listen()
    torch.set_num_threads(order.threads)
    try:
        outcome = _do(order, connection.send)
    except _Stop:
        outcome = Stopped()
    except NothingYet as waits:
        outcome = Waiting(str(waits))
    except Exception as error:
        failure = failure_of(error)
        if failure.kind == "crash":
            traceback.print_exc()
        outcome = Failed(failure)
    print(outcome, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        connection.send(outcome)


def _do(order: Order, tell: Callable[[Found], None]) -> Outcome:
    start = time.perf_counter()
    job = order.job
    with tempfile.TemporaryDirectory(prefix="crgen-batch-") as name:
        scratch = Path(name)
        if (row := order.unfinished) is not None:
            days = (datetime.date.fromisoformat(row["t1"]), datetime.date.fromisoformat(row["t2"]))
            identity, product = row["identity"], Path(row["product"])
            request = frozen(job, row["manifest"], days, product, scratch, processes=order.processes)
        else:
            found, _, _ = find(job, order.today, scratch, processes=order.processes)
            if (held := found.among(order.finished)) is not None:
                return Nothing(held)
            require_compute(job, order.eecu_hours, order.today)
            found, request = taught(job, found, scratch, processes=order.processes)
            tell(found)
            identity, product = found.identity, Path(found.product)
        windows = 0 if _whole(Paths(product)) else _fill(request)
        if order.deliver is not None:
            where = f"{order.deliver.to.rstrip('/')}/{job.name}"
            deliver(Paths(product), where, order.deliver.storage_options)
        return Done(identity, time.perf_counter() - start, windows)


def _whole(paths: Paths) -> bool:
    """Say whether a product stands that nobody marked as done; then see to it that nothing of its run is left."""
    try:
        whole = paths.item.exists() and not any(checked.problems for checked in verify(paths.item))
    except OutputError:
        return False
    if whole:
        sweep(paths, HANDOVER)
    return whole


def _fill(request: FillRequest) -> int:
    """Make the product; return the windows that were computed."""
    lock, windows = threading.Lock(), 0

    def count(done: int, total: int) -> None:
        nonlocal windows
        with lock:
            windows += done

    end = time.monotonic() + HANDOVER
    while True:
        try:
            result = run(request, count)
            break
        except OtherRun:  # by another version of crgen, or on another device
            request = replace(request, restart=True)
        except InUse:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    return windows


def _into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def _listen() -> None:
    """Stop at a signal, keeping finished parts; and end when the scheduler's pipe closes, for it is no more."""

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        interrupt()
        raise _Stop

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
