"""Earth Engine as a source: an area and two dates become a Stack, or a frozen manifest does again."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Polygon

from crgen.errors import AreaError, RequestError, SourceError, StackError
from crgen.files import pulled_from
from crgen.gee.choose.choice import Choice, Rules, Wanted
from crgen.gee.choose.find import find_scenes, newest_pass
from crgen.gee.choose.past import clear_days, with_past
from crgen.gee.connection.retry import INTERRUPTED
from crgen.gee.connection.session import Settings
from crgen.gee.connection.usage import Used, used_since
from crgen.gee.fetch.arrays import Pull, open_past, open_pull, open_water
from crgen.gee.fetch.cache import TileCache, folder_of_run
from crgen.gee.manifest import WATER, Grid, Manifest
from crgen.model.days import shown_by
from crgen.pipeline.box import lattice_box
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.area import Area, read_area
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.ground import crosses_180
from crgen.pipeline.source.imagery import check_dates
from crgen.pipeline.source.past import NO_PAST, Asked, Day, Look, block_of, choose_looks, stretches_of
from crgen.pipeline.source.stack import OCCURRENCE, build_stack

Unfinished = Callable[[Area, datetime.date, datetime.date], Path]


def rules_of(options: EarthEngine) -> Rules:
    """Return what makes an acquisition eligible."""
    return Rules(options.search_days, options.observed_days, options.min_coverage, options.radar_not_before)


def connection_settings(options: EarthEngine) -> Settings:
    """Return how to reach the service."""
    credentials = None if options.credentials is None else str(options.credentials)
    settings = Settings.from_environment(project=options.project, credentials=credentials)
    concurrency, patience = max(1, settings.concurrency // options.processes), min(settings.patience, options.patience)
    return replace(settings, concurrency=concurrency, patience=patience)


@dataclass(frozen=True)
class Acquired:
    """An area's scenes, frozen, and the tiles to fetch."""

    area: Area
    manifest: Manifest
    pull: Pull
    lessons: Lessons | None = None
    """Where the past is learned from, if there is one."""
    water: Pull | None = None
    """The tiles that tell how often there was water, if that is asked."""
    notes: tuple[str, ...] = ()
    """What a person should know of where its tiles are kept."""

    @property
    def pulls(self) -> tuple[Pull, ...]:
        """All tiles that may be fetched."""
        lessons = None if self.lessons is None else self.lessons.pull
        return tuple(pull for pull in (self.pull, lessons, self.water) if pull is not None)

    @property
    def stack(self) -> xr.Dataset:
        """The Stack, margin included; nothing is fetched yet."""
        arrays = self.pull.arrays()
        if "t1" in self.manifest.dates and "s2_t1" not in arrays:
            shape = (len(self.manifest.bands), *self.pull.geobox.shape)
            arrays["s2_t1"] = da.full(shape, np.nan, dtype=np.float32)  # type: ignore[no-untyped-call]
        if self.lessons is not None:
            arrays = self.lessons.put_together(arrays, self.pull.geobox)
        if self.water is not None:
            arrays[OCCURRENCE] = self.water.arrays()[OCCURRENCE][0]
        return build_stack(
            self.pull.geobox,
            arrays,
            pols=self.manifest.pols,
            bands=self.manifest.bands,
            manifest=described(self.manifest),
            times=self.manifest.past_days if self.lessons else (),
        )


