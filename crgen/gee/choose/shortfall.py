"""Refusal of a choice that leaves too much of an area uncovered, with the nearest alternatives."""

from __future__ import annotations

import math
from datetime import date

from crgen.errors import StackError
from crgen.gee.choose.catalogue import Catalogue
from crgen.gee.choose.choice import Choice, Rules
from crgen.gee.choose.passes import Pass, passes_over

NEARBY_DAYS = 45
"""Days from a date within which alternatives are looked for."""


def shortfall(choice: Choice, rules: Rules) -> list[str]:
    """Return the variables that cover too little of the area; the optical image of a date to map may be missing."""
    needed = [f"{sensor}_{w.name}" for w in choice.wanted for sensor in ("s1", "s2") if sensor == "s1" or not w.mapped]
    share = choice.manifest.coverage
    return [name for name in needed if share.get(name, 0.0) < rules.min_coverage or share.get(name, 0.0) == 0]


def require_coverage(choice: Choice, rules: Rules, nearby: Catalogue) -> None:
    """Refuse a choice that leaves too much of the area without radar, or without an optical image of t1.

    Args:
        choice: what was chosen.
        rules: ``min_coverage`` says how much is too much.
        nearby: acquisitions of a longer time, to name alternatives from.

    Raises:
        StackError: naming the variable, what there is, and the nearest alternatives.
    """
    manifest = choice.manifest
    short = shortfall(choice, rules)
    if not short:
        return
    fitting = {name: [c for c in choice.candidates if c.variable == name and c.fits] for name in short}
    variable = next((name for name in short if not fitting[name]), short[0])
    sensor, name = variable.split("_")
    w = next(w for w in choice.wanted if w.name == name)
    mission = {"s1": "Sentinel-1", "s2": "Sentinel-2"}[sensor]
    share = manifest.coverage.get(variable, 0.0)
    period = f"within {rules.search_days} days of {w.name} ({w.day})"
    change = f"change --{w.name}, or raise --search-days"
    if share > 0:
        what = f"{mission} covers only {_percent(share)} of the area {period}"
        advice = f"Accept it with --min-coverage {math.floor(100 * share) / 100:g}, {change}"
    elif fitting[variable]:
        orbits = {f"{c.overpass.first.relative_orbit} {c.overpass.first.direction.lower()}" for c in fitting[variable]}
        what = f"no orbit of {mission} covers the area near every date; {period} only {', '.join(sorted(orbits))} do"
        advice = "Change a date, or raise --search-days"
    else:
        reasons = sorted({c.why for c in choice.candidates if c.variable == variable and c.why})
        what = f"there is no usable {mission} acquisition {period}" + (
            f" ({'; '.join(reasons[:3])})" if reasons else ""
        )
        advice = change[0].upper() + change[1:]
    passes = passes_over(nearby.radar if sensor == "s1" else nearby.optical, manifest.area.polygon, manifest.area.crs)
    if not passes:
        raise StackError(f"{what}, and none within {NEARBY_DAYS} days: {_rare(w.day, sensor)}")
    passes.sort(key=lambda p: (w.days_from(p.first.day), -p.coverage))
    raise StackError(f"{what}. Nearest: {', '.join(map(_brief, passes[:4]))}. {advice}")


def _brief(overpass: Pass) -> str:
    first = overpass.first
    clear = "" if overpass.clear is None else f", {_percent(overpass.clear)} clear"
    unfit = f", {first.unfit}" if first.unfit else ""
    share = _percent(overpass.coverage)
    return f"{first.day} ({first.platform} orbit {first.relative_orbit}, {share} of the area{clear}{unfit})"


def _rare(day: date, sensor: str) -> str:
    if sensor == "s2" and day < date(2018, 12, 15):
        return "surface reflectance starts in March 2017 and is sparse before December 2018; choose a later date"
    return "at sea and near the poles few images are acquired; is the area where you mean it to be?"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.9995 or share < 0.005 else f"{100 * share:.1f} %"
