"""Which acquisitions serve which variable: chosen here, from what the catalogue tells, and frozen into a manifest.

Days are UTC. A pass is all scenes of one absolute orbit of one satellite over the area. A pass serves the date it is
nearest to, at most ``search_days`` away; one midway between two dates serves neither.

**Radar.** Geometry must not masquerade as change, so every date gets the same ordered list of relative orbits (and
directions): of each orbit the pass nearest to each date. Orbits come in order of their days from the date to map,
because a flood rises and falls within days; of two passes as near, the one after that date comes first, as it has seen
what happened until then; none of before ``radar_not_before`` is taken. Then come days from the other dates, then one
satellite rather than two, then coverage. An orbit is taken while it adds at least ``WORTHWHILE`` of the area, then
whatever closes gaps. The first lies on top. Where several are taken, each shows, and counts, only where it covers
the area at every date. A pass with VV alone comes after all others, and only for weights that need no more.

**Optical, t1.** Passes come in order of cost: days apart, plus a day for every 10 % of cloud over the area, or in the
whole scenes where no more is known. They are taken alike, and the cheapest lies on top: the generator bears cloud, but
a near, clear look is worth most.

**Optical, the date to map.** What it shows is reported as observed, so only passes of that very day count
(``observed_days`` = 0; more on request, and then said in a note).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from crgen.files import ASSETS
from crgen.gee.choose.catalogue import Catalogue
from crgen.gee.choose.description import Asset
from crgen.gee.choose.outlines import as_geojson
from crgen.gee.choose.passes import Pass, passes_over
from crgen.gee.manifest import CLOUD_SCORE, Grid, Manifest, Scene

WORTHWHILE = 0.01
"""Share of the area that one more pass must add."""
SLIVER = 0.0001
"""Share of the area below which a gap is not worth another pass."""
CLOUD_DAYS = 10.0
"""Days apart that a fully clouded pass counts as."""
UNKNOWN_CLOUD = 0.5


@dataclass(frozen=True)
class Rules:
    """What makes an acquisition eligible."""

    search_days: int
    """Days from a date within which passes serve it."""
    observed_days: int
    """Days from the date to map within which an optical pass counts as observed on it."""
    min_coverage: float
    """Share of the area that radar, and the optical image of t1, must cover."""
    radar_not_before: date | None = None
    """First day, UTC, of which the radar of a date to map may be."""

    def told(self) -> dict[str, int | float | str]:
        """Return the rules as a manifest holds them, without those that are not set."""
        held = asdict(self).items()
        return {name: str(value) if isinstance(value, date) else value for name, value in held if value is not None}


@dataclass(frozen=True)
class Wanted:
    """One date, and what is wanted of it."""

    name: str
    """``t1``, ``t2``, …"""
    day: date
    mapped: bool
    """Whether this is a date to map: its optical image is optional, and counts as observed."""

    def days_from(self, day: date) -> int:
        """Return whole days between."""
        return abs((day - self.day).days)


@dataclass
class Candidate:
    """A pass that was considered for a variable, and whether it was taken."""

    variable: str
    overpass: Pass
    days_apart: int
    fits: bool
    """Whether it could serve the date by itself."""
    taken: bool = False
    why: str = ""
    """Why it was not taken."""


@dataclass(frozen=True)
class Choice:
    """The manifest, and all passes that were considered."""

    manifest: Manifest
    wanted: tuple[Wanted, ...]
    candidates: tuple[Candidate, ...]


def choose(
    catalogue: Catalogue,
    area: Grid,
    wanted: Sequence[Wanted],
    *,
    pols: Sequence[str],
    bands: Sequence[str],
    rules: Rules,
    margin: float = 0.0,
) -> Choice:
    """Choose the acquisitions for all dates; reads nothing.

    Args:
        catalogue: what was acquired.
        area: the area of interest, without margin.
        wanted: the dates.
        pols: polarisations needed.
        bands: Sentinel-2 bands needed.
        rules: what makes an acquisition eligible.
        margin: how far around the area's box pixels are wanted too, in metres: scenes of a pass that reach only
            there are used, but not counted.

    Returns:
        A choice whose coverage may fall short: see :func:`~crgen.gee.choose.shortfall.require_coverage`.
    """
    outline = area.polygon
    candidates: list[Candidate] = []
    taken: dict[str, list[Candidate]] = {}
    west, south, east, north = outline.bounds
    reach = shapely.box(west - margin, south - margin, east + margin, north + margin)
    radar = passes_over(catalogue.radar, outline, area.crs, pols, reach)
    optical = passes_over(catalogue.optical, outline, area.crs, bands, reach)
    by_date = {w.name: _near(radar, f"s1_{w.name}", w, wanted, rules.search_days) for w in wanted}
    for w in wanted:
        for candidate in by_date[w.name]:
            if w.mapped and rules.radar_not_before and candidate.overpass.first.day < rules.radar_not_before:
                candidate.fits, candidate.why = False, f"before {rules.radar_not_before} (--radar-not-before)"
    candidates += [c for found in by_date.values() for c in found]
    taken |= _take_orbits(by_date, wanted, outline)
    for w in wanted:
        found = _near(optical, f"s2_{w.name}", w, wanted, rules.search_days)
        candidates += found
        if w.mapped:
            for candidate in found:
                if not candidate.why and candidate.days_apart > rules.observed_days:
                    candidate.why = f"not on the day itself (--observed-days {candidate.days_apart} would count it)"
        usable = [c for c in found if not c.why]
        _take(sorted(usable, key=cost), outline)
        taken[f"s2_{w.name}"] = sorted((c for c in usable if c.taken), key=cost)
    manifest = Manifest(
        dates={w.name: w.day for w in wanted},
        area=area,
        pols=tuple(pols),
        bands=tuple(bands),
        scenes={name: frozen(chosen, catalogue.scored) for name, chosen in taken.items() if chosen},
        coverage={name: _share(_shown(name, taken), outline) for name in taken},
        notes=(*catalogue.notes, *_notes(taken, wanted, catalogue.scored)),
        rules=rules.told(),
    )
    return Choice(manifest, tuple(wanted), tuple(candidates))


def could_serve(
    catalogue: Catalogue, area: Grid, wanted: Sequence[Wanted], bands: Sequence[str], rules: Rules
) -> list[Asset]:
    """Return the optical images over the area that are near enough to a date, of whatever day within the search."""
    passes = passes_over(catalogue.optical, area.polygon, area.crs, bands)
    near = [c for w in wanted for c in _near(passes, f"s2_{w.name}", w, wanted, rules.search_days)]
    return [asset for candidate in near if candidate.fits for asset in candidate.overpass.scenes]


def nearness(candidate: Candidate, w: Wanted, platforms: Collection[str] = ()) -> tuple[Any, ...]:
    """Return the sort key of an orbit's passes near a date.

    Both polarisations come before one, then fewer days apart, then, at a date to map, after it, then the satellites of
    other dates, ``platforms``, then more coverage.
    """
    overpass = candidate.overpass
    other = overpass.first.platform not in platforms
    return _single(candidate), candidate.days_apart, _ahead(candidate, w), other, -overpass.coverage


def orbit_order(row: Sequence[Candidate], wanted: Sequence[Wanted]) -> tuple[Any, ...]:
    """Return the sort key of orbits: as of their passes, the days from dates to map before those from other dates.

    Args:
        row: the pass of one orbit for each date.
        wanted: the dates.
    """
    dated = list(zip(row, wanted, strict=True))
    first = row[-1].overpass.first
    return (
        sum(map(_single, row)),
        [(c.days_apart, _ahead(c, w)) for c, w in dated if w.mapped],
        sum(c.days_apart for c, w in dated if not w.mapped),
        len({c.overpass.first.platform for c in row}),
        -sum(c.overpass.coverage for c in row),
        first.time,
        first.id,
    )


def _single(candidate: Candidate) -> bool:
    """Whether a radar pass lacks a polarisation."""
    return not {"VV", "VH"} <= set(candidate.overpass.first.bands)


def _ahead(candidate: Candidate, w: Wanted) -> bool:
    """Whether a pass lies ahead of a date to map."""
    return w.mapped and candidate.overpass.first.day < w.day


def cost(candidate: Candidate) -> tuple[float, int, float, str]:
    """Return the sort key of optical passes: days apart and cloud, then days apart alone, then coverage."""
    clear = candidate.overpass.clear
    cloud = UNKNOWN_CLOUD if clear is None else 1 - clear
    apart, overpass = candidate.days_apart, candidate.overpass
    return apart + CLOUD_DAYS * cloud, apart, -overpass.coverage, overpass.first.id


def stretches(wanted: Iterable[Wanted], days: int) -> list[tuple[date, date]]:
    """Return the days within ``days`` of each date."""
    return [(w.day - timedelta(days), w.day + timedelta(days)) for w in wanted]


def _near(passes: Iterable[Pass], variable: str, w: Wanted, wanted: Sequence[Wanted], days: int) -> list[Candidate]:
    """Return the passes near one date as candidates; those that cannot serve it say why."""
    found = []
    for overpass in passes:
        apart = w.days_from(overpass.first.day)
        if apart > days:
            continue
        nearer = [o.name for o in wanted if o is not w and o.days_from(overpass.first.day) <= apart]
        why = overpass.first.unfit or (f"as near to {nearer[0]}, or nearer" if nearer else "")
        found.append(Candidate(variable, overpass, apart, fits=not why, why=why))
    return found


def _take_orbits(
    by_date: Mapping[str, list[Candidate]], wanted: Sequence[Wanted], outline: BaseGeometry
) -> dict[str, list[Candidate]]:
    """Take the same relative orbits for every date; return the passes of each variable, the first on top."""
    nearest: dict[tuple[int, str], dict[str, Candidate]] = {}
    for w in sorted(wanted, key=lambda w: not w.mapped):

        def closeness(c: Candidate, w: Wanted = w) -> tuple[Any, ...]:
            others = nearest.get(c.overpass.orbit, {}).values()
            return nearness(c, w, {held.overpass.first.platform for held in others})

        for c in sorted((c for c in by_date[w.name] if not c.why), key=closeness):
            held = nearest.setdefault(c.overpass.orbit, {}).setdefault(w.name, c)
            if held is not c:
                alone = _single(c) and not _single(held)
                c.why = "VV alone; another pass of its orbit has both" if alone else "a pass of its orbit is nearer"
    complete = []
    for passes in nearest.values():
        if absent := [name for name in by_date if name not in passes]:
            for c in passes.values():
                c.why = f"its orbit has no pass near {', '.join(absent)}"
        else:
            complete.append([passes[name] for name in by_date])
    complete.sort(key=lambda row: orbit_order(row, wanted))
    order = _worthwhile([_shared(row) for row in complete], outline)
    for i, row in enumerate(complete):
        for c in row:
            c.taken = i in order
            c.why = "" if c.taken else "adds nothing to nearer orbits"
    return {f"s1_{name}": [complete[i][at] for i in order] for at, name in enumerate(by_date)}


def _take(ordered: Sequence[Candidate], outline: BaseGeometry) -> None:
    """Take optical passes in the order given."""
    order = _worthwhile([c.overpass.shape for c in ordered], outline)
    for i, c in enumerate(ordered):
        c.taken = i in order
        c.why = "" if c.taken else "adds nothing to better passes"


def _worthwhile(shapes: Sequence[BaseGeometry], outline: BaseGeometry) -> list[int]:
    """Return which shapes to take, in order, by what each adds."""
    covered: BaseGeometry = shapely.Polygon()
    order: list[int] = []

    def gain(i: int) -> float:
        return float(shapes[i].difference(covered).area / outline.area)

    for i in range(len(shapes)):
        if gain(i) >= WORTHWHILE:
            order.append(i)
            covered = covered.union(shapes[i])
    while rest := [i for i in range(len(shapes)) if i not in order]:
        best = max(rest, key=gain)
        if gain(best) <= SLIVER:
            break
        order.append(best)
        covered = covered.union(shapes[best])
    return order


def _shared(row: Sequence[Candidate]) -> BaseGeometry:
    """Return what the passes of one orbit cover of the area at every date."""
    return shapely.intersection_all([c.overpass.shape for c in row])


def _shown(name: str, taken: Mapping[str, Sequence[Candidate]]) -> list[BaseGeometry]:
    """Return what a variable's passes show of the area: of several orbits of radar, what each covers at every date."""
    if name.startswith("s1") and len(taken[name]) > 1:
        dates = [chosen for other, chosen in taken.items() if other.startswith("s1")]
        return [_shared(row) for row in zip(*dates, strict=True)]
    return [c.overpass.shape for c in taken[name]]


