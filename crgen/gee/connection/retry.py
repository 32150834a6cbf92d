"""Ask again: which failures are worth it, after how long, and when to give up."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from crgen.errors import CrgenError, SourceError
from crgen.gee.connection.faults import Fault, Remedy, understand
from crgen.gee.connection.limit import Gate

T = TypeVar("T")

FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
INTERRUPTED = threading.Event()
"""Set when a signal ends the process: whoever waits for Earth Engine then stops within ``LOOK_UP`` seconds."""
LOOK_UP = 0.25
SUSPECT = 3
"""Failures without another explanation after which a request may be too large."""


class TooMuch(Exception):  # noqa: N818
    """Earth Engine cannot compute this much in one request, or is suspected not to."""

    def __init__(self, reason: str, *, suspected: bool = False) -> None:
        super().__init__(reason)
        self.suspected = suspected


class Stopped(Exception):  # noqa: N818
    """The run has ended; not an error of its own."""


def wait_before(attempt: int, retry_after: float | None, draw: Callable[[float, float], float]) -> float:
    """Return the seconds to wait before asking again.

    Full jitter below a bound that doubles with each attempt, so that requests refused together do not come back
    together; never less than the service asked for.

    Args:
        attempt: failures so far, from 1.
        retry_after: seconds the service asked to wait, if it did.
        draw: a uniform random number between two bounds.
    """
    bound = min(LONGEST_WAIT, FIRST_WAIT * 2.0**attempt)
    return draw(0.25 * bound, bound) if retry_after is None else retry_after + draw(0.0, bound / 2)


def persist(
    action: Callable[[], T],
    *,
    what: str,
    gate: Gate,
    patience: float,
    refuse: Callable[[Fault], CrgenError],
    stopped: threading.Event,
    advice: str = "what was fetched is kept: run the same command again later",
    on_retry: Callable[[Fault], None] = lambda fault: None,
    divisible: bool = False,
) -> T:
    """Do ``action`` until it succeeds, waiting between attempts.

    Args:
        action: one request.
        what: what it asks for, for messages.
        gate: where requests queue; waiting there costs no patience.
        patience: seconds of fruitless asking and waiting after which to give up.
        refuse: turns a fault that no waiting helps into the error for people.
        stopped: set to end the waiting.
        advice: what to do when patience ends, for the message.
        on_retry: told of each failure that is asked again.
        divisible: whether the request can be split, on suspicion too: after ``SUSPECT`` failures of the kind that too
            large ones have as well.

    Raises:
        TooMuch: if the request must be split.
        SourceError: if it cannot succeed, or did not in time.
        Stopped: if the run ended meanwhile.
    """
    spent, attempt, suspect = 0.0, 0, 0
    while True:
        if stopped.is_set() or INTERRUPTED.is_set():
            raise Stopped
        start, queued = time.monotonic(), gate.queued
        try:
            return action()
        except CrgenError:
            raise
        except Exception as error:
            fault = understand(error)
        spent += time.monotonic() - start - (gate.queued - queued)
        if fault.remedy is Remedy.SPLIT:
            raise TooMuch(fault.reason)
        if fault.remedy is Remedy.STOP:
            raise refuse(fault) from None
        suspect += fault.suspect
        if divisible and suspect >= SUSPECT:
            raise TooMuch(fault.reason, suspected=True)
        attempt += 1
        if fault.retry_after is not None and fault.retry_after > patience - spent:
            raise SourceError(
                f"Earth Engine asks to wait {moment_after(fault.retry_after)} before {what} is asked for again "
                f"({_status(fault)}{fault.reason}), longer than the {patience:.0f} s that crgen waits; {advice}",
                transient=True,
            )
        wait = wait_before(attempt, fault.retry_after, random.uniform)
        spent += wait
        if spent > patience:
            raise SourceError(
                f"Earth Engine did not deliver {what} in {patience:.0f} s and {attempt} attempts (last: "
                f"{_status(fault)}{fault.reason}); {advice}",
                transient=True,
            )
        on_retry(fault)
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            if stopped.wait(min(left, LOOK_UP)) or INTERRUPTED.is_set():
                raise Stopped


def moment_after(seconds: float) -> str:
    """Return a time to wait for people: how long, and until when."""
    length = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    try:
        return f"{length}, until {datetime.now(UTC) + timedelta(seconds=seconds):%Y-%m-%d %H:%M} UTC,"
    except OverflowError:
        return "for ever"


def _status(fault: Fault) -> str:
    return f"HTTP {fault.status}, " if fault.status else ""
