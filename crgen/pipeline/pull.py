"""`crgen pull`: an area's Stack from Earth Engine, on disk, for use without a network."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from crgen.errors import OutputError, RequestError, SourceError
from crgen.files import check_writable, require_space
from crgen.gee.fetch.arrays import Pull
from crgen.gee.fetch.export import AGAIN, Destination, Export, ExportState, follow_exports, run_exports
from crgen.gee.fetch.fetcher import Job
from crgen.gee.fetch.images import Layer, bands_of
from crgen.gee.manifest import Manifest
from crgen.pipeline.request import ALL, YEAR, EarthEngine, check_after, parse_past, read
from crgen.pipeline.source.area import read_area, with_layer
from crgen.pipeline.source.channels import Channels, channels_of
from crgen.pipeline.source.earthengine.acquire import Acquired, acquire
from crgen.pipeline.source.earthengine.manifest import described
from crgen.pipeline.source.earthengine.settings import connection_settings, rules_of
from crgen.pipeline.source.local.exported import open_exported
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.local.write import Stored, check_stored, write_stack
from crgen.pipeline.source.past import NO_PAST, Asked, asked_for
from crgen.pipeline.source.stack import POLARISATIONS, S2_BANDS, build_stack

LOOK_EVERY = 0.5
"""Seconds between looks at how many tiles have arrived."""


@dataclass(frozen=True)
class PullRequest:
    """What is asked of a pull.

    Raises:
        RequestError: if a value makes no sense.
    """

    out: Path
    """Ends in ``.zarr`` or ``.nc``, or names the folder to fill with GeoTIFFs."""
    aoi: str | None = None
    layer: str | None = None
    t1: datetime.date | None = None
    """None for t2 alone: a Stack of one date, without a past."""
    t2: datetime.date | None = None
    crs: str | None = None
    weights: str = "base"
    """Weights whose bands and margin to fetch."""
    pols: tuple[str, ...] = ()
    """Polarisations; empty for the weights'."""
    bands: tuple[str, ...] = ()
    """Sentinel-2 bands, or ``("all",)``; empty for those that a fill with these weights reads by default."""
    past: str = YEAR
    """How far back to look for other looks at the place, as a person writes it."""
    after: int = 0
    """Days after t2 within which looks tell of its light."""
    dtype: Stored = "float32"
    """How reflectance is stored."""
    earth_engine: EarthEngine = field(default_factory=EarthEngine)

    def __post_init__(self) -> None:
        bands = () if self.bands == ALL else self.bands
        for given, known, what in ((self.pols, POLARISATIONS, "polarisation"), (bands, S2_BANDS, "band")):
            for name in given:
                if name not in known:
                    raise RequestError(f"there is no {what} '{name}'; choose from {', '.join(known)}")
            if len(set(given)) != len(given):
                raise RequestError(f"a {what} is named twice: {', '.join(given)}")
        check_stored(self.dtype)
        parse_past(self.past)
        check_after(self.after)

    @property
    def channels(self) -> Channels:
        """What to fetch."""
        of_weights = channels_of(self.weights, ALL if self.bands == ALL else None)
        if self.pols:
            of_weights = replace(of_weights, pols=self.pols, needed_pols=())
        return replace(of_weights, bands=self.bands) if self.bands not in ((), ALL) else of_weights


@dataclass(frozen=True)
class PullPlan:
    """What a pull would do and cost."""

    acquired: Acquired
    missing: tuple[Job, ...]
    """Tiles that must be fetched; the others are on disk already."""

    @property
    def pull(self) -> Pull:
        """The tiles of the whole area."""
        return self.acquired.pull

    @property
    def pulls(self) -> tuple[Pull, ...]:
        """All that is fetched: the whole area, and what its past is learned from."""
        return self.acquired.pulls

    @property
    def tiles(self) -> int:
        """Tiles in all."""
        return sum(map(len, self.pulls))

    @property
    def requests(self) -> int:
        """Requests for pixels, if none must be split."""
        return len(self.missing)

    @property
    def download(self) -> int:
        """Bytes to fetch, uncompressed."""
        return sum(job.bytes for job in self.missing)

    @property
    def disk(self) -> int:
        """Bytes of the Stack, uncompressed, but for those where its past is missing."""
        sizes = ((pull.geobox.shape, sum(layer.channels for layer in pull.layers)) for pull in self.pulls)
        return sum(int(rows * columns) * 4 * channels for (rows, columns), channels in sizes)


