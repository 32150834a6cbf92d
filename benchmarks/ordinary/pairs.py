"""Pairs of clear dates of one place, days to weeks apart."""

from __future__ import annotations

import numpy as np

from crgen.training.data.worldcereal import Date

DAYS = (8, 70)
"""Fewest and most days between the two dates."""
CLEAR = 0.6
"""Least share of clear pixels of a date."""


def days_between(a: Date, b: Date) -> int:
    """Return the days from one date to another."""
    return int((b.day - a.day) / np.timedelta64(1, "D"))


def clear_enough(date: Date) -> bool:
    """Return whether a date can be either of a pair."""
    return bool(date.clear.mean() >= CLEAR)


def nearest_pairs(dates: list[Date]) -> list[tuple[int, int]]:
    """Return for each clear date the latest clear one that lies enough days before it, as places in ``dates``."""
    pairs = []
    for b, then in enumerate(dates):
        if not clear_enough(then):
            continue
        before = [
            a
            for a, first in enumerate(dates[:b])
            if clear_enough(first) and DAYS[0] <= days_between(first, then) <= DAYS[1]
        ]
        if before:
            pairs.append((before[-1], b))
    return pairs
