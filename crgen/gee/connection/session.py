"""A connection to Earth Engine, made when a process first needs it.

The ``ee`` client keeps one state per process. crgen's calls have another, with its own transport, so that dask threads
share one pool, and what a notebook has set up for itself (address, retries, workload tag) stays as it is. Dask worker
processes and spawned ones connect by themselves.
"""

from __future__ import annotations

import math
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit

from crgen.errors import CrgenWarning, RequestError, SourceError
from crgen.gee.connection.credentials import find_account, find_project, renewed_once
from crgen.gee.connection.faults import Fault, explain
from crgen.gee.connection.limit import Gate
from crgen.gee.connection.retry import moment_after, persist
from crgen.gee.connection.transport import Transport

T = TypeVar("T")

FIRST_PATIENCE = 20.0
"""Seconds until a person hears that the service cannot be reached at all."""
HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
STANDARD = "https://earthengine.googleapis.com"
"""For exports and maps: the high-volume endpoint is made for many small requests of programs."""
WORKLOAD = "crgen"
"""Workload tag of every request: what crgen used can be told apart in the project's monitoring."""


@dataclass(frozen=True)
class Settings:
    """How to reach Earth Engine; small and picklable, so that it travels to worker processes."""

    project: str | None = None
    """Cloud project; None to find it as :mod:`~crgen.gee.connection.credentials` says."""
    credentials: str | None = None
    """Path of a credentials file; None alike."""
    url: str = HIGH_VOLUME
    concurrency: int = 32
    """Requests under way at once in this process, at most; a project may have 40."""
    connect_timeout: float = 10.0
    read_timeout: float = 330.0
    """Seconds; Earth Engine computes for up to 300."""
    patience: float = 900.0
    """Seconds of fruitless asking after which a request is given up."""

    @classmethod
    def from_environment(cls, *, project: str | None = None, credentials: str | None = None) -> Settings:
        """Return the settings of this machine.

        ``$CRGEN_EE_URL`` names another endpoint, ``$CRGEN_EE_CONCURRENCY``, ``$CRGEN_EE_READ_TIMEOUT`` and
        ``$CRGEN_EE_PATIENCE`` other limits.

        Raises:
            RequestError: if a limit is not a positive number.
        """
        limits: dict[str, Any] = {}
        for name in ("concurrency", "read_timeout", "patience"):
            variable = f"CRGEN_EE_{name.upper()}"
            if text := os.environ.get(variable):
                limits[name] = _positive(variable, text)
        if "concurrency" in limits:
            limits["concurrency"] = max(1, int(limits["concurrency"]))
        url = os.environ.get("CRGEN_EE_URL") or HIGH_VOLUME
        return cls(project=project, credentials=credentials, url=url.rstrip("/"), **limits)

    @property
    def is_google(self) -> bool:
        """Whether requests go to Google."""
        return self.url in (HIGH_VOLUME, STANDARD)

    @property
    def standard(self) -> Settings:
        """The same at Google's standard endpoint, which serves exports and maps."""
        return replace(self, url=STANDARD) if self.is_google else self


