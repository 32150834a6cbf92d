"""`crgen.past`: the other looks at a place that a map of it would learn from."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import NamedTuple

from crgen.errors import RequestError
from crgen.pipeline.request import YEAR, EarthEngine, parse_date
from crgen.pipeline.source.channels import channels_of
from crgen.pipeline.source.earthengine.scenes import past_for, scenes_for, wanted_of
from crgen.pipeline.source.past import NO_PAST, asked_for

CYCLE = 12
"""Days after which Sentinel-1 looks from the same place again."""


class PastLook(NamedTuple):
    """A day on which the place was seen."""

    day: datetime.date
    """Of Sentinel-2, UTC."""
    clear: float
    """Share of the area that was clear."""
    radar: datetime.date | None
    """Day of the Sentinel-1 pass that goes with it, of an orbit of t1 and t2; None where there is none."""


def past(
    aoi: str,
    t2: datetime.date | str,
    *,
    t1: datetime.date | str | None = None,
    past: str = YEAR,
    after: int = 0,
    crs: str | None = None,
    weights: str = "base",
    project: str | None = None,
    credentials: Path | str | None = None,
) -> list[PastLook]:
    """List the other looks at a place that a map of t2 would learn from; reads no pixels.

    >>> crgen.past("zhengzhou.geojson", "2021-07-22", project="my-project")
    [PastLook(day=datetime.date(2020, 7, 14), clear=0.91, radar=datetime.date(2020, 7, 13)), …]

    Args:
        aoi: GeoJSON or other vector file, or ``"west,south,east,north"`` in degrees.
        t2: day to map, a date or ``"YYYY-MM-DD"``.
        t1: day of the earlier images, alike. (12 days before t2)
        past: how far back to look, e.g. ``"1y"`` or ``"90d"``.
        after: days after t2 within which looks tell of its light too.
        crs: grid. (the area's UTM zone)
        weights: weights whose channels are asked for.
        project: Google Cloud project. (``EE_PROJECT_ID``, or what the credentials say)
        credentials: a service account's JSON key. (what ``earthengine authenticate`` stored)

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    last = parse_date(t2, "t2")
    if last is None:
        raise RequestError("t2 is missing: give the day to map")
    first = parse_date(t1, "t1") or last - datetime.timedelta(CYCLE)
    options = EarthEngine(project=project, credentials=None if credentials is None else Path(credentials))
    channels = channels_of(weights, None)
    area, wanted = wanted_of(channels, aoi=aoi, t1=first, t2=last, crs=crs)
    manifest = scenes_for(options, channels, area, wanted, strict=False).manifest
    held = past_for(options, channels, manifest, asked_for(past, after) or NO_PAST).past
    looks = []
    for name in sorted(held):
        if name.startswith("s2_"):
            day = name.removeprefix("s2_")
            radar = held.get(f"s1_{day}")
            scene = held[name][0]
            clear = scene.coverage * (scene.clear_over_area or 0.0)
            looks.append(PastLook(datetime.date.fromisoformat(day), clear, radar[0].time.date() if radar else None))
    return looks
