"""`crgen fill`: from an area and two dates to a cloud-free, georeferenced product."""

from __future__ import annotations

import contextlib
import datetime
import functools
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, ParamSpec

from crgen.files import publish, remove, require_space
from crgen.model.config import PrecisionName
from crgen.model.device import Precision, pick_precision
from crgen.pipeline.cog.profile import band_statistics
from crgen.pipeline.cog.splice import splice
from crgen.pipeline.flood.area import areas_of
from crgen.pipeline.flood.polygons import write_polygons
from crgen.pipeline.picture.quicklook import product_panels
from crgen.pipeline.product.assembled import Assembled
from crgen.pipeline.product.description import describe
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.product.page import write_product_page
from crgen.pipeline.product.pictures import picture, write_thumbnail
from crgen.pipeline.product.result import Result, notes_on
from crgen.pipeline.product.selfcheck import self_check
from crgen.pipeline.product.styles import looks_of, write_styles
from crgen.pipeline.product.truth import compare
from crgen.pipeline.repeat import request_of
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.cluster import connected, device_of, fill_on, setup_for
from crgen.pipeline.run.fingerprint import fingerprint_of, short
from crgen.pipeline.run.make_parts import Workshop, open_workshop
from crgen.pipeline.run.parts import PartStore
from crgen.pipeline.run.plan import Plan, plan, settings_of
from crgen.pipeline.run.scratch import scratch_of
from crgen.pipeline.source.imagery import radar_line
from crgen.pipeline.source.registration import Shift, radar_shift
from crgen.pipeline.source.stack import manifest_of
from crgen.pipeline.tiling.lending import cells

P = ParamSpec("P")


def _repeats(fill: Callable[P, Result]) -> Callable[P, Result]:
    """Let what a product was made with stand for the options that a caller of ``fill(manifest=…)`` does not name."""

    @functools.wraps(fill)
    def call(*args: P.args, **options: P.kwargs) -> Result:
        if options.get("manifest") is None:
            return fill(*args, **options)
        return run(request_of(inspect.signature(fill).bind(*args, **options).arguments))

    return call


