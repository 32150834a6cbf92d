"""The local Earth Engine: the REST API over HTTP, Google's limits, and a record of everything asked.

``EarthEngineServer`` is a context manager::

    with EarthEngineServer() as server:
        ee.Initialize(AnonymousCredentials(), project="test-project", url=server.url)
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from tests.earthengine import faults, pixels, rest
from tests.earthengine.faults import Fault
from tests.earthengine.handler import Handler, Http
from tests.earthengine.images import EarthEngineError
from tests.earthengine.interpreter import evaluate
from tests.earthengine.oauth import Tokens
from tests.earthengine.objects import Collection, encode
from tests.earthengine.requests import Asked, RefusedError, key_of


class EarthEngineServer:
    """Earth Engine on ``url``.

    ``latency``: seconds every computePixels takes at least. ``concurrency``: requests at a time on one endpoint beyond
    which 429 is sent, with ``Retry-After: retry_after``. ``per_minute``: requests in 60 s beyond which 429 is sent.
    ``elements``: of a collection or list beyond which a query is aborted. ``flat``: fill every tile with its middle
    pixel, for benchmarks. ``remember``: keep every answer of pixels, which then costs nothing when it is asked for
    again, for benchmarks too. ``require_token``: refuse requests without an access token from ``service_account``.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        latency: float = 0.0,
        concurrency: int = 40,
        per_minute: int | None = None,
        retry_after: float | str | None = 1,
        flat: bool = False,
        remember: bool = False,
        elements: int = 5000,
        require_token: bool = False,
    ) -> None:
        self._settings = {
            "elements": elements,
            "flat": flat,
            "remember": remember,
            "restricted": False,
            "profile": None,
            "used": 0.0,
            "latency": latency,
            "concurrency": concurrency,
            "per_minute": per_minute,
            "retry_after": retry_after,
        }
        self.lock = threading.RLock()
        self._running: Counter[str] = Counter()
        self._http = Http(("127.0.0.1", port), Handler)
        self._http.earth_engine = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._require_token = require_token
        self.reset()
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    # What was asked ------------------------------------------------------------------------------

    def add(self, *added: Fault) -> None:
        """Plays these faults from now on; of several that hit a request, the first strikes."""
        with self.lock:
            self.faults += added

    def clear(self) -> None:
        """Forgets faults and everything asked so far."""
        with self.lock:
            self.epoch = object()
            self.faults: list[Fault] = []
            self.requests: list[Asked] = []
            self.mistakes: list[str] = []
            self.max_concurrency: Counter[str] = Counter()
            self._recent: deque[float] = deque()

    def reset(self) -> None:
        """As it was at the start: settings, faults, requests, exports, tokens."""
        with self.lock:
            self.clear()
            self.change(**self._settings)
            self.exports = rest.Exports()
            self.downloads: dict[str, Mapping[str, Any]] = {}
            self.remembered: dict[tuple[str, str], bytes] = {}
            self.tokens = Tokens(self.url, self._require_token)

    def change(self, **settings: Any) -> None:
        """Changes the settings it was made with, or ``restricted``: whether a project's month is used up;
        ``profile``: the table that tells what each request took, None for none; ``used``: EECU-seconds that Cloud
        Monitoring tells of a project, None to refuse.
        """
        unknown = settings.keys() - self._settings.keys()
        if unknown:
            raise ValueError(f"there is no setting {sorted(unknown)[0]}")
        self.__dict__.update(settings)

    @property
    def tiles(self) -> list[Asked]:
        """Requests of pixels, in the order they were answered."""
        with self.lock:
            return [asked for asked in self.requests if asked.endpoint in faults.PIXELS]

    def wait_until_idle(self) -> None:
        """Returns when no request is under way: a client that was killed leaves some behind."""
        while True:
            with self.lock:
                if not any(self._running.values()):
                    return
            time.sleep(0.01)

    def served_twice(self) -> list[str]:
        """Keys of tiles that were answered with pixels more than once."""
        return [
            key for key, times in Counter(tile.key for tile in self.tiles if tile.status == 200).items() if times > 1
        ]

    def counters(self) -> dict[str, Any]:
        """Everything a test in another process may want to know, as JSON."""
        with self.lock:
            return {
                "requests": Counter(asked.endpoint for asked in self.requests),
                "statuses": Counter(str(asked.status) for asked in self.requests),
                "tiles": len(self.tiles),
                "running": sum(self._running.values()),
                "first_tile": min((tile.begun for tile in self.tiles), default=None),
                "tile_cpu": sum(tile.cpu for tile in self.tiles),
                "cpu": sum(asked.cpu for asked in self.requests),
                "tile_bytes": sum(tile.bytes for tile in self.tiles),
                "tiles_served": sum(tile.status == 200 for tile in self.tiles),
                "served_twice": len(self.served_twice()),
                "served_keys": [tile.key for tile in self.tiles if tile.status == 200],
                "max_concurrency": dict(self.max_concurrency),
                "mistakes": self.mistakes,
                "faults_struck": [fault.struck for fault in self.faults],
            }

    # Answers -------------------------------------------------------------------------------------

    def answer(self, endpoint: str, project: str, body: Mapping[str, Any]) -> bytes:
        """The body of a POST request's answer."""
        if endpoint in faults.PIXELS:
            return self._pixels(endpoint, body)
        if endpoint == "value:compute":
            if "Profile.getProfiles" in json.dumps(body["expression"]):
                return json.dumps({"result": self.profile}).encode()
            value = evaluate(body["expression"])
            held = value.elements if isinstance(value, Collection) else value
            if isinstance(held, list | tuple) and len(held) > self.elements:
                raise EarthEngineError(faults.ELEMENTS.format(limit=self.elements))
            return json.dumps({"result": encode(value)}).encode()
        if endpoint == "image:export":
            return json.dumps(self.exports.start(project, body)).encode()
        if endpoint == "thumbnails":
            asked = {**body, "grid": pixels.download_grid(body)}
            name = key_of(asked)
            self.downloads[name] = asked
            return json.dumps({"name": f"projects/{project}/thumbnails/{name}"}).encode()
        if endpoint == "maps":
            evaluate(body["expression"])
            return json.dumps({"name": f"projects/{project}/maps/{key_of(body)}"}).encode()
        raise RefusedError(404, f"The local Earth Engine does not implement {endpoint}.")

    def _pixels(self, endpoint: str, body: Mapping[str, Any]) -> bytes:
        key = endpoint, key_of(body)
        if key in self.remembered:
            return self.remembered[key]
        answer = pixels.compute(body, self.flat) if endpoint == faults.COMPUTE else pixels.download(body)
        if self.remember:
            self.remembered[key] = answer
        return answer

    @contextmanager
    def admitted(self, endpoint: str) -> Iterator[None]:
        """Lets a request in and counts it while it runs, or refuses it where that is too many."""
        with self.lock:
            now = time.monotonic()
            while self._recent and self._recent[0] < now - 60:
                self._recent.popleft()
            crowded = self.per_minute is not None and len(self._recent) >= self.per_minute
            if crowded or self._running[endpoint] >= self.concurrency:
                raise RefusedError(429, faults.TOO_MANY, self.retry_after)
            self._recent.append(now)
            self._running[endpoint] += 1
            self.max_concurrency[endpoint] = max(self.max_concurrency[endpoint], self._running[endpoint])
        try:
            yield
        finally:
            with self.lock:
                self._running[endpoint] -= 1

    def fault(self, endpoint: str, grid: Mapping[str, Any] | None) -> Fault | None:
        with self.lock:
            hitting = [fault for fault in self.faults if fault.hits(endpoint, grid)]
            if not hitting:
                return None
            hitting[0].struck += 1
            return hitting[0]

    def record(
        self, epoch: object, endpoint: str, body: Mapping[str, Any], status: int, begun: float, cpu: float, sent: int
    ) -> None:
        """Keeps what was asked, unless everything was forgotten since it came in at ``epoch``."""
        key, grid, workload = key_of(body), body.get("grid"), body.get("workloadTag")
        asked = Asked(endpoint, key, grid, status, begun, time.monotonic() - begun, cpu, sent, workload)
        with self.lock:
            if epoch is self.epoch:
                self.requests.append(asked)
