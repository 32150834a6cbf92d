"""Values as people write them in a jobs file: days, rules that find them, durations, sizes."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import PlainValidator

LATEST = "latest"
BEFORE_EVENT = "before event"
_TIMES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class DaysBefore:
    """So many days before t2."""

    days: int


Rule = datetime.date | str | DaysBefore
"""A day, ``latest``, ``before event`` or so many days before t2."""


def parse_t1(value: Any) -> Rule:
    """Understand ``t1``: a day, ``-12d`` or ``before event``.

    Raises:
        ValueError: saying what can be written.
    """
    if value == BEFORE_EVENT:
        return BEFORE_EVENT
    if isinstance(value, str) and (found := re.fullmatch(r"-(\d{1,4})\s?d", value.strip())):
        if int(found[1]) == 0:
            raise ValueError("t1 must be before t2: write e.g. -12d")
        return DaysBefore(int(found[1]))
    return _day(value, "'-12d' (before t2) or 'before event'")


def parse_t2(value: Any) -> Rule:
    """Understand ``t2``: a day or ``latest``.

    Raises:
        ValueError: saying what can be written.
    """
    return LATEST if value == LATEST else _day(value, "'latest'")


def parse_event(value: Any) -> datetime.date:
    """Understand the day of an event.

    Raises:
        ValueError: saying what can be written.
    """
    return _day(value, "")


def parse_duration(value: Any) -> datetime.timedelta:
    """Understand ``90s``, ``15m``, ``36h`` or ``12d``.

    Raises:
        ValueError: saying what can be written.
    """
    if isinstance(value, datetime.timedelta):
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s?([smhd])", value.strip())):
        length = datetime.timedelta(**{_TIMES[found[2]]: float(found[1])})
        if length:
            return length
    raise ValueError(f"'{value}' is not a time: write a number and s, m, h or d, e.g. '15m' or '36h'")


def parse_deadline(value: Any) -> datetime.datetime | datetime.timedelta:
    """Understand a moment with its offset from UTC, or a duration since the acquisitions were found.

    Raises:
        ValueError: saying what can be written.
    """
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value} says no time zone: write it with Z or an offset, e.g. 2026-12-01T12:00:00Z")
        return value
    if isinstance(value, datetime.date):
        raise ValueError(f"{value} says no time: write e.g. {value}T12:00:00Z")
    try:
        datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return parse_duration(value)
    raise ValueError(f'a moment stands without quotes: write {value}, not "{value}"')


def parse_size(value: Any) -> int:
    """Understand ``500MB`` or ``1.5 TB``, in bytes.

    Raises:
        ValueError: saying what can be written.
    """
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([kMGT]B)", value.strip())):
        return int(float(found[1]) * _SIZES[found[2]])
    raise ValueError(f"'{value}' is no size: write a number and kB, MB, GB or TB, e.g. 200GB")


def _day(value: Any, rules: str) -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        others = f", or {rules}" if rules else ""
        raise ValueError(f"'{value}' is no day: write YYYY-MM-DD{others}") from None


T1 = Annotated[Rule, PlainValidator(parse_t1)]
T2 = Annotated[Rule, PlainValidator(parse_t2)]
Day = Annotated[datetime.date, PlainValidator(parse_event)]
Duration = Annotated[datetime.timedelta, PlainValidator(parse_duration)]
Deadline = Annotated[datetime.datetime | datetime.timedelta, PlainValidator(parse_deadline)]
Size = Annotated[int, PlainValidator(parse_size)]
