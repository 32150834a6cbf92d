"""Sizes as people write them in a jobs file or an option."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import PlainValidator

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_size(value: Any) -> int:
    """Understand ``500MB`` or ``1.5 TB``, in bytes.

    Raises:
        ValueError: saying what can be written.
    """
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([kMGT]B)", value.strip())):
        return int(float(found[1]) * _UNITS[found[2]])
    raise ValueError(f"'{value}' is no size: write a number and kB, MB, GB or TB, e.g. 200GB")


Size = Annotated[int, PlainValidator(parse_size)]
