"""Training-time variation: tinted ground, clouds and shadows, hidden targets, radar gain and speckle, dihedral flips.

Every random draw comes from a :class:`torch.Generator`, so a training step can be repeated exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from crgen.training.data.dataset import Batch

CLOUD_COLOUR = {"B11": 0.7, "B12": 0.55, "B9": 0.6}
"""Reflectance of a cloud relative to its visible bands, for bands where it differs from 1."""


LAND = 0.15
"""Reflectance of a usual land pixel, about which contrast is varied."""


HAZE = 0.05
"""Opacity from which a painted cloud or shadow leaves a pixel unreliable: a little haze misleads more than a gap."""


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Return uniform samples in [low, high)."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def fractal_field(n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return smooth noise with cloud-like detail at all scales, ``(n, 1, height, width)``, ranked to uniform [0, 1]."""
    field = torch.zeros(n, 1, height, width)
    cells, gain = 2, 1.0
    while cells < min(height, width) // 2:
        octave = torch.randn(n, 1, cells + 1, cells + 1, generator=rng)
        field += gain * F.interpolate(octave, size=(height, width), mode="bicubic", align_corners=True)
        cells, gain = cells * 2, gain * 0.55
    rank = field.flatten(1).argsort(1).argsort(1)
    return (rank.float() / (height * width - 1)).view_as(field)


