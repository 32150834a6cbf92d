"""How bands and polarisations are called elsewhere, and what the Stack calls them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import TypeVar

from crgen.errors import StackError
from crgen.pipeline.source.stack import CHANNEL_DIM, PAST, POLARISATIONS, S2_BANDS, channel_of

T = TypeVar("T")

COMMON = {
    "COASTAL": "B1", "BLUE": "B2", "GREEN": "B3", "RED": "B4", "REDEDGE1": "B5", "REDEDGE2": "B6", "REDEDGE3": "B7",
    "REDEDGE071": "B5", "REDEDGE075": "B6", "REDEDGE078": "B7", "NIR": "B8", "NIR08": "B8A", "NIR09": "B9",
    "SWIR16": "B11", "SWIR22": "B12",
}  # fmt: skip
"""STAC's common names of Sentinel-2's bands (eo:common_name), and those of the Earth Search catalogue's assets."""

_BAND = re.compile(r"B_?0*(\d{1,2}A?)(?:[^0-9A-Z].*)?")
"""``B03``, ``B_3``, ``B04_10m`` of a Copernicus product, ``B4, central wavelength 665 nm`` of GDAL."""
_POLARISATION = re.compile(r"(?:.*[^A-Z])?(VV|VH)(?:[^A-Z].*)?")
"""``vv``, and SNAP's ``Sigma0_VV``, ``Gamma0_VH_db``, ``Sigma0_VV_slv1_22Jul2021``."""
_VARIABLE = re.compile(
    rf"({'|'.join(CHANNEL_DIM)}|(?:{'|'.join(PAST)})(?:_\d{{4}}-\d\d-\d\d)?)(?:[ _.-](.+))?", re.IGNORECASE
)
"""A variable of the Stack, of the past one of a day's, and the channel."""


def channel(name: object) -> str:
    """Return the Stack's name of a channel, or its own in capitals where it is none of those known."""
    text = str(name).strip().upper()
    if text in COMMON:
        return COMMON[text]
    if found := _BAND.fullmatch(text):
        return f"B{found[1]}"
    found = _POLARISATION.fullmatch(text)
    return found[1] if found else text


def of_day(name: str) -> tuple[str, date | None]:
    """Return the variable of the Stack of which a name is one look, and its day: of ``s2_past_2021-06-20``.

    The day is None where the name says none.
    """
    variable = next((past for past in PAST if name.startswith(f"{past}_")), name)
    try:
        return variable, date.fromisoformat(name.removeprefix(f"{variable}_"))
    except ValueError:
        return variable, None


def dim_of(name: str) -> str | None:
    """Return the dimension of a variable's channels, or of one look's; None for one without."""
    return channel_of(of_day(name)[0])


def by_variable(holders: Mapping[str, T], where: str, *, stem: bool = False) -> dict[str, dict[str, T]]:
    """Sort files or variables by the variable of the Stack that they hold.

    Args:
        holders: what holds pixels, by its name: ``s1_t1``, or ``s1_t1_VV`` where each channel has its own; of the past
            ``s1_past``, or ``s1_past_2021-06-20`` where each day has its own.
        where: how messages name the whole.
        stem: whether the names are of files, with an ending.

    Returns:
        By variable of the Stack what holds it, by channel; ``""`` for one that holds all.

    Raises:
        StackError: if two hold the same.
    """
    sorted_: dict[str, dict[str, T]] = {}
    names: dict[tuple[str, str], str] = {}
    for name, holder in holders.items():
        bare = name.rpartition(".")[0] if stem else name
        found = _VARIABLE.fullmatch(bare)
        if not found:
            continue
        variable, part = found[1].lower(), channel(found[2]) if found[2] else ""
        parts = sorted_.setdefault(variable, {})
        clash = part if part in parts else next(iter(parts)) if parts and "" in (part, *parts) else None
        if clash is not None:
            raise StackError(f"'{where}' holds {variable} twice, in {names[variable, clash]} and in {name}; remove one")
        parts[part] = holder
        names[variable, part] = name
    known = ["", *POLARISATIONS, *S2_BANDS]
    return {
        name: dict(sorted(parts.items(), key=lambda part: known.index(part[0]) if part[0] in known else len(known)))
        for name, parts in sorted_.items()
    }


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names with commas between, and how many more there are."""
    held = list(names)
    more = f" and {len(held) - most} more" if len(held) > most else ""
    return ", ".join(held[:most]) + more
