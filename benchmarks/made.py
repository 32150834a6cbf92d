"""The one place where benchmarks call a generator: inputs in physical units in, image and water out.

Whatever a generator takes beside its four images (a flag of calibrated backscatter), and whatever channels it has, is
adapted here.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from crgen.model.generator import SIZE_MULTIPLE, Generator, Prediction

Array = NDArray[np.float32]


class Made(NamedTuple):
    """What a generator, or anything else, makes of one window."""

    reflectance: Array | None
    """Image of t2, ``(band, y, x)``, NaN in bands that are not made; None for what makes no image."""
    water: Array | None = None
    """Probability of water at t1 and at t2, ``(2, y, x)``; None for what has none."""
    deviation: Array | None = None
    """Standard deviation of the image, of its shape; alike."""
    hidden: Array | None = None
    """How far S2 at t1 does not show the ground, 0 to 1, ``(y, x)``; alike."""


class Channels(NamedTuple):
    """What the inputs hold, and what is wanted back."""

    pols: Sequence[str]
    bands: Sequence[str]


def generate(
    generator: Generator,
    images: tuple[Array, Array, Array, Array],
    channels: Channels,
    *,
    calibrated: bool,
) -> Made:
    """Return what a generator makes of one window of any size.

    Args:
        generator: as :func:`crgen.model.weights.load_model` loads it.
        images: ``s1_t1`` in dB, ``s2_t1`` as reflectance, ``s1_t2``, ``s2_t2``, ``(channel, y, x)``, NaN where missing.
        channels: their names. What the generator asks for beyond them is missing; what it does not know is not given.
        calibrated: whether the radar is calibrated backscatter, for a generator that asks.
    """
    config, device = generator.config, next(generator.parameters()).device
    names = (channels.pols, channels.bands, channels.pols, channels.bands)
    wanted = (config.pols, config.bands, config.pols, config.bands)
    height, width = images[0].shape[-2:]
    inputs = [_padded(_as(image, *which)).to(device) for image, *which in zip(images, names, wanted, strict=True)]
    more: dict[str, Tensor] = {}
    if "calibrated" in inspect.signature(generator.forward).parameters:
        more["calibrated"] = torch.tensor([calibrated], device=device)
    with torch.inference_mode():
        prediction: Prediction = generator(*inputs, **more)
    reflectance = prediction.reflectance[0].float().cpu().numpy()[:, :height, :width].clip(0, 1)
    water: Tensor | None = getattr(prediction, "water", None)
    made = _as(reflectance, config.bands, channels.bands)
    deviation = None
    if prediction.variance is not None:
        stated = prediction.variance[0].float().sqrt().cpu().numpy()[:, :height, :width]
        deviation = _as(stated, config.bands, channels.bands)
    hidden = None
    if prediction.reliability is not None:
        hidden = 1 - prediction.reliability[0, 0].float().cpu().numpy()[:height, :width]
    return Made(made, None if water is None else water[0].float().cpu().numpy()[:, :height, :width], deviation, hidden)


def _as(image: Array, have: Sequence[str], want: Sequence[str]) -> Array:
    """Return the channels wanted, NaN where one is lacking."""
    whole = np.full((len(want), *image.shape[1:]), np.nan, np.float32)
    for at, name in enumerate(want):
        if name in have:
            whole[at] = image[list(have).index(name)]
    return whole


def _padded(image: Array) -> Tensor:
    """Return a batch of one whose sides a generator takes, missing beyond the image."""
    height, width = image.shape[-2:]
    beyond = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
    return F.pad(torch.from_numpy(np.ascontiguousarray(image))[None], beyond, value=torch.nan)
