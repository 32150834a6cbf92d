"""`crgen fill`: make a cloud-free map."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from crgen.cli.console import console, duration, note, progress
from crgen.cli.options import fetching, takes
from crgen.pipeline.request import EarthEngine, FillRequest


@takes(FillRequest, EarthEngine)
def fill(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what it would cost; write nothing.")
    ] = False,
    manifest: Annotated[
        Path | None, typer.Option(help="Repeat a product from its .json, or map a manifest's scenes.")
    ] = None,
    **named: Any,
) -> None:
    """Map an area at t2 without its clouds.

    Leaves OUT.tif (reflectance), OUT_quality.tif (which pixels are observed, which generated), OUT.png (a picture)
    and OUT.json (a STAC Item with everything needed to trust and repeat it). A run that was stopped goes on where it
    was when the same command is given again.
    """
    from crgen.files import size_text
    from crgen.pipeline.fill import run
    from crgen.pipeline.repeat import request_of
    from crgen.pipeline.run.plan import plan
    from crgen.pipeline.source.ground import crs_name
    from crgen.pipeline.source.imagery import radar_line
    from crgen.pipeline.tiling.quality import LABELS, Quality

    request = request_of({**named, "manifest": manifest})
    if dry_run:
        work = plan(request)
        for text in work.scene.notes:
            note(text)
        height, width = work.grid.output.shape
        down, across = work.grid.shape
        rows = {
            "area": f"{work.scene.area.name}, {crs_name(work.scene.area.geobox.crs)}",
            "pixels": f"{width} × {height} = {work.pixels:,}",
            **({"radar": radar} if (radar := radar_line(work.scene.days, work.scene.t1, work.scene.t2)) else {}),
            "chunks": f"{down * across:,} of up to {work.grid.chunk} × {work.grid.chunk} px",
            "windows": f"{work.grid.window_count:,} of {work.model.card.window} × {work.model.card.window} px",
            "memory": f"about {size_text(work.memory)} for imagery, {work.workers} workers",
            "disk": f"at most {size_text(work.disk)}, scratch files included",
            **({} if work.scene.pull is None else fetching(work.scene.pull, work.scene.pull.kept())),
            "time": f"about {duration(work.seconds)} for the windows on {work.device} in {work.precision.name} "
            f"({work.windows_per_second:.1f} windows/s, measured now)",
            "output": str(work.paths.reflectance),
        }
        for name, value in rows.items():
            console.print(f"{name:8} {value}", highlight=False, markup=False)
        return

    done, lock = 0, threading.Lock()
    with progress("filling", "windows") as report:

        def on_windows(count: int, total: int) -> None:
            nonlocal done
            with lock:
                done += count
                report(done, total)

        result = run(request, on_windows)
    for text in result.notes:
        note(text)
    total = result.tally.inside
    for quality in Quality:
        if share := result.tally.pixels[quality] / total:
            console.print(f"{LABELS[quality]:26} {100 * share:5.1f} %", highlight=False)
    if result.radar:
        console.print(f"{'radar':26} {result.radar}", highlight=False, markup=False)
    if result.error is not None:
        for name, scores in result.error.items():
            text = ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())
            console.print(f"error of {name} against the truth: {text}", highlight=False)
    for path in result.paths.all:
        console.print(str(path), highlight=False, markup=False)
