"""Values as people write them in a jobs file: days and rules for them, durations, sizes."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import PlainValidator

LATEST: Final = "latest"
BEFORE_EVENT: Final = "before event"
_TIMES = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SIZES = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class DaysBefore:
    """So many days before t2."""

    days: int


def parse_duration(value: Any) -> datetime.timedelta:
    """Return the duration that ``90s``, ``15m``, ``36h`` or ``12d`` stands for.

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


def parse_size(value: Any) -> int:
    """Return the bytes that ``500MB`` or ``1.5 TB`` stands for.

    Raises:
        ValueError: saying what can be written.
    """
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([kMGT]B)", value.strip())):
        return int(float(found[1]) * _SIZES[found[2]])
    raise ValueError(f"'{value}' is no size: write a number and kB, MB, GB or TB, e.g. 200GB")


def _day(value: Any, *, rules: str = "") -> datetime.date:
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"'{value}' is no day: write YYYY-MM-DD{rules}") from None


def _t1(value: Any) -> Any:
    if value == BEFORE_EVENT:
        return BEFORE_EVENT
    if isinstance(value, str) and (found := re.fullmatch(r"-(\d{1,4})\s?d", value.strip())):
        if int(found[1]) == 0:
            raise ValueError("t1 must be before t2: write e.g. -12d")
        return DaysBefore(int(found[1]))
    return _day(value, rules=", or '-12d' (before t2) or 'before event'")


def _t2(value: Any) -> Any:
    return LATEST if value == LATEST else _day(value, rules=", or 'latest'")


def _deadline(value: Any) -> datetime.datetime | datetime.timedelta:
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


T1 = Annotated[datetime.date | DaysBefore | Literal["before event"], PlainValidator(_t1)]
T2 = Annotated[datetime.date | Literal["latest"], PlainValidator(_t2)]
Day = Annotated[datetime.date, PlainValidator(_day)]
Duration = Annotated[datetime.timedelta, PlainValidator(parse_duration)]
Deadline = Annotated[datetime.datetime | datetime.timedelta, PlainValidator(_deadline)]
"""A moment, or a duration after the acquisitions were found."""
Size = Annotated[int, PlainValidator(parse_size)]
"""Bytes."""
