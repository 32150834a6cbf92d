"""How many requests may be under way at once, learned from the service: additive increase, multiplicative decrease."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class TurnedAway(Exception):  # noqa: N818
    """Got an answer instead of a place."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer


class Gate:
    """Lets requests pass, ``most`` at once to begin with; safe from any thread.

    A refusal (HTTP 429) halves the limit, once for all requests that were under way together, down to one. Each
    answer then raises it by one part in the limit, so that a full round of answers makes room for one more.

    Args:
        most: the limit it starts at and never exceeds.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._busy = 0
        self._refusals = 0
        self._opens = 0.0
        self._refused_all = -math.inf
        self._answer: Any = None
        self._changed = threading.Condition()
        self._thread = threading.local()

    @property
    def limit(self) -> int:
        """Requests that may be under way now."""
        with self._changed:
            return int(self._limit)

    @property
    def queued(self) -> float:
        """Seconds that this thread has waited for places, in all."""
        return getattr(self._thread, "queued", 0.0)

    @contextmanager
    def wanted_since(self, moment: float) -> Iterator[None]:
        """Take what this thread asks for meanwhile as wanted since ``moment`` of the monotonic clock.

        A request is otherwise wanted since it comes to the gate.
        """
        self._thread.since = moment
        try:
            yield
        finally:
            del self._thread.since

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take what this thread is answered meanwhile for an answer to it alone."""
        self._thread.aside = True
        try:
            yield
        finally:
            self._thread.aside = False

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Wait for a place and hold it; yields a ticket for :meth:`refused`.

        Raises:
            TurnedAway: if what was answered since the request is wanted holds for it too.
        """
        start = time.monotonic()
        since = getattr(self._thread, "since", start)
        with self._changed:
            while self._refused_all < since and (
                (wait := self._opens - time.monotonic()) > 0 or self._busy >= int(self._limit)
            ):
                self._changed.wait(wait if wait > 0 else None)
            if self._refused_all >= since:
                raise TurnedAway(self._answer)
            self._busy += 1
            ticket = self._refusals
        self._thread.queued = self.queued + time.monotonic() - start
        try:
            yield ticket
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def answered(self) -> None:
        """Count an answer: the service keeps up."""
        with self._changed:
            self._limit = min(self.most, self._limit + 1 / self._limit)
            self._changed.notify_all()

    def turn_away(self, answer: Any) -> None:
        """Give all that is wanted by now an answer, for which none need ask; before the place of who got it is free."""
        if getattr(self._thread, "aside", False):
            return
        with self._changed:
            self._refused_all = time.monotonic()
            self._answer = answer
            self._changed.notify_all()

    def restrict(self) -> None:
        """Halve the limit for good: the service gives less to this project."""
        with self._changed:
            self.most = max(1, self.most // 2)
            self._limit = min(self._limit, float(self.most))

    def refused(self, ticket: int) -> None:
        """Count a refusal."""
        with self._changed:
            if ticket == self._refusals:
                self._limit = max(1.0, self._limit / 2)
                self._refusals += 1

    def close(self, seconds: float) -> bool:
        """Let nobody pass for some seconds, as the service asked; returns whether it was open until now."""
        with self._changed:
            now = time.monotonic()
            was_open = self._opens <= now
            self._opens = max(self._opens, now + seconds)
            return was_open
