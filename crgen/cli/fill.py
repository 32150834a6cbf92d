"""`crgen fill`: make a cloud-free map."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crgen.cli.console import console, duration, note, progress
from crgen.cli.options import Credentials, MinCoverage, NoCache, ObservedDays, Project, SearchDays, fetching, was_named


def fill(
    context: typer.Context,
    aoi: Annotated[
        str | None,
        typer.Option(help="Area: GeoJSON or other vector file, or west,south,east,north in degrees."),
    ] = None,
    t1: Annotated[str | None, typer.Option(help="Day of the earlier images, YYYY-MM-DD.")] = None,
    t2: Annotated[str | None, typer.Option(help="Day to map, YYYY-MM-DD.")] = None,
    source: Annotated[
        str, typer.Option(help="Where the imagery comes from: gee, demo, or the PATH of a stack.")
    ] = "gee",
    out: Annotated[
        Path | None, typer.Option(help="The .tif to make; its companions stand beside it. (AREA_T1_T2.tif)")
    ] = None,
    weights: Annotated[str, typer.Option(help="Name (see 'crgen models') or path of the weights.")] = "base",
    bands: Annotated[
        str | None,
        typer.Option(help="Sentinel-2 bands to make, e.g. B4,B3,B2, or all. (B2,B3,B4,B8,B11,B12)"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="What the generator computes in; reduced by itself only where the map hardly changes."),
    ] = "auto",
    crs: Annotated[str | None, typer.Option(help="Grid of the map, e.g. EPSG:32650. (the area's UTM zone)")] = None,
    clip: Annotated[bool, typer.Option("--clip", help="No data outside the polygon.")] = False,
    generate_all: Annotated[
        bool, typer.Option("--generate-all", help="The generator's image alone, without observations of t2.")
    ] = False,
    dtype: Annotated[
        Literal["uint16", "float32"], typer.Option(help="Reflectance × 10000, or reflectance.")
    ] = "uint16",
    clear_threshold: Annotated[
        float, typer.Option(help="Clear-sky score from which a pixel of t2 counts as seen.")
    ] = 0.6,
    s1_units: Annotated[Literal["dB", "linear"], typer.Option(help="Unit of a stack's backscatter.")] = "dB",
    s1_uncalibrated: Annotated[
        bool, typer.Option("--s1-uncalibrated", help="A stack's backscatter has no true level: only contrast counts.")
    ] = False,
    s2_scale: Annotated[float, typer.Option(help="Factor from a stack's Sentinel-2 values to reflectance.")] = 1.0,
    chunk: Annotated[int, typer.Option(help="Side of a unit of work in pixels; bounds the memory.")] = 1024,
    workers: Annotated[
        int | None,
        typer.Option(help="Threads that read and encode while one computes, or processes. (the machine's cores)"),
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="Who works: threads, processes, or a dask scheduler at tcp://HOST:PORT.")
    ] = "threads",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing product.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what a stopped run left, where it cannot be gone on with.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and say what it would cost; write nothing.")
    ] = False,
    project: Project = None,
    credentials: Credentials = None,
    search_days: SearchDays = 6,
    observed_days: ObservedDays = 0,
    min_coverage: MinCoverage = 0.9,
    manifest: Annotated[
        Path | None, typer.Option(help="Repeat a product from its .json, or map a manifest's scenes.")
    ] = None,
    no_cache: NoCache = False,
) -> None:
    """Map an area at t2 without its clouds.

    Leaves OUT.tif (reflectance), OUT_quality.tif (which pixels are observed, which generated), OUT.png (a picture)
    and OUT.json (a STAC Item with everything needed to trust and repeat it). A run that was stopped goes on where it
    was when the same command is given again.
    """
    from crgen.files import size_text
    from crgen.pipeline.fill import run
    from crgen.pipeline.repeat import repeated
    from crgen.pipeline.request import FillRequest, parse_bands, parse_date
    from crgen.pipeline.run.plan import plan
    from crgen.pipeline.source.earthengine import EarthEngine
    from crgen.pipeline.source.imagery import radar_line
    from crgen.pipeline.tiling.quality import LABELS, Quality

    asked: dict[str, Any] = {
        "aoi": aoi,
        "t1": t1,
        "t2": t2,
        "source": source,
        "out": out,
        "weights": weights,
        "bands": parse_bands(bands),
        "device": device,
        "precision": precision,
        "crs": crs,
        "clip": clip,
        "generate_all": generate_all,
        "dtype": dtype,
        "clear_threshold": clear_threshold,
        "s1_units": s1_units,
        "s1_calibrated": not s1_uncalibrated,
        "s2_scale": s2_scale,
        "chunk": chunk,
        "workers": workers,
        "overwrite": overwrite,
        "restart": restart,
        "scheduler": scheduler,
    }
    earth_engine = EarthEngine(
        project=project,
        credentials=credentials,
        search_days=search_days,
        observed_days=observed_days,
        min_coverage=min_coverage,
        keep_tiles=not no_cache,
    )
    if manifest is not None:
        options = {"s1_calibrated": "s1_uncalibrated"}
        named = {name: value for name, value in asked.items() if was_named(context, options.get(name, name))}
        request = repeated(manifest, named, earth_engine)
    else:
        dates = {name: parse_date(asked[name], name) for name in ("t1", "t2")}
        request = FillRequest(**{**asked, **dates}, earth_engine=earth_engine)
    if dry_run:
        work = plan(request)
        for text in work.scene.notes:
            note(text)
        height, width = work.grid.output.shape
        down, across = work.grid.shape
        rows = {
            "area": f"{work.scene.area.name}, {work.scene.area.geobox.crs}",
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
