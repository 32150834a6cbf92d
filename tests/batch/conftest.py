"""Jobs files; real products, made once and copied under other names and dates; a real S3 server."""

import contextlib
import datetime
import json
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import crgen
from crgen.pipeline.product.mlm import files_of
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.product.stac import seal_of

AREA = "113.50,34.70,113.503,34.703"
WINDOW = "113.50,34.70,113.5005,34.7005"
"""An area of one window."""
MakeProduct = Callable[..., Paths]


@pytest.fixture
def write(tiny_weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a jobs file of demo jobs with tiny weights; returns its path."""

    def jobs(text: str, **defaults: object) -> Path:
        values = {"source": "demo", "aoi": WINDOW, "t1": "2021-07-10", "t2": "2021-07-22", "weights": str(tiny_weights)}
        lines = [
            f"{key} = {value if isinstance(value, int) else repr(value)}" for key, value in (values | defaults).items()
        ]
        path = tmp_path / "jobs.toml"
        path.write_text("\n".join(["[defaults]", *lines, text]))
        return path

    return jobs


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """Start a scheduler as a process of its own; none outlives the test."""
    from tests.batch.schedulers import ctx, schedule

    started = []

    def one(path: Path, target: Callable[..., None] = schedule, **environment: str) -> Any:
        process = ctx.Process(target=target, args=(path,), kwargs=environment)
        process.start()
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.join()


@pytest.fixture(scope="session")
def one_product(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    out = tmp_path_factory.mktemp("made") / "map.tif"
    crgen.fill(aoi=AREA, t1="2021-07-10", t2="2021-07-22", source="demo", out=out, weights=str(tiny_weights))
    return Paths(out)


@pytest.fixture
def make_product(one_product: Paths) -> MakeProduct:
    """Put a whole product into a folder, with a name, a day t2 and a time of making of its own."""

    def make(folder: Path, name: str = "map", t2: str = "2021-07-22", created: str = "2021-07-22T12:00:00Z") -> Paths:
        paths = Paths(folder / f"{name}.tif")
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(one_product.all[:-1], paths.all[:-1], strict=True):
            shutil.copyfile(source, target)
        item = json.loads(one_product.item.read_text())
        item["id"] = name
        properties = item["properties"]
        properties |= {"created": created, "crgen:t2": t2, "crgen:sha256": "0" * 64}
        properties |= {"start_datetime": f"{t2}T00:00:00Z", "end_datetime": f"{t2}T23:59:59Z"}
        for asset, path in zip(files_of(item).values(), paths.all[:-1], strict=True):
            asset["href"] = f"./{path.name}"
        text = json.dumps(item, indent=2)
        paths.item.write_text(text.replace("0" * 64, seal_of(text.encode())))
        return paths

    return make


@pytest.fixture
def unfinished() -> Callable[[Paths], None]:
    """Leave what a stopped run leaves beside a product."""

    def leave(paths: Paths) -> None:
        paths.scratch.mkdir()
        began = datetime.datetime.now(datetime.UTC).isoformat()
        (paths.scratch / "run.json").write_text(json.dumps({"fingerprint": {}, "created": began}))

    return leave


@pytest.fixture
def webhook():
    """A web server that keeps what is posted to it, path and JSON, and answers as told."""
    posted: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_POST(self) -> None:
            posted.put((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", posted, Handler
        server.shutdown()


class S3:
    """An S3 server whose buckets are the folders of a folder."""

    KEY, SECRET = "crgentest", "notasecret"

    def __init__(self, root: Path, address: str) -> None:
        self.root = root
        self.address = address

    @property
    def options(self) -> dict[str, object]:
        return self.options_at(self.address)

    def options_at(self, address: str) -> dict[str, object]:
        """What a client needs to be told to come to ``address``."""
        return {
            "endpoint": f"http://{address}",
            "region": "us-east-1",
            "access_key_id": self.KEY,
            "secret_access_key": self.SECRET,
            "client_options": {"allow_http": True},
            "retry_config": {"max_retries": 0, "retry_timeout": datetime.timedelta(seconds=20)},
        }


@contextlib.contextmanager
def serving(root: Path) -> Iterator[S3]:
    """`rclone serve s3`, over HTTP, with signed requests; ends as a server does whose power is cut."""
    rclone = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if rclone is None:
        pytest.skip("rclone, whose S3 server is asked, is not installed")
    (root / "maps").mkdir(exist_ok=True)
    serve = (rclone, "serve", "s3", "--addr", "127.0.0.1:0", "--dir-cache-time", "1ms")
    command = (*serve, "--auth-key", f"{S3.KEY},{S3.SECRET}", str(root))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            address = next(found[1] for line in lines if (found := re.search(r"server on \[http://([^/]+)/", line)))
            yield S3(root, address)
        finally:
            server.kill()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server for tests that leave it in peace."""
    with serving(tmp_path_factory.mktemp("s3")) as server:
        yield server
