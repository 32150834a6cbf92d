"""Fetching from Earth Engine, measured against a local server with a fixed latency, in four tables.

    python benchmarks/earthengine.py [SIDE SIDE ...]     (default 4096 12288 px)
    python benchmarks/earthengine.py --paper             (the first of them alone: seconds)

Requests: of the area of the CRGenNet paper (112–116°E, 33–36.5°N), against a reader that asks for one band at a time;
and what their expressions weigh, each with the scenes that meet its tile, against each with all of them.
Throughput: `crgen pull` against latency × requests ÷ concurrency. Memory: the peak of each of these pulls, each in a
process of its own. Repeats: `crgen pull` killed on the way and run again.

The server runs in a process of its own on the same machine, takes at least ``LATENCY`` seconds for a tile whose pixels
cost it little, and sends it whole (5 MB of radar, 11 MB of optical). What real Earth Engine takes is not measured here.
"""

import argparse
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[1]
LATENCY = 4.0
"""Seconds; a tile of 1024² px takes Earth Engine several."""
CONCURRENCY = 32
PAPER = "112,33,116,36.5"
DATES = ("2021-07-10", "2021-07-22")
WEST, NORTH = 560_000, 3_960_000


@contextmanager
def service(latency: float, *, flat: bool = True) -> Iterator[str]:
    """A local Earth Engine, each of its tiles filled with one pixel or with its own; yields its URL."""
    command = [sys.executable, "-m", "tests.earthengine", *["--flat"] * flat, "--latency", str(latency)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def counters(url: str) -> dict[str, Any]:
    """What the server was asked."""
    return requests.get(f"{url}/control/counters", timeout=60).json()


def environment(url: str, folder: Path) -> dict[str, str]:
    """Variables that point crgen at the server, with a tile cache of its own."""
    return {
        **os.environ,
        "CRGEN_EE_URL": url,
        "CRGEN_CACHE": str(folder / "cache"),
        "CRGEN_EE_CONCURRENCY": str(CONCURRENCY),
        "EE_PROJECT_ID": "benchmark",
        "PYTHONPATH": str(ROOT),
    }


def square(side: int) -> str:
    """An area of about ``side`` pixels squared in UTM 49, as west,south,east,north in degrees."""
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs("EPSG:32649", "EPSG:4326", always_xy=True)
    west, south, east, north = to_lonlat.transform_bounds(WEST, NORTH - 10 * side, WEST + 10 * side, NORTH)
    return f"{west},{south},{east},{north}"


def ask(aoi: str, out: Path) -> Any:
    """The request of a pull of the shipped weights' bands."""
    import datetime

    from crgen.pipeline.pull import PullRequest
    from crgen.pipeline.request import EarthEngine

    t1, t2 = map(datetime.date.fromisoformat, DATES)
    return PullRequest(out, aoi=aoi, t1=t1, t2=t2, crs="EPSG:32649", earth_engine=EarthEngine(min_coverage=0.5))


def one(side: int, folder: Path) -> None:
    """Pull one square; prints JSON."""
    from crgen.gee.connection.transport import Transport
    from crgen.pipeline.pull import run_pull

    send, spent = Transport._send, []

    def timed(self: Transport, uri: str, *rest: Any, **more: Any) -> Any:
        begun = time.monotonic()
        try:
            return send(self, uri, *rest, **more)
        finally:
            if "computePixels" in uri:
                spent.append(time.monotonic() - begun)

    Transport._send = timed  # type: ignore[method-assign]
    start = time.monotonic()
    plan = run_pull(ask(square(side), folder / "stack.zarr"))
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    row = {"requests": plan.requests, "bytes": plan.pull.bytes, "seconds": seconds, "peak": peak, "spent": sum(spent)}
    print(json.dumps(row))


def start(side: int, url: str, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, __file__, "--one", str(side), str(folder)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment(url, folder))


def paper() -> None:
    """Requests for the paper's area; no pixel is fetched."""
    from crgen.pipeline.pull import plan_pull

    with service(0) as url, tempfile.TemporaryDirectory() as folder:
        os.environ |= environment(url, Path(folder))
        plan = plan_pull(ask(PAPER, Path(folder) / "stack.zarr"))
    expressions(plan.pull)
    rows, columns = plan.pull.shape
    single = rows * columns * sum(layer.channels + 1 for layer in plan.pull.layers)
    height, width = plan.pull.geobox.shape
    print("| area | tiles | requests | one band per request | ratio |")
    print("|---|---|---|---|---|")
    print(
        f"| {width} × {height} px, {len(plan.pull.layers)} variables | {rows * columns} of {plan.pull.tiling.side}² px "
        f"| {plan.requests} | {single} | {single / plan.requests:.1f} |",
        flush=True,
    )


def expressions(pull: Any) -> None:
    """Bytes and scenes of a request's expression: all scenes of the variable, against those that meet the tile."""
    print("| variable | requests, all | of tiles | scenes, all | mean | most | kB, all | mean | most |")
    print("|---" * 9 + "|")
    for number, whole in enumerate(pull.layers):
        parts = pull.part_of[number :: len(pull.layers)]
        held = [pull.parts[part].expression for part in parts if part is not None]
        scenes, size = [scenes_in(text) for text in held], [len(text) / 1e3 for text in held]
        print(
            f"| {whole.name} | {len(parts)} | {len(held)} "
            f"| {scenes_in(whole.expression)} | {sum(scenes) / len(held):.1f} | {max(scenes)} "
            f"| {len(whole.expression) / 1e3:.1f} | {sum(size) / len(held):.1f} | {max(size):.1f} |"
        )
    print()


def scenes_in(expression: str) -> int:
    """How many scenes an expression reads; a scene of the other date counts as well."""
    return len(set(re.findall(r"COPERNICUS/\w+/\w+", expression)))


def throughput(sides: list[int]) -> None:
    """Pulls of several sizes: seconds against the ideal, slots in use, and peak memory.

    The ideal is latency × requests ÷ concurrency. No reader reaches it where the last round is not full: requests that
    all take the latency end after latency × ⌈requests ÷ concurrency⌉, in whole rounds. Slots in use: seconds spent in
    requests ÷ (seconds of the pull × concurrency).
    """
    columns = (
        "requests",
        "MB",
        "a request, s",
        "ideal, s",
        "whole rounds, s",
        "pull, s",
        "ideal ÷ pull",
        "whole rounds ÷ pull",
        "slots in use",
        "peak memory, MB",
    )
    print(f"\n| area | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for side in sides:
        with service(LATENCY) as url, tempfile.TemporaryDirectory() as folder:
            with start(side, url, Path(folder)) as run:
                out, _ = run.communicate()
            row, seen = json.loads(out.splitlines()[-1]), counters(url)
        ideal = LATENCY * row["requests"] / CONCURRENCY
        rounds = LATENCY * math.ceil(row["requests"] / CONCURRENCY)
        assert seen["tiles"] == row["requests"], seen
        assert seen["max_concurrency"]["image:computePixels"] <= CONCURRENCY, seen
        print(
            f"| {side} × {side} px | {row['requests']} | {row['bytes'] / 1e6:.0f} "
            f"| {row['spent'] / row['requests']:.2f} | {ideal:.1f} | {rounds:.1f} | {row['seconds']:.1f} "
            f"| {ideal / row['seconds']:.2f} | {rounds / row['seconds']:.2f} "
            f"| {row['spent'] / row['seconds'] / CONCURRENCY:.2f} | {row['peak']:.0f} |",
            flush=True,
        )


def repeats(side: int) -> None:
    """A pull that is killed after its first tiles, and run again."""
    with service(1.0) as url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        total = math.inf
        with start(side, url, folder) as run:
            while (kept := len(list(folder.rglob("*.tile")))) < total / 2:
                assert run.poll() is None
                total = min(total, max(12, counters(url)["tiles"]))
                time.sleep(0.05)
            run.send_signal(signal.SIGKILL)
        kept = len(list(folder.rglob("*.tile")))
        time.sleep(2.0)  # the server finishes what nobody waits for any more
        before = counters(url)["tiles"]
        with start(side, url, folder) as run:
            run.communicate()
        assert run.returncode == 0
        second = counters(url)["tiles"] - before
        every = len(list(folder.rglob("*.tile")))
    print("\n| killed with | asked again by the next run | of which were kept already |")
    print("|---|---|---|")
    print(f"| {kept} of {every} tiles | {second} | {second - (every - kept)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="*", type=int, default=[4096, 12288])
    parser.add_argument("--paper", action="store_true", help="only the requests of the paper's area")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(int(options.one[0]), Path(options.one[1]))
    elif options.paper:
        paper()
    else:
        paper()
        throughput(options.sides)
        repeats(options.sides[0])