def cloud_opacity(share: Tensor, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return cloud opacity in [0, 1], ``(n, 1, height, width)``, with about ``share`` (n,) of each image covered."""
    n = share.shape[0]
    field = fractal_field(n, height, width, rng)
    edge = uniform((n, 1, 1, 1), 0.03, 0.25, rng)
    return ((field - (1 - share.view(n, 1, 1, 1)) + edge / 2) / edge).clamp(0, 1)


def paint_clouds(s2: Tensor, bands: tuple[str, ...], share: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint clouds and their shadows over ``s2``.

    Args:
        s2: reflectance ``(n, band, y, x)``; NaN stays NaN.
        bands: the bands' names.
        share: share of each image to cover, ``(n,)``; 0 leaves the image as it is.
        rng: source of randomness.

    Returns:
        The painted image, and the opacity of cloud or shadow, ``(n, 1, y, x)``.
    """
    n, _, height, width = s2.shape
    some = (share > 0).float().view(n, 1, 1, 1)
    opacity = cloud_opacity(share, height, width, rng) * some
    texture = 1 - 0.35 * fractal_field(n, height, width, rng)
    colour = torch.tensor([CLOUD_COLOUR.get(b, 1.0) for b in bands]).view(1, -1, 1, 1)
    colour = colour ** uniform((n, 1, 1, 1), 0.3, 1.6, rng)
    cloud = uniform((n, 1, 1, 1), 0.3, 1.0, rng) * texture * colour
    dy, dx = (int(v) for v in torch.randint(-height // 6, height // 6 + 1, (2,), generator=rng))
    shadow = torch.roll(opacity, (dy, dx), (2, 3)) * uniform((n, 1, 1, 1), 0.0, 0.7, rng)
    painted = s2 * (1 - shadow)
    return painted * (1 - opacity) + cloud * opacity, torch.maximum(opacity, shadow)


def jitter_backscatter(s1: Tensor, rng: torch.Generator, *, gain: float = 0.25, offset: float = 3.0) -> Tensor:
    """Vary gain, offset (dB) and speckle of ``s1`` in dB, ``(n, pol, y, x)``."""
    n, pols = s1.shape[:2]
    shape = (n, pols, 1, 1)
    speckle = torch.randn(s1.shape, generator=rng) * uniform((n, 1, 1, 1), 0.0, 1.0, rng)
    return (s1 + 12) * uniform(shape, 1 - gain, 1 + gain, rng) - 12 + uniform(shape, -offset, offset, rng) + speckle


def tint(images: list[Tensor], rng: torch.Generator, share: float = 0.7) -> list[Tensor]:
    """Give a share of the samples another ground: one random gain per band, brightness and contrast for all images.

    What the network makes of a colour must then come from the sample itself, not from the land it was trained on.

    Args:
        images: reflectance ``(n, band, y, x)`` of the same samples; what is not finite stays as it is.
        rng: source of randomness.
        share: of the samples, from 0 to 1.
    """
    n, bands = images[0].shape[:2]
    some = (uniform((n, 1, 1, 1), 0, 1, rng) < share).float()
    contrast = torch.exp(0.4 * some * torch.randn(n, 1, 1, 1, generator=rng))
    brightness = 0.5 * torch.randn(n, 1, 1, 1, generator=rng)
    gain = torch.exp(some * (brightness + 0.7 * torch.randn(n, bands, 1, 1, generator=rng)))
    changed = [(LAND * (image.clamp(min=0) / LAND) ** contrast * gain).clamp(max=1) for image in images]
    return [torch.where((some > 0) & old.isfinite(), new, old) for new, old in zip(changed, images, strict=True)]


def drop_images(images: list[Tensor], rng: torch.Generator, share: float = 0.04) -> list[Tensor]:
    """Return ``images`` ``(n, channel, y, x)``, each wholly missing in a ``share`` of the samples."""
    gone = [uniform((image.shape[0], 1, 1, 1), 0, 1, rng) < share for image in images]
    return [torch.where(where, torch.nan, image) for where, image in zip(gone, images, strict=True)]


def dihedral(arrays: list[Tensor], which: int) -> list[Tensor]:
    """Apply one of the eight symmetries of the square to every array's last two axes."""
    turned = [torch.rot90(a, which % 4, (-2, -1)) for a in arrays]
    return [a.flip(-1) for a in turned] if which >= 4 else turned


def vary(batch: Batch, bands: tuple[str, ...], rng: torch.Generator, tinted: float = 0.7) -> tuple[Batch, Tensor]:
    """Tint the ground, cloud t1, jitter the radar, drop whole inputs, and choose which clear pixels of t2 are seen.

    Returns:
        The varied batch, and ``s2_t2``: the target where it is shown to the generator, NaN elsewhere. Three of ten
        samples show nothing; the others a cloud-shaped share from 0.5 to 90 %, a tenth of them with a little cloud
        left in it, as a clear-sky score may miss.
    """
    n, _, height, width = batch.target.shape
    painted_share = uniform((n,), 0.05, 0.7, rng) * (uniform((n,), 0, 1, rng) < 0.5)
    ground_t1, target = tint([batch.s2_t1, batch.target], rng, tinted)
    s2_t1, opacity = paint_clouds(ground_t1, bands, painted_share, rng)
    s1_t1, s1_t2 = jitter_backscatter(batch.s1_t1, rng), jitter_backscatter(batch.s1_t2, rng)
    s1_t1, s2_t1 = drop_images([s1_t1, s2_t1], rng)
    share = torch.exp(uniform((n,), math.log(0.005), math.log(0.9), rng))
    seen = (cloud_opacity(share, height, width, rng) > 0.5) & (uniform((n, 1, 1, 1), 0, 1, rng) < 0.7)
    missed = uniform((n,), 0.01, 0.1, rng) * (uniform((n,), 0, 1, rng) < 0.1)
    shown, _ = paint_clouds(target, bands, missed, rng)
    s2_t2 = torch.where(seen & batch.clear, shown, torch.nan)
    clear_t1 = batch.clear_t1 * (opacity < HAZE)
    return batch._replace(s1_t1=s1_t1, s2_t1=s2_t1, s1_t2=s1_t2, target=target, clear_t1=clear_t1), s2_t2


def leave(batch: Batch, bands: tuple[str, ...], rng: torch.Generator) -> tuple[Batch, Tensor]:
    """Leave the inputs as they are and show nothing of t2."""
    return batch, torch.full_like(batch.target, torch.nan)


VARIATIONS: dict[str, Callable[[Batch, tuple[str, ...], torch.Generator], tuple[Batch, Tensor]]] = {
    "full": vary,
    "mild": partial(vary, tinted=0.3),
    "none": leave,
}
"""What a recipe's ``variation`` names: functions of a batch, the bands' names and the source of randomness."""
