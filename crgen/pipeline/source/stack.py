"""The Stack: the one contract between sources of imagery and the pipeline.

A Stack is an :class:`xarray.Dataset`, dask-backed, with nothing read yet:

========================  ==================  ==================================================  =======
variable                  dims                dtype and unit                                      missing
========================  ==================  ==================================================  =======
``s1_t1``, ``s1_t2``      ``(pol, y, x)``     float32, Sentinel-1 backscatter in dB               NaN
``s2_t1``, ``s2_t2``      ``(band, y, x)``    float32, Sentinel-2 surface reflectance, 0 to 1     NaN
``clear_t1``, ``clear_t2``  ``(y, x)``        float32, clear-sky score, 0 (cloud) to 1 (clear)    NaN
``truth_t2``              ``(band, y, x)``    float32, the true cloud-free reflectance, if known  NaN
``water_occurrence``      ``(y, x)``          float32, share of looks since 1984 with water        NaN
``s1_past``, ``s2_past``  ``(time, …)``       as above: other looks at the place, of each date    NaN
``clear_past``            ``(time, y, x)``    Sentinel-2 with the Sentinel-1 nearest to it        NaN
========================  ==================  ==================================================  =======

``s2_t2``, ``clear_t1``, ``clear_t2``, ``truth_t2`` and ``water_occurrence`` are optional, and so is the past; of its
three variables ``s2_past`` is there if any is; its coordinate ``time`` holds the days of Sentinel-2, in order. A Stack
of one date holds ``s1_t2``, and no variable of t1: it can be pulled, written and opened, and no map made of it.
Coordinate ``pol`` holds ``"VV"``/``"VH"``, ``band`` holds Earth Engine's Sentinel-2 names (``"B2"`` … ``"B8A"`` …
``"B12"``). The grid is north-up with square pixels, its CRS and transform written as odc-geo and rioxarray write them
(``spatial_ref``). ``attrs["manifest"]`` holds, as a JSON string, where the pixels come from; ``attrs["s1_calibrated"]``
is 1 where backscatter is in true dB, 0 where its level means nothing, only its contrast (stretched images); 1 if it is
not said.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from crgen.errors import StackError

POLARISATIONS = ("VV", "VH")
S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")

FEATHER = 8
"""Pixels over which an observation fades into the generated image, inward from a cloud's edge."""

CALIBRATED = "s1_calibrated"
"""The attribute that says whether backscatter is in true dB."""

REQUIRED = ("s1_t1", "s2_t1", "s1_t2")
OCCURRENCE = "water_occurrence"
"""How often a place was water, as the JRC's Global Surface Water has it."""
OPTIONAL = ("s2_t2", "clear_t1", "clear_t2", "truth_t2", OCCURRENCE)
CHANNEL_DIM = {
    "s1_t1": "pol",
    "s1_t2": "pol",
    "s2_t1": "band",
    "s2_t2": "band",
    "truth_t2": "band",
    "clear_t1": None,
    "clear_t2": None,
    OCCURRENCE: None,
}
PAST: dict[str, str | None] = {"s1_past": "pol", "s2_past": "band", "clear_past": None}
"""The variables of the place's own past, with the dimension of their channels."""


def channel_of(name: str) -> str | None:
    """Return the dimension of a variable's channels; None for one without."""
    return PAST[name] if name in PAST else CHANNEL_DIM[name]


def dims_of(name: str) -> tuple[str, ...]:
    """Return the dimensions of a variable of a Stack."""
    channel = channel_of(name)
    return (*(("time",) if name in PAST else ()), *((channel,) if channel else ()), "y", "x")


def lacking(names: Collection[str]) -> list[str]:
    """Return which variables are missing among some to make a Stack, of two dates or of t2 alone."""
    alone = "s1_t2" in names and not any(name.endswith("_t1") for name in names)
    return [] if alone else [name for name in REQUIRED if name not in names]


def require_two_dates(stack: xr.Dataset, where: str) -> None:
    """Refuse a Stack of one date.

    Raises:
        StackError: naming ``where``.
    """
    if "s1_t1" not in stack:
        raise StackError(
            f"{where} is of one date: it has no s1_t1 and no s2_t1, which are needed too; pull or add those of t1"
        )


def past_days(stack: xr.Dataset) -> tuple[datetime.date, ...]:
    """Return the days of a Stack's past, in order; none if it has no past."""
    if "s2_past" not in stack:
        return ()
    return tuple(datetime.date.fromisoformat(str(day)[:10]) for day in stack["time"].values)


def without_past(stack: xr.Dataset) -> xr.Dataset:
    """Return a Stack of its two dates alone."""
    return stack.drop_vars([*PAST, "time"], errors="ignore")


