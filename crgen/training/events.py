"""Painted events: floods, and what is taken for floods, on real pairs whose radar is calibrated.

The floods that are known in optical and radar (OMBRIA) have three bands and a radar without level. Other pairs have
every band, both polarisations and absolute dB, but no flood: one is painted on them, as clouds are, with a truth in
every band. As often something is painted that must not be called water.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crgen.training.noise import fractal_field, ranked, uniform

CLEAR = {
    "B2": 0.035, "B3": 0.030, "B4": 0.018, "B5": 0.016, "B6": 0.012, "B7": 0.012, "B8": 0.010, "B8A": 0.009,
    "B11": 0.005, "B12": 0.004,
}  # fmt: skip
MUDDY = {
    "B2": 0.085, "B3": 0.120, "B4": 0.135, "B5": 0.140, "B6": 0.095, "B7": 0.095, "B8": 0.080, "B8A": 0.065,
    "B11": 0.025, "B12": 0.018,
}  # fmt: skip
"""Reflectance of clear and of muddy water; painted water lies between, see ``tests/training/test_events.py``."""
WATER_DB = {"VV": (-24.0, -15.0), "VH": (-30.0, -22.0)}
"""Backscatter of open water, calm to rough."""
EVENT, NEGATIVE, LAKE = 0.35, 0.3, 0.08
"""Shares of the samples with a flood, with what must not be called water, and with water at both dates."""


class Pair(NamedTuple):
    """What events are painted on: physical units, ``(n, channel, y, x)``."""

    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    target: Tensor
    water_t1: Tensor
    """1 water, 0 dry, NaN unknown."""
    water_t2: Tensor


def paint_events(pair: Pair, pols: tuple[str, ...], bands: tuple[str, ...], some: Tensor, rng: torch.Generator) -> Pair:
    """Paint events on those samples of a batch that are ``some``, ``(n,)``."""
    n, _, height, width = pair.target.shape
    draw = uniform((n,), 0, 1, rng)
    flood = some & (draw < EVENT)
    negative = some & (draw >= EVENT) & (draw < EVENT + NEGATIVE)
    lake = some & (draw >= 1 - LAKE)
    cover = outline(pair.s1_t1, rng)
    s1_t1, s1_t2 = pair.s1_t1, pair.s1_t2
    s2_t1, target, water_t1, water_t2 = pair.s2_t1, pair.target, pair.water_t1, pair.water_t2
    if (flood | lake).any():
        dark = water_backscatter(s1_t2, pols, rng)
        colour = water_colour(bands, n, height, width, rng)
        whole = (uniform((n,), 0, 1, rng) < 0.1)[:, None, None, None]
        lowered = whole & (uniform((n,), 0, 1, rng) < 0.5)[:, None, None, None]
        cover = torch.where(whole, torch.ones_like(cover), cover)
        dark = torch.where(lowered, s1_t2 - uniform((n, 1, 1, 1), 8, 14, rng), dark)
        leafy = (uniform((n,), 0, 1, rng) < 0.08)[:, None, None, None] & ~whole  # flooded vegetation: a double bounce
        dark = torch.where(leafy, s1_t2 + uniform((n, 1, 1, 1), 2, 6, rng), dark)
        at_t2, at_t1 = (flood | lake)[:, None, None, None], lake[:, None, None, None]
        label = torch.where(cover > 0.6, 1.0, torch.nan)
        label = torch.where(leafy, torch.nan, label)
        shown = torch.where(leafy, 0.3 * cover, cover)
        s1_t2 = torch.where(at_t2, mixed(s1_t2, dark, cover), s1_t2)
        target = torch.where(at_t2, torch.lerp(target, colour, shown), target)
        water_t2 = torch.where(at_t2 & (cover > 0.1) & known(s1_t2, target), label, water_t2)
        s1_t1 = torch.where(at_t1, mixed(s1_t1, water_backscatter(s1_t1, pols, rng), cover), s1_t1)
        s2_t1 = torch.where(at_t1, torch.lerp(s2_t1, colour, shown), s2_t1)
        water_t1 = torch.where(at_t1 & (cover > 0.1) & known(s1_t1, s2_t1), label, water_t1)
    if negative.any():
        fields = torch.where((uniform((n, 1, 1, 1), 0, 1, rng) < 0.4), torch.ones_like(cover), patchwork(cover, rng))
        both = (uniform((n, 1, 1, 1), 0, 1, rng) < 0.5).float()
        where = negative[:, None, None, None].float() * fields
        # Smooth, dry ground: a runway or sand, as dark as water at both dates. Wet or harvested ground: darker at t2.
        same = -uniform((n, 1, 1, 1), 2, 13, rng) * both * where
        later = uniform((n, 1, 1, 1), -4.5, 3, rng) * (1 - both) * where
        s1_t1, s1_t2 = s1_t1 + same, s1_t2 + same + later
        wet = 1 - uniform((n, 1, 1, 1), 0, 0.35, rng) * (later < -1).float()
        target = target * wet
        water_t2 = torch.where((wet < 1) & (water_t2 != 0), torch.nan, water_t2)
    return Pair(s1_t1, s2_t1, s1_t2, target, water_t1, water_t2)


def known(s1: Tensor, s2: Tensor) -> Tensor:
    """Return where a date has radar or an optical image, ``(n, 1, y, x)``."""
    return (s1.isfinite().any(1) | s2.isfinite().any(1))[:, None]


def outline(s1: Tensor, rng: torch.Generator) -> Tensor:
    """Return the cover of an event, 0 to 1 with mixed edges, ``(n, 1, y, x)``: smooth, or along dark ground."""
    n, _, height, width = s1.shape
    field = fractal_field(n, height, width, rng)
    ground = F.avg_pool2d(torch.nan_to_num(s1[:, :1], nan=-10.0), 7, 1, 3, count_include_pad=False)
    follows = uniform((n, 1, 1, 1), 0, 0.8, rng) * (uniform((n, 1, 1, 1), 0, 1, rng) < 0.5)
    field = torch.lerp(field, 1 - ranked(ground), follows)
    share = uniform((n,), 0.02, 0.6, rng)
    level = torch.stack([f.flatten().quantile(1 - float(q)) for f, q in zip(field, share, strict=True)])
    edge = uniform((n, 1, 1, 1), 0.003, 0.04, rng)
    return ((field - level[:, None, None, None]) / edge + 0.5).clamp(0, 1)


def patchwork(like: Tensor, rng: torch.Generator) -> Tensor:
    """Return fields, 1 or 0, of the shape of ``like``: rectangles of 6 to 40 px."""
    n, _, height, width = like.shape
    fields = torch.empty_like(like)
    for i in range(n):
        side = 6 + int(torch.randint(35, (1,), generator=rng))
        grid = (torch.rand(1, 1, -(-height // side), -(-width // side), generator=rng) < 0.4).float()
        fields[i] = F.interpolate(grid, scale_factor=side, mode="nearest")[0, :, :height, :width]
    return fields


def water_backscatter(s1: Tensor, pols: tuple[str, ...], rng: torch.Generator) -> Tensor:
    """Return open water in dB under the speckle of ``s1``, of its shape; missing pixels stay missing."""
    n, _, height, width = s1.shape
    low, high = torch.tensor([WATER_DB[pol] for pol in pols]).T[:, None, :, None, None]
    rough = uniform((n, 1, 1, 1), 0, 1, rng) + 0.1 * (2 * fractal_field(n, height, width, rng) - 1)
    level = low + (high - low) * rough
    noise = torch.randn(s1.shape, generator=rng)
    noise = torch.lerp(F.avg_pool2d(noise, 3, 1, 1) * 3, noise, uniform((n, 1, 1, 1), 0, 1, rng))
    wanted, drawn = grain(s1), grain(noise)
    return torch.where(torch.isfinite(s1), level + noise * (wanted / drawn).clamp(0.2, 3), s1)


def grain(x: Tensor) -> Tensor:
    """Return the deviation of pixels from their neighbours' mean, robustly, ``(n, channel, 1, 1)``; 1 if unknown."""
    rough = x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return 1.48 * torch.nan_to_num(rough.abs().flatten(2).nanmedian(2).values, nan=1.0).clamp(min=0.1)[..., None, None]


def water_colour(bands: tuple[str, ...], n: int, height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return the reflectance of water, clear to muddy, ``(n, band, y, x)``."""
    clear, muddy = (torch.tensor([table[band] for band in bands]).view(1, -1, 1, 1) for table in (CLEAR, MUDDY))
    share = uniform((n, 1, 1, 1), 0, 1, rng) + 0.25 * (2 * fractal_field(n, height, width, rng) - 1)
    own = torch.exp(0.15 * torch.randn(n, len(bands), 1, 1, generator=rng))
    return (clear + (muddy - clear) * share.clamp(0, 1.2)) * own + 0.003 * torch.randn(
        n, 1, height, width, generator=rng
    )


def mixed(land: Tensor, water: Tensor, cover: Tensor) -> Tensor:
    """Return backscatter in dB of pixels partly under water: power is what adds up."""
    power = (1 - cover) * 10 ** (land / 10) + cover * 10 ** (water / 10)
    return 10 * power.clamp(min=1e-5).log10()
