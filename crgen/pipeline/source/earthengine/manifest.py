"""What a manifest of frozen scenes says of a map, and whether it serves the one that is asked for."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shapely.geometry import MultiPolygon, Polygon

from crgen.errors import RequestError, SourceError, StackError
from crgen.gee.choose.choice import Wanted
from crgen.gee.manifest import Grid, Manifest
from crgen.pipeline.request import EarthEngine
from crgen.pipeline.source.area import Area
from crgen.pipeline.source.channels import Channels
from crgen.pipeline.source.earthengine.settings import rules_of
from crgen.pipeline.source.past import Asked

Unfinished = Callable[[Area, datetime.date, datetime.date], Path]


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


def bands_held(options: EarthEngine) -> tuple[str, ...] | None:
    """Return the bands of the manifest that a person names; None if none is named.

    Raises:
        SourceError: if the file holds none.
    """
    return None if options.manifest is None else Manifest.read(options.manifest).bands


def past_rules(asked: Asked) -> dict[str, int | float]:
    """Return what a manifest's rules say of its past."""
    return {f"past_{name}": days for name, days in asked._asdict().items()} if asked.before else {}


def kept_scenes(
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
        and (held.bands, held.rules) == (channels.bands, rules_of(options).told() | past_rules(past))
        and held.pols == channels.held_pols(held.pols)
    )
    return held if same else None


def repeated(
    path: Path,
    channels: Channels,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
    alone: bool,
) -> Manifest:
    """Return the scenes of a manifest that a person names, with the channels of this map.

    Raises:
        RequestError: if an area or dates are given too.
        SourceError: if the file holds no manifest.
        StackError: if it lacks what this map needs.
    """
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
