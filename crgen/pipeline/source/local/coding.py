"""What a file says of its stored numbers, and what they mean by that: scale, offset, and which stand for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.errors import StackError


@dataclass(frozen=True)
class Coding:
    """How the numbers of one channel are stored.

    Attributes:
        scale: factor from stored to meant.
        offset: added after that.
        missing: stored numbers that stand for no data.
        valid: the least and the largest stored number that is data.
        unsigned: whether the stored integers are to be taken as unsigned (NetCDF's ``_Unsigned``).
    """

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()
    valid: tuple[float, float] = (-math.inf, math.inf)
    unsigned: bool = False

    def decode(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the numbers of one channel mean, as float32, NaN where there is no data.

        Infinities are no data, nor are the ends of an integer type of 16 bits and more, which satellites' products use
        for "saturated" and "none".
        """
        if self.unsigned and stored.dtype.kind == "i":
            stored = stored.view(f"u{stored.dtype.itemsize}")
        gone = np.zeros(stored.shape, bool)
        for number in self.missing:
            gone |= stored == _like(number, stored.dtype)
        for beyond, limit in ((np.less, self.valid[0]), (np.greater, self.valid[1])):
            if math.isfinite(limit):
                gone |= beyond(stored, _like(limit, stored.dtype))
        if stored.dtype.kind in "iu" and stored.dtype.itemsize > 1:
            limits = np.iinfo(stored.dtype)
            gone |= (stored == limits.max) | ((stored == limits.min) & (limits.min < 0))
        with np.errstate(over="ignore"):
            meant = stored.astype(np.float32)
        if (self.scale, self.offset) != (1.0, 0.0):
            meant = meant * np.float32(self.scale) + np.float32(self.offset)
        return np.where(gone | ~np.isfinite(meant), np.float32(np.nan), meant)


def _like(number: float, dtype: np.dtype[Any]) -> Any:
    """Return a number as a file of ``dtype`` holds it: -3.4e38 stated in double precision is that of float32."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(number)
    return number


def codings_of(attributes: Mapping[str, Any], dtype: np.dtype[Any], count: int, label: str) -> tuple[Coding, ...]:
    """Return the codings that the attributes of a NetCDF or Zarr variable state, one a channel.

    Understood are ``scale_factor``, ``add_offset``, ``_FillValue``, ``missing_value``, ``valid_range``, ``valid_min``,
    ``valid_max`` and ``_Unsigned`` (CF conventions), ``nodata`` (odc-stac), and the ``scales``, ``offsets`` and
    ``nodatavals`` of rioxarray.

    Args:
        attributes: as stored, nothing decoded.
        dtype: of the stored numbers.
        count: of channels.
        label: how messages name the variable.

    Raises:
        StackError: if one is not numbers, or not one for all or one a channel.
    """

    def numbers(*names: str) -> list[tuple[float, ...]]:
        """Return the first attribute there is, as one number a channel."""
        for name in names:
            if name in attributes:
                values = _numbers(attributes[name], name, label)
                if len(values) not in (1, count):
                    raise StackError(
                        f"'{label}' has {count} channels, but its attribute {name} has {len(values)} numbers"
                    )
                return [(v,) for v in (values * count if len(values) == 1 else values)]
        return [()] * count

    scales, offsets = numbers("scale_factor", "scales"), numbers("add_offset", "offsets")
    shared = [
        v for name in ("_FillValue", "missing_value", "nodata") for v in _numbers(attributes.get(name), name, label)
    ]
    own = numbers("nodatavals")
    unsigned = str(attributes.get("_Unsigned", "false")).lower() == "true"
    missing = [tuple(_as_stored([*shared, *own[i]], dtype, unsigned)) for i in range(count)]
    low, high = _limits(attributes, label)
    codings = []
    for scale, offset, gone in zip(scales, offsets, missing, strict=True):
        factor, added = scale[0] if scale else 1.0, offset[0] if offset else 0.0
        if not (math.isfinite(factor) and math.isfinite(added) and factor):
            raise StackError(f"'{label}' states the scale {factor:g} and the offset {added:g}; correct its attributes")
        valid = (low, high)
        if dtype.kind in "iu" and any(
            math.isfinite(v) and v != round(v) for v in valid
        ):  # stated as meant, not as stored
            valid = tuple(sorted((v - added) / factor for v in valid))  # type: ignore[assignment]
        codings.append(Coding(factor, added, gone, valid, unsigned))
    return tuple(codings)


def _numbers(value: Any, name: str, label: str) -> tuple[float, ...]:
    if value is None:
        return ()
    try:
        return tuple(float(v) for v in np.atleast_1d(value))
    except (TypeError, ValueError):
        raise StackError(f"'{label}' has an attribute {name} that is no number ({value!r}); correct it") from None


def _as_stored(numbers: list[float], dtype: np.dtype[Any], unsigned: bool) -> Iterator[float]:
    """Yield numbers for "none" as they are compared: not NaN, and 255 where -1 is stated of an unsigned byte."""
    for number in numbers:
        if math.isnan(number):
            continue
        yield number + 2 ** (8 * dtype.itemsize) if unsigned and number < 0 else number


def _limits(attributes: Mapping[str, Any], label: str) -> tuple[float, float]:
    both = _numbers(attributes.get("valid_range"), "valid_range", label)
    if len(both) == 2:
        return both[0], both[1]
    if both:
        raise StackError(f"'{label}' has a valid_range of {len(both)} numbers; it should have two")
    least = _numbers(attributes.get("valid_min"), "valid_min", label) or (-math.inf,)
    most = _numbers(attributes.get("valid_max"), "valid_max", label) or (math.inf,)
    return least[0], most[0]
