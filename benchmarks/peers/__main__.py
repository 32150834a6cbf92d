"""The same scenes of the same area from the same local Earth Engine with crgen, geedim and xee, in three tables.

    python -m benchmarks.peers OUT --peers-python PYTHON [--side 2048] [--latency 4] [--repeat 3]

Two Sentinel-1 scenes (VV, VH) and one of Sentinel-2 (six bands, and its Cloud Score+ score), on the grid that
``crgen pull`` chooses for an area. PYTHON is an interpreter that has geedim, xee, dask and zarr; every run is a process
of its own. Each peer runs as it comes (one file or store of each image, its own sizes) and tuned (geedim: one float32
file of all bands in tiles of 16 MB; xee: chunks of 1024² px, 32 dask threads over all bands).

Race: first without latency, where the service computes every tile and pixels are compared; then timed, from empty
folders, with the tiles known to the service, so that each takes the latency and next to nothing of the machine that
client and service share. Faults: the outcome under each, against the fault-free pixels. Kill: with four requests at
once and two seconds of latency, SIGKILL a second after half of the tiles were served, the same command again.

The real service computes larger tiles longer, and packs answers on the way: neither is played here. Peers are told
nothing of Google's public catalogue, which is not on this machine; geedim only tags files by it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.common import machine, markdown
from benchmarks.peers import outcome
from benchmarks.peers.race import Client, Job, Service, service
from tests.earthengine import faults
from tests.earthengine.faults import Fault

READ: dict[str, Callable[[Path, dict[str, Any]], outcome.Planes]] = {
    "crgen": outcome.of_crgen,
    "geedim": outcome.of_geedim,
    "xee": outcome.of_xee,
}
AT_ONCE = 32
FEW = 4
"""Requests at once where a client is killed, so that at half of the tiles it has others before it."""
FAULTS = {
    "429 to the first five": [faults.error(429, faults.TOO_MANY, first=5)],
    "500 to the first three": [faults.error(500, "Internal error.", first=3)],
    "two bodies cut": [faults.cut(nth=2), faults.cut(nth=5)],
    "“User memory limit” above 512² px": [faults.memory_limit(512 * 512)],
}


def as_asked(scenes: dict[str, Any]) -> dict[str, Any]:
    """Return what a manifest's scenes are as images of a job: of each variable the asset, bands, whether bilinear."""
    asked: dict[str, Any] = {}
    for name, (scene,) in scenes.items():
        if name.startswith("s1"):
            asked[name] = [(scene["id"], ["VV", "VH"], False)]
        else:
            asked[name] = [(scene["id"], ["B2", "B3", "B4", "B8"], False), (scene["id"], ["B11", "B12"], True)]
            asked[name.replace("s2", "clear")] = [(scene["score"], ["cs_cdf"], False)]
    return asked


def described(job: Job) -> Job:
    """Return the job with the grid and images of the stack that crgen has pulled for it."""
    import crgen

    stack = crgen.open_stack(job.out / "stack.zarr")
    box = stack.odc.geobox
    assert box.shape == (job.side, job.side), box.shape
    grid = {"crs": "EPSG:32649", "transform": list(box.affine[:6]), "shape": list(box.shape)}
    scenes = json.loads((job.out / "stack.zarr" / ".zattrs").read_text())["manifest"]
    return replace(job, grid=grid, images=as_asked(json.loads(scenes)["scenes"]))


def race(
    job: Job, client: Client, server: Service, latency: float, repeat: int, truth: outcome.Planes | None
) -> tuple[Job, list[str]]:
    """Fetch: computed by the service, then timed. Return the job, with crgen's grid, and a row of the table."""
    job.clean()
    server.control("settings", {"latency": 0})
    run = job.run(client, server)
    if run.rc:
        return job, [str(client), f"ended with {run.rc}: {run.said}", *[""] * 9]
    computed = server.control("counters")
    if client.name == "crgen":
        job = described(job)
    server.control("settings", {"latency": latency})
    runs = []
    for _ in range(repeat):
        server.control("clear", {})
        job.clean()
        runs.append(job.run(client, server))
        if runs[-1].rc:
            break
    run, seen = min(runs, key=lambda run: (-abs(run.rc), run.fetching)), server.control("counters")
    server.control("settings", {"latency": 0})
    if run.rc:
        return job, [str(client), f"ended with {run.rc}: {run.said}", *[""] * 9]
    held = READ[client.name](job.out, job.images)
    told = "" if truth is None else outcome.different(truth, held) or "equal"
    others = sum(seen["requests"].values()) - seen["tiles"]
    return job, [
        str(client),
        f"{run.fetching:.1f}",
        f"{run.seconds:.1f}",
        f"{seen['tiles']}",
        f"{others}",
        f"{seen['tile_bytes'] / 1e6:.0f}",
        f"{run.peak_mb:,.0f}",
        f"{run.cpu:.1f}",
        f"{computed['tile_cpu']:.1f}",
        f"{computed['cpu'] - computed['tile_cpu']:.1f}",
        told,
    ]


