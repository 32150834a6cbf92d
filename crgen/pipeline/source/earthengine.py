"""Earth Engine as a source: an area and two dates become a Stack, or a frozen manifest does again."""

from __future__ import annotations

import atexit
import datetime
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xarray as xr
from shapely.geometry import MultiPolygon, Polygon

from crgen.errors import AreaError, RequestError, SourceError, StackError
from crgen.gee.choose.choice import Choice, Wanted
from crgen.gee.choose.find import find_scenes, newest_pass
from crgen.gee.connection.retry import INTERRUPTED
from crgen.gee.fetch.arrays import Pull, open_pull
from crgen.gee.fetch.cache import TileCache, default_folder
from crgen.gee.manifest import Grid, Manifest
from crgen.model.card import ModelCard
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.area import Area, read_area
from crgen.pipeline.source.ground import crosses_180
from crgen.pipeline.source.imagery import Scene, check_dates
from crgen.pipeline.source.stack import FEATHER, build_stack


@dataclass(frozen=True)
class Channels:
    """What to open: the channels and the margin of a model, or others."""

    pols: tuple[str, ...]
    bands: tuple[str, ...]
    resolution: float
    margin: int
    """Pixels fetched around the area, so that windows at its edge see real surroundings."""
    needed_pols: tuple[str, ...] = ()
    """Polarisations that radar must have where it has not all; empty for all."""

    @classmethod
    def of(cls, card: ModelCard, made: Sequence[str]) -> Channels:
        """Return what a model asks for to make some bands: these, and those that it makes all others from."""
        config = card.config
        bands = tuple(band for band in config.bands if band in made or band in config.core)
        return cls(config.pols, bands, card.resolution, card.window + FEATHER, config.needed_pols)

    def held_pols(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return which polarisations there are; none if a needed one is not there."""
        held = tuple(pol for pol in self.pols if pol in there)
        return held if set(self.needed_pols or self.pols) <= set(held) else ()


@dataclass(frozen=True)
class Acquired:
    """An area's scenes, frozen, and the tiles to fetch."""

    area: Area
    manifest: Manifest
    pull: Pull

    @property
    def stack(self) -> xr.Dataset:
        """The Stack, margin included; nothing is fetched yet."""
        days = {name: day.isoformat() for name, day in self.manifest.dates.items()}
        manifest: dict[str, Any] = {**self.manifest.model_dump(mode="json"), **days}
        return build_stack(
            self.pull.geobox,
            self.pull.arrays(),
            pols=self.manifest.pols,
            bands=self.manifest.bands,
            manifest=manifest,
        )


def open_earth_engine(
    options: EarthEngine,
    *,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
    card: ModelCard,
    made: tuple[str, ...],
) -> Scene:
    """Open what a model asks for to make some bands, from Earth Engine.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    acquired = acquire(options, Channels.of(card, made), aoi=aoi, t1=t1, t2=t2, crs=crs)
    days = acquired.manifest.dates
    notes = (*acquired.area.notes, *acquired.manifest.notes)
    return Scene(acquired.stack, acquired.area, days["t1"], days["t2"], notes, True, made, acquired.pull)


def acquire(
    options: EarthEngine,
    channels: Channels,
    *,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
) -> Acquired:
    """Choose scenes, or take a manifest's, and lay out their tiles over the area and its margin.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    if options.manifest is not None:
        manifest = _repeated(options.manifest, channels, aoi, t1, t2, crs)
        area = area_of(manifest)
    else:
        area, wanted = wanted_of(channels, aoi=aoi, t1=t1, t2=t2, crs=crs)
        manifest = _kept(options, channels, area, wanted) or scenes_for(options, channels, area, wanted).manifest
    folder = default_folder() if options.keep_tiles else _passing_folder()
    TileCache(folder).prune()
    pull, manifest = open_pull(manifest, area.geobox.pad(channels.margin), options.settings, folder)
    return Acquired(area, manifest, pull)


def wanted_of(
    channels: Channels,
    *,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
) -> tuple[Area, tuple[Wanted, ...]]:
    """Return the area on its grid, and what a map of t2 needs of both dates.

    Args:
        channels: what to open.
        aoi: the area, as :func:`~crgen.pipeline.source.area.read_area` takes it.
        t1: date of the first pair of images.
        t2: date to map.
        crs: grid; None for the area's UTM zone.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    if aoi is None:
        raise RequestError("source 'gee' needs an area: give --aoi with a GeoJSON file or west,south,east,north")
    if t1 is None or t2 is None:
        raise RequestError("source 'gee' needs both dates: give --t1 and --t2 as YYYY-MM-DD")
    check_dates(t1, t2)
    area = _one_sided(aoi, crs, channels)
    return area, (Wanted("t1", t1, mapped=False), Wanted("t2", t2, mapped=True))


def _one_sided(aoi: str, crs: str | None, channels: Channels) -> Area:
    area = read_area(aoi, crs=crs, resolution=channels.resolution)
    if crosses_180(area.geobox):
        raise AreaError(
            f"'{aoi}' lies on both sides of 180°, where Earth Engine is not searched; give each side by itself"
        )
    return area


def scenes_for(
    options: EarthEngine, channels: Channels, area: Area, wanted: Sequence[Wanted], *, strict: bool = True
) -> Choice:
    """Return the acquisitions chosen for an area.

    Args:
        options: how to ask.
        channels: what to open.
        area: the area.
        wanted: the dates, as many as are needed.
        strict: refuse a choice that covers too little.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    return find_scenes(
        options.settings,
        Grid.of(area.name, area.geobox, area.polygon),
        wanted,
        pols=channels.pols,
        needed_pols=channels.needed_pols,
        bands=channels.bands,
        rules=options.rules,
        margin=channels.margin * channels.resolution,
        strict=strict,
    )


def newest_acquisition(
    options: EarthEngine,
    channels: Channels,
    *,
    aoi: str,
    crs: str | None,
    until: datetime.date,
    within_days: int,
) -> datetime.date | None:
    """Return the day of the newest Sentinel-1 acquisition that serves an area; None if there is none.

    Args:
        options: how to ask.
        channels: what to open.
        aoi: the area, as :func:`~crgen.pipeline.source.area.read_area` takes it.
        crs: grid; None for the area's UTM zone.
        until: the last day to look at, UTC.
        within_days: how far back to look.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    area = _one_sided(aoi, crs, channels)
    grid = Grid.of(area.name, area.geobox, area.polygon)
    return newest_pass(
        options.settings,
        grid,
        pols=channels.pols,
        needed_pols=channels.needed_pols,
        rules=options.rules,
        until=until,
        within_days=within_days,
    )


def interrupt() -> None:
    """Let whoever waits for Earth Engine in this process stop soon: it is about to end."""
    INTERRUPTED.set()


def area_of(manifest: Manifest) -> Area:
    """Return the area that a manifest's scenes were chosen for."""
    polygon = manifest.area.polygon
    assert isinstance(polygon, Polygon | MultiPolygon)
    return Area(manifest.area.name, manifest.area.geobox, polygon)


def _kept(options: EarthEngine, channels: Channels, area: Area, wanted: Sequence[Wanted]) -> Manifest | None:
    """Return the scenes of a stopped run of the same request, if there is one."""
    try:
        held = Manifest.read(options.unfinished) if options.unfinished else None
    except SourceError:
        return None
    same = held is not None and (
        (held.area, held.dates) == (Grid.of(area.name, area.geobox, area.polygon), {w.name: w.day for w in wanted})
        and (held.bands, held.rules) == (channels.bands, asdict(options.rules))
        and held.pols == channels.held_pols(held.pols)
    )
    return held if same else None


def _repeated(
    path: Path,
    channels: Channels,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
) -> Manifest:
    manifest = Manifest.read(path)
    asked = {"--aoi": aoi, "--crs": crs, "--t1": t1, "--t2": t2}
    if given := [name for name, value in asked.items() if value is not None]:
        raise RequestError(f"--manifest {path} says the area and the dates: leave out {', '.join(given)}")
    pols = channels.held_pols(manifest.pols)
    lacking = [pol for pol in channels.needed_pols or channels.pols if pol not in manifest.pols]
    lacking += [band for band in channels.bands if band not in manifest.bands]
    if lacking or not {"t1", "t2"} <= set(manifest.dates):
        what = f"scenes with {', '.join(lacking)}" if lacking else "the dates t1 and t2"
        raise StackError(f"the manifest {path} was made without {what}, which this map needs; choose scenes anew")
    return manifest.model_copy(update={"pols": pols, "bands": channels.bands})


def _passing_folder() -> Path:
    """Return a folder for tiles that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="crgen-tiles-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
