"""Training-time variation: events, tinted ground, clouds and haze, hidden targets, radar gain and speckle, flips.

Every random draw comes from a :class:`torch.Generator`, so a training step can be repeated exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from crgen.model.water import water_label
from crgen.training.data.dataset import Batch
from crgen.training.events import EVENT, LAKE, NEGATIVE, Pair, paint_events
from crgen.training.noise import fractal_field, happens, uniform

CLOUD_COLOUR = {"B11": 0.7, "B12": 0.55, "B9": 0.6}
"""Reflectance of a cloud relative to its visible bands, for bands where it differs from 1."""


LAND = 0.15
"""Reflectance of a usual land pixel, about which contrast is varied."""


TINT = 0.4
"""How far tinted ground differs from what it was. The more it does, the less is learned of how land usually looks after
a flood: at 1, images of floods that were left out had 0.6 to 0.7 dB less than at about this (docs/accuracy.md)."""

HAZE = 0.05
"""Opacity from which a painted cloud or shadow hides the ground: a little haze misleads more than a gap."""


class Inputs(NamedTuple):
    """What the generator is given, see :meth:`crgen.model.generator.Generator.forward`."""

    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    s2_t2: Tensor
    clear_t1: Tensor
    calibrated: Tensor


class Truth(NamedTuple):
    """What its result is compared with, ``(batch, …, y, x)``."""

    target: Tensor
    """Reflectance at t2, NaN where missing."""
    counts: Tensor
    """Pixels that count: clear at t2 and not shown, boolean."""
    clean_t1: Tensor
    """Reflectance at t1 without the painted clouds, NaN where it is not known."""
    shown_t1: Tensor
    """1 where S2 at t1 shows the ground, 0 where a cloud or shadow hides it, NaN unknown."""
    water_t1: Tensor
    """1 water, 0 dry, NaN unknown."""
    water_t2: Tensor
    flooded: Tensor
    """1 where t2 is flooded by a published mask, else 0; NaN unknown."""

    @property
    def new_water(self) -> Tensor:
        """1 where t2 is under water or flooded and t1 is not under water, else 0."""
        return ((self.water_t2 == 1) | (self.flooded == 1)) & ~(self.water_t1 == 1)


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
    opacity = cloud_opacity(share, s2.shape[-2], s2.shape[-1], rng) * (share > 0).float().view(-1, 1, 1, 1)
    return paint_opacity(s2, bands, opacity, rng)


def paint_opacity(s2: Tensor, bands: tuple[str, ...], opacity: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paint clouds of an opacity ``(n, 1, y, x)`` and their shadows; as :func:`paint_clouds`."""
    n, _, height, width = s2.shape
    texture = 1 - 0.35 * fractal_field(n, height, width, rng)
    colour = torch.tensor([CLOUD_COLOUR.get(b, 1.0) for b in bands]).view(1, -1, 1, 1)
    colour = colour ** uniform((n, 1, 1, 1), 0.3, 1.6, rng)
    cloud = uniform((n, 1, 1, 1), 0.3, 1.0, rng) * texture * colour
    dy, dx = (int(v) for v in torch.randint(-height // 6, height // 6 + 1, (2,), generator=rng))
    shadow = torch.roll(opacity, (dy, dx), (2, 3)) * uniform((n, 1, 1, 1), 0.0, 0.7, rng)
    painted = s2 * (1 - shadow)
    return painted * (1 - opacity) + cloud * opacity, torch.maximum(opacity, shadow)


def sky(n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return the opacity of the clouds over t1, ``(n, 1, y, x)``: none, in part, over all of it, thick or thin."""
    kind = uniform((n, 1, 1, 1), 0, 1, rng)
    part = cloud_opacity(uniform((n,), 0.05, 1, rng), height, width, rng)
    part = part * torch.where(happens(n, 0.3, rng), uniform((n, 1, 1, 1), 0.15, 0.9, rng), torch.ones(()))
    thin = 1 - 0.35 * fractal_field(n, height, width, rng) * uniform((n, 1, 1, 1), 0, 1, rng)
    thick = uniform((n, 1, 1, 1), 0.85, 1.3, rng) * thin
    veil = uniform((n, 1, 1, 1), 0.05, 0.8, rng) * thin
    opacity = torch.where(kind < 0.42, part, torch.where(kind < 0.5, thick, veil)).clamp(0, 1)
    return torch.where(kind < 0.62, opacity, torch.zeros(()))


def speckle_deviation(n: int, rng: torch.Generator) -> Tensor:
    """Return the deviation of added speckle in dB, ``(n, 1, 1, 1)``: little, or as of single acquisitions at 10 m."""
    return uniform((n, 1, 1, 1), 0, 1, rng) * torch.where(happens(n, 0.5, rng), 0.8, 2.5)


def jitter_backscatter(s1: Tensor, rng: torch.Generator, *, gain: float = 0.25, offset: float = 3.0) -> Tensor:
    """Vary gain, offset (dB) and speckle of ``s1`` in dB, ``(n, pol, y, x)``."""
    n, pols = s1.shape[:2]
    shape = (n, pols, 1, 1)
    speckle = torch.randn(s1.shape, generator=rng) * speckle_deviation(n, rng)
    return (s1 + 12) * uniform(shape, 1 - gain, 1 + gain, rng) - 12 + uniform(shape, -offset, offset, rng) + speckle


def tint(images: list[Tensor], strength: Tensor, rng: torch.Generator, share: float = 0.7) -> list[Tensor]:
    """Give a share of the samples another ground: one random gain per band, brightness and contrast for all images.

    What the network makes of a colour must then come from the sample itself, not from the land it was trained on.

    Args:
        images: reflectance ``(n, band, y, x)`` of the same samples; what is not finite stays as it is.
        strength: how far gains vary in each sample, ``(n, 1, 1, 1)``.
        rng: source of randomness.
        share: of the samples, from 0 to 1.
    """
    n, bands = images[0].shape[:2]
    some = strength * happens(n, share, rng)
    contrast = torch.exp(0.4 * some * torch.randn(n, 1, 1, 1, generator=rng))
    brightness = 0.5 * torch.randn(n, 1, 1, 1, generator=rng)
    gain = torch.exp(some * (brightness + 0.7 * torch.randn(n, bands, 1, 1, generator=rng)))
    changed = [(LAND * (image.clamp(min=0) / LAND) ** contrast * gain).clamp(max=1) for image in images]
    return [torch.where((some > 0) & old.isfinite(), new, old) for new, old in zip(changed, images, strict=True)]


def dihedral(arrays: list[Tensor], which: int) -> list[Tensor]:
    """Apply one of the eight symmetries of the square to every array's last two axes."""
    turned = [torch.rot90(a, which % 4, (-2, -1)) for a in arrays]
    return [a.flip(-1) for a in turned] if which >= 4 else turned


def backward(batch: Batch, share: float, rng: torch.Generator) -> Batch:
    """Give a share of the samples backward in time, of those whose clouds at t1 are known and few."""
    n = len(batch.target)
    enough = torch.nan_to_num(batch.clear_t1).mean((1, 2, 3), keepdim=True) > 0.3
    turn = happens(n, share, rng) & enough

    def swapped(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(turn, b, a), torch.where(turn, a, b)

    s1_t1, s1_t2 = swapped(batch.s1_t1, batch.s1_t2)
    s2_t1, target = swapped(batch.s2_t1, batch.target)
    water_t1, water_t2 = swapped(batch.water_t1, batch.water_t2)
    clear_t1 = torch.where(turn, batch.clear.float(), batch.clear_t1)
    clear = torch.where(turn, batch.clear_t1 == 1, batch.clear)
    flooded = torch.where(turn, torch.nan, batch.flooded)
    return Batch(
        s1_t1,
        s2_t1,
        s1_t2,
        target,
        clear_t1,
        flooded,
        water_t1,
        water_t2,
        clear,
        batch.calibrated,
        batch.labelled,
    )


def vary_radar(s1_t1: Tensor, s1_t2: Tensor, calibrated: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Vary the radar of both dates, and say whose level means something.

    Half of the calibrated samples come without the flag, and then with any gain and offset, as do those without level.
    A quarter of the latter are given a level such as a sensor might have.

    Args:
        s1_t1: dB, ``(n, pol, y, x)``; ``s1_t2`` alike.
        calibrated: whether the level means something, ``(n, 1, 1, 1)``.
        rng: source of randomness.

    Returns:
        Radar of t1 and t2, and the flag.
    """
    n, pols = s1_t1.shape[:2]
    flag = torch.where(calibrated, happens(n, 0.5, rng), happens(n, 0.25, rng))
    gain = torch.where(calibrated, torch.ones(()), uniform((n, 1, 1, 1), 0.7, 1.1, rng))
    usual = torch.where(calibrated, uniform((n, 1, 1, 1), -1.5, 1.5, rng), uniform((n, 1, 1, 1), -5, 1, rng))
    varied = []
    for s1 in (s1_t1, s1_t2):
        speckle = torch.randn(s1.shape, generator=rng) * speckle_deviation(n, rng)
        level = (s1 + 8) * gain - 8 + usual + uniform((n, pols, 1, 1), -0.7, 0.7, rng) + speckle
        varied.append(torch.where(flag, level, jitter_backscatter(s1, rng)))
    second = happens(n, 0.5, rng) | (torch.arange(pols) == 0).view(1, -1, 1, 1)  # VV alone in half of the samples
    gone = happens(n, 0.04, rng)
    return (
        torch.where(second & ~gone, varied[0], torch.nan),
        torch.where(second, varied[1], torch.nan),
        flag.flatten().float(),
    )


def water_labels(batch: Batch, bands: tuple[str, ...]) -> list[Tensor]:
    """Return the labels of water at t1 and t2: those that were given, else those of the images."""
    given = batch.labelled[:, None, None, None]
    clear_t1 = torch.nan_to_num(batch.clear_t1, nan=1.0) == 1
    return [
        torch.where(given, batch.water_t1, water_label(batch.s2_t1, bands, clear_t1)),
        torch.where(given, batch.water_t2, water_label(batch.target, bands, batch.clear)),
    ]


def vary(
    batch: Batch, pols: tuple[str, ...], bands: tuple[str, ...], rng: torch.Generator, tinted: float = 0.7
) -> tuple[Inputs, Truth]:
    """Paint events, tint the ground, cloud t1, vary the radar, drop inputs, and choose which clear pixels are seen.

    Half of the samples show nothing of t2; the others a cloud-shaped share from 0.5 to 90 %, a tenth of them with a
    little cloud left in it, as a clear-sky score may miss.
    """
    batch = backward(batch, 0.35, rng)
    n, _, height, width = batch.target.shape
    clear_t1 = torch.nan_to_num(batch.clear_t1, nan=1.0)
    pair = Pair(batch.s1_t1, batch.s2_t1, batch.s1_t2, batch.target, *water_labels(batch, bands))
    pair = paint_events(pair, pols, bands, batch.calibrated, rng)
    opacity, gone = sky(n, height, width, rng), happens(n, 0.08, rng)
    hidden = gone | (opacity.mean((1, 2, 3), keepdim=True) > 0.8)  # nothing tells of a tint there
    strength = torch.where(hidden, 0.0, TINT)
    ground_t1, target = tint([pair.s2_t1, pair.target], strength, rng, tinted)
    s2_t1, opacity = paint_opacity(ground_t1, bands, opacity, rng)
    s2_t1 = torch.where(gone, torch.nan, s2_t1)
    s1_t1, s1_t2, calibrated = vary_radar(pair.s1_t1, pair.s1_t2, batch.calibrated[:, None, None, None], rng)

    score = clear_t1 * (1 - opacity) + 0.1 * torch.randn(n, 1, 1, 1, generator=rng)
    scored = happens(n, 0.4, rng) & torch.isfinite(s2_t1).any(1, keepdim=True)
    score = torch.where(scored, score.clamp(0, 1), torch.nan)

    share = torch.exp(uniform((n,), math.log(0.005), math.log(0.9), rng))
    seen = (cloud_opacity(share, height, width, rng) > 0.5) & happens(n, 0.5, rng)
    missed = uniform((n,), 0.01, 0.1, rng) * (uniform((n,), 0, 1, rng) < 0.1)
    shown, _ = paint_clouds(target, bands, missed, rng)
    seen = seen & batch.clear
    s2_t2 = torch.where(seen, shown, torch.nan)
    truth = Truth(
        target,
        batch.clear & ~seen,
        torch.where(batch.clear_t1 == 1, ground_t1, torch.nan),
        torch.where(torch.isfinite(s2_t1).any(1, keepdim=True), batch.clear_t1 * (opacity < HAZE), torch.nan),
        pair.water_t1,
        pair.water_t2,
        batch.flooded,
    )
    return Inputs(s1_t1, s2_t1, s1_t2, s2_t2, score, calibrated), truth


def leave(batch: Batch, pols: tuple[str, ...], bands: tuple[str, ...], rng: torch.Generator) -> tuple[Inputs, Truth]:
    """Leave the inputs as they are and show nothing of t2."""
    unknown = torch.full_like(batch.clear_t1, torch.nan)
    nothing = torch.full_like(batch.target, torch.nan)
    flag = batch.calibrated.float()
    inputs = Inputs(batch.s1_t1, batch.s2_t1, batch.s1_t2, nothing, unknown, flag)
    clean = torch.where(batch.clear_t1 == 1, batch.s2_t1, torch.nan)
    water_t1, water_t2 = water_labels(batch, bands)
    return inputs, Truth(batch.target, batch.clear, clean, batch.clear_t1, water_t1, water_t2, batch.flooded)


def painted_text(variation: str) -> str:
    """Return what share of the samples events are painted on, for a model card."""
    if variation == "none":
        return "none"
    return (
        f"of the samples with calibrated radar {EVENT:.0%} a flood, {NEGATIVE:.0%} what must not be called water, "
        f"{LAKE:.0%} a lake at both dates"
    )


Variation = Callable[[Batch, tuple[str, ...], tuple[str, ...], torch.Generator], tuple[Inputs, Truth]]
VARIATIONS: dict[str, Variation] = {"full": vary, "mild": partial(vary, tinted=0.3), "none": leave}
"""What a recipe's ``variation`` names: functions of a batch, polarisations, bands and the source of randomness."""
