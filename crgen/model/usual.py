"""Whether a place is like those a generator was trained on: the levels of radar and optical, window by window.

A window whose mean backscatter at t2, or mean reflectance at t1, lies outside what 98 % of the training windows had is
unlike them in that variable: snow, deserts, open sea, cities, or radar of another calibration. What lies inside may
still be unlike in ways that means do not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crgen.model.config import CORE

Array = NDArray[np.float32]
Usual = Mapping[str, tuple[float, float]]
"""By variable, the range of its mean over a window, dB or reflectance."""

SIDE = 256
"""Side of a window in pixels; at an edge windows are smaller."""
SHARE = 0.05
"""Share of an area from which it is said that it is unlike the training."""


def window_means(
    s1_t2: Array,
    s2_t1: Array,
    pols: tuple[str, ...],
    bands: tuple[str, ...],
    inside: NDArray[np.bool_],
    clear: NDArray[np.bool_],
) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield, for each window, its pixels inside an area and their means by variable; a mean of nothing is left out.

    Args:
        s1_t2: backscatter at t2 in dB, ``(pol, y, x)``, NaN where missing; no polarisation where it has no level.
        s2_t1: reflectance at t1, ``(band, y, x)``, NaN where missing.
        pols: the polarisations.
        bands: the bands.
        inside: which pixels belong to the area, ``(y, x)``.
        clear: where t1 is known to be clear, or is not known to be cloudy, alike.
    """
    optical = {band: s2_t1[bands.index(band)] for band in CORE if band in bands}
    planes = {**dict(zip(pols, s1_t2, strict=False)), **optical}
    height, width = inside.shape
    for y in range(0, height, SIDE):
        for x in range(0, width, SIDE):
            at = slice(y, y + SIDE), slice(x, x + SIDE)
            means = {}
            for name, plane in planes.items():
                known = np.isfinite(plane[at]) & inside[at] & (clear[at] | (name not in CORE))
                if known.any():
                    means[name] = round(float(plane[at][known].mean(dtype=np.float64)), 3)
            yield int(inside[at].sum()), means


def usual_of(windows: Iterable[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Return the range that 98 % of the training windows lie in, by variable."""
    held: dict[str, list[float]] = {}
    for means in windows:
        for name, value in means.items():
            held.setdefault(name, []).append(value)
    ranges = {name: np.quantile(values, (0.01, 0.99)).round(3).tolist() for name, values in held.items()}
    return {name: (low, high) for name, (low, high) in ranges.items()}


def unlike(usual: Usual, windows: Iterable[tuple[int, Mapping[str, float]]]) -> Counter[str]:
    """Return the pixels of windows that lie outside, by ``"VARIABLE below"`` and ``"VARIABLE above"``."""
    outside: Counter[str] = Counter()
    for pixels, means in windows:
        for name, value in means.items():
            low, high = usual.get(name, (-np.inf, np.inf))
            if not low <= value <= high:
                outside[f"{name} {'below' if value < low else 'above'}"] += pixels
    return outside


def unlike_windows(usual: Usual, planes: Mapping[str, Tensor]) -> Tensor:
    """Return which windows have a mean that lies outside, ``(window,)``.

    Args:
        usual: the ranges.
        planes: by variable, ``(window, y, x)``, NaN where missing or, at t1, not known to be clear.
    """
    strange = torch.zeros(len(next(iter(planes.values()))), dtype=torch.bool)
    for name in planes.keys() & usual.keys():
        known = torch.isfinite(planes[name])
        sums = torch.where(known, planes[name], 0).double().sum((1, 2))
        mean = (sums / known.sum((1, 2))).cpu().numpy().round(3)
        low, high = usual[name]
        strange |= torch.from_numpy((mean < low) | (mean > high))
    return strange


def unlike_text(usual: Usual, outside: Mapping[str, int], pixels: int) -> str:
    """Return one line on an area of ``pixels`` that says how it is unlike the training; empty if it is not."""
    told = []
    for what, count in sorted(outside.items(), key=lambda one: -one[1]):
        if pixels and count / pixels >= SHARE:
            name, side = what.split()
            low, high = usual[name]
            unit, when = ("", "t1") if name in CORE else (" dB", "t2")
            share = f"over {100 * count / pixels:.0f} % of the area"
            told.append(f"{name} at {when} lies {side} the usual {low:.3g} to {high:.3g}{unit} {share}")
    return f"this place is unlike the training: {'; '.join(told)}. Look at the map with care" if told else ""
