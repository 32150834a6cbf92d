"""HTTP for the Earth Engine client: one pool of connections, a limit of requests at once, timeouts, and counters.

The client's own transport has no timeout and a pool of ten connections. This one takes its place through
``ee.Initialize(http_transport=…)`` and raises what googleapiclient and the retry policy understand:
``ConnectionError`` and ``TimeoutError``. It holds a place at the gate only while a request is on the line: while a
thread prepares its request or reads the pixels that came, another asks.
"""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httplib2
import requests
from googleapiclient.errors import HttpError
from requests.adapters import HTTPAdapter

from crgen.gee.connection.faults import Remedy, understand
from crgen.gee.connection.limit import Gate, TurnedAway
from crgen.gee.connection.retry import LONGEST_WAIT

QUOTA_STATUS, RESTRICTED = "x-earth-engine-quota-status", "parallelism_restricted=true"
"""Header of successful answers, and what it says of a project whose compute of the month is used up."""
BLOCK = 1 << 20
"""Bytes read from a connection at a time."""


class Transport:
    """What googleapiclient sends requests through, in the manner of ``httplib2.Http``; safe from any thread.

    Args:
        gate: lets requests pass; as many connections are kept open as it does at most.
        connect_timeout: seconds to wait for a connection.
        read_timeout: seconds to wait for the answer to begin or go on, and for all of it once it has begun.
        patience: seconds to wait at most, where the service asks to wait.
        on_restricted: called once, when the service says that the project is in restricted mode.
        on_pause: called when the service asks to wait longer than crgen would by itself, with the seconds.
    """

    def __init__(
        self,
        gate: Gate,
        connect_timeout: float,
        read_timeout: float,
        patience: float,
        on_restricted: Callable[[], None],
        on_pause: Callable[[float], None],
    ) -> None:
        self._gate = gate
        self._patience = patience
        self._on_restricted = on_restricted
        self._on_pause = on_pause
        self.restricted = False
        """Whether the service said that it gives less to this project."""
        self._session = requests.Session()
        adapter = HTTPAdapter(pool_connections=4, pool_maxsize=gate.most, max_retries=0, pool_block=False)
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._timeout = (connect_timeout, read_timeout)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        redirections: int | None = None,
        connection_type: Any = None,
    ) -> tuple[httplib2.Response, bytes]:
        """Send a request when the gate lets it pass, and return the response's headers and its whole body.

        Raises:
            ConnectionError: if the host cannot be reached, or the connection breaks before the body is whole.
            TimeoutError: if the answer does not come in time.
        """
        try:
            with self._gate.slot() as ticket:
                response, content = self._send(uri, method, body, headers)
                if response.status < 400:
                    self._gate.answered()
                    return response, content
                fault, pause = understand(HttpError(response, content)), 0.0
                if response.status == 429:
                    self._gate.refused(ticket)
                if fault.remedy is Remedy.WAIT:
                    pause = fault.retry_after or 0.0
                # The client renews a token that expired.
                if pause > self._patience or (fault.remedy is Remedy.STOP and response.status != 401):
                    self._gate.turn_away((response, content))
                elif pause and self._gate.close(pause) and pause > LONGEST_WAIT:
                    self._on_pause(pause)
                return response, content
        except TurnedAway as away:
            refused: tuple[httplib2.Response, bytes] = away.answer
            return refused

    def _send(
        self, uri: str, method: str, body: bytes | str | None, headers: Mapping[str, str] | None
    ) -> tuple[httplib2.Response, bytes]:
        self._count(requests=1, **{_method_of(uri): 1})
        try:
            with self._session.request(
                method, uri, data=body, headers=dict(headers or {}), timeout=self._timeout, stream=True
            ) as response:
                content = self._read(response)
                status, reason = response.status_code, response.reason
                fields = {**response.headers, "status": str(status)}
        except requests.exceptions.Timeout as error:
            self._count(timeouts=1)
            raise TimeoutError("no answer in time") from error
        except requests.exceptions.RequestException as error:
            self._count(broken=1)
            raise ConnectionError(_reason(error)) from error
        self._count(bytes=len(content), **{f"status_{status}": 1})
        # httplib2 would take these for the body it is given, which is decoded already.
        for field in ("content-encoding", "Content-Encoding", "transfer-encoding", "Transfer-Encoding"):
            fields.pop(field, None)
        self._look_at(fields.pop(QUOTA_STATUS, "") or fields.pop(QUOTA_STATUS.title(), ""))
        answer = httplib2.Response(fields)
        answer.reason = reason  # it would read "Ok" whatever the status
        return answer, content

    def _look_at(self, quota: str) -> None:
        """Ask less at once, and tell of it, if the project is in restricted mode; the client would tell each time."""
        with self._lock:
            first = RESTRICTED in quota and not self.restricted
            self.restricted |= first
        if first:
            self._gate.restrict()
            self._on_restricted()

    def close(self) -> None:
        """Close the idle connections."""
        self._session.close()

    @property
    def counts(self) -> dict[str, int]:
        """Requests in all and by method (``computePixels``), bytes, ``status_…``, ``timeouts``, ``broken``."""
        with self._lock:
            return dict(self._counts)

    def _read(self, response: requests.Response) -> bytes:
        until = time.monotonic() + self._timeout[1]
        whole = io.BytesIO()  # gives what it holds without a copy, unlike a list of parts
        for part in response.iter_content(BLOCK):
            whole.write(part)
            if time.monotonic() > until:
                raise requests.exceptions.ReadTimeout("the answer trickles")
        return whole.getvalue()

    def _count(self, **by: int) -> None:
        with self._lock:
            self._counts.update(by)


def _method_of(uri: str) -> str:
    """Return the API method of a request: ``computePixels`` for ``…/projects/p/image:computePixels?alt=json``."""
    return urlsplit(uri).path.rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def _reason(error: BaseException) -> str:
    """Return the innermost cause of a failed request in a few words, without the address."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or type(error).__name__
