"""What the benchmarks share: squares of imagery, a process of its own for each measurement, and where results go."""

from __future__ import annotations

import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
WEST, NORTH = 730_000, 3_850_000
DAYS = ("2021-07-10", "2021-07-22")


def square(side: int, folder: Path, corner: tuple[int, int] = (WEST, NORTH)) -> Path:
    """Write the outline of ``side`` × ``side`` pixels of 10 m in UTM zone 49, by its north-western corner."""
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs("EPSG:32649", "EPSG:4326", always_xy=True)
    west, north = corner
    east, south = west + 10 * side, north - 10 * side
    corners = [(west, north), (east, north), (east, south), (west, south), (west, north)]
    # Points along the edges, which bend in degrees.
    ring = [
        to_lonlat.transform(a + (c - a) * i / 64, b + (d - b) * i / 64)
        for (a, b), (c, d) in itertools.pairwise(corners)
        for i in range(64)
    ]
    path = folder / f"square_{side}.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}))
    return path


def stack_on_disk(side: int, folder: Path) -> Path:
    """Write a local stack of ``side`` × ``side`` pixels, a block of the demo scene repeated, and return it."""
    import datetime

    import dask.array as da
    from affine import Affine
    from odc.geo.geobox import GeoBox

    import crgen
    from crgen.pipeline.source.demo import open_demo
    from crgen.pipeline.source.stack import build_stack

    path = folder / f"stack_{side}.zarr"
    if path.exists():
        return path
    pols, bands, block = ("VV", "VH"), ("B2", "B3", "B4", "B8", "B11", "B12"), 1024
    grid = GeoBox((side, side), Affine(10, 0, WEST, 0, -10, NORTH), "EPSG:32649")
    days = [datetime.date.fromisoformat(day) for day in DAYS]
    tile = open_demo(grid.crop((block, block)), *days, pols=pols, bands=bands).compute()
    times = -(-side // block)

    def repeated(array: Any) -> Any:
        one = da.from_array(array, chunks=array.shape)
        reps = (1,) * (array.ndim - 2) + (times, times)
        return da.tile(one, reps)[..., :side, :side]

    variables = {str(name): repeated(data.values) for name, data in tile.data_vars.items() if name != "truth_t2"}
    manifest = {"source": "demo, repeated", "t1": DAYS[0], "t2": DAYS[1]}
    crgen.write_stack(build_stack(grid, variables, pols=pols, bands=bands, manifest=manifest), path)
    return path


def apart(script: str, *words: object) -> dict[str, Any]:
    """Run ``script --one WORDS`` in a process of its own and return the JSON of its last line."""
    done = subprocess.run([sys.executable, script, "--one", *map(str, words)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{script} {' '.join(map(str, words))} left with {done.returncode}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def peak_mb() -> float:
    """Return the most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def cpu_seconds() -> float:
    """Return the CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def watched(every: float = 1.0) -> Iterator[list[tuple[float, float]]]:
    """Yield a list that grows by (seconds, MB held by this process) until the block ends."""
    import psutil

    samples: list[tuple[float, float]] = []
    end, start, process = threading.Event(), time.perf_counter(), psutil.Process()

    def watch() -> None:
        while not end.wait(every):
            samples.append((time.perf_counter() - start, process.memory_info().rss / 1e6))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        end.set()
        thread.join()


class Timed:
    """Wraps functions and adds up the seconds spent in them over all threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``function``, timed under ``name``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                with self._lock:
                    self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return call


def report(name: str, header: Sequence[str], rows: Sequence[Sequence[object]], more: Mapping[str, Any]) -> None:
    """Print a Markdown table and keep it, with the command and the machine, in ``results/NAME.json``."""
    table = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in rows]
    print(markdown(header, table))
    RESULTS.mkdir(exist_ok=True)
    command = " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    content = {"command": command, "header": list(header), "rows": table, "machine": machine(), **more}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in ([*header], ["---"] * len(header), *rows)]
    return "\n".join(lines)


def machine() -> str:
    """Say what this ran on."""
    import torch

    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores {platform.machine()}{gpu}, torch {torch.__version__}"