def plan_pull(request: PullRequest) -> PullPlan:
    """Choose the scenes and lay out the tiles; fetches no pixels.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    _check_free(request.out)
    acquired = _acquire(request, asked_for(request.past, request.after) or NO_PAST)
    return PullPlan(acquired, tuple(job for pull in acquired.pulls for job in pull.missing()))


def run_pull(request: PullRequest, on_tiles: Callable[[int, int], None] = lambda done, total: None) -> PullPlan:
    """Write the Stack.

    Args:
        request: what is asked.
        on_tiles: called with tiles that have arrived and tiles in all.

    Returns:
        What was done.

    Raises:
        CrgenError: of the kind that fits what went wrong; what was fetched is kept for the next run.
    """
    plan = plan_pull(request)
    require_space(request.out.parent, plan.disk // 4, request.out)
    require_space(plan.pull.folder, plan.download, plan.pull.folder)
    with _watched(plan, on_tiles):
        plan.pull.begin()
        write_stack(plan.acquired.stack, request.out, dtype=request.dtype)
    return plan


def pull(
    *,
    out: Path | str,
    aoi: str | None = None,
    layer: str | None = None,
    t1: datetime.date | str | None = None,
    t2: datetime.date | str | None = None,
    crs: str | None = None,
    weights: str = "base",
    pols: Sequence[str] = (),
    bands: Sequence[str] = (),
    past: str = YEAR,
    after: int = 0,
    dtype: Stored = "float32",
    project: str | None = None,
    credentials: Path | str | None = None,
    search_days: int = 6,
    observed_days: int = 0,
    min_coverage: float = 0.9,
    radar_not_before: datetime.date | str | None = None,
    keep_tiles: bool = True,
    manifest: Path | str | None = None,
) -> xr.Dataset:
    """Fetch an area's Stack from Earth Engine and write it to disk.

    >>> stack = crgen.pull(aoi="zhengzhou.geojson", t1="2021-07-10", t2="2021-07-22", out="zhengzhou.zarr")
    >>> result = crgen.fill(source="zhengzhou.zarr", out="zhengzhou.tif")        # needs no network

    Without ``t1``, radar and optical image of one date: ``s1_t2``, and ``s2_t2`` and ``clear_t2`` where there is an
    image of that very day, or within ``observed_days``.

    Args:
        out: ends in ``.zarr`` or ``.nc``, or names the folder to fill with GeoTIFFs; must not exist.
        aoi: GeoJSON or other vector file, or ``"west,south,east,north"`` in degrees.
        layer: layer of the area's file, where several hold polygons.
        t1: day of the earlier images, a date or ``"YYYY-MM-DD"``. (none: one date alone, of which no map can be made)
        t2: day to map, alike.
        crs: grid, e.g. ``"EPSG:32650"``. (the area's UTM zone)
        weights: weights whose bands and margin to fetch.
        pols: polarisations instead, e.g. ``["VV", "VH"]``.
        bands: Sentinel-2 bands instead, e.g. ``["B2", "B3", "B4", "B8"]``.
        past: how far back to look for other looks at the place, for a fill to learn from: ``"1y"``, ``"90d"``, or
            ``"none"``. Those that may be copied are fetched whole, the others over the middle of the area. (one date
            alone has none)
        after: days after t2 within which looks tell of its light too.
        dtype: how reflectance is stored: as it is, or × 10,000 as ``"uint16"``, as Earth Engine has it; both are opened
            alike. Backscatter (dB) and clear-sky scores are float32 always.
        project: Google Cloud project. (``EE_PROJECT_ID``, or what the credentials say)
        credentials: a service account's JSON key. (what ``earthengine authenticate`` stored)
        search_days: days around a date within which acquisitions serve it.
        observed_days: days around t2 within which an optical image counts as observed.
        min_coverage: share of the area that radar, and the optical image of t1, must cover.
        radar_not_before: first day of which the radar of t2 may be, e.g. that of the event. (however early)
        keep_tiles: keep fetched tiles on disk for later runs.
        manifest: a manifest, or a product's ``.json``, whose scenes to use again.

    Returns:
        The Stack, opened lazily from disk.

    Raises:
        CrgenError: of the kind that fits what went wrong.
    """
    asked = locals()
    run_pull(PullRequest(**read(PullRequest, asked), earth_engine=EarthEngine(**read(EarthEngine, asked))))
    return open_stack(out)


def run_export(request: PullRequest, destination: Destination) -> list[Export]:
    """Start batch exports of the two dates of a pull, or look how those started before are doing.

    What was started is remembered in ``OUT.exports.json``, with its scenes; one that failed or was cancelled is
    started again, with the same scenes. A request for other ones is refused.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    _check_free(request.out)
    state = export_state(request.out)
    acquired = _exported(request, state) if state.exists() else _acquire(request)
    stem = re.sub(r"[^\w-]+", "_", f"{acquired.area.name}_{'_'.join(map(str, acquired.manifest.dates.values()))}")
    return run_exports(acquired.pull, acquired.manifest, destination, state, stem=stem)


def follow_export(request: PullRequest, on_done: Callable[[float, str], None]) -> list[Export]:
    """Wait until the exports of a pull have ended; :func:`run_export` started them.

    Args:
        request: what is asked.
        on_done: called now and then, with the share of all that is done, 0 to 1, and how many exports are.

    Raises:
        SourceError: if one ended without its files, or Earth Engine cannot be asked; the others go on all the same.
    """
    state = export_state(request.out)
    done = follow_exports(connection_settings(request.earth_engine), state, on_done)
    if failed := [one for one in done if one.state in AGAIN]:
        why = f": {failed[0].message}" if failed[0].message else ""
        raise SourceError(
            f"{len(failed)} of {len(done)} exports ended without files ({failed[0].variable} "
            f"{failed[0].state.lower()}{why}): give the same command again to start what failed anew"
        )
    return done


def import_export(request: PullRequest, folder: Path) -> None:
    """Write the Stack from exports that were downloaded into ``folder``.

    Raises:
        CrgenError: if nothing was exported for ``request.out``, or files are missing.
    """
    _check_free(request.out)
    path = export_state(request.out)
    if not path.exists():
        raise OutputError(f"there is no {path}: start the exports first, with --export and the same --out")
    state = ExportState.read(path)
    geobox = state.grid.geobox if state.grid else state.manifest.area.geobox.pad(request.channels.margin)
    manifest = state.manifest
    variables: dict[str, Any] = {}
    for export in state.exports:
        name, layer = export.variable, Layer(export.variable, "", bands_of(export.variable, manifest))
        variables[name] = open_exported(folder, export.files, geobox, layer)
        if name.startswith("s2"):
            variables[name.replace("s2", "clear")], variables[name] = variables[name][-1], variables[name][:-1]
    stack = build_stack(geobox, variables, pols=manifest.pols, bands=manifest.bands, manifest=described(manifest))
    write_stack(stack, request.out, dtype=request.dtype)


def export_state(out: Path) -> Path:
    """Return where the state of exports for ``out`` is kept."""
    return out.with_name(out.name + ".exports.json")


def _acquire(request: PullRequest, past: Asked = NO_PAST) -> Acquired:
    area = with_layer(request.aoi, request.layer)
    options, t1, t2 = request.earth_engine, request.t1, request.t2
    return acquire(options, request.channels, aoi=area, t1=t1, t2=t2, crs=request.crs, past=past, alone=True)


def _exported(request: PullRequest, state: Path) -> Acquired:
    """Return the scenes that exports were started with, whatever the catalogue says by now."""
    held = Manifest.read(state)
    options, channels = request.earth_engine, request.channels
    dated = request.t1 or request.t2
    differing = [name for name in ("t1", "t2") if dated and getattr(request, name) != held.dates.get(name)]
    if options.manifest is not None:
        named = Manifest.read(options.manifest)
        same = (named.area, named.dates, named.scenes) == (held.area, held.dates, held.scenes)
        differing += [] if same else ["manifest"]
    elif held.rules != rules_of(options).told():
        differing.append("rules for scenes")
    differing += [] if held.bands == channels.bands else ["bands"]
    differing += [] if held.pols == channels.held_pols(held.pols) else ["pols"]
    if differing:
        raise RequestError(
            f"{state} is of exports that were started with other {' and '.join(differing)}: give the same again, or "
            "choose another --out"
        )
    acquired = acquire(replace(options, manifest=state), channels, aoi=None, t1=None, t2=None, crs=None, alone=True)
    if request.aoi is not None:
        area = read_area(
            with_layer(request.aoi, request.layer) or "", crs=request.crs, resolution=request.channels.resolution
        )
        if area.geobox != acquired.area.geobox:
            raise RequestError(f"{state} is of exports of another area than '{request.aoi}'; choose another --out")
    return acquired


def _check_free(out: Path) -> None:
    if out.exists():
        raise OutputError(f"'{out}' exists already; remove it or choose another name")
    check_writable(out.parent)


@contextmanager
def _watched(plan: PullPlan, on_tiles: Callable[[int, int], None]) -> Iterator[None]:
    """Tell of arriving tiles while the block runs."""
    fetcher, done = plan.pull.fetcher, threading.Event()
    start = fetcher.arrived

    def look() -> None:
        while not done.wait(LOOK_EVERY):
            on_tiles(min(plan.tiles - plan.requests + fetcher.arrived - start, plan.tiles), plan.tiles)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
        on_tiles(plan.tiles, plan.tiles)
    finally:
        done.set()
        watcher.join()