@dataclass(frozen=True)
class Lessons:
    """The past over the block of an area that it is learned from; elsewhere it is missing, but for what is copied."""

    pull: Pull
    manifest: Manifest
    days: dict[str, tuple[datetime.date, ...]]
    """Which days its layers hold."""

    def put_together(self, arrays: dict[str, da.Array], whole: GeoBox) -> dict[str, da.Array]:
        """Return the variables of a Stack, its past among them.

        Args:
            arrays: of its dates, and of the days that are copied.
            whole: the Stack's grid.
        """
        held = self.pull.arrays()
        pols, bands = len(self.manifest.pols), len(self.manifest.bands)
        found: dict[str, da.Array] = {}
        for at, day in enumerate(self.days["s1_past"]):
            found[f"s1_{day}"] = _placed(held["s1_past"][at * pols : (at + 1) * pols], self.pull.geobox, whole)
        for at, day in enumerate(self.days["s2_past"]):
            planes = held["s2_past"][at * (bands + 1) : (at + 1) * (bands + 1)]
            optical, score = planes[:-1], planes[-1]
            optical = da.where(da.isnan(score), np.float32(np.nan), optical)
            found[f"s2_{day}"] = _placed(optical, self.pull.geobox, whole)
            found[f"clear_{day}"] = _placed(score[None], self.pull.geobox, whole)[0]
        days = self.manifest.past_days
        past = {name for name in arrays if name.removeprefix("s2_").removeprefix("clear_") in map(str, days)}
        now = {name: array for name, array in arrays.items() if name not in past}
        found |= {name: arrays[name] for name in past}
        missing = da.full((pols, *whole.shape), np.nan, dtype=np.float32, chunks=(pols, 1024, 1024))  # type: ignore[no-untyped-call]
        for name in ("s1", "s2", "clear"):
            planes = [found.get(f"{name}_{day}", missing) for day in days]
            now[f"{name}_past"] = da.stack(planes)  # type: ignore[no-untyped-call]
        return now


def _placed(array: da.Array, part: GeoBox, whole: GeoBox) -> da.Array:
    """Return an array ``(channel, y, x)`` of part of a grid on the whole of it, NaN elsewhere."""
    inner, outer = lattice_box(part), lattice_box(whole)
    margins = ((0, 0), (inner.r0 - outer.r0, outer.r1 - inner.r1), (inner.c0 - outer.c0, outer.c1 - inner.c1))
    placed: da.Array = da.pad(array, margins, constant_values=np.float32(np.nan))
    return placed


def acquire(
    options: EarthEngine,
    channels: Channels,
    *,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
    past: Asked = NO_PAST,
    unfinished: Unfinished | None = None,
    alone: bool = False,
) -> Acquired:
    """Choose scenes, or take a manifest's, and lay out their tiles over the area and its margin.

    Of a manifest that holds the scenes of a past, these are taken, unless none is asked for.

    Args:
        options: how to ask.
        channels: what to open.
        aoi: the area, as :func:`~crgen.pipeline.source.area.read_area` takes it.
        t1: date of the first pair of images.
        t2: date to map.
        crs: grid; None for the area's UTM zone.
        past: how far around t2 to look for other looks at the place.
        unfinished: given the area and both dates, names the record of a stopped run of the same product. Its scenes
            are used again if they were chosen alike, though the catalogue may hold others by now.
        alone: whether t2 alone will do; it has no past to learn from.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    if options.manifest is not None:
        manifest = _repeated(options.manifest, channels, aoi, t1, t2, crs, alone)
        area = area_of(manifest)
    else:
        area, wanted = wanted_of(channels, aoi=aoi, t1=t1, t2=t2, crs=crs, alone=alone)
        kept = None if unfinished is None else _kept(unfinished, options, channels, area, wanted, past)
        manifest = kept or past_for(options, channels, scenes_for(options, channels, area, wanted).manifest, past)
    if not past.before:
        manifest = manifest.model_copy(update={"past": {}, "water": None})
    elif manifest.past and not any(name.startswith("s1_") for name in manifest.past):
        notes = (*manifest.notes, "no radar of the orbits of t1 and t2 goes with the place's past: left out")
        manifest = manifest.model_copy(update={"past": {}, "notes": notes})
    folder, notes = folder_of_run(keep=options.keep_tiles)
    TileCache(folder).prune()
    whole, copied = channels.around(area.geobox), _copied(manifest)
    settings = connection_settings(options)
    pull, manifest = open_pull(manifest, whole, settings, folder, copied=copied)
    water = None
    if channels.water and manifest.water is not None:
        water = open_water(manifest.water, OCCURRENCE, whole, settings, folder)
    if not manifest.past:
        return Acquired(area, manifest, pull, None, water, notes)
    days = {
        "s1_past": tuple(day for day in manifest.past_days if f"s1_{day}" in manifest.past),
        "s2_past": tuple(day for day in manifest.past_days if day not in copied),
    }
    block, _ = block_of(lattice_box(area.geobox), channels.window)
    common, corner = block.intersect(lattice_box(whole)), lattice_box(whole)
    assert common is not None
    rows, columns = common.slices(corner)
    lessons = open_past(manifest, whole[rows, columns], settings, folder, days)
    return Acquired(area, manifest, pull, Lessons(lessons, manifest, days), water, notes)


def past_for(options: EarthEngine, channels: Channels, manifest: Manifest, asked: Asked) -> Manifest:
    """Return a manifest with the acquisitions of the other looks at its place that are worth learning from.

    Where it matters how often there was water before, it names the asset that tells.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    if not asked.before or "t1" not in manifest.dates:
        return manifest
    t1, t2 = manifest.dates["t1"], manifest.dates["t2"]

    known = {day for name in ("s2_t1", "s2_t2") for day in manifest.days.get(name, ())}

    def take(found: Sequence[tuple[datetime.date, float]]) -> list[datetime.date]:
        return choose_looks([Look(*one) for one in found if one[0] not in known], t1, t2, asked)

    water = WATER if channels.water else None
    manifest = manifest.model_copy(update={"rules": manifest.rules | _looked(asked), "water": water})
    return with_past(
        connection_settings(options),
        manifest,
        stretches_of(t2, asked),
        take,
        rules=rules_of(options),
        margin=channels.margin * channels.resolution,
    )