class Session:
    """Earth Engine, ready to be asked; from any thread.

    Raises:
        SourceError: if credentials or project are missing or refused, or the service cannot be reached.
    """

    def __init__(self, settings: Settings) -> None:
        self._client = _keep_apart()
        self.settings = settings
        account = find_account(settings.credentials, google=settings.is_google)
        self.origin = account.origin
        self.as_service = account.as_service
        self.project = find_project(settings.project, account)
        self.gate = Gate(settings.concurrency)
        self.transport = Transport(
            self.gate,
            settings.connect_timeout,
            settings.read_timeout,
            settings.patience,
            on_restricted=self._tell_restricted,
            on_pause=self._tell_pause,
        )
        self.retries: Counter[str] = Counter()
        """Failures that were asked again, by HTTP status (``"429"``) or ``"connection"``."""
        self._retry_lock = threading.Lock()
        self.call(
            "its list of functions",
            lambda: self._initialise(renewed_once(account.credentials)),
            patience=FIRST_PATIENCE,
            advice=f"can {urlsplit(settings.url).netloc} be reached from here? 'crgen doctor' checks what is needed",
        )

    def call(
        self,
        what: str,
        action: Callable[[], T],
        *,
        patience: float | None = None,
        advice: str = "what was fetched is kept: run the same command again later",
        stopped: threading.Event | None = None,
        divisible: bool = False,
        writes: bool = False,
    ) -> T:
        """Do one request with crgen's patience; the ``ee`` client's own retries are off.

        Args:
            what: what is asked for, for messages.
            action: calls the ``ee`` client.
            patience: seconds of fruitless asking after which to give up; by default the settings'.
            advice: what to do then, for the message.
            stopped: set to end the waiting.
            divisible: whether the request can be split, on suspicion that it is too large too.
            writes: whether it makes something on the service, an export or a map.

        Raises:
            TooMuch: if the request must be split.
            SourceError: if it fails for good.
        """

        def act() -> T:
            _threads.state = self._client
            try:
                return action()
            finally:
                _threads.state = None

        return persist(
            act,
            what=what,
            gate=self.gate,
            patience=min(self.settings.patience, patience or math.inf),
            refuse=lambda fault: explain(fault, self.project, self.origin, writes=writes),
            stopped=stopped or threading.Event(),
            advice=advice,
            on_retry=self._count_retry,
            divisible=divisible,
        )

    def _tell_restricted(self) -> None:
        warnings.warn(
            f"project {self.project} has used up its compute of this month: Earth Engine goes on, but slower "
            "(restricted mode), so crgen asks for half as much at once",
            CrgenWarning,
            stacklevel=2,
        )

    def _tell_pause(self, seconds: float) -> None:
        warnings.warn(f"Earth Engine asks to wait {moment_after(seconds)} and crgen does", CrgenWarning, stacklevel=2)

    def _count_retry(self, fault: Fault) -> None:
        with self._retry_lock:
            self.retries[str(fault.status or "connection")] += 1

    def _initialise(self, credentials: Any) -> None:
        import ee

        ee.data.setMaxRetries(0)
        with _no_deprecations():
            ee.Initialize(credentials, url=self.settings.url, project=self.project, http_transport=self.transport)
        ee.data.setDefaultWorkloadTag(WORKLOAD)


class _Threads(threading.local):
    """What each thread sees of the client."""

    state: Any = None
    """That of the session it works for; None for what the client holds for everybody."""


_threads = _Threads()


def _keep_apart() -> Any:
    """Return a fresh state of the ``ee`` client, which it takes for its own where ``_threads.state`` says so.

    The client has one for the process, which a notebook may have set up for itself, and no public way to another.

    Raises:
        SourceError: if this version of the client does not keep its state where it is looked for.
    """
    import ee

    try:
        of_everybody = ee._state.get_state
        if not hasattr(of_everybody, "for_crgen"):

            def get_state() -> Any:
                return of_everybody() if _threads.state is None else _threads.state

            get_state.for_crgen = True  # type: ignore[attr-defined]
            ee._state.get_state = get_state
        return ee._state.EEState()
    except AttributeError as error:
        raise _unknown_client(error) from None


def _knows_functions() -> bool:
    """Whether the client has the service's list of functions: ``ee.Reset`` forgets it."""
    import ee

    try:
        return bool(ee.ApiFunction._api)
    except AttributeError as error:
        raise _unknown_client(error) from None


@contextmanager
def _no_deprecations() -> Iterator[None]:
    """Keep ``ee.Initialize`` from fetching a catalogue of deprecated assets, which it does without a timeout.

    Raises:
        SourceError: if this version of the client does not hold it where it is looked for.
    """
    import ee

    try:
        held = ee.deprecation.deprecated_assets
        stub = None if held else ee.deprecation.DeprecatedAsset("", None, None, None)
    except (AttributeError, TypeError) as error:
        raise _unknown_client(error) from None
    if stub is None:
        yield
        return
    held[""] = stub
    try:
        yield
    finally:
        held.pop("", None)


def _unknown_client(error: Exception) -> SourceError:
    return SourceError(
        f"earthengine-api {version('earthengine-api')} is not as crgen knows it ({error}): install 1.6.12 or later or, "
        "if it is later, the version in crgen's constraints.txt"
    )


_current: tuple[int, Settings, Session] | None = None
_lock = threading.Lock()


def connect(settings: Settings) -> Session:
    """Return this process's session, made when first asked for.

    Other ``settings`` than before make another, as does a call after somebody reset the client. A forked process makes
    its own.

    Raises:
        SourceError: if Earth Engine cannot be used, with the fix.
    """
    global _current
    with _lock:
        if _current is None or _current[:2] != (os.getpid(), settings) or not _knows_functions():
            _current = (os.getpid(), settings, Session(settings))
        return _current[2]


def disconnect() -> None:
    """Forget this process's session, with its counters and what it learned; the next call connects anew."""
    global _current
    with _lock:
        _current = None


def _positive(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise RequestError(f"${variable} is '{text}'; give a positive number")
    return value
