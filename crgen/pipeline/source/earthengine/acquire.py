"""An area and two dates, or a frozen manifest, as a Stack whose tiles Earth Engine serves."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from crgen.errors import RequestError
from crgen.files import pulled_from
from crgen.gee.choose.choice import Wanted
from crgen.gee.choose.past import clear_days
from crgen.gee.fetch.arrays import Pull, open_past, open_pull, open_water
from crgen.gee.fetch.cache import TileCache, folder_of_run
from crgen.gee.manifest import Manifest
from crgen.model.days import shown_by
from crgen.pipeline.box import lattice_box
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.area import Area
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine.manifest import Unfinished, area_of, described, kept_scenes, repeated
from crgen.pipeline.source.earthengine.scenes import past_for, scenes_for, wanted_of
from crgen.pipeline.source.earthengine.settings import connection_settings
from crgen.pipeline.source.past import NO_PAST, Asked, Day, block_of
from crgen.pipeline.source.stack import OCCURRENCE, build_stack


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
        manifest = repeated(options.manifest, channels, aoi, t1, t2, crs, alone)
        area = area_of(manifest)
    else:
        area, wanted = wanted_of(channels, aoi=aoi, t1=t1, t2=t2, crs=crs, alone=alone)
        kept = None if unfinished is None else kept_scenes(unfinished, options, channels, area, wanted, past)
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


def _copied(manifest: Manifest) -> list[datetime.date]:
    """Return the days of a manifest's past that are copied from, and so fetched whole."""
    if not manifest.past:
        return []
    t1, t2 = manifest.dates["t1"].toordinal(), manifest.dates["t2"].toordinal()
    days = [Day(day.toordinal()) for day in (manifest.dates["t1"], *manifest.past_days)]
    shown = {datetime.date.fromordinal(one.day) for one in shown_by(days, t1, t2)}
    return [day for day in manifest.past_days if day in shown]


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
