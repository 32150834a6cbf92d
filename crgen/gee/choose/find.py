"""Choose acquisitions for an area and dates: search the catalogue, choose, and refuse what covers too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import shapely

from crgen.gee.choose.catalogue import search
from crgen.gee.choose.choice import Choice, Rules, Wanted, choose, could_serve, stretches
from crgen.gee.choose.clear_share import with_clear_shares
from crgen.gee.choose.outlines import lonlat
from crgen.gee.choose.passes import Pass, passes_over
from crgen.gee.choose.shortfall import NEARBY_DAYS, require_coverage, shortfall
from crgen.gee.connection.session import Settings, connect
from crgen.gee.manifest import Grid


def find_scenes(
    settings: Settings,
    area: Grid,
    wanted: Sequence[Wanted],
    *,
    pols: Sequence[str],
    bands: Sequence[str],
    rules: Rules,
    needed_pols: Sequence[str] = (),
    margin: float = 0.0,
    strict: bool = True,
) -> Choice:
    """Choose the acquisitions for an area and dates, with one request per collection, and one for clear shares.

    Args:
        settings: how to reach Earth Engine.
        area: the area of interest, without margin.
        wanted: the dates, as many as are needed.
        pols: polarisations wanted.
        bands: Sentinel-2 bands needed.
        rules: what makes an acquisition eligible.
        needed_pols: those of ``pols`` to go without the others for, where too little of the area has all; empty for
            all.
        margin: how far around the area's box pixels are wanted too, in metres.
        strict: refuse a choice that covers less than ``rules.min_coverage``.

    Raises:
        SourceError: if Earth Engine cannot be asked.
        StackError: if there are no acquisitions, or they cover too little; names the nearest alternatives.
    """
    session = connect(settings.standard)  # aggregations are not for the high-volume endpoint
    bounds = lonlat_bounds(area, margin)
    catalogue = search(session, bounds, stretches(wanted, max(rules.search_days, rules.observed_days)))
    near = could_serve(catalogue, area, wanted, bands, rules)
    catalogue = with_clear_shares(session, catalogue, area, near)
    choice = choose(catalogue, area, wanted, pols=pols, bands=bands, rules=rules, margin=margin)
    if needed_pols and _radar_short(choice, rules):
        fewer = choose(catalogue, area, wanted, pols=needed_pols, bands=bands, rules=rules, margin=margin)
        if not _radar_short(fewer, rules):
            both, alone = (" and ".join(names) for names in (pols, needed_pols))
            note = f"radar with {both} covers too little of the area, so {alone} alone is used"
            choice = replace(fewer, manifest=fewer.manifest.model_copy(update={"notes": (*fewer.manifest.notes, note)}))
    if strict:
        refuse_shortfall(settings, choice, rules)
    return choice


def _radar_short(choice: Choice, rules: Rules) -> bool:
    """Return whether radar covers too little of the area."""
    return any(variable.startswith("s1") for variable in shortfall(choice, rules))


def newest_pass(
    settings: Settings,
    area: Grid,
    *,
    pols: Sequence[str],
    needed_pols: Sequence[str] = (),
    rules: Rules,
    until: date,
    within_days: int,
) -> date | None:
    """Return the day of the newest Sentinel-1 pass over an area, with one request; None if there is none.

    It is the newest that covers ``rules.min_coverage`` of the area by itself. If none does, the area is wider than a
    swath: then it is the newest that covers it together with the passes of the ``rules.search_days`` before.

    Args:
        settings: how to reach Earth Engine.
        area: the area of interest.
        pols: polarisations wanted.
        needed_pols: those of ``pols`` to go without the others for, if no pass has all; empty for all.
        rules: what makes an acquisition eligible.
        until: the last day to look at, UTC.
        within_days: how far back to look.

    Raises:
        SourceError: if Earth Engine cannot be asked.
    """
    stretch = (until - timedelta(within_days), until)
    found = search(connect(settings.standard), lonlat_bounds(area), [stretch], optical=False)
    for channels in filter(None, (pols, needed_pols)):
        passes = [p for p in passes_over(found.radar, area.polygon, area.crs, channels) if not p.first.unfit]
        if day := _newest_day(passes, area, rules):
            return day
    return None


def _newest_day(passes: Sequence[Pass], area: Grid, rules: Rules) -> date | None:
    """Return the day of the newest of some passes, see :func:`newest_pass`."""
    newest_first = sorted(passes, key=lambda p: p.first.time, reverse=True)
    for overpass in newest_first:
        if overpass.coverage >= rules.min_coverage:
            return overpass.first.day
    for overpass in newest_first:
        day = overpass.first.day
        near = [p.shape for p in passes if 0 <= (day - p.first.day).days <= rules.search_days]
        if shapely.union_all(near).area >= rules.min_coverage * area.polygon.area:
            return day
    return None


def refuse_shortfall(settings: Settings, choice: Choice, rules: Rules) -> None:
    """Refuse a choice that covers too little, after searching a longer time for alternatives.

    Raises:
        StackError: naming the variable, what there is, and the nearest alternatives.
    """
    if short := shortfall(choice, rules):
        radar = any(variable.startswith("s1") for variable in short)
        optical = any(variable.startswith("s2") for variable in short)
        around = stretches([w for w in choice.wanted if any(v.endswith(f"_{w.name}") for v in short)], NEARBY_DAYS)
        bounds = lonlat_bounds(choice.manifest.area)
        require_coverage(
            choice, rules, search(connect(settings.standard), bounds, around, radar=radar, optical=optical)
        )


def lonlat_bounds(area: Grid, margin: float = 0.0) -> tuple[float, float, float, float]:
    """Return west, south, east, north in degrees of an area and ``margin`` metres around it, up to the antimeridian."""
    west, south, east, north = area.polygon.bounds
    ring = shapely.segmentize(shapely.box(west - margin, south - margin, east + margin, north + margin), 1000.0)
    return lonlat(ring, area.crs).bounds
