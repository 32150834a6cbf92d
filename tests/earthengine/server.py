"""The local Earth Engine: the REST API over HTTP, Google's limits, and a record of everything asked.

``EarthEngineServer`` is a context manager::

    with EarthEngineServer() as server:
        ee.Initialize(AnonymousCredentials(), project="test-project", url=server.url)
"""

import hashlib
import io
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from tests.earthengine import faults, rest
from tests.earthengine.faults import Fault
from tests.earthengine.images import EarthEngineError, Grid, Image, Projection
from tests.earthengine.interpreter import algorithms, evaluate
from tests.earthengine.oauth import Tokens
from tests.earthengine.objects import encode

MAX_BYTES = 50_331_648
MAX_SIDE = 32_768
MAX_BANDS = 1024


@dataclass(frozen=True)
class Asked:
    """One request: endpoint, what was asked (a hash of expression and grid), the grid, the answer's status."""

    endpoint: str
    key: str
    grid: Mapping[str, Any] | None
    status: int
    seconds: float
    workload: str | None


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, message: str, retry_after: float | str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class EarthEngineServer:
    """Earth Engine on ``url``.

    ``latency``: seconds every computePixels takes at least. ``concurrency``: requests at a time on one endpoint beyond
    which 429 is sent, with ``Retry-After: retry_after``. ``per_minute``: requests in 60 s beyond which 429 is sent.
    ``require_token``: refuse requests without an access token from ``service_account``.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        latency: float = 0.0,
        concurrency: int = 40,
        per_minute: int | None = None,
        retry_after: float | str | None = 1,
        require_token: bool = False,
    ) -> None:
        self._settings = {
            "latency": latency,
            "concurrency": concurrency,
            "per_minute": per_minute,
            "retry_after": retry_after,
        }
        self.lock = threading.RLock()
        self._running: Counter[str] = Counter()
        self._http = _Http(("127.0.0.1", port), _Handler)
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
        """Plays these faults from now on; the first that strikes a request decides."""
        with self.lock:
            self.faults += added

    def clear(self) -> None:
        """Forgets faults and everything asked so far."""
        with self.lock:
            self.faults: list[Fault] = []
            self.requests: list[Asked] = []
            self.max_concurrency: Counter[str] = Counter()
            self._recent: deque[float] = deque()

    def reset(self) -> None:
        """As it was at the start: settings, faults, requests, exports, tokens."""
        with self.lock:
            self.clear()
            self.change(**self._settings)
            self.exports = rest.Exports()
            self.tokens = Tokens(self.url, self._require_token)

    def change(self, **settings: Any) -> None:
        """Changes ``latency``, ``concurrency``, ``per_minute`` or ``retry_after``."""
        unknown = settings.keys() - self._settings.keys()
        if unknown:
            raise ValueError(f"there is no setting {sorted(unknown)[0]}")
        self.__dict__.update(settings)

    @property
    def tiles(self) -> list[Asked]:
        """Requests of pixels, in the order they were answered."""
        with self.lock:
            return [asked for asked in self.requests if asked.endpoint == faults.COMPUTE]

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
                "tiles_served": sum(tile.status == 200 for tile in self.tiles),
                "served_twice": len(self.served_twice()),
                "served_keys": [tile.key for tile in self.tiles if tile.status == 200],
                "max_concurrency": dict(self.max_concurrency),
                "faults_struck": [fault.struck for fault in self.faults],
            }

    # Answers -------------------------------------------------------------------------------------

    def pixels(self, body: Mapping[str, Any]) -> bytes:
        """The NPY of a computePixels request."""
        if body.get("fileFormat") != "NPY":
            raise EarthEngineError(f"The local Earth Engine does not implement fileFormat '{body.get('fileFormat')}'.")
        unknown = body.keys() - {"expression", "fileFormat", "grid", "bandIds", "workloadTag"}
        if unknown:
            raise EarthEngineError(f'Invalid JSON payload received. Unknown name "{sorted(unknown)[0]}".')
        image = evaluate(body["expression"])
        if not isinstance(image, Image):
            raise EarthEngineError("Expression does not evaluate to an image.")
        if "bandIds" in body:
            image = replace(image, bands=tuple(image.band(name) for name in body["bandIds"]))
        if not image.bands:
            raise EarthEngineError("Image has no bands.")
        grid = grid_of(body.get("grid"))
        check_limits(image, grid)
        return npy(image, grid)

    def answer(self, endpoint: str, project: str, body: Mapping[str, Any]) -> bytes:
        """The body of a POST request's answer."""
        if endpoint == faults.COMPUTE:
            return self.pixels(body)
        if endpoint == "value:compute":
            return json.dumps({"result": encode(evaluate(body["expression"]))}).encode()
        if endpoint == "image:export":
            return json.dumps(self.exports.start(project, body)).encode()
        raise RefusedError(404, f"The local Earth Engine does not implement {endpoint}.")

    def admit(self, endpoint: str) -> None:
        """Counts a request in, or refuses it where that is too many."""
        with self.lock:
            now = time.monotonic()
            while self._recent and self._recent[0] < now - 60:
                self._recent.popleft()
            if self.per_minute is not None and len(self._recent) >= self.per_minute:
                raise RefusedError(429, faults.TOO_MANY, self.retry_after)
            if self._running[endpoint] >= self.concurrency:
                raise RefusedError(429, faults.TOO_MANY, self.retry_after)
            self._recent.append(now)
            self._running[endpoint] += 1
            self.max_concurrency[endpoint] = max(self.max_concurrency[endpoint], self._running[endpoint])

    def leave(self, endpoint: str) -> None:
        with self.lock:
            self._running[endpoint] -= 1

    def fault(self, endpoint: str, grid: Mapping[str, Any] | None) -> Fault | None:
        with self.lock:
            return next((fault for fault in self.faults if fault.strikes(endpoint, grid)), None)


