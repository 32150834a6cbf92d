"""Which earlier looks at a place may be copied to a day; loads no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from crgen.model import past_learned

YEAR = 365.25


class _Dated(Protocol):
    @property
    def day(self) -> int: ...


Dated = TypeVar("Dated", bound=_Dated)


def season_apart(a: float, b: float) -> float:
    """Return the days between the seasons of two days, counted from anywhere: 0 to half a year."""
    return abs((a - b + YEAR / 2) % YEAR - YEAR / 2)


def shown_by(looks: Sequence[Dated], first: int, day: int) -> list[Dated]:
    """Return the looks that may be copied to a day: the last ones up to the first of its pair, and one of its season.

    Args:
        looks: anything with a ``day``.
        first: day of the pair's first look.
        day: the day that is made.
    """
    known = sorted((look for look in looks if look.day <= first), key=lambda look: -look.day)
    recent = [look for look in known if day - look.day < YEAR / 2]
    before = [look for look in known if day - look.day >= YEAR / 2]
    return recent[: past_learned.LEARNED.last] + sorted(before, key=lambda look: season_apart(look.day, day))[:1]
