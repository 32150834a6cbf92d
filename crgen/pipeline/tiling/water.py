"""Probabilities of water at t1 and t2 for every pixel of a chunk: by the image of its day, or by the generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crgen.model.water import water_label
from crgen.pipeline.tiling.composite import Array, Mask

PerCent = NDArray[np.uint8]
UNKNOWN = 255
"""Stands for no data among probabilities in per cent."""
KNOWN = 90
"""Per cent from which on water counts as known to be there; up to 100 less it, as known not to be."""
NEW, OLD, OPEN = "new", "before", "unknown before"
"""Water at t2 that was not there at t1, that was, and of which that is not known."""


def told_by_image(s2: Array, clear: Mask, bands: Sequence[str]) -> PerCent:
    """Return what an optical image tells of water by itself, ``(y, x)``: 0 dry, 100 water, 255 nothing.

    Args:
        s2: reflectance, ``(band, y, x)``.
        clear: where it is free of cloud.
        bands: names of its bands.
    """
    told = np.full(clear.shape, UNKNOWN, np.uint8)
    if clear.any():
        label = water_label(torch.from_numpy(s2)[None], bands, torch.from_numpy(clear)[None, None])[0, 0].numpy()
        told[label == 0], told[label == 1] = 0, 100
    return told


def leaves_open(told_t1: PerCent, told_t2: PerCent) -> Mask:
    """Return where images leave open whether there is water at t2, or whether it was there at t1."""
    return np.asarray((told_t2 == UNKNOWN) | ((told_t2 != 0) & (told_t1 == UNKNOWN)))


def asks_before(told_t1: PerCent, told_t2: PerCent) -> Mask:
    """Return where there may be water at t2 of which no image tells whether it was there at t1."""
    return np.asarray((told_t1 == UNKNOWN) & (told_t2 != 0))


def join_water(
    told: PerCent,
    generated: NDArray[np.float64],
    computed: Mask,
    valid: Mask,
    occurrence: Array | None = None,
) -> NDArray[np.float64]:
    """Return the probability of water at t1 and t2, ``(2, y, x)``, NaN where it is not known.

    Where neither image nor radar tells whether there was water at t1, a place that nearly always was water counts as
    water: rivers and lakes are no flood. That a place was mostly dry proves nothing of t1.

    Args:
        told: by the images, of the same shape; they come first.
        generated: probabilities by the generator, alike.
        computed: where these were computed, ``(y, x)``.
        valid: where the map holds data, ``(y, x)``.
        occurrence: share of earlier looks that showed water, alike; NaN where that is not known.
    """
    known = np.select([told != UNKNOWN, np.broadcast_to(computed, told.shape)], [told / 100, generated], np.nan)
    if occurrence is not None:
        unsure = asks_before(*told) & ~is_known(in_per_cent(known[0]))
        known[0] = np.where(unsure & (occurrence >= KNOWN / 100), occurrence, known[0])
    return np.where(valid, known, np.nan)


def in_per_cent(water: NDArray[np.float64]) -> PerCent:
    """Return probabilities in per cent, 255 where they are not known."""
    return np.where(np.isnan(water), UNKNOWN, np.round(100 * water)).astype(np.uint8)


def is_known(before: PerCent) -> Mask:
    """Return where it counts as known whether there was water at t1, from its probability in per cent."""
    return np.asarray((before <= 100 - KNOWN) | ((before >= KNOWN) & (before != UNKNOWN)))


def expected_pixels(water: NDArray[np.float64]) -> Counter[str]:
    """Return how many pixels of water are to be expected at t2, by what was there at t1.

    Args:
        water: probabilities at t1 and t2, ``(2, y, x)``, NaN where not known.
    """
    before, now = in_per_cent(water[0]), np.nan_to_num(water[1])
    known = is_known(before)
    was = np.where(known, water[0], 0)
    shares = {NEW: now * (1 - was) * known, OLD: now * was, OPEN: now * ~known}
    return Counter({name: float(share.sum()) for name, share in shares.items()})