def faulty(job: Job, client: Client, server: Service, played: list[Fault], good: outcome.Planes) -> str:
    """Fetch under faults; what came of it."""
    job.clean()
    server.control("clear", {})
    for endpoint in faults.PIXELS:
        server.control("faults", [replace(fault, endpoint=endpoint).to_json() for fault in played])
    run = job.run(client, server)
    seen = server.control("counters")
    if not sum(seen["faults_struck"]):
        return "not met: its tiles are smaller"
    if run.rc:
        return f"ends after {run.fetching:.0f} s, “{run.said.split(', url=')[0][:120]}”; {left(job, client)}"
    told = outcome.different(good, READ[client.name](job.out, job.images))
    return f"whole after {run.fetching:.0f} s, {seen['tiles']} requests{', but ' + told if told else ''}"


def left(job: Job, client: Client) -> str:
    """Say what a run that failed left."""
    if client.name == "crgen":
        kept = len(list((job.folder / "cache").rglob("*.tile")))
        return f"{'a stack' if (job.out / 'stack.zarr').exists() else 'no stack'}, {kept} tiles kept"
    return outcome.left(job.out)


def killed(job: Job, client: Client, server: Service, total: int) -> list[str]:
    """Kill the client after half of its tiles and run it again; a row of the third table."""
    job = replace(job, at_once=FEW)
    job.clean()
    server.control("clear", {})
    server.control("settings", {"latency": 2})
    first = job.run(client, server, kill_after=max(1, total // 2))
    had = Counter(server.control("counters")["served_keys"])
    server.idle()
    server.control("clear", {})
    second = job.run(client, server)
    keys = server.control("counters")["served_keys"]
    server.control("settings", {"latency": 0})
    how = f"{second.fetching:.1f}" if second.rc == 0 else f"ended with {second.rc}: {second.said}"
    return [
        str(client),
        f"{sum(had.values())} of {total}" + ("" if first.rc < 0 else " (was done)"),
        str(len(keys)),
        str(sum(key in had for key in keys)),
        how,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the tables (peers.md) and of the work")
    parser.add_argument("--peers-python", required=True, help="an interpreter with geedim, xee, dask and zarr")
    parser.add_argument("--side", type=int, default=2048, help="pixels of the square, margin included")
    parser.add_argument("--latency", type=float, default=4.0, help="seconds that each request of pixels takes at least")
    parser.add_argument("--repeat", type=int, default=1, help="timed runs of each, of which the fastest counts")
    parser.add_argument("--clients", default="geedim,xee", help="peers to run beside crgen")
    parser.add_argument("--tuned", action="store_true", help="no peer as it comes")
    parser.add_argument("--race-only", action="store_true", help="neither faults nor kills")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    clients = [Client("crgen", sys.executable)]
    for name in filter(None, options.clients.split(",")):
        clients += [Client(name, options.peers_python, tuned) for tuned in (False, True) if tuned or not options.tuned]
    head = f"python -m benchmarks.peers OUT --peers-python PYTHON --side {options.side} --latency {options.latency:g}"
    head += f" --repeat {options.repeat}" + " --tuned" * options.tuned + " --race-only" * options.race_only
    versions = ", ".join(dict.fromkeys(f"{client.name} {client.version()}" for client in clients))
    parts = [f"`{head}` on {machine()}; {versions}:"]
    races, struck, kills = [], [], []
    truth, grid, images = None, {}, {}
    for client in clients:
        with service() as server:
            job = Job(server.url, options.side, options.out.resolve() / "work", AT_ONCE, grid, images)
            job, row = race(job, client, server, options.latency, options.repeat, truth)
            if truth is None:
                grid, images, truth = job.grid, job.images, outcome.of_crgen(job.out, job.images)
            races.append(row)
            print(row, flush=True)
            if options.race_only or len(set(row)) < 5:
                continue
            good = READ[client.name](job.out, job.images)
            total = int(row[3])
            kills.append(killed(job, client, server, total))
            print(kills[-1], flush=True)
            struck.append([str(client), *(faulty(job, client, server, played, good) for played in FAULTS.values())])
            print(struck[-1], flush=True)
    columns = ["", "fetching, s", "whole process, s", "requests of pixels", "others", "MB"]
    columns += [
        "peak memory, MB",
        "CPU s of the client",
        "CPU s of the service for pixels",
        "for others",
        "pixels against crgen's",
    ]
    parts.append(markdown(columns, races))
    if struck:
        parts.append(markdown(["", *FAULTS], struck))
        asked = ["", "tiles served when killed", "asked again", "of which were served already", "second run, s"]
        parts.append(markdown(asked, kills))
    (options.out / "peers.md").write_text("\n\n".join(parts) + "\n")
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