def grid_of(grid: Mapping[str, Any] | None) -> Grid:
    """The pixel grid of a request; without one Earth Engine would choose the image's own, which is not implemented."""
    if not grid:
        raise EarthEngineError("The local Earth Engine needs a grid.")
    unknown = grid.keys() - {"dimensions", "affineTransform", "crsCode", "crsWkt"}
    if unknown:
        raise EarthEngineError(f"Invalid JSON payload received. Unknown name \"{sorted(unknown)[0]}\" at 'grid'.")
    affine = grid.get("affineTransform", {})
    if affine.get("shearX") or affine.get("shearY"):
        raise EarthEngineError("The local Earth Engine implements no sheared grids.")
    size = grid.get("dimensions", {})
    width, height = int(size.get("width", 0)), int(size.get("height", 0))
    if width < 1 or height < 1:
        raise EarthEngineError("Pixel grid dimensions must be positive.")
    crs = grid.get("crsCode") or grid.get("crsWkt")
    if not crs:
        raise EarthEngineError("Pixel grid must specify a CRS.")
    corner = tuple(
        float(affine.get(name, 0.0)) for name in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    )
    if not corner[0] or not corner[4]:
        raise EarthEngineError("Pixel grid scale must not be zero.")
    return Grid(Projection(crs, corner), width, height)  # type: ignore[arg-type]


def check_limits(image: Image, grid: Grid) -> None:
    if max(grid.width, grid.height) > MAX_SIDE:
        raise EarthEngineError(
            f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {MAX_SIDE}."
        )
    if len(image.bands) > MAX_BANDS:
        raise EarthEngineError(f"Number of bands ({len(image.bands)}) must be less than or equal to {MAX_BANDS}.")
    # One byte of mask for every value.
    size = grid.width * grid.height * sum(band.type.dtype.itemsize + 1 for band in image.bands)
    if size > MAX_BYTES:
        raise EarthEngineError(f"Total request size ({size} bytes) must be less than or equal to {MAX_BYTES} bytes.")


def npy(image: Image, grid: Grid) -> bytes:
    """A structured array, one field per band; masked pixels are 0, as NPY carries no mask."""
    out = np.zeros((grid.height, grid.width), np.dtype([(band.name, band.type.dtype) for band in image.bands]))
    for band in image.bands:
        values, mask = band.read(grid)
        out[band.name] = np.where(mask > 0, values, 0)
    return _saved(out)


