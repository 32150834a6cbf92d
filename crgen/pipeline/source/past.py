"""The place's own past: which of its earlier looks a map of t2 learns from."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import NamedTuple

import xarray as xr

from crgen.pipeline.box import Box
from crgen.pipeline.request import YEAR, parse_past
from crgen.pipeline.source.stack import OCCURRENCE, past_days, without_past

CLEAR = 0.5
"""Share of the area that must be clear on an earlier date."""
RECENT = 120
"""Days before t2 within which a date is recent."""
SEASON = 60
"""Days around the same day a year before t2 within which a date is of the same season."""
BLOCK = 2
"""Windows along the side of the block that the past is learned from."""
MOST_RECENT, MOST = 5, 8
"""Earlier dates that are taken: recent ones, where there are as many of the same season, and in all."""


class Look(NamedTuple):
    """A day on which Sentinel-2 saw the place."""

    day: datetime.date
    clear: float
    """Share of the area that was clear, 0 to 1."""


class Day(NamedTuple):
    """A day of a Stack."""

    day: int
    """Counted from year 1."""
    at: int = -1
    """Which of the Stack's past it is; -1 for t1."""


class Asked(NamedTuple):
    """How far around t2 to look, in days."""

    before: int
    after: int = 0


NO_PAST = Asked(0)


def asked_for(past: str | None, after: int = 0) -> Asked | None:
    """Return how far to look, of what a person wrote; None where nothing was said.

    Raises:
        RequestError: if it is no such time.
    """
    if past is None and not after:
        return None
    days = parse_past(past or YEAR)
    return Asked(days + SEASON if days >= 365 else days, after)


USUAL = Asked(365 + SEASON)
"""What Earth Engine is asked for where nothing is said: ``1y``."""


def kept_of(
    stack: xr.Dataset, t1: datetime.date, t2: datetime.date, asked: Asked | None
) -> tuple[xr.Dataset, tuple[str, ...]]:
    """Return a local stack with those looks of its past that serve a map of t2, and what a person should know.

    Args:
        stack: the Stack.
        t1: day of the earlier images.
        t2: day to map.
        asked: how far to look; None for all there is up to t2.
    """
    days = past_days(stack)
    if asked is not None and not asked.before:
        return without_past(stack).drop_vars(OCCURRENCE, errors="ignore"), ()
    if not days:
        return without_past(stack), ()
    after = 0 if asked is None else asked.after
    early = [day for day in days if day not in (t1, t2) and (day - t2).days <= after]
    kept = [day for day in early if asked is None or (t2 - day).days <= asked.before]
    notes = []
    if late := [day for day in days if (day - t2).days > after]:
        notes.append(f"{len(late)} looks of the past are after t2 ({t2}), from {late[0]}: left out; see --after")
    if "clear_past" not in stack:
        notes.append("the past has no clear-sky score (clear_past), so nothing of it is taken as clear: left out")
        kept = []
    elif "s1_past" not in stack:
        notes.append("the past has no radar (s1_past), so no pair of it can be learned from: left out")
        kept = []
    if not kept:
        return without_past(stack), tuple(notes)
    return stack.isel(time=[days.index(day) for day in kept]), tuple(notes)


def block_of(output: Box, side: int) -> tuple[Box, list[tuple[int, int]]]:
    """Return the block in which a place's past is looked at, and the origins of those of its windows in the area.

    It is two by two of the lattice's windows side by side, at a multiple of two windows counted from the CRS's origin:
    the one that holds the middle of the area. So it stays where it is whatever the chunks, and for areas with the same
    middle whatever their outlines. What is found there counts for the whole area.

    Args:
        output: the area on the lattice.
        side: of a window, in pixels.
    """
    top, left = ((low + high) // 2 // (BLOCK * side) * BLOCK * side for low, high in (output[:2], output[2:]))
    block = Box(top, top + BLOCK * side, left, left + BLOCK * side)
    origins = [(top + i * side, left + j * side) for i in range(BLOCK) for j in range(BLOCK)]
    return block, [(r, c) for r, c in origins if Box(r, r + side, c, c + side).intersect(output)]


def stretches_of(t2: datetime.date, asked: Asked) -> list[tuple[datetime.date, datetime.date]]:
    """Return the first and last days of the stretches in which looks can be taken: recent ones, and t2's season."""

    def ago(days: int) -> datetime.date:
        return t2 - datetime.timedelta(days)

    found = [(ago(min(RECENT, asked.before)), ago(-asked.after))]
    for days in range(365, asked.before + SEASON + 1, 365):
        if days - SEASON < asked.before:
            found.append((ago(min(days + SEASON, asked.before)), ago(days - SEASON)))
    return found


def choose_looks(looks: Iterable[Look], t1: datetime.date, t2: datetime.date, asked: Asked) -> list[datetime.date]:
    """Return the days to learn from, in order.

    Of the days before t1, up to eight on which half of the area was clear: recent ones, the latest first, and those of
    the same season in years before, the nearest to it first; where there are few of one kind, more of the other. Of the
    days after t1, all on which anything was clear, but t2's own: what little they show tells of the light near t2.

    Args:
        looks: what there is; the days of t1 and t2 count as known already.
        t1: day of the earlier images.
        t2: day to map.
        asked: how far to look.
    """

    def apart(look: Look) -> int:
        return (t2 - look.day).days

    def off_season(look: Look) -> int:
        return abs((apart(look) + 182) % 365 - 182)

    if not asked.before:
        return []
    near = [look for look in looks if -asked.after <= apart(look) <= asked.before and look.day not in (t1, t2)]
    later = [look.day for look in near if look.day > t1 and look.clear > 0]
    clear = sorted((look for look in near if look.day < t1 and look.clear >= CLEAR), key=apart)
    recent = [look for look in clear if apart(look) <= RECENT]
    season = sorted((x for x in clear if x not in recent and off_season(x) <= SEASON), key=off_season)
    kept = max(MOST_RECENT, MOST - len(season))
    taken = recent[:kept] + season[: MOST - len(recent[:kept])]
    return sorted({*(look.day for look in taken), *later})
