"""Other looks at a place: which acquisitions show it clear, and the radar that goes with each.

Sentinel-2 of a day goes with the Sentinel-1 pass nearest to it of each orbit that serves t1 and t2, so that geometry
does not look like change. All that is asked is metadata, and once how clear the area was: four requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import shapely
from shapely.geometry.base import BaseGeometry

from crgen.gee.choose.catalogue import Catalogue, search
from crgen.gee.choose.choice import Candidate, Rules, frozen
from crgen.gee.choose.clear_share import with_clear_shares
from crgen.gee.choose.find import lonlat_bounds
from crgen.gee.choose.passes import Pass, passes_over
from crgen.gee.connection.session import Session, Settings, connect
from crgen.gee.manifest import Grid, Manifest

HOPELESS = 0.9
"""Share of cloud in a whole scene above which it is not asked how clear the area is."""

Take = Callable[[Sequence[tuple[date, float]]], Sequence[date]]


def with_past(
    settings: Settings,
    manifest: Manifest,
    stretches: Sequence[tuple[date, date]],
    take: Take,
    *,
    rules: Rules,
    margin: float = 0.0,
) -> Manifest:
    """Return a manifest with the acquisitions of other looks at its area.

    Args:
        settings: how to reach Earth Engine.
        manifest: of the dates t1 and t2.
        stretches: first and last days to look at, UTC.
        take: returns which days to take, of those on which Sentinel-2 saw the area and the share of it that was clear.
        rules: how far from a day its radar may be.
        margin: how far around the area's box pixels are wanted too, in metres.

    Raises:
        SourceError: if Earth Engine cannot be asked.
    """
    session, area = connect(settings.standard), manifest.area  # as in find_scenes
    catalogue = search(session, lonlat_bounds(area, margin), stretches)
    west, south, east, north = area.polygon.bounds
    reach = shapely.box(west - margin, south - margin, east + margin, north + margin)
    best, catalogue = _clearest(session, catalogue, area, manifest.bands, reach)
    radar = [p for p in passes_over(catalogue.radar, area.polygon, area.crs, manifest.pols, reach) if not p.first.unfit]
    orbits = dict.fromkeys(scene.geometry for scene in manifest.scenes.get("s1_t1", ()))
    past = {}
    for day in take([(day, _clear(overpass)) for day, overpass in sorted(best.items())]):
        chosen = [_nearest(radar, orbit, day, rules.search_days) for orbit in orbits]
        if heard := [candidate for candidate in chosen if candidate is not None]:
            past[f"s1_{day}"] = frozen(heard, catalogue.scored)
        past[f"s2_{day}"] = frozen([Candidate(f"s2_{day}", best[day], 0, fits=True)], catalogue.scored)
    notes = (*manifest.notes, *(f"of the place's past: {note}" for note in catalogue.notes))
    return manifest.model_copy(update={"past": past, "notes": notes})


def clear_days(
    settings: Settings, area: Grid, bands: Sequence[str], first: date, last: date
) -> list[tuple[date, float]]:
    """Return the days on which Sentinel-2 saw some of an area clear, each with the share that was; clearest first.

    Args:
        settings: how to reach Earth Engine.
        area: the area of interest.
        bands: Sentinel-2 bands needed.
        first: first day to look at, UTC.
        last: last one.

    Raises:
        SourceError: if Earth Engine cannot be asked.
    """
    session = connect(settings.standard)
    catalogue = search(session, lonlat_bounds(area), [(first, last)], radar=False)
    best, _ = _clearest(session, catalogue, area, bands)
    shares = ((day, _clear(overpass)) for day, overpass in best.items())
    return sorted(((day, share) for day, share in shares if share > 0), key=lambda pair: (-pair[1], pair[0]))


def _clearest(
    session: Session,
    catalogue: Catalogue,
    area: Grid,
    bands: Sequence[str],
    reach: BaseGeometry | None = None,
) -> tuple[dict[date, Pass], Catalogue]:
    """Return the clearest optical pass of each day, and the catalogue with what was asked of how clear they are."""
    hopeful = [a for a in catalogue.optical if a.index in catalogue.scored and (a.cloudy or 0) <= HOPELESS]
    catalogue = with_clear_shares(session, catalogue, area, hopeful)
    names = {asset.id for asset in hopeful}
    seen = [asset for asset in catalogue.optical if asset.id in names]
    best: dict[date, Pass] = {}
    for overpass in passes_over(seen, area.polygon, area.crs, bands, reach):
        day, held = overpass.first.day, best.get(overpass.first.day)
        if not overpass.first.unfit and (held is None or _clear(overpass) > _clear(held)):
            best[day] = overpass
    return best, catalogue


def _clear(overpass: Pass) -> float:
    """Return the share of the area that a pass shows clear."""
    return overpass.coverage * (overpass.clear or 0.0)


def _nearest(radar: Sequence[Pass], orbit: tuple[int, str], day: date, within: int) -> Candidate | None:
    """Return the pass of an orbit that is nearest to a day."""
    near = [(abs((p.first.day - day).days), p) for p in radar if p.orbit == orbit]
    apart, overpass = min(near, key=lambda pair: (pair[0], pair[1].first.time), default=(within + 1, None))
    return None if overpass is None or apart > within else Candidate(f"s1_{day}", overpass, apart, fits=True)
