"""Which acquisitions serve an area at its dates, and which earlier looks at it are worth learning from."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from crgen.errors import AreaError, RequestError
from crgen.gee.choose.choice import Choice, Wanted
from crgen.gee.choose.find import find_scenes, newest_pass
from crgen.gee.choose.past import with_past
from crgen.gee.manifest import WATER, Grid, Manifest
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.area import Area, read_area
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine.manifest import past_rules
from crgen.pipeline.source.earthengine.settings import connection_settings, rules_of
from crgen.pipeline.source.ground import crosses_180
from crgen.pipeline.source.imagery import check_dates
from crgen.pipeline.source.past import Asked, Look, choose_looks, stretches_of


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
    manifest = manifest.model_copy(update={"rules": manifest.rules | past_rules(asked), "water": water})
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
