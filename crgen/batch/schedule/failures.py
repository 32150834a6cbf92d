"""Why a job failed, and how long to wait before it is retried."""

from __future__ import annotations

import errno
import random
import signal

from crgen.batch.schedule.messages import Failed
from crgen.errors import CrgenError

LONGEST_WAIT = 6 * 3600.0
TRANSIENT = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ESTALE, errno.EFBIG, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.EPIPE,
}  # fmt: skip
"""Errors of the system that may pass without anybody changing anything."""


def failure_of(error: BaseException) -> Failed:
    """Classify an exception of a job, by itself and by what caused it."""
    reason = " ".join(str(error).split()) or type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        transient = isinstance(cause, CrgenError) and cause.transient
        if transient or isinstance(cause, ConnectionError | TimeoutError) or getattr(cause, "errno", None) in TRANSIENT:
            return Failed("transient", reason)
        cause = cause.__cause__
    if isinstance(error, CrgenError):
        return Failed("permanent", reason)
    if isinstance(error, MemoryError):
        return Failed("crash", "the memory ran out")
    return Failed("crash", f"unexpected {type(error).__name__}: {reason}")


def died(exit_code: int | None) -> Failed:
    """Classify the end of a process that sent no outcome."""
    if exit_code is None or exit_code >= 0:
        return Failed("crash", f"its process ended with code {exit_code}")
    name = signal.Signals(-exit_code).name
    hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
    return Failed("crash", f"its process was killed by {name}{hint}")


def wait_after(attempts: int, first: float) -> float:
    """Return the seconds until the next attempt: exponential backoff with jitter.

    Args:
        attempts: failures in a row, from 1.
        first: the longest wait after the first failure, in seconds; it doubles up to :data:`LONGEST_WAIT`.
    """
    longest = min(LONGEST_WAIT, first * 2.0 ** min(attempts - 1, 20))
    return random.uniform(0.5 * longest, longest)
