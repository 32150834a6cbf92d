"""The area of water, with the interval that holds it nine times in ten.

No threshold is set: the expected area is the sum of probabilities. How far it may be off follows from the doubt of each
pixel, p (1 − p), from how far the doubts of near pixels go together, and from what a whole scene may be off.
These come with the weights (:class:`~crgen.model.card.WaterErrors`), fitted on events that these never saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.signal import fftconvolve

from crgen.model.card import WaterErrors
from crgen.pipeline.flood.polygons import STRIP, pixel_area
from crgen.pipeline.tiling.water import NEW, OLD, OPEN, UNKNOWN, is_known

DEVIATIONS = 1.6449
"""Standard deviations on either side that hold 90 % of a normal distribution."""
SMALLEST, LONGEST = 8, 1024
"""Pixels of a block over which doubts are added up, at least; and blocks along the longer side, at most."""


class Areas(NamedTuple):
    """Areas of water on the ground at t2, in square metres."""

    flooded: float
    """Not there at t1."""
    interval: tuple[float, float] | None
    """Holds :attr:`flooded` nine times in ten; None where the weights do not say how far they are off."""
    before: float
    """There at t1 too."""
    unknown_before: float
    """Of which neither image nor radar of t1 tells whether it was there."""

    @property
    def text(self) -> str:
        """What a person is told, in km²."""
        said = f"{_km2(self.flooded)} km²"
        if self.interval is not None:
            said += " ({}–{})".format(*map(_km2, self.interval))
        if self.unknown_before >= 5e3:
            said += f", and {_km2(self.unknown_before)} km² of water, unknown before"
        return said

    def to_json(self) -> dict[str, Any]:
        """Return it as an Item holds it."""
        interval = {} if self.interval is None else {"flooded_90_km2": [round(end / 1e6, 6) for end in self.interval]}
        areas = {name: round(getattr(self, name) / 1e6, 6) for name in ("flooded", "before", "unknown_before")}
        return {f"{name}_km2": area for name, area in areas.items()} | interval


def areas_of(water: Path, expected: Mapping[str, float], errors: WaterErrors | None) -> Areas:
    """Return the areas of a finished map.

    Args:
        water: its raster of probabilities in per cent, at t2 and at t1.
        expected: pixels of water, see :func:`~crgen.pipeline.tiling.water.expected_pixels`.
        errors: what the weights say of their errors.
    """
    with rasterio.open(water) as raster:
        one = pixel_area(raster)
        new = expected.get(NEW, 0.0)
        interval = None
        if errors is not None:
            ends = interval_of(new, deviation_of(*_doubts(raster), math.sqrt(one), errors), errors.scene)
            interval = (ends[0] * one, ends[1] * one)
    return Areas(new * one, interval, expected.get(OLD, 0.0) * one, expected.get(OPEN, 0.0) * one)


def interval_of(expected: float, deviation: float, scene: float) -> tuple[float, float]:
    """Return the ends of the interval that holds a count of pixels nine times in ten; none is below 0.

    Args:
        expected: pixels.
        deviation: standard deviation of their number by the doubt of each.
        scene: relative deviation that all share.
    """
    half = DEVIATIONS * math.hypot(deviation, scene * expected)
    return max(expected - half, 0.0), expected + half


def deviation_of(blocks: NDArray[np.float64], variance: float, block: float, side: float, errors: WaterErrors) -> float:
    """Return the standard deviation of the number of pixels that are newly under water.

    Args:
        blocks: sums of the pixels' own deviations, √(q (1 − q)), over square blocks.
        variance: sum of their squares over all pixels.
        block: side of a block in pixels.
        side: of a pixel in metres.
        errors: how doubts go together: a share ``near`` of each, falling off over ``reach`` metres.
    """
    reach = errors.reach / side / block
    far = [min(n - 1, math.ceil(5 * reach)) for n in blocks.shape]
    down, across = (np.arange(-n, n + 1) for n in far)
    kernel = np.zeros((len(down), len(across)))
    for i, j in product(range(-3, 4), repeat=2):  # the mean over pairs of 4 × 4 places within two blocks
        weight = (4 - abs(i)) * (4 - abs(j)) / 256
        kernel += weight * np.exp(-np.hypot(down[:, None] + i / 4, across + j / 4) / reach)
    together = float((blocks * fftconvolve(blocks, kernel, mode="same")).sum())
    return math.sqrt(max((1 - errors.near) * variance + errors.near * together, 0.0))


def _doubts(raster: Any) -> tuple[NDArray[np.float64], float, float]:
    """Return sums of the pixels' own deviations over blocks, the sum of their squares, and the side of a block.

    Pixels of which it is not known whether there was water at t1 have none: they are not in the area either.
    """
    block = max(SMALLEST, -(-max(raster.shape) // LONGEST))
    blocks = np.zeros([-(-n // block) for n in raster.shape])
    variance = 0.0
    rows = max(1, STRIP // block) * block
    for row in range(0, raster.height, rows):
        t2, t1 = raster.read(window=Window(0, row, raster.width, min(rows, raster.height - row)))
        new = np.where((t2 != UNKNOWN) & is_known(t1), t2 / 100 * (1 - t1 / 100), 0)
        doubt = np.sqrt(new * (1 - new))
        variance += float(np.square(doubt).sum())
        down, across = (np.arange(0, n, block) for n in doubt.shape)
        sums = np.add.reduceat(np.add.reduceat(doubt, down, 0), across, 1)
        blocks[row // block : row // block + len(sums)] += sums
    return blocks, variance, float(block)


def _km2(area: float) -> str:
    """Return an area in km² with about three digits, without an exponent."""
    km2 = area / 1e6
    return f"{km2:.2f}" if km2 < 10 else f"{km2:.1f}" if km2 < 1000 else f"{km2:,.0f}"