def with_past_of(options: EarthEngine, channels: Channels, held: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Return a manifest as :func:`past_for` does, both as JSON can hold it.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    return past_for(options, channels, Manifest.parse(held, "the manifest"), asked).model_dump(mode="json")


def _looked(asked: Asked) -> dict[str, int | float]:
    """Return what a manifest's rules say of its past."""
    return {f"past_{name}": days for name, days in asked._asdict().items()} if asked.before else {}


def _copied(manifest: Manifest) -> list[datetime.date]:
    """Return the days of a manifest's past that are copied from, and so fetched whole."""
    if not manifest.past:
        return []
    t1, t2 = manifest.dates["t1"].toordinal(), manifest.dates["t2"].toordinal()
    days = [Day(day.toordinal()) for day in (manifest.dates["t1"], *manifest.past_days)]
    shown = {datetime.date.fromordinal(one.day) for one in shown_by(days, t1, t2)}
    return [day for day in manifest.past_days if day in shown]


def wanted_of(
    channels: Channels,
    *,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
    alone: bool = False,
) -> tuple[Area, tuple[Wanted, ...]]:
    """Return the area on its grid, and what a map of t2 needs of both dates.

    Args:
        channels: what to open.
        aoi: the area, as :func:`~crgen.pipeline.source.area.read_area` takes it.
        t1: date of the first pair of images.
        t2: date to map.
        crs: grid; None for the area's UTM zone.
        alone: whether t2 alone will do.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    if aoi is None:
        raise RequestError("source 'gee' needs an area: give --aoi with a GeoJSON file or west,south,east,north")
    if t2 is None or (t1 is None and not alone):
        dates = "a date: give --t2, and for a map --t1 too," if alone else "both dates: give --t1 and --t2"
        raise RequestError(f"source 'gee' needs {dates} as YYYY-MM-DD")
    check_dates(t1, t2)
    area = _one_sided(aoi, crs, channels)
    earlier = () if t1 is None else (Wanted("t1", t1, mapped=False),)
    return area, (*earlier, Wanted("t2", t2, mapped=True))


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
        connection_settings(options),
        Grid.of(area.name, area.geobox, area.polygon),
        wanted,
        pols=channels.pols,
        needed_pols=channels.needed_pols,
        bands=channels.bands,
        rules=rules_of(options),
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
        connection_settings(options),
        grid,
        pols=channels.pols,
        needed_pols=channels.needed_pols,
        rules=rules_of(options),
        until=until,
        within_days=within_days,
    )


def open_later(
    options: EarthEngine, held: Any, geobox: GeoBox, bands: Sequence[str], *, first: datetime.date, last: datetime.date
) -> Iterator[tuple[datetime.date, xr.Dataset]]:
    """Yield days after a map's t2 on which Sentinel-2 saw some of it clear, the clearest first, each with a Stack.

    Of the Stack, t1 is the map's t2, and t2 that day; radar is of the same orbits at both, VV alone. Days without such
    radar are left out. Nothing of it is fetched yet.

    Args:
        options: how to ask.
        held: what the map says of its scenes: an Item, or a manifest.
        geobox: the map's grid.
        bands: of the map.
        first: first day to look at, UTC.
        last: last one.

    Raises:
        RequestError: if the map's scenes are not of Earth Engine.
        SourceError: if Earth Engine cannot be asked.
    """
    scenes = pulled_from(held)
    if not scenes:
        raise RequestError("the map's scenes are not of Earth Engine: give a later stack, with --against")
    manifest = Manifest.parse(scenes, "the map's manifest")
    area, t2 = area_of(manifest), manifest.dates["t2"]
    channels = Channels(("VV",), tuple(bands), abs(geobox.affine.a), margin=0)
    options = replace(options, observed_days=0, radar_not_before=None)
    for day, _ in clear_days(connection_settings(options), manifest.area, channels.bands, first, last):
        wanted = (Wanted("t1", t2, mapped=True), Wanted("t2", day, mapped=True))
        found = scenes_for(options, channels, area, wanted, strict=False).manifest
        if not {"s1_t1", "s1_t2", "s2_t2"} <= found.scenes.keys():
            continue
        folder, _ = folder_of_run(keep=options.keep_tiles)
        pull, found = open_pull(found, geobox, connection_settings(options), folder)
        yield day, Acquired(area, found, pull).stack


def compute_used(options: EarthEngine, first: datetime.date) -> Used:
    """Return what the project that requests count to has used of Earth Engine's compute from a day on, UTC.

    Raises:
        SourceError: if that cannot be told, with the fix.
    """
    return used_since(connection_settings(options), first)


def interrupt() -> None:
    """End all waiting for Earth Engine in this process soon, because it is about to end."""
    INTERRUPTED.set()


def bands_held(options: EarthEngine) -> tuple[str, ...] | None:
    """Return the bands of the manifest that a person names; None if none is named.

    Raises:
        SourceError: if the file holds none.
    """
    return None if options.manifest is None else Manifest.read(options.manifest).bands


def described(manifest: Manifest) -> dict[str, Any]:
    """Return what a Stack says of where its pixels come from."""
    days = {name: day.isoformat() for name, day in manifest.dates.items()}
    return {**manifest.model_dump(mode="json"), **days}


def area_pulled(manifest: dict[str, Any], where: str) -> Area:
    """Return the area that scenes were chosen for, of a manifest as JSON holds it.

    Raises:
        SourceError: naming ``where`` and the first field that does not fit.
    """
    return area_of(Manifest.parse(manifest, where))


def area_of(manifest: Manifest) -> Area:
    """Return the area that a manifest's scenes were chosen for."""
    polygon = manifest.area.polygon
    assert isinstance(polygon, Polygon | MultiPolygon)
    return Area(manifest.area.name, manifest.area.geobox, polygon)


def _kept(
    unfinished: Unfinished,
    options: EarthEngine,
    channels: Channels,
    area: Area,
    wanted: Sequence[Wanted],
    past: Asked,
) -> Manifest | None:
    """Return the scenes of a stopped run of the same request, if there is one."""
    try:
        held = Manifest.read(unfinished(area, *(w.day for w in wanted)))
    except SourceError:
        return None
    same = (
        (held.area, held.dates) == (Grid.of(area.name, area.geobox, area.polygon), {w.name: w.day for w in wanted})
        and (held.bands, held.rules) == (channels.bands, rules_of(options).told() | _looked(past))
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
    alone: bool,
) -> Manifest:
    manifest = Manifest.read(path)
    asked = {"--aoi": aoi, "--crs": crs, "--t1": t1, "--t2": t2}
    if given := [name for name, value in asked.items() if value is not None]:
        raise RequestError(f"--manifest {path} says the area and the dates: leave out {', '.join(given)}")
    pols = channels.held_pols(manifest.pols)
    lacking = [pol for pol in channels.needed_pols or channels.pols if pol not in manifest.pols]
    lacking += [band for band in channels.bands if band not in manifest.bands]
    absent = [name for name in (("t2",) if alone else ("t1", "t2")) if name not in manifest.dates]
    if lacking or absent:
        what = f"scenes with {', '.join(lacking)}" if lacking else f"the date {' and '.join(absent)}"
        need = "this pull needs" if alone else "this map needs"
        raise StackError(f"the manifest {path} was made without {what}, which {need}; choose scenes anew")
    return manifest.model_copy(update={"pols": pols, "bands": channels.bands})
