"""What went wrong in a job, and what follows from it: try again later, or stop until a person changes something."""

from __future__ import annotations

import errno
import random
import signal
from collections.abc import Callable
from typing import Literal, NamedTuple

from crgen.errors import CrgenError

LONGEST_WAIT = 6 * 3600.0
PASSING = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ESTALE, errno.EFBIG, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.EPIPE,
}  # fmt: skip
"""What the system says when it lacks something that may come back."""


class Failure(NamedTuple):
    """How a job failed."""

    kind: Literal["transient", "permanent", "crash"]
    """``crash`` is a process that died, or an error nobody foresaw: tried again, but not for ever."""
    reason: str


def failure_of(error: BaseException) -> Failure:
    """Say what an exception of a job means."""
    reason = " ".join(str(error).split()) or type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        transient = isinstance(cause, CrgenError) and cause.transient
        if transient or isinstance(cause, ConnectionError | TimeoutError) or getattr(cause, "errno", None) in PASSING:
            return Failure("transient", reason)
        cause = cause.__cause__
    if isinstance(error, CrgenError):
        return Failure("permanent", reason)
    if isinstance(error, MemoryError):
        return Failure("crash", "the memory ran out")
    return Failure("crash", f"unexpected {type(error).__name__}: {reason}")


def died(exit_code: int | None) -> Failure:
    """Say what a process means that ended without a word."""
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return Failure("crash", f"its process was killed by {name}{hint}")
    return Failure("crash", f"its process ended with code {exit_code}")


def wait_after(attempts: int, first: float, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Return the seconds to wait after so many failures in a row: doubling, with jitter.

    Args:
        attempts: failures so far, from 1.
        first: the longest wait after one failure.
        draw: a uniform random number between two bounds.
    """
    bound = min(LONGEST_WAIT, first * 2.0 ** min(attempts - 1, 20))
    return draw(0.5 * bound, bound)
