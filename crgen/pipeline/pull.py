"""`crgen pull`: an area's Stack from Earth Engine, on disk, for use without a network."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import xarray as xr

from crgen.errors import OutputError, RequestError
from crgen.files import check_writable, require_space
from crgen.gee.fetch.arrays import Pull
from crgen.gee.fetch.export import Destination, Export, ExportState, run_exports
from crgen.pipeline.request import parse_date
from crgen.pipeline.run.plan import channels_of
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.earthengine import Acquired, Channels, EarthEngine, acquire
from crgen.pipeline.source.local.exported import open_exported
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.open import ALL
from crgen.pipeline.source.stack import POLARISATIONS, S2_BANDS

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
    t1: datetime.date | None = None
    t2: datetime.date | None = None
    crs: str | None = None
    weights: str = "base"
    """Weights whose bands and margin to fetch."""
    pols: tuple[str, ...] = ()
    """Polarisations; empty for the weights'."""
    bands: tuple[str, ...] = ()
    """Sentinel-2 bands, or ``("all",)``; empty for those that a fill with these weights reads by default."""
    earth_engine: EarthEngine = field(default_factory=EarthEngine)

    def __post_init__(self) -> None:
        bands = () if self.bands == ALL else self.bands
        for given, known, what in ((self.pols, POLARISATIONS, "polarisation"), (bands, S2_BANDS, "band")):
            for name in given:
                if name not in known:
                    raise RequestError(f"there is no {what} '{name}'; choose from {', '.join(known)}")
            if len(set(given)) != len(given):
                raise RequestError(f"a {what} is named twice: {', '.join(given)}")

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
    tiles: int
    kept: int
    """Tiles that are on disk already."""

    @property
    def pull(self) -> Pull:
        """The tiles."""
        return self.acquired.pull

    @property
    def requests(self) -> int:
        """Requests for pixels, if none must be split."""
        return self.tiles - self.kept

    @property
    def download(self) -> float:
        """Bytes to fetch, uncompressed, if tiles are alike."""
        return self.pull.bytes * self.requests / self.tiles

    @property
    def disk(self) -> int:
        """Bytes of the Stack, uncompressed."""
        rows, columns = self.pull.geobox.shape
        return int(rows * columns) * 4 * sum(layer.channels for layer in self.pull.layers)


def plan_pull(request: PullRequest) -> PullPlan:
    """Choose the scenes and lay out the tiles; fetches no pixels.

    Raises:
        CrgenError: of the kind that fits what is wrong; nothing has been written.
    """
    _check_free(request.out)
    acquired = _acquire(request)
    return PullPlan(acquired, len(acquired.pull), acquired.pull.kept())


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
    require_space(plan.pull.folder, int(plan.download), plan.pull.folder)
    with _watched(plan, on_tiles):
        plan.pull.begin()
        write_stack(plan.acquired.stack, request.out)
    return plan


def pull(
    *,
    out: Path | str,
    t1: datetime.date | str | None = None,
    t2: datetime.date | str | None = None,
    **options: Any,
) -> xr.Dataset:
    """Fetch an area's Stack from Earth Engine and write it to disk.

    Args:
        out: ends in ``.zarr`` or ``.nc``, or names the folder to fill with GeoTIFFs; must not exist.
        t1: date of the first pair of images, a date or ``"YYYY-MM-DD"``.
        t2: date of the map, alike.
        options: the other fields of :class:`PullRequest`, and those of
            :class:`~crgen.pipeline.source.earthengine.EarthEngine`.

    Returns:
        The Stack, opened lazily from disk.

    Raises:
        CrgenError: of the kind that fits what went wrong.
    """
    earth_engine = EarthEngine(**{f.name: options.pop(f.name) for f in fields(EarthEngine) if f.name in options})
    run_pull(
        PullRequest(Path(out), t1=parse_date(t1, "t1"), t2=parse_date(t2, "t2"), earth_engine=earth_engine, **options)
    )
    return open_stack(out)


def run_export(request: PullRequest, destination: Destination) -> list[Export]:
    """Start batch exports of what :func:`run_pull` would fetch, or look how those started before are doing.

    What was started is remembered in ``OUT.exports.json``, with its scenes; one that failed or was cancelled is
    started again.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    _check_free(request.out)
    state = export_state(request.out)
    acquired = _exported(request, state) if state.exists() else _acquire(request)
    stem = re.sub(r"[^\w-]+", "_", f"{acquired.area.name}_{'_'.join(map(str, acquired.manifest.dates.values()))}")
    return run_exports(acquired.pull, acquired.manifest, destination, state, stem=stem)


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
    geobox = state.manifest.area.geobox.pad(request.channels.margin)
    write_stack(open_exported(state, folder, geobox), request.out)


def export_state(out: Path) -> Path:
    """Return where the state of exports for ``out`` is kept."""
    return out.with_name(out.name + ".exports.json")


def _acquire(request: PullRequest) -> Acquired:
    return acquire(
        request.earth_engine, request.channels, aoi=request.aoi, t1=request.t1, t2=request.t2, crs=request.crs
    )


def _exported(request: PullRequest, state: Path) -> Acquired:
    """Return the scenes that exports were started with, whatever the catalogue says by now."""
    frozen = replace(request.earth_engine, manifest=state)
    acquired = acquire(frozen, request.channels, aoi=None, t1=None, t2=None, crs=None)
    for name, asked in (("t1", request.t1), ("t2", request.t2)):
        if asked not in (None, held := acquired.manifest.dates[name]):
            raise RequestError(f"{state} is of exports with {name} = {held}, not {asked}; choose another --out")
    if request.aoi is not None:
        area = read_area(request.aoi, crs=request.crs, resolution=request.channels.resolution)
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
            on_tiles(min(plan.kept + fetcher.arrived - start, plan.tiles), plan.tiles)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
        on_tiles(plan.tiles, plan.tiles)
    finally:
        done.set()
        watcher.join()
