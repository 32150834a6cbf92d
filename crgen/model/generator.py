"""CRGenNet's generator: Sentinel-1 at t1 and t2 and a possibly cloudy Sentinel-2 at t1 → Sentinel-2 at t2.

Source: Duan, Belgiu & Stein, ISPRS J. Photogramm. Remote Sens. 236 (2026), doi 10.1016/j.isprsjprs.2026.03.042.
:class:`PaperGenerator` follows the paper. :class:`GatedGenerator` keeps its order of work (fuse radar and optical of
t1 first, then align with the radar of t2 by attention) and departs where the paper's form loses what users need:
affine-free instance norms take the brightness of the optical input away, and nothing marks missing pixels.

Inputs are in physical units with NaN where data is missing, as in the Stack; the generator normalises by itself.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crgen.model.config import GeneratorConfig
from crgen.model.layers import (
    ChannelAttention,
    ConvMishBlock,
    DownUpBlock,
    FusionAttention,
    MiniConvMish,
    SpatialAttention,
    conv,
)
from crgen.model.swin import SwinTower

SIZE_MULTIPLE = 32


class Prediction(NamedTuple):
    """What a generator returns."""

    reflectance: Tensor
    """Reflectance of the bands at t2, ``(batch, band, y, x)``."""
    reliability: Tensor | None = None
    """``gated``: how far S2 at t1 is relied on, 0 to 1, ``(batch, 1, y, x)``."""
    auxiliary: Tensor | None = None
    """``paper``: the bottleneck image as reflectance, supervised like the output."""


def present(x: Tensor) -> Tensor:
    """Return 1 where every channel of ``x`` holds data and 0 elsewhere, ``(batch, 1, y, x)``."""
    return torch.isfinite(x).all(1, keepdim=True).to(x.dtype)


def fill_missing(x: Tensor, here: Tensor) -> Tensor:
    """Replace missing pixels by their channel's mean over the window (0 where a window holds no data)."""
    known = torch.where(here > 0, x, 0.0)
    mean = known.sum((2, 3), keepdim=True) / here.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(here > 0, x, mean)


def standardise(x: Tensor, here: Tensor) -> Tensor:
    """Scale each channel to zero mean and unit deviation over the window's valid pixels; missing pixels become 0.

    Makes what follows blind to a gain and offset in dB (calibration, stretch).
    """
    count = here.sum((2, 3), keepdim=True).clamp(min=1)
    known = torch.where(here > 0, x, 0.0)
    mean = known.sum((2, 3), keepdim=True) / count
    centred = torch.where(here > 0, x - mean, 0.0)
    deviation = (centred.square().sum((2, 3), keepdim=True) / count).sqrt()
    return (centred / (deviation + 1e-3)).clamp(-4, 4)


