"""Join what was observed at t2 with what was generated, and say of each pixel which it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crgen.pipeline.source.stack import FEATHER
from crgen.pipeline.tiling.quality import Quality

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def complete(array: Array) -> Mask:
    """Return where every channel of ``(channel, y, x)`` holds data."""
    return np.asarray(np.isfinite(array).all(axis=0))


def seen_clear(s2_t2: Array, clear_t2: Array, threshold: float) -> Mask:
    """Return where t2 was observed: every band present and the clear-sky score at least ``threshold``."""
    return complete(s2_t2) & (np.nan_to_num(clear_t2, nan=0.0) >= threshold)


def observed_share(seen: Mask) -> Array:
    """Return how much of each pixel is observation: 0 where not seen, rising to 1 at ``FEATHER`` pixels inside.

    Right for every pixel at least ``FEATHER`` away from the array's edge.
    """
    if seen.all():
        return np.ones(seen.shape, np.float32)
    inside = ndimage.distance_transform_edt(seen)
    return np.minimum(inside / FEATHER, 1.0).astype(np.float32)


class Composite(NamedTuple):
    """Reflectance ``(band, y, x)`` float64 with NaN where there is none, and the quality class of each pixel."""

    reflectance: NDArray[np.float64]
    quality: NDArray[np.uint8]
    water: NDArray[np.uint8] | None = None
    """Probability of water at t1 and t2 in per cent, ``(2, y, x)``, 255 where not known; None without a prediction."""
    error: Array | None = None
    """Half the width of the 90 % interval of reflectance, of its shape, NaN where nothing was generated; alike."""


def compose(
    generated: NDArray[np.float64],
    observed: Array,
    share: Array,
    *,
    radar_t2: Mask,
    optical_t1: Mask,
    hidden_t1: Mask,
    unlike: Mask,
    inside: Mask,
) -> Composite:
    """Blend the generated and the observed image.

    Args:
        generated: reflectance from the generator, ``(band, y, x)``.
        observed: reflectance observed at t2; read only where ``share`` is positive.
        share: how much of each pixel is observation, ``(y, x)``.
        radar_t2: where the radar of t2 is present: nothing can be generated elsewhere.
        optical_t1: where the optical image of t1 is present.
        hidden_t1: where it does not show the ground.
        unlike: where the inputs are unlike the training.
        inside: the pixels of the area; others become nodata.

    Returns:
        The blend; an observed pixel without radar is all observation.
    """
    share = np.where(~radar_t2 & (share > 0), np.float32(1), share).astype(np.float64)
    quality = np.select(
        [~inside, share == 1, ~radar_t2, share > 0, unlike, ~optical_t1, hidden_t1],
        [
            Quality.NODATA,
            Quality.OBSERVED,
            Quality.NODATA,
            Quality.BLENDED,
            Quality.GENERATED_UNLIKE,
            Quality.GENERATED_RADAR_ONLY,
            Quality.GENERATED_CLOUDY_T1,
        ],
        Quality.GENERATED,
    ).astype(np.uint8)
    blend = np.where(share > 0, observed, 0) * share + np.where(share < 1, generated, 0) * (1 - share)
    return Composite(np.where(quality == Quality.NODATA, np.nan, blend), quality)
