"""Whether the radar of t1 and of t2 lie on each other, measured by phase correlation.

A shift makes edges of what did not change look like change: early scenes of Sentinel-1C were off by pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy import fft
from numpy.typing import NDArray

from crgen.files import pulled_from
from crgen.pipeline.source.stack import manifest_of, stack_geobox

SIDE = 1024
"""Pixels across the part of a stack that is looked at, its middle."""
WORTH_A_WARNING = 0.5
"""Pixels."""
SMOOTH = 1.0
"""Pixels of Gaussian blur of the correlation: without it the peak is as narrow as the noise."""


@dataclass(frozen=True)
class Shift:
    """How far the radar of t2 lies from that of t1, in pixels."""

    right: float
    down: float

    @property
    def length(self) -> float:
        """Pixels apart."""
        return math.hypot(self.right, self.down)

    @property
    def settings(self) -> dict[str, float | str]:
        """What a product's settings say of it."""
        return {"right": round(self.right, 2), "down": round(self.down, 2), "unit": "pixel"}

    def __str__(self) -> str:
        return f"{self.length:.1f} px apart"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know of it, if anything."""
        if self.length < WORTH_A_WARNING:
            return ()
        return (
            f"the radar of t2 lies {self.length:.1f} px from that of t1 ({self.right:+.1f} right, {self.down:+.1f} "
            "down): edges of what did not change may look like change; 'crgen scenes' lists other passes",
        )


def radar_shift(stack: xr.Dataset) -> Shift | None:
    """Measure how far the radar of t2 lies from that of t1, in the middle of a stack.

    What the nearest pixel of each scene's lattice adds, up to half a pixel a date, is known and not counted.

    Returns:
        The shift, the median of the quarters'; None where fewer than two of them tell one, or they disagree.
    """
    rows, columns = (slice(start := max(0, (stack.sizes[axis] - SIDE) // 2), start + SIDE) for axis in ("y", "x"))
    first, second = (stack[name].isel(pol=0, y=rows, x=columns).values for name in ("s1_t1", "s1_t2"))
    quarters = [(rows, columns) for rows in _halves(first.shape[0]) for columns in _halves(first.shape[1])]
    found = [shift for at in quarters if (shift := shift_between(first[at], second[at])) is not None]
    if len(found) < 2:
        return None
    right, down = (float(np.median([getattr(shift, way) for shift in found])) for way in ("right", "down"))
    if max(math.hypot(shift.right - right, shift.down - down) for shift in found) > WORTH_A_WARNING:
        return None
    known = _by_lattice(stack)
    return Shift(right - known[0], down - known[1])


def _halves(length: int) -> tuple[slice, slice]:
    return slice(0, length // 2), slice(length // 2, length)


def shift_between(first: NDArray[np.floating], second: NDArray[np.floating]) -> Shift | None:
    """Return how far ``second`` lies from ``first`` by phase correlation, to a fraction of a pixel.

    Args:
        first: ``(y, x)``, NaN where missing.
        second: alike.

    Returns:
        The shift; None where half of the pixels are missing, or where noise alone could correlate as well.
    """
    there = np.isfinite(first) & np.isfinite(second)
    if min(there.shape) < 16 or there.mean() < 0.5:
        return None
    height, width = there.shape
    taper = np.outer(np.hanning(height), np.hanning(width))
    one, other = (
        fft.rfft2(np.where(there, image - image[there].mean(dtype=float), 0.0) * taper) for image in (first, second)
    )
    cross = one.conj() * other
    # Of phase alone, what smooth ground has least of would count as much as what it has most of.
    weight = np.sqrt(np.abs(cross))
    phase = np.divide(cross, weight, out=np.zeros_like(cross), where=weight > 0)
    down, right = fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None]
    correlation = fft.irfft2(phase * np.exp(-2 * (np.pi * SMOOTH) ** 2 * (down**2 + right**2)), s=there.shape)
    row, column = np.unravel_index(correlation.argmax(), correlation.shape)
    # The highest of n values of noise lies about √(2 ln n) deviations above their mean.
    if correlation[row, column] - correlation.mean() <= 2 * math.sqrt(2 * math.log(there.size)) * correlation.std():
        return None
    return Shift(_peak(correlation[row], int(column)), _peak(correlation[:, column], int(row)))


def _peak(line: NDArray[np.floating], at: int) -> float:
    """Return where the parabola through a maximum and its neighbours peaks; the second half of a line is negative."""
    before, here, after = line[at - 1], line[at], line[(at + 1) % len(line)]
    exact = at + (before - after) / (2 * (before - 2 * here + after))
    return float(exact - len(line) if exact > len(line) / 2 else exact)


def _by_lattice(stack: xr.Dataset) -> tuple[float, float]:
    """Return by how much the lattices of the scenes on top shift t2 against t1, right and down, in pixels."""
    scenes = pulled_from(manifest_of(stack)).get("scenes", {})
    lattices = [(scenes.get(name) or [{}])[0].get("lattice") for name in ("s1_t1", "s1_t2")]
    geobox = stack_geobox(stack)
    if not all(lattice and geobox.crs == lattice[0] for lattice in lattices):
        return 0.0, 0.0  # of another zone's scenes every pixel is shifted in its own way
    centre = geobox.affine * (0.5, 0.5)
    steps = geobox.affine.a, geobox.affine.e
    first, second = (
        [((c - corner) / step) % 1 - 0.5 for c, corner, step in zip(centre, lattice[1:], steps, strict=True)]
        for lattice in lattices
    )
    return second[0] - first[0], second[1] - first[1]
