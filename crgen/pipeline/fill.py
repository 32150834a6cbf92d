"""`crgen fill`: from an area and two dates to a cloud-free, georeferenced product."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from crgen.files import publish, require_space
from crgen.model.device import Precision, pick_precision
from crgen.pipeline.cog.splice import splice
from crgen.pipeline.product.outputs import describe, picture
from crgen.pipeline.product.result import Result, errors, notes_on
from crgen.pipeline.repeat import repeated
from crgen.pipeline.request import FillRequest, parse_bands, parse_date
from crgen.pipeline.run.cluster import connected, device_of, fill_on, recipe_for
from crgen.pipeline.run.fingerprint import fingerprint_of, short
from crgen.pipeline.run.make_parts import gather, open_workshop
from crgen.pipeline.run.parts import PartStore
from crgen.pipeline.run.plan import plan, settings_of
from crgen.pipeline.run.scratch import scratch_of
from crgen.pipeline.source.earthengine import EarthEngine
from crgen.pipeline.source.imagery import radar_line
from crgen.pipeline.source.stack import manifest_of
from crgen.pipeline.tiling.lending import cells


def fill(
    *,
    t1: datetime.date | str | None = None,
    t2: datetime.date | str | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> Result:
    """Make a cloud-free product of an area at t2.

    Args:
        t1: date of the first pair of images, a date or ``"YYYY-MM-DD"``; None where a local stack says it.
        t2: date of the map, alike.
        out: the reflectance COG to make.
        options: the other fields of :class:`FillRequest`, ``bands`` also as one text (``"B4,B3,B2"``, ``"all"``), and
            those of :class:`~crgen.pipeline.source.earthengine.EarthEngine`.

    Returns:
        The published product, whose rasters open lazily as xarray.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    earth_engine = EarthEngine(**{f.name: options.pop(f.name) for f in fields(EarthEngine) if f.name in options})
    if out is not None:
        options["out"] = Path(out)
    options |= {"t1": parse_date(t1, "t1"), "t2": parse_date(t2, "t2")}
    if isinstance(options.get("bands"), str):
        options["bands"] = parse_bands(options["bands"])
    if earth_engine.manifest is not None:
        return run(repeated(Path(earth_engine.manifest), options, earth_engine))
    return run(FillRequest(**options, earth_engine=earth_engine))


def run(request: FillRequest, on_windows: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Do what ``request`` asks, or go on where a stopped run of the same request was.

    Args:
        request: what is asked.
        on_windows: called from any thread with windows just done and windows in all, those that are only looked at
            for what they tell others of t2 among them; those of a stopped run are in neither.

    Returns:
        The published product.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    start = time.perf_counter()
    work = plan(request, estimate=False)
    scene, paths = work.scene, work.paths
    with contextlib.ExitStack() as stack:
        client = None if request.scheduler == "threads" else stack.enter_context(connected(request))
        if client:
            device, precision = device_of(client, request)
        else:
            model = work.model
            device, precision = None, pick_precision(request.precision, model.generator, model.card.window)
        work = replace(work, precision=precision)
        fingerprint = fingerprint_of(request, work, device)
        scratch = stack.enter_context(scratch_of(paths, fingerprint, manifest_of(scene.stack), restart=request.restart))
        workshop = open_workshop(request, work, PartStore(scratch.folder, short(fingerprint)))
        done = workshop.finished()
        if not done:
            require_space(paths.folder, work.disk // 4, paths.reflectance)
        ahead = workshop.unlooked() if len(done) < work.grid.count else []
        total = sum(len(chunk.windows) for chunk in work.grid if chunk.at not in done)
        total += sum(len(cells(chunk, work.model.card.window)) for chunk in ahead)
        if client is None:
            workshop.run.predictor.on_windows = lambda count: on_windows(count, total)
            workshop.look(ahead, work.workers)
            workshop.fill(done, work.workers)
        else:
            recipe = recipe_for(request, work, scratch.folder, fingerprint, len(client.nthreads()))
            fill_on(client, recipe, workshop, ahead, done, lambda count: on_windows(count, total))
        tally, inputs, blocks = gather(workshop)
        notes = (*scene.notes, *notes_on(tally, scene))
        if done:
            notes = (f"{len(done)} of {work.grid.count} chunks were finished by a run that was stopped", *notes)
        targets = {"reflectance": paths.reflectance, "quality": paths.quality}
        rasters = {name: splice(targets[name], workshop.rasters[name], blocks[name]) for name in targets}
        finished = [(rasters[name].path, targets[name]) for name in targets]
        finished.append((picture(scene, paths, inputs, tally, errors(tally)), paths.quicklook))
        item = describe(
            scene,
            paths,
            workshop.rasters,
            {name: spliced.digests for name, spliced in rasters.items()},
            model=work.model,
            settings=settings_of(request, work) | drift_of(precision),
            tally=tally,
            error=errors(tally),
            created=scratch.created,
        )
        finished.append((item, paths.item))
        scratch.announce(finished)
        publish(finished)
    radar = radar_line(scene.days, scene.t1, scene.t2)
    return Result(paths, tally, notes, time.perf_counter() - start, len(done), radar)


def drift_of(precision: Precision) -> dict[str, Any]:
    """Return what a reduced precision was found to change, as a product's settings say it."""
    drift = precision.drift
    return {} if drift is None else {"drift": {"max": drift.maximum, "rms": drift.rms, "unit": "reflectance"}}
