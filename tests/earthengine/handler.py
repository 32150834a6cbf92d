"""HTTP in and out of the local Earth Engine: one thread per connection."""

import json
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tests.earthengine import faults, rest
from tests.earthengine.images import EarthEngineError
from tests.earthengine.interpreter import algorithms
from tests.earthengine.pixels import damaged
from tests.earthengine.requests import RefusedError

if TYPE_CHECKING:
    from tests.earthengine.server import EarthEngineServer


class Http(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    block_on_close = False
    earth_engine: "EarthEngineServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that go away are part of the tests; anything else is a mistake of this server.
        if not isinstance(sys.exception(), OSError):
            self.earth_engine.mistakes.append(traceback.format_exc())


@dataclass
class Reply:
    """An answer before it is sent; ``written`` is the share of the body that goes out before the connection closes."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    damaged: bool = False
    written: float = 1.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Http

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle(b"")

    def do_POST(self) -> None:
        self._handle(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _handle(self, raw: bytes) -> None:
        begun, used = time.monotonic(), time.thread_time()
        engine = self.server.earth_engine
        path = urlsplit(self.path).path
        if path.startswith("/control/"):
            self._send(Reply(200, json.dumps(rest.control(engine, path, raw)).encode()))
        elif path == "/token":
            self._send(Reply(*engine.tokens.grant(raw)))
        else:
            epoch, endpoint = engine.epoch, rest.endpoint(path)
            body = json.loads(raw) if raw else engine.downloads.get(path.rsplit("/", 1)[-1].split(":")[0], {})
            reply = self._reply(engine, endpoint, path, body, begun)
            status = 0 if reply.damaged or reply.written < 1 else reply.status
            # Before it is sent, so that whoever has the answer finds it counted.
            cpu, sent = time.thread_time() - used, int(len(reply.body) * reply.written)
            engine.record(epoch, endpoint, body, status, begun, cpu, sent)
            self._send(reply)

    def _reply(
        self, engine: "EarthEngineServer", endpoint: str, path: str, body: dict[str, Any], begun: float
    ) -> Reply:
        try:
            return self._answer(engine, endpoint, path, body, begun)
        except RefusedError as refused:
            return _error(refused)
        except EarthEngineError as wrong:
            return _error(RefusedError(400, str(wrong)))
        except Exception as broken:
            engine.mistakes.append(traceback.format_exc())
            return _error(RefusedError(500, f"The local Earth Engine failed: {type(broken).__name__}: {broken}"))

    def _answer(
        self, engine: "EarthEngineServer", endpoint: str, path: str, body: dict[str, Any], begun: float
    ) -> Reply:
        fault = engine.fault(endpoint, body.get("grid"))
        action = fault.action if fault is not None else ""
        if action == "expire":
            engine.tokens.expire()
        # The URL of a download is a ticket by itself.
        if endpoint != faults.DOWNLOAD and not engine.tokens.accepts(self.headers.get("Authorization")):
            raise RefusedError(401, faults.UNAUTHENTICATED)
        if fault is not None and action == "status":
            raise RefusedError(fault.status, fault.message, fault.retry_after)
        if fault is not None and action == "html":
            return Reply(fault.status, b"<html><body>Bad gateway</body></html>", "text/html")
        if action == "drop":
            return Reply(0, b"", written=0.0)
        if endpoint == faults.DOWNLOAD and not body:
            raise RefusedError(404, f"{path} not found.")
        if (self.command == "GET" and endpoint != faults.DOWNLOAD) or endpoint == "operations:cancel":
            return Reply(200, self._get(engine, endpoint, path))
        with engine.admitted(endpoint):
            answer = engine.answer(endpoint, path.split("/")[3].split(":")[0], body)
            late = engine.latency if endpoint in faults.PIXELS else 0.0
            if fault is not None and action == "stall":
                late = fault.seconds
            time.sleep(max(0.0, begun + late - time.monotonic()))
        kind = "application/octet-stream" if endpoint in faults.PIXELS else "application/json"
        changed = damaged(action, answer)
        headers = {"x-earth-engine-quota-status": "parallelism_restricted=true"} if engine.restricted else {}
        if engine.profile is not None and self.headers.get("X-Earth-Engine-Computation-Profiling"):
            headers["x-earth-engine-computation-profile"] = "a-profile"
        return Reply(200, changed, kind, headers, damaged=changed != answer, written=0.5 if action == "cut" else 1.0)

    def _get(self, engine: "EarthEngineServer", endpoint: str, path: str) -> bytes:
        if endpoint == "discovery":
            return rest.discovery(engine.url)
        if endpoint == "algorithms":
            return algorithms()
        try:
            query = dict(parse_qsl(urlsplit(self.path).query))
            if path.endswith("/timeSeries"):
                return json.dumps(rest.monitored(engine.used, query)).encode()
            return json.dumps(rest.get(engine.exports, endpoint, path, query)).encode()
        except LookupError as missing:
            raise RefusedError(404, str(missing.args[0])) from None

    def _send(self, reply: Reply) -> None:
        try:
            if reply.status:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body[: int(len(reply.body) * reply.written)])
                self.wfile.flush()
            if reply.written < 1:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            self.close_connection = True


def _error(refused: RefusedError) -> Reply:
    """An error as Google's services send it."""
    name = faults.STATUS.get(refused.status, "UNKNOWN")
    content = {"error": {"code": refused.status, "message": refused.message, "status": name}}
    headers = {} if refused.retry_after is None else {"Retry-After": str(refused.retry_after)}
    return Reply(refused.status, json.dumps(content).encode(), headers=headers)