def _saved(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def damaged(action: str, body: bytes) -> bytes:
    """The NPY ``body`` as a fault leaves it."""
    if action == "truncate":
        return body[: len(body) // 2]
    array = np.load(io.BytesIO(body))
    if action == "resize":
        return _saved(array[:-1])
    if action == "retype":
        return _saved(
            array.astype([(name, "<f8" if array.dtype[name] != np.float64 else "<i4") for name in array.dtype.names])
        )
    return body


class _Http(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False
    earth_engine: EarthEngineServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _handle(self, raw: bytes) -> None:
        begun = time.monotonic()
        engine = self.server.earth_engine
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query))
        if address.path.startswith("/control/"):
            self._send(200, json.dumps(rest.control(engine, address.path, raw)).encode())
            return
        if address.path == "/token":
            self._send(*engine.tokens.grant(raw))
            return
        endpoint = rest.endpoint(address.path)
        body: dict[str, Any] = {}
        status = 500
        try:
            body = json.loads(raw) if raw else {}
            status = self._answer(engine, endpoint, address.path, query, body, begun)
        except RefusedError as refused:
            status = refused.status
            self._error(refused)
        except EarthEngineError as wrong:
            status = 400
            self._error(RefusedError(400, str(wrong)))
        except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as broken:
            # A mistake of this server or a request it does not understand: loud in the test that made it.
            status = 500
            self._error(RefusedError(500, f"The local Earth Engine failed: {type(broken).__name__}: {broken}"))
        finally:
            with engine.lock:
                engine.requests.append(
                    Asked(
                        endpoint,
                        _key(body),
                        body.get("grid"),
                        status,
                        time.monotonic() - begun,
                        body.get("workloadTag"),
                    )
                )

    def _answer(
        self,
        engine: EarthEngineServer,
        endpoint: str,
        path: str,
        query: dict[str, str],
        body: dict[str, Any],
        begun: float,
    ) -> int:
        fault = engine.fault(endpoint, body.get("grid"))
        if fault is not None and fault.action == "expire":
            engine.tokens.expire()
        if not engine.tokens.accepts(self.headers.get("Authorization")):
            raise RefusedError(401, faults.UNAUTHENTICATED)
        if fault is not None and fault.action == "status":
            raise RefusedError(fault.status, fault.message, fault.retry_after)
        if fault is not None and fault.action == "html":
            self._send(fault.status, b"<html><body>Bad gateway</body></html>", kind="text/html")
            return fault.status
        if fault is not None and fault.action == "drop":
            self.close_connection = True
            self.connection.close()
            return 0
        if self.command == "GET" or endpoint == "operations:cancel":
            content = self._get(engine, endpoint, path, query)
            self._send(200, content)
            return 200
        engine.admit(endpoint)
        try:
            answer = engine.answer(endpoint, path.split("/")[3].split(":")[0], body)
            late = engine.latency if endpoint == faults.COMPUTE else 0.0
            if fault is not None and fault.action == "stall":
                late = fault.seconds
            time.sleep(max(0.0, begun + late - time.monotonic()))
        finally:
            engine.leave(endpoint)
        kind = "application/octet-stream" if endpoint == faults.COMPUTE else "application/json"
        if fault is not None and fault.action == "cut":
            self._send(200, answer, kind, cut=True)
            return 0
        if fault is not None:
            answer = damaged(fault.action, answer)
        self._send(200, answer, kind)
        return 200 if fault is None or fault.action in ("stall", "expire") else 0

    def _get(self, engine: EarthEngineServer, endpoint: str, path: str, query: dict[str, str]) -> bytes:
        if endpoint == "discovery":
            return rest.discovery(engine.url)
        if endpoint == "algorithms":
            return algorithms()
        try:
            return json.dumps(rest.get(engine.exports, endpoint, path, query)).encode()
        except LookupError as missing:
            raise RefusedError(404, str(missing.args[0])) from None

    def _error(self, refused: RefusedError) -> None:
        content = {
            "error": {
                "code": refused.status,
                "message": refused.message,
                "status": faults.STATUS.get(refused.status, "UNKNOWN"),
            }
        }
        extra = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
        self._send(refused.status, json.dumps(content).encode(), extra=extra)

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "application/json",
        extra: Mapping[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (extra or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            if cut:
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
        except OSError:
            self.close_connection = True


def _key(body: Mapping[str, Any]) -> str:
    """What a request asks for: the expression and the grid, nothing else."""
    asked = {name: body.get(name) for name in ("expression", "grid", "bandIds")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
