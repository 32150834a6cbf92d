"""What Earth Engine's errors mean: wait and ask again, ask for less, or stop with the fix in plain words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum

from google.auth.exceptions import GoogleAuthError, RefreshError

from crgen.errors import SourceError, redact


class Remedy(Enum):
    """What to do about a failed request."""

    WAIT = "wait"
    """The service or the line is busy: ask again later."""
    SPLIT = "split"
    """The request is too much at once: ask for smaller parts."""
    STOP = "stop"
    """Asking again changes nothing: a person has to act."""


class Corrupt(Exception):  # noqa: N818
    """An answer arrived whole but is not what was asked for."""


@dataclass(frozen=True)
class Fault:
    """A failed request, understood."""

    remedy: Remedy
    reason: str
    """What happened, in a few words, secrets redacted."""
    status: int | None = None
    """HTTP status, if there was an answer."""
    retry_after: float | None = None
    """Seconds the service asked to wait."""
    suspect: bool = False
    """Whether a request that is too large is often answered so too."""


BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
BUSY_WORDS = re.compile(r"too many concurrent aggregations|please try again|rate ?limit ?exceeded", re.IGNORECASE)
"""Of a service that is busy, whatever the status: 400 and 403 among them."""
TOO_MUCH = re.compile(
    r"user memory limit exceeded|memory limit|computation timed out|total request size|"
    r"pixel grid dimensions|output of image computation is too large|too many pixels|accumulating over \d+ elements",
    re.IGNORECASE,
)
DAILY_CAP = re.compile(r"(daily|per day).*\beecu|\beecu.*(daily|per day)", re.IGNORECASE)
"""A limit on compute that an administrator set: the one quota that ends a run. A month that is used up makes Earth
Engine slower (restricted mode) and refuses nothing."""
NOT_ELIGIBLE = re.compile(r"noncommercial|non-commercial|eligib", re.IGNORECASE)
GONE = re.compile(r"asset '(?P<id>[^']+)' (?:was )?not found|asset not found: '?(?P<other>[\w/]+)", re.IGNORECASE)
REGISTER = "https://code.earthengine.google.com/register"

CAPACITY = re.compile(r"memory capacity exceeded", re.IGNORECASE)


def understand(error: BaseException) -> Fault:
    """Say what a failed call of the Earth Engine client means.

    The client drops the HTTP status from its exceptions, but the response is kept on the exception they replace.

    Args:
        error: what the call raised.
    """
    if isinstance(error, Corrupt):
        return Fault(Remedy.WAIT, str(error))
    if isinstance(error, TimeoutError):
        return Fault(Remedy.WAIT, "no answer in time")
    if isinstance(error, ConnectionError):
        return Fault(Remedy.WAIT, f"the connection failed ({redact(str(error))})")
    if isinstance(error, RefreshError) and not error.retryable:
        return Fault(Remedy.STOP, f"the credentials were refused ({_first_line(error)})", 401)
    if isinstance(error, GoogleAuthError):
        return Fault(Remedy.WAIT, f"signing in failed ({_first_line(error)})")
    response = getattr(error, "resp", None) or getattr(error.__context__, "resp", None)
    message = _first_line(error)
    if response is None:
        return Fault(Remedy.SPLIT if TOO_MUCH.search(message) else Remedy.STOP, message)
    status = int(response.status)
    if DAILY_CAP.search(message) and status in (403, 429):
        return Fault(Remedy.STOP, message, status)
    wait = retry_seconds(response.get("retry-after"))
    if BUSY_WORDS.search(message):
        return Fault(Remedy.WAIT, message, status, wait)
    if status in BUSY:
        if status == 503 and CAPACITY.search(message):
            return Fault(Remedy.WAIT, message, status, wait, suspect=True)
        if status < 500 or not TOO_MUCH.search(message):
            return Fault(Remedy.WAIT, message, status, wait, suspect=status == 500)
    if TOO_MUCH.search(message):
        return Fault(Remedy.SPLIT, message, status)
    return Fault(Remedy.STOP, message, status)


def retry_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds of a Retry-After header, which holds seconds or a date; None if it is missing or senseless."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def explain(fault: Fault, project: str | None, account: str, *, writes: bool = False) -> SourceError:
    """Return the error for people: what is wrong, with which project and credentials, and the fix.

    Args:
        fault: what was refused.
        project: the Cloud project.
        account: where the credentials come from.
        writes: whether something is made on the service, an export or a map, which takes another role.
    """
    message, shown = fault.reason, project or "none"
    who = f"(project {shown}, credentials: {account})"
    capped = bool(DAILY_CAP.search(message)) and fault.status in (403, 429)
    if capped:
        text = (
            f"the daily limit of compute that is set for project {shown} is reached ({message}); go on tomorrow with "
            "the same command, what was fetched is kept, or have it raised at https://console.cloud.google.com/apis/api/"
            f"earthengine.googleapis.com/quotas?project={shown}"
        )
    elif gone := GONE.search(message):
        text = (
            f"Earth Engine has no {gone['id'] or gone['other']} (any more), or these credentials may not read it: "
            f"choose scenes anew, without --manifest, or with --restart if a run was stopped {who}"
        )
    elif "has not been used in project" in message or "is disabled" in message:
        text = (
            f"the Earth Engine API is not enabled in project {shown}: enable it at https://console.cloud.google.com/"
            f"apis/library/earthengine.googleapis.com?project={shown}, wait some minutes, and run again {who}"
        )
    elif "not signed up" in message.lower() or "not registered" in message.lower():
        text = f"project {shown} is not registered for Earth Engine: register it at {REGISTER}?project={shown} {who}"
    elif fault.status == 401 or "credentials were refused" in message:
        text = f"{message}; run 'earthengine authenticate', or pass --credentials KEY.json again {who}"
    elif fault.status == 403 and NOT_ELIGIBLE.search(message):
        text = (
            f"project {shown} may not use Earth Engine as it is registered: {message}; see whether its use counts as "
            f"noncommercial, or register it for commercial use, at https://console.cloud.google.com/earth-engine/"
            f"configuration?project={shown} {who}"
        )
    elif fault.status == 403:
        role = "Writer' (exports and maps need it)" if writes else "Viewer'"
        text = (
            f"no permission to use Earth Engine in project {shown}: {message}; give the account the roles "
            f"'Earth Engine Resource {role} and 'Service Usage Consumer' there, or name another --project {who}"
        )
    elif fault.status == 404:
        text = f"Earth Engine does not know what was asked for: {message}; is --project {shown} spelt right? {who}"
    else:
        text = f"Earth Engine refused the request: {message} {who}"
    return SourceError(text, transient=capped)


def _first_line(error: BaseException) -> str:
    return redact((str(error).strip() or type(error).__name__).splitlines()[0][:300])
