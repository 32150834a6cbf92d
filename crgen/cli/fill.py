"""`crgen fill`: make a cloud-free map."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from crgen.cli.console import console, duration, note, print_fields, progress
from crgen.cli.options import fetching, past_line, takes, water_line
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

    Leaves OUT.tif (reflectance), OUT_quality.tif (which pixels are observed, which generated), OUT_water.tif
    (probability of water), OUT_flood.gpkg (its outlines), OUT_error.tif (how wrong generated pixels may be), OUT.html
    (all of it to look at, 'crgen show OUT.tif'), OUT.png (a picture), styles for QGIS, and OUT.json (a STAC Item with
    everything needed to trust and repeat it). A run that was stopped goes on where it was when the same command is
    given again.
    """
    from crgen.files import size_text
    from crgen.pipeline.fill import run
    from crgen.pipeline.product.selfcheck import check_line, worse_than_copying
    from crgen.pipeline.repeat import request_of
    from crgen.pipeline.run.plan import plan, rate_of
    from crgen.pipeline.source.ground import crs_name
    from crgen.pipeline.source.imagery import radar_line
    from crgen.pipeline.tiling.quality import LABELS

    request = request_of({**named, "manifest": manifest})
    if dry_run:
        work = plan(request)
        rate, precision = rate_of(request, work)
        scene = work.scene
        for text in scene.notes:
            note(text)
        height, width = work.grid.output.shape
        down, across = work.grid.shape
        fields = {
            "area": f"{work.scene.area.name}, {crs_name(work.scene.area.geobox.crs)}",
            "pixels": f"{width} × {height} = {work.pixels:,}",
            "radar": radar_line(scene.days, scene.t1, scene.t2, scene.platforms),
            "chunks": f"{down * across:,} of up to {work.grid.chunk} × {work.grid.chunk} px",
            "windows": f"{work.grid.window_count:,} of {work.model.card.window} × {work.model.card.window} px",
            "memory": f"about {size_text(work.memory)} for imagery, {work.workers} workers",
            "disk": f"at most {size_text(work.disk)}, scratch files included",
            **fetching(scene.pulls),
            "past": past_line(scene.stack, *scene.pulls),
            "water": water_line(scene.water, "more, where t1 is not clear"),
            "time": f"about {duration(work.grid.window_count / rate)} for the windows on {work.device} in {precision} "
            f"({rate:.1f} windows/s, measured now)",
            "output": str(work.paths.reflectance),
        }
        print_fields(fields)
        return

    done, lock = 0, threading.Lock()
    with progress("filling", "windows") as report:

        def on_windows(count: int, total: int) -> None:
            nonlocal done
            with lock:
                done += count
                report(done, total)

        result = run(request, on_windows)
    proof, worse = (result.past.line, result.past.worse) if result.past is not None else ("", False)
    check, worse_here = check_line(result.check), worse_than_copying(result.check)
    for text in [proof] * worse + [check] * worse_here + list(result.notes):
        note(text)
    fields = {LABELS[quality]: f"{100 * share:5.1f} %" for quality, share in result.tally.shares.items()}
    fields["radar"] = result.radar
    fields["flooded"] = "" if result.areas is None else result.areas.text
    fields["self-check"] = "" if worse_here else check
    fields["proof"] = "" if worse else proof
    print_fields(fields, width=26)
    for name, scores in (result.error or {}).items():
        text = ", ".join(f"{metric} {value:.4g}" for metric, value in scores.items())
        console.print(f"error of {name} against the truth: {text}")
    for path in filter(Path.exists, result.paths.all):
        console.print(str(path))