class Decoder(nn.Module):
    """Climb from the tower's coarsest scale with skips: channel attention at the two coarsest, then spatial."""

    def __init__(self, embed: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        coarse_first = embed[::-1]
        self.enter = MiniConvMish(coarse_first[0], widths[0])
        self.joins = nn.ModuleList(
            MiniConvMish(below + skip, width)
            for below, skip, width in zip(widths[:-1], coarse_first[1:], widths[1:], strict=True)
        )
        self.attentions = nn.ModuleList(
            ChannelAttention(width) if i < 2 else SpatialAttention() for i, width in enumerate(widths)
        )

    def forward(self, scales: list[Tensor]) -> Tensor:
        """Return the finest scale's map with ``widths[-1]`` channels."""
        skips = scales[::-1]
        x: Tensor = self.attentions[0](self.enter(skips[0]))
        for skip, join, attention in zip(skips[1:], self.joins, self.attentions[1:], strict=True):
            x = attention(join(torch.cat([upsample(x), skip], 1)))
        return x


def upsample(x: Tensor) -> Tensor:
    """Double height and width, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Generator(nn.Module):
    """What both forms share: configuration, units, and the check of the input's size."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        low, high = torch.tensor(config.db_range).T[:, None, :, None, None]
        self.register_buffer("db_low", low, persistent=False)
        self.register_buffer("db_span", high - low, persistent=False)

    db_low: Tensor
    db_span: Tensor

    def scale_backscatter(self, x: Tensor) -> Tensor:
        """Map dB to [-1, 1]; NaN stays NaN."""
        return ((x - self.db_low) / self.db_span).clamp(0, 1) * 2 - 1

    def scale_reflectance(self, x: Tensor) -> Tensor:
        """Map reflectance to [-1, 1]; NaN stays NaN."""
        low, high = self.config.reflectance_range
        return ((x - low) / (high - low)).clamp(0, 1) * 2 - 1

    def to_reflectance(self, x: Tensor) -> Tensor:
        """Invert :meth:`scale_reflectance` without clipping."""
        low, high = self.config.reflectance_range
        return (x + 1) / 2 * (high - low) + low

    def forward(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor | None = None) -> Prediction:
        """Generate the optical image of t2.

        Args:
            s1_t1: backscatter at t1 in dB, ``(batch, pol, y, x)``, NaN where missing; so are the others.
            s2_t1: reflectance at t1, ``(batch, band, y, x)``; may be cloudy.
            s1_t2: backscatter at t2.
            s2_t2: reflectance at t2 where it was seen clear, NaN elsewhere; None where nothing was seen.

        Returns:
            The prediction; height and width as the input's.

        Raises:
            ValueError: if height or width is not a multiple of 32.
        """
        height, width = s1_t2.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"windows of {height} × {width} pixels: both sides must be multiples of {SIZE_MULTIPLE}")
        return self.generate(s1_t1, s2_t1, s1_t2, torch.full_like(s2_t1, torch.nan) if s2_t2 is None else s2_t2)

    def generate(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor) -> Prediction:
        """Do the work of :meth:`forward`."""
        raise NotImplementedError


