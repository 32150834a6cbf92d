"""The process of one job: it finds what is due, makes and delivers it, and sends the outcome to the scheduler."""

from __future__ import annotations

import contextlib
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

from crgen.batch.jobs.job import Job
from crgen.batch.products.deliver import deliver
from crgen.batch.products.listing import read_product
from crgen.batch.schedule.due import NothingYet, find, known, request_of, require_compute, with_past
from crgen.batch.schedule.failures import failure_of
from crgen.batch.schedule.messages import Done, Found, Nothing, Order, Outcome, Stopped, Waiting
from crgen.errors import OutputError
from crgen.pipeline.fill import run
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.scratch import InUse, OtherRun, sweep
from crgen.pipeline.source.earthengine.settings import interrupt
from crgen.pipeline.verify import verify

HANDOVER = 60.0
"""Seconds to wait for the lock of the product: the process of a scheduler that died may still hold it."""


class _Stop(BaseException):
    """A signal asked the process to stop."""


def work(connection: Connection, order: Order) -> None:
    """Do a job and send its outcome; whatever is printed meanwhile goes to the job's log."""
    _print_into(order.log)
    _stop_when_asked_or_orphaned()
    torch.set_num_threads(order.threads)
    try:
        outcome = _do(order, connection.send)
    except _Stop:
        outcome = Stopped()
    except NothingYet as waits:
        outcome = Waiting(str(waits))
    except Exception as error:
        outcome = failure_of(error)
        if outcome.kind == "crash":
            traceback.print_exc()
    print(outcome, file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        connection.send(outcome)


def _do(order: Order, tell: Callable[[Found], None]) -> Outcome:
    start = time.perf_counter()
    job, processes = order.job, order.limits.per_project
    with tempfile.TemporaryDirectory(prefix="crgen-batch-") as name:
        scratch = Path(name)
        if order.unfinished is not None:
            found, request = known(order.unfinished), request_of(job, order.unfinished, scratch, processes)
        else:
            due = _due(order, scratch)
            if isinstance(due, Nothing):
                return due
            require_compute(job, order.limits.eecu_hours, order.today)
            found, request = with_past(job, due, order.today, scratch, processes)
            tell(found)
        product, windows = Paths(Path(found.product)), 0
        better = job.improve_after is not None and job.improved(found.manifest)
        if (better and not _has_learned(job, product)) or not _is_whole(product):
            windows = _fill(request)
        if better:
            product.audit.unlink(missing_ok=True)  # it is of the map before
        if order.deliver is not None:
            deliver(product, f"{order.deliver.to.rstrip('/')}/{job.name}", order.deliver.storage_options)
        return Done(time.perf_counter() - start, windows)


def _due(order: Order, scratch: Path) -> Found | Nothing:
    """Return the product that is due: a new one, or else one that is made once more, with later images."""
    try:
        found, _, _ = find(order.job, order.today, scratch, processes=order.limits.per_project)
        held = found.among(order.finished)
    except NothingYet:
        if order.improve is None:
            raise
        return known(order.improve)
    if held is None:
        return found
    return Nothing(held) if order.improve is None else known(order.improve)


def _has_learned(job: Job, paths: Paths) -> bool:
    """Say whether the map that stands has learned from the images that ``improve_after`` waits for."""
    product = read_product(paths.item)
    return product is not None and job.improved(product.item["properties"].get("crgen:manifest"))


def _is_whole(paths: Paths) -> bool:
    """Say whether the product stands and verifies; if so, remove what a killed run left beside it."""
    try:
        whole = paths.item.exists() and not any(checked.problems for checked in verify(paths.item))
    except OutputError:
        return False
    if whole:
        sweep(paths, HANDOVER)
    return whole


def _fill(request: FillRequest) -> int:
    """Make the product; return how many windows were computed."""
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
        except OtherRun:  # parts of another version of crgen, or of another device
            request = replace(request, restart=True)
        except InUse:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
    for note in result.notes:
        print(f"note: {note}", file=sys.stderr)
    return windows


def _print_into(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def _stop_when_asked_or_orphaned() -> None:
    """Stop on SIGINT and SIGTERM, keeping finished parts; exit when the pipe to the scheduler closes."""

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        interrupt()
        raise _Stop

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_scheduler() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=exit_with_scheduler, daemon=True).start()