@_repeats
def fill(
    *,
    aoi: str | None = None,
    layer: str | None = None,
    t1: datetime.date | str | None = None,
    t2: datetime.date | str | None = None,
    source: str = "gee",
    out: Path | str | None = None,
    weights: str = "base",
    bands: Sequence[str] | None = None,
    device: str = "auto",
    precision: PrecisionName = "auto",
    crs: str | None = None,
    clip: bool = False,
    generate_all: bool = False,
    dtype: Literal["uint16", "float32"] = "uint16",
    clear_threshold: float = 0.6,
    s1_units: Literal["dB", "linear"] = "dB",
    s1_calibrated: bool = True,
    s2_scale: float = 1.0,
    s2_offset: float = 0.0,
    past: str | None = None,
    after: int = 0,
    chunk: int = 1024,
    workers: int | None = None,
    scheduler: str = "threads",
    overwrite: bool = False,
    restart: bool = False,
    project: str | None = None,
    credentials: Path | str | None = None,
    search_days: int = 6,
    observed_days: int = 0,
    min_coverage: float = 0.9,
    radar_not_before: datetime.date | str | None = None,
    keep_tiles: bool = True,
    manifest: Path | str | None = None,
) -> Result:
    """Map an area at t2 without its clouds.

    >>> result = crgen.fill(
    ...     aoi="zhengzhou.geojson", t1="2021-07-10", t2="2021-07-22", project="my-project", out="zhengzhou.tif"
    ... )
    >>> result.reflectance.sel(band="B11")        # xarray, opened lazily
    >>> again = crgen.fill(manifest="zhengzhou.json", out="again.tif")        # the same scenes and settings

    Args:
        aoi: GeoJSON or other vector file, or ``"west,south,east,north"`` in degrees. (the whole of a local stack)
        layer: layer of the area's file, where several hold polygons.
        t1: day of the earlier images, a date or ``"YYYY-MM-DD"``. (what a local stack says)
        t2: day to map, alike.
        source: where the imagery comes from: ``"gee"``, ``"demo"``, or the path of a local stack.
        out: the ``.tif`` to make; its companions stand beside it. (``AREA_T1_T2.tif``)
        weights: name or path of the weights.
        bands: Sentinel-2 bands to make, e.g. ``["B4", "B3", "B2"]``, or ``"all"``. (the usual six, where possible)
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        precision: what the generator computes in; ``"auto"`` reduces it only where the map hardly changes.
        crs: grid of the map, e.g. ``"EPSG:32650"``. (a local stack's own, or the area's UTM zone)
        clip: no data outside the polygon, not only outside its bounding box.
        generate_all: the generator's image alone, without observations of t2.
        dtype: ``"uint16"`` for reflectance × 10000, or ``"float32"`` for reflectance.
        clear_threshold: clear-sky score, above 0 and up to 1, from which a pixel of t2 counts as seen.
        s1_units: unit of a local stack's backscatter.
        s1_calibrated: whether a local stack's backscatter is in true dB; else only its contrast counts.
        s2_scale: factor from a local stack's Sentinel-2 values to reflectance.
        s2_offset: added after that factor; -0.1 for digital numbers of processing baseline 04.00 and later.
        past: how far back to look for other looks at the place, to learn from: ``"1y"``, ``"90d"``, or ``"none"``.
            (``"1y"`` for Earth Engine, all that a local stack holds, none for the demo)
        after: days after t2 within which looks tell of its light too.
        chunk: side of a unit of work in pixels; bounds the memory.
        workers: threads that read and encode while one computes, or processes. (the machine's cores)
        scheduler: who works: ``"threads"``, ``"processes"``, or a dask scheduler at ``"tcp://HOST:PORT"``.
        overwrite: replace an existing product.
        restart: throw away what a stopped run left, where it cannot be gone on with.
        project: Google Cloud project. (``EE_PROJECT_ID``, or what the credentials say)
        credentials: a service account's JSON key. (what ``earthengine authenticate`` stored)
        search_days: days around a date within which acquisitions serve it.
        observed_days: days around t2 within which an optical image counts as observed.
        min_coverage: share of the area that radar, and the optical image of t1, must cover.
        radar_not_before: first day of which the radar of t2 may be, e.g. that of the event. (however early)
        keep_tiles: keep fetched tiles on disk for later runs.
        manifest: a product's ``.json`` to make again, or a manifest whose scenes to map. What is not named here is as
            the product was made.

    Returns:
        The published product, whose rasters open lazily as xarray.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    return run(request_of(locals()))


def run(request: FillRequest, on_windows: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Do what ``request`` asks, or go on where a stopped run of the same request was.

    Args:
        request: what is asked.
        on_windows: called from any thread with windows just done and windows in all, those that only give evidence
            of t2 among them; those of a stopped run are in neither.

    Returns:
        The published product.

    Raises:
        CrgenError: of the kind that fits what went wrong; no file of the product is there then.
    """
    start = time.perf_counter()
    work = plan(request)
    paths, window, total = work.paths, work.model.card.window, 0

    def on_some(count: int) -> None:
        on_windows(count, total)

    with contextlib.ExitStack() as stack:
        client = None if request.scheduler == "threads" else stack.enter_context(connected(request))
        if client:
            device, precision = device_of(client, request)
        else:
            device, precision = None, pick_precision(request.precision, work.model.generator, window)
        request = replace(request, precision=precision.name)
        fingerprint = fingerprint_of(request, work, device)
        manifest = manifest_of(work.scene.stack)
        scratch = stack.enter_context(scratch_of(paths, fingerprint, manifest, restart=request.restart))
        workshop = open_workshop(request, work, PartStore(scratch.folder, short(fingerprint)), on_some)
        done = workshop.finished()
        if not done:
            require_space(paths.folder, work.disk // 4, paths.reflectance)
        ahead = workshop.unlooked() if len(done) < work.grid.count else []
        total = sum(len(chunk.windows) for chunk in work.grid if chunk.at not in done)
        total += sum(len(cells(chunk, window)) for chunk in ahead)
        if client:
            setup = setup_for(request, work, workshop.store.folder, fingerprint, len(client.nthreads()))
            fill_on(client, setup, workshop, ahead, done, on_some)
        else:
            workshop.make_parts(ahead, done, work.workers)
        made = _assemble(work, workshop)
        settings = settings_of(request, work) | drift_of(precision) | shift_of(made.shift)
        finished = _describe(work, workshop, made, settings, scratch.created)
        scratch.announce(finished)
        withdraw(paths, finished)
        publish(finished)
    notes = made.notes
    if done:
        notes = (f"{len(done)} of {work.grid.count} chunks were finished by a run that was stopped", *notes)
    spent = time.perf_counter() - start
    more = made.radar, made.areas, made.check, made.learned, made.truth.error
    return Result(paths, made.tally, notes, spent, len(done), *more)


def _assemble(work: Plan, workshop: Workshop) -> Assembled:
    """Put the parts together: rasters, outlines of water, and what was counted."""
    scene, paths, card = work.scene, work.paths, work.model.card
    learned = workshop.run.learned() if workshop.run.past is not None else None
    tally, inputs, blocks, hidden = workshop.gather()
    shift = radar_shift(scene.stack)
    rasters = {name: splice(paths.rasters[name], workshop.rasters[name], blocks[name]) for name in blocks}
    areas, outlines = None, None
    if "water" in rasters:
        water = rasters["water"].path
        areas = areas_of(water, tally.water, card.water)
        seen = ", ".join(map(str, scene.days.get("s1_t2", [scene.t2])))
        outlines = write_polygons(paths.flood, water, seen, scene.t2.isoformat())
    notes = (
        *notes_on(tally, card, manifest_of(scene.stack).get("source") == "local"),
        *(shift.warnings if shift else ()),
        *scene.notes,
        *(learned.notes if learned else ()),
    )
    radar = radar_line(scene.days, scene.t1, scene.t2, scene.platforms, shift)
    check = self_check(hidden, tally, scene.made)
    truth = compare(scene, {name: spliced.path for name, spliced in rasters.items()})
    return Assembled(rasters, outlines, inputs, tally, areas, check, shift, radar, learned, truth, notes)


def _describe(
    work: Plan, workshop: Workshop, made: Assembled, settings: dict[str, Any], created: datetime.datetime
) -> list[tuple[Path, Path]]:
    """Write styles, pictures, page and Item; return every file of the product with its target, the Item last."""
    scene, paths, card = work.scene, work.paths, work.model.card
    finished = [(file, paths.rasters[name]) for name, file in made.files.items()]
    if made.outlines is not None:
        finished.append((made.outlines, paths.flood))
    looks = looks_of(workshop.rasters, {name: band_statistics(path) for name, path in made.files.items()})
    finished += write_styles(paths, looks, workshop.rasters)
    panels = product_panels(
        made.inputs,
        result=made.files["reflectance"],
        quality=made.files["quality"],
        t1=scene.t1,
        t2=scene.t2,
        days=scene.days,
        truth=made.truth.image,
    )
    finished.append((picture(scene, paths, panels, made, card), paths.quicklook))
    finished.append((write_product_page(scene, paths, panels, made, card), paths.page))
    finished.append((write_thumbnail(paths, panels, card), paths.thumbnail))
    targets = [target for _, target in finished]
    item = describe(scene, paths, targets, workshop.rasters, made, work.model, settings, looks, created)
    return [*finished, (item, paths.item)]


def withdraw(paths: Paths, finished: list[tuple[Path, Path]]) -> None:
    """Remove the files of an earlier product that the one which replaces it does not have, their Item first."""
    if outdated := set(paths.all) - {target for _, target in finished}:
        remove((paths.item, *outdated))
    remove(paths.neighbours)


def shift_of(shift: Shift | None) -> dict[str, Any]:
    """Return how far the radar of both dates lies apart, as a product's settings say it."""
    return {} if shift is None else {"radar_shift": shift.settings}


def drift_of(precision: Precision) -> dict[str, Any]:
    """Return what a reduced precision was found to change, as a product's settings say it."""
    drift = precision.drift
    return {} if drift is None else {"drift": {"max": drift.maximum, "rms": drift.rms, "unit": "reflectance"}}