class PaperGenerator(Generator):
    """The generator of the paper. Ignores ``s2_t2``; missing pixels are filled with the window's mean.

    The brightness of S2 at t1 reaches the result only by the projection beside the norms of ``stem_t1``.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        pols, bands, c = len(config.pols), len(config.bands), config.width
        self.stem_s1_t1 = MiniConvMish(pols, bands)
        self.stem_t1 = ConvMishBlock(2 * bands, c, "instance")
        self.stem_s1_t2 = ConvMishBlock(pols, c, "instance")
        self.down_up = DownUpBlock(c, "instance", config.down_kernel, config.dropout)
        self.fusion = FusionAttention(c, config.attention_axis)
        self.extended = nn.Sequential(MiniConvMish(2 * c, c), nn.Conv2d(c, bands, 1), nn.Tanh())
        self.tower = SwinTower(bands, config.embed, config.depths, config.head_dim, config.window, patch=4)
        self.decoder = Decoder(config.embed, config.decoder)
        d = config.decoder[-1]
        self.dropout = nn.Dropout2d(config.dropout)
        self.join_half = MiniConvMish(d, d)
        self.join_full = MiniConvMish(d, d // 2)
        self.head = nn.Sequential(conv(d // 2, bands), nn.Tanh())

    def generate(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor) -> Prediction:
        """See :meth:`Generator.forward`."""
        r1 = fill_missing(self.scale_backscatter(s1_t1), present(s1_t1))
        r2 = fill_missing(self.scale_backscatter(s1_t2), present(s1_t2))
        o1 = fill_missing(self.scale_reflectance(s2_t1), present(s2_t1))
        t1 = self.down_up(self.stem_t1(torch.cat([self.stem_s1_t1(r1), o1], 1)))
        image = self.extended(self.fusion(t1, self.stem_s1_t2(r2)))
        x = self.join_half(upsample(self.dropout(self.decoder(self.tower(image)))))
        x = self.head(self.join_full(upsample(x)))
        return Prediction(self.to_reflectance(x), auxiliary=self.to_reflectance(image))


class GatedGenerator(Generator):
    """The default generator: absolute radiometry, a reliability gate on S2 at t1, clear S2 at t2 as an input."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        pols, bands, s, w = len(config.pols), len(config.bands), config.stem, config.width
        self.stem_s1_t1 = MiniConvMish(pols + 1, s)
        self.stem_s2_t1 = MiniConvMish(bands + 1, s)
        self.stem_t2 = MiniConvMish(pols + 1 + bands + 1, s)
        self.gate_context = nn.Sequential(
            conv(2 * s, s, 5, 4), nn.Mish(), ConvMishBlock(s, s, "pixel"), conv(s, 2 * s, 3, 2), nn.Mish(),
            ConvMishBlock(2 * s, s, "pixel"),
        )  # fmt: skip
        self.gate = conv(3 * s, 1)
        self.fuse_t1 = MiniConvMish(2 * s, s)
        self.half_t1, self.half_t2 = conv(s, w, 3, 2), conv(s, w, 3, 2)
        self.down_up = DownUpBlock(w, "pixel", config.down_kernel, config.dropout)
        self.fusion = FusionAttention(w, config.attention_axis)
        self.extended = nn.Sequential(MiniConvMish(2 * w, w), nn.Conv2d(w, w, 1), nn.Tanh())
        self.tower = SwinTower(w, config.embed, config.depths, config.head_dim, config.window, patch=2)
        self.decoder = Decoder(config.embed, config.decoder)
        self.dropout = nn.Dropout2d(config.dropout)
        self.join_half = nn.Sequential(MiniConvMish(config.decoder[-1] + 2 * w, w), ConvMishBlock(w, w, "pixel"))
        self.join_full = nn.Sequential(MiniConvMish(w + 2 * s, s), MiniConvMish(s, s))
        self.head = conv(s, 2 * bands)
        with torch.no_grad():
            assert self.gate.bias is not None
            self.gate.bias.fill_(2.0)

    def generate(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor) -> Prediction:
        """See :meth:`Generator.forward`."""
        radar1, optical1, radar2, seen = (present(x) for x in (s1_t1, s2_t1, s1_t2, s2_t2))
        r1 = self.stem_s1_t1(torch.cat([standardise(self.scale_backscatter(s1_t1), radar1), radar1], 1))
        r2 = standardise(self.scale_backscatter(s1_t2), radar2)
        o1 = torch.where(optical1 > 0, self.scale_reflectance(s2_t1), 0.0)
        o2 = torch.where(seen > 0, self.scale_reflectance(s2_t2), 0.0)

        features = self.stem_s2_t1(torch.cat([o1, optical1], 1))
        context = self.gate_context(torch.cat([features, r1], 1))
        context = F.interpolate(context, size=o1.shape[-2:], mode="bilinear", align_corners=False)
        reliability = torch.sigmoid(self.gate(torch.cat([features, r1, context], 1))) * optical1

        full_t1 = self.fuse_t1(torch.cat([features * reliability, r1], 1))
        full_t2 = self.stem_t2(torch.cat([r2, radar2, o2, seen], 1))
        y = self.fusion(self.down_up(self.half_t1(full_t1)), self.half_t2(full_t2))
        x = self.dropout(self.decoder(self.tower(self.extended(y))))
        x = self.join_half(torch.cat([upsample(x), y], 1))
        x = self.head(self.join_full(torch.cat([upsample(x), full_t1, full_t2], 1)))
        made, kept = x.chunk(2, 1)
        out = made + torch.sigmoid(kept) * reliability * o1
        return Prediction(self.to_reflectance(out), reliability=reliability)


def build_generator(config: GeneratorConfig) -> Generator:
    """Return an untrained generator of ``config.form``."""
    return PaperGenerator(config) if config.form == "paper" else GatedGenerator(config)
