"""One client against one local Earth Engine: started, watched, killed, and what became of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from benchmarks.common import square

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
CORNER = 722_640, 3_887_360
"""Inside one scene of each date, in UTM zone 49."""
MARGIN = 264
"""Pixels that ``crgen pull`` fetches around an area, for the network's windows."""
DATES = ("2021-07-10", "2021-07-22")
CRGEN = "from crgen.cli.main import app; app()"


@dataclass(frozen=True)
class Client:
    """Who fetches: ``crgen``, ``geedim`` or ``xee``, a peer as it comes or ``tuned``; and its interpreter."""

    name: str
    python: str
    tuned: bool = True

    def __str__(self) -> str:
        return self.name if self.name == "crgen" else f"{self.name}, {'tuned' if self.tuned else 'as it comes'}"

    def version(self) -> str:
        """Return its version, as its interpreter tells it."""
        ask = f"from importlib.metadata import version; print(version('{self.name}'))"
        return subprocess.run([self.python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


class Service:
    """A local Earth Engine in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def control(self, what: str, content: Any = None) -> Any:
        """Ask it something, or tell it ``content``."""
        address = f"{self.url}/control/{what}"
        if content is None:
            return requests.get(address, timeout=60).json()
        return requests.post(address, json=content, timeout=60).json()

    def idle(self) -> dict[str, Any]:
        """Return the counters once nothing is under way: a client that was killed leaves requests behind."""
        while (now := self.control("counters"))["running"]:
            time.sleep(0.1)
        return now


@contextmanager
def service() -> Iterator[Service]:
    """Start a local Earth Engine that keeps each tile it has computed."""
    command = [sys.executable, "-m", "tests.earthengine", "--remember"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield Service(process.stdout.readline().strip())
        finally:
            process.kill()


@dataclass(frozen=True)
class Run:
    """How a run of a client went; ``rc`` is its exit status, ``said`` its last line."""

    rc: int
    seconds: float
    fetching: float
    """Seconds from the first request of pixels to the end of the process."""
    peak_mb: float
    cpu: float
    said: str


@dataclass(frozen=True)
class Job:
    """What is fetched, from where, into which folder.

    Args:
        url: the service.
        side: pixels of the square, margin included.
        folder: working folder; ``out`` and crgen's cache lie in it.
        at_once: requests under way at most.
        grid: CRS, transform and shape, as crgen chose them; None for crgen itself.
        images: per variable its parts: asset, bands, whether bilinear; as crgen chose them.
    """

    url: str
    side: int
    folder: Path
    at_once: int
    grid: dict[str, Any]
    images: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def clean(self) -> None:
        """Forget everything that was fetched."""
        for name in ("out", "cache"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.out.mkdir(parents=True)

    def start(self, client: Client, log: Path) -> subprocess.Popen[bytes]:
        """Start the client's process, always with the same command."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if client.name == "crgen":
            environment |= {
                "CRGEN_EE_URL": self.url,
                "CRGEN_CACHE": str(self.folder / "cache"),
                "CRGEN_EE_CONCURRENCY": str(self.at_once),
                "EE_PROJECT_ID": "benchmark",
            }
            outline = square(self.side - 2 * MARGIN, self.folder, CORNER)
            words = ["-c", CRGEN, "pull", "--aoi", outline, "--t1", DATES[0], "--t2", DATES[1], "--crs", "EPSG:32649"]
            words += ["--past", "none", "--out", self.out / "stack.zarr"]
        else:
            told = {"url": self.url, "out": str(self.out), "at_once": self.at_once, "tuned": client.tuned}
            words = [HERE / f"fetch_{client.name}.py", json.dumps({**told, **self.grid, "images": self.images})]
            environment["PYTHONPATH"] = ""
        command = [client.python, *map(str, words)]
        with log.open("wb") as sink:
            return subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )

    def run(self, client: Client, server: Service, kill_after: int | None = None) -> Run:
        """Run the client to its end, or kill it a second after ``kill_after`` tiles were served."""
        log = self.folder / "log.txt"
        begun = time.monotonic()
        process = self.start(client, log)
        peak = 0.0
        while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            peak = max(peak, _most_held(process.pid))
            if kill_after is not None and server.control("counters")["tiles_served"] >= kill_after:
                time.sleep(1)  # what has arrived may be put down
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.05)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.monotonic()
        first = server.control("counters")["first_tile"] or ended
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return Run(
            process.returncode,
            ended - begun,
            ended - first,
            peak,
            usage.ru_utime + usage.ru_stime,
            lines[-1].split("\r")[-1].strip() if lines else "",
        )


def _most_held(pid: int) -> float:
    """Return the most memory that a process has held so far, in MB; what ``wait`` tells counts its parent's too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1e3 if found else 0.0
