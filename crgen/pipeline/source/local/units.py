"""The units of stored numbers: checked on a sample, converted, and what cannot be a measurement left out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crgen.errors import StackError
from crgen.pipeline.source.local.lazy_raster import LazyRaster, linear_to_db, only_between, scaled
from crgen.pipeline.source.local.names import dim_of
from crgen.pipeline.source.local.tiff import SUFFIXES
from crgen.pipeline.source.local.zeros import dark_missing, silent_missing

SAMPLE = 256
BASELINE = (
    "; Copernicus' own files hold 1000 more since January 2022 (processing baseline 04.00): for those --s2-offset -0.1 "
    "too"
)
LIMITS = {"pol": (-80.0, 60.0), "band": (-0.2, 6.0), None: (-0.01, 1.01)}
"""What no measurement can pass: backscatter in dB, reflectance, a score. Beyond lie numbers that stand for "none"."""
DARK = -0.02
"""Reflectance that no quarter of a band lies below: correcting for air leaves at most that much too little."""
FAINT = 0.01
"""Reflectance that the brightest pixel of a scene exceeds: percent taken for digital numbers does not."""
FEW = 2
"""Numbers that stand for "none" in one file, at most; values that differ more are measured in some other unit."""


def in_stack_units(
    layer: LazyRaster, name: str, path: Path, *, s1_units: str, s2_scale: float, s2_offset: float, undeclared: bool
) -> LazyRaster:
    """Convert a layer to the Stack's units, or refuse it if a sample of its values contradicts them.

    Args:
        layer: in what its file states.
        name: the variable of the Stack, or one look of the past.
        path: the stack, for messages.
        s1_units: ``"dB"`` or ``"linear"``.
        s2_scale: factor to reflectance.
        s2_offset: added after that.
        undeclared: whether zeros that cannot be data may stand for "none", though nobody says so.

    Raises:
        StackError: naming the variable, its values and what to do.
    """
    where, dim = f"'{path}': {name}", dim_of(name)
    if dim == "pol" and s1_units == "linear":
        if problem := _power_problem(sample(layer), layer):
            raise StackError(f"{where} {problem}")
        layer = linear_to_db(layer)
    if dim == "band":
        layer = dark_missing(layer) if undeclared else layer
        if s2_scale != 1.0 and (values := sample(layer)).size and _problem(dim, values, layer) is None:
            raise StackError(
                f"{where} holds reflectance already ({_span(values)}), so --s2-scale {s2_scale:g} is wrong for it; "
                "leave the option out, or give all variables the same unit"
            )
        if s2_offset and any(layer.zero):
            raise StackError(
                f"{where} states an offset itself ({max(layer.zero, key=abs):g}), which is applied, so --s2-offset "
                f"{s2_offset:g} is one too many; leave the option out, or let no variable state one"
            )
        if (s2_scale, s2_offset) != (1.0, 0.0):
            if low := _one_number_below(sample(layer), (LIMITS["band"][0] - s2_offset) / s2_scale):
                raise StackError(f"{where} {_undeclared(low, sample(layer), layer)}")
            layer = scaled(layer, s2_scale, s2_offset)
    if (values := sample(layer)).size:
        problem = _problem(dim, values, layer)
        if not problem and dim == "band":
            problem = _too_dark(layer, values, s2_scale, s2_offset)
        if problem:
            raise StackError(f"{where} {problem}")
    layer = only_between(layer, *LIMITS[dim])
    return silent_missing(layer) if undeclared and dim == "pol" else layer


def _power_problem(values: NDArray[np.float32], layer: LazyRaster) -> str | None:
    if not values.size or values.min() > -1:  # removing thermal noise leaves a few small negatives
        return None
    if np.median(values) < 0:
        return f"holds mostly negative values ({_span(values)}), so it is not linear power; leave --s1-units out"
    if low := _one_number_below(values, -1):
        return _undeclared(low, values, layer)
    return f"holds values that are no linear power ({_span(values)}); calibrate it, or leave --s1-units out if it is dB"


def _problem(dim: str | None, values: NDArray[np.float32], layer: LazyRaster) -> str | None:
    low, middle, high = (float(v) for v in np.percentile(values, (0, 50, 100)))
    if dim is None:
        return f"should be a score from 0 to 1 ({_span(values)}); scale it" if low < -0.01 or high > 1.01 else None
    if dim == "pol":
        if none := _one_number_below(values, -200):
            return _undeclared(none, values, layer)
        if low > -1 and 0 <= middle < 5:
            return f"looks like linear power ({_span(values)}), pass --s1-units linear (square it first if amplitude)"
        if low < -200 or low >= 0 or not -45 < middle < 10:
            return f"does not look like backscatter in dB ({_span(values)}); calibrate it and convert it to dB"
        return None
    bright = float(np.percentile(values, 75))
    if none := _one_number_below(values, LIMITS["band"][0] if bright <= 2 else -2):
        return _undeclared(none, values, layer)
    if bright > 2 or high > 100:
        return f"looks like DN ({_span(values)}), {_reading(high)}"
    if low < -2:
        return f"does not look like reflectance ({_span(values)}); scale it, or say which number stands for no data"
    return None


def _reading(high: float) -> str:
    """Return the options that turn digital numbers of up to ``high`` into reflectance."""
    if high > 255:
        return f"pass --s2-scale 1e-4{BASELINE}"
    eight = "--s2-scale 0.0039 (1/255) if they are of 8 bits"
    return f"pass --s2-scale 0.01 if they are percent, {eight}" if high <= 100 else f"pass {eight}"


def _too_dark(layer: LazyRaster, values: NDArray[np.float32], s2_scale: float, s2_offset: float) -> str | None:
    """Say what is wrong with a scale or an offset that leaves less light than any ground reflects."""
    options = f"--s2-scale {s2_scale:g}" + (f" and --s2-offset {s2_offset:g}" if s2_offset else "")
    bands = [pixels[np.isfinite(pixels)] for pixels in block(layer)]
    if s2_offset and any(band.size and np.percentile(band, 25) < DARK for band in bands):
        said = f"is negative in a band at {options} ({_span(values)})"
        return f"{said}: it is stored without that offset; leave the option out"
    if s2_scale == 1.0:
        return None
    if values.max() <= FAINT:
        return f"is nearly black at {options} ({_span(values)}); leave the option out or correct it"
    for at, name in enumerate(layer.channels):
        # Over the sea shortwave infrared is black too, but not all over a scene with land.
        if bands[at].size and all(_brightest(layer, at, *window) < FAINT / 10 for window in _windows(layer)):
            return f"is nearly black in {name} alone at {options}: give all its bands the same unit, or the same tags"
    return None


def _brightest(layer: LazyRaster, channel: int, rows: slice, columns: slice) -> float:
    return float(np.nan_to_num(layer.read(rows, columns)[channel], nan=0).max(initial=0))


def _one_number_below(values: NDArray[np.float32], limit: float) -> float | None:
    """Return the number that stands for "none" below what can be measured; None where there is none, or are many."""
    below = np.unique(values[values < limit])
    return float(below[0]) if 0 < below.size <= FEW else None


def _undeclared(low: float, values: NDArray[np.float32], layer: LazyRaster) -> str:
    how = f"e.g. with gdal_edit -a_nodata {low:g}" if layer.label.lower().endswith(SUFFIXES) else "as its _FillValue"
    return f"holds an undeclared nodata value ({_span(values)}); set it, {how}"


def _span(values: NDArray[np.float32]) -> str:
    low, middle, high = (float(v) for v in np.percentile(values, (0, 50, 100)))
    return f"values {low:.4g} to {high:.4g}, median {middle:.4g}"


def sample(layer: LazyRaster) -> NDArray[np.float32]:
    """Return the valid values of the first small block that has any; empty if none of nine has."""
    pixels = block(layer)
    return pixels[np.isfinite(pixels)]


def block(layer: LazyRaster) -> NDArray[np.float32]:
    """Return the first small block with valid values, ``(channel, y, x)``; the last looked at if none has any."""
    for rows, columns in _windows(layer):
        pixels = layer.read(rows, columns)
        if np.isfinite(pixels).any():
            break
    return pixels


def _windows(layer: LazyRaster) -> Iterator[tuple[slice, slice]]:
    """Yield blocks at the centre, then on a 3 × 3 raster over the grid."""
    height, width = layer.geobox.shape
    for down in (0.5, 0.1, 0.9):
        for right in (0.5, 0.1, 0.9):
            top, left = (max(int(n * share) - SAMPLE // 2, 0) for n, share in ((height, down), (width, right)))
            yield slice(top, min(top + SAMPLE, height)), slice(left, min(left + SAMPLE, width))