def frozen(chosen: Iterable[Candidate], scored: frozenset[str]) -> tuple[Scene, ...]:
    """Return the scenes of passes as a manifest holds them.

    Args:
        chosen: the passes, the first on top.
        scored: names of the Sentinel-2 images that Cloud Score+ has a score for.
    """
    return tuple(
        Scene(
            id=asset.id,
            href=ASSETS + asset.id,
            platform=asset.platform,
            time=asset.time,
            days_apart=candidate.days_apart,
            relative_orbit=asset.relative_orbit,
            track=asset.track,
            orbit=asset.orbit,
            direction=asset.direction,
            coverage=round(candidate.overpass.coverage, 4),
            clear=None if asset.cloudy is None else round(1 - asset.cloudy, 4),
            clear_over_area=asset.clear_over_area,
            score=f"{CLOUD_SCORE}/{asset.index}" if asset.index in scored else None,
            tile=asset.tile,
            footprint=as_geojson(asset.footprint),
            lattice=asset.lattice,
        )
        for candidate in chosen
        for asset in candidate.overpass.scenes
    )


def _share(shapes: Sequence[BaseGeometry], outline: BaseGeometry) -> float:
    return round(min(1.0, shapely.union_all(list(shapes)).area / outline.area), 4) if shapes else 0.0


def _notes(taken: Mapping[str, Sequence[Candidate]], wanted: Sequence[Wanted], scored: frozenset[str]) -> list[str]:
    notes = []
    for w in wanted:
        radar, optical = taken.get(f"s1_{w.name}", []), taken.get(f"s2_{w.name}", [])
        for mission, chosen in (("radar", radar), ("optical image", optical)):
            days = sorted({(c.days_apart, c.overpass.first.day.isoformat()) for c in chosen if c.days_apart})
            if days:
                claim = ", and counts as observed then" if w.mapped and chosen is optical else ""
                notes.append(f"the {mission} of {w.name} ({w.day}) is of {', '.join(d for _, d in days)}{claim}")
        if w.mapped and not optical:
            notes.append(f"there is no optical image of {w.name} ({w.day}): nothing of it can be observed")
        unscored = [a.index for c in optical for a in c.overpass.scenes if a.index not in scored]
        if unscored:
            consequence = "so nothing of them counts as clear" if w.mapped else "so their clouds are not marked"
            notes.append(
                f"no Cloud Score+ for {len(unscored)} scenes of s2_{w.name} (e.g. {unscored[0]}), {consequence}"
            )
    return notes