def build_stack(
    geobox: GeoBox,
    variables: Mapping[str, Any],
    *,
    pols: Sequence[str],
    bands: Sequence[str],
    manifest: Mapping[str, Any],
    calibrated: bool = True,
    times: Sequence[datetime.date] = (),
) -> xr.Dataset:
    """Put arrays on a grid together into a Stack.

    Args:
        geobox: the grid of every array.
        variables: arrays by variable name; ``(channel, y, x)`` or ``(y, x)`` float32, numpy or dask; those of the past
            with an axis of time before.
        pols: polarisations along the channel axis of the Sentinel-1 arrays.
        bands: band names along the channel axis of the Sentinel-2 arrays.
        manifest: where the pixels come from; must serialise to JSON.
        calibrated: whether backscatter is in true dB.
        times: days of the past, in order.

    Returns:
        A validated Stack.

    Raises:
        StackError: if the result is not a Stack.
    """
    coords = xr_coords(geobox, dims=("y", "x"))
    labels = {"pol": list(pols), "band": list(bands), "time": np.array(times, "datetime64[ns]")}
    data = {}
    for name, array in variables.items():
        dims = dims_of(name)
        extra = {dim: labels[dim] for dim in dims[:-2]}
        data[name] = xr.DataArray(array, dims=dims, coords={**coords, **extra}, attrs={"grid_mapping": "spatial_ref"})
    attributes = {"manifest": json.dumps(manifest, sort_keys=True), CALIBRATED: int(calibrated)}
    return validate(xr.Dataset(data, attrs=attributes))


def validate(stack: xr.Dataset) -> xr.Dataset:
    """Return ``stack`` if it keeps the contract; reads no pixels.

    Raises:
        StackError: naming the first thing that does not fit.
    """
    if missing := lacking([str(name) for name in stack]):
        raise StackError(f"the stack has no variable '{missing[0]}'; it needs {', '.join(REQUIRED)}")
    geobox = stack_geobox(stack)
    if any(name in stack for name in PAST):
        _check_times(stack)
    for name in (n for n in (*REQUIRED, *OPTIONAL, *PAST) if n in stack):
        array = stack[name]
        channel, dims = channel_of(name), dims_of(name)
        if array.dims != dims:
            raise StackError(f"'{name}' has dimensions {array.dims}, expected {dims}")
        if array.dtype != np.float32:
            raise StackError(f"'{name}' is {array.dtype}, expected float32 with NaN where data is missing")
        if channel is None:
            continue
        known = POLARISATIONS if channel == "pol" else S2_BANDS
        labels = [str(v) for v in array[channel].values]
        unknown = [v for v in labels if v not in known]
        if unknown:
            raise StackError(f"'{name}' names the {channel} '{unknown[0]}'; known are {', '.join(known)}")
        if len(set(labels)) != len(labels):
            raise StackError(f"'{name}' names a {channel} twice: {', '.join(labels)}")
    if 0 in geobox.shape:
        raise StackError(f"the stack's grid is empty: {geobox.shape[1]} × {geobox.shape[0]} pixels")
    return stack


def _check_times(stack: xr.Dataset) -> None:
    if "s2_past" not in stack:
        raise StackError("the stack has a past without Sentinel-2: 's2_past' is missing")
    times = stack["time"].values if "time" in stack.coords else np.zeros(0)
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise StackError("the coordinate 'time' of the stack's past does not hold dates")
    if (np.diff(times.astype("datetime64[D]").astype(int)) <= 0).any():
        raise StackError("the days of the stack's past ('time') are not in order, each once; sort them first")


def stack_geobox(stack: xr.Dataset) -> GeoBox:
    """Return the grid of ``stack``.

    Raises:
        StackError: if there is none, it is rotated, or its pixels are not square and north-up.
    """
    geobox: GeoBox | None = stack.odc.geobox
    if geobox is None or geobox.crs is None:
        raise StackError("the stack has no CRS and transform; write them with rioxarray (spatial_ref) first")
    a = geobox.affine
    if a.b or a.d or a.a <= 0 or a.e >= 0 or abs(a.a + a.e) > 1e-6 * a.a:
        raise StackError(
            f"the stack's grid is not north-up with square pixels (transform {tuple(a)[:6]}); "
            "warp it first, e.g. with gdalwarp -tr 10 10"
        )
    return geobox


def manifest_of(stack: xr.Dataset) -> dict[str, Any]:
    """Return where the pixels of ``stack`` come from (empty if it does not say)."""
    manifest: dict[str, Any] = json.loads(stack.attrs.get("manifest", "{}"))
    return manifest


def is_calibrated(attributes: Mapping[str, Any]) -> bool:
    """Return whether a Stack's attributes, or what is stored with its files, say that backscatter is in true dB."""
    return str(attributes.get(CALIBRATED, True)).lower() not in ("0", "false", "no")


def require_channels(stack: xr.Dataset, *, pols: Sequence[str], bands: Sequence[str]) -> None:
    """Check that every variable of ``stack`` holds the channels a model asks for.

    Raises:
        StackError: naming the variable and the missing channels.
    """
    for name in (n for n in (*CHANNEL_DIM, *PAST) if n in stack):
        channel = channel_of(name)
        if channel is None:
            continue
        wanted = pols if channel == "pol" else bands
        held = [str(v) for v in stack[name][channel].values]
        missing = [c for c in wanted if c not in held]
        if missing:
            raise StackError(
                f"'{name}' lacks {', '.join(missing)}: it holds {', '.join(held)}, the model needs {', '.join(wanted)}"
            )
