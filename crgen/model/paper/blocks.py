"""The convolutional and attention blocks of CRGenNet, named as in the paper.

Source: Duan, Belgiu & Stein, ISPRS J. Photogramm. Remote Sens. 236 (2026), doi 10.1016/j.isprsjprs.2026.03.042.
All blocks take and return ``(batch, channel, height, width)``.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["instance", "pixel"]


class PixelNorm(nn.Module):
    """Layer norm over the channels of each pixel: nothing beyond that pixel matters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every pixel's channel vector."""
        y: Tensor = self.norm(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """Return the normalisation layer of a block: the paper's ``instance``, or ``pixel``."""
    return nn.InstanceNorm2d(channels) if kind == "instance" else PixelNorm(channels)


def conv(cin: int, cout: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    """Return a convolution with replicated borders, as all of the paper's."""
    return nn.Conv2d(cin, cout, kernel, stride, padding=kernel // 2, padding_mode="replicate")


class MiniConvMish(nn.Sequential):
    """Convolution 3 × 3 and Mish, without a norm."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__(conv(cin, cout), nn.Mish())


class ConvMishBlock(nn.Module):
    """Twice (convolution 3 × 3, norm, Mish), plus the input, projected (1 × 1) where the channels differ."""

    def __init__(self, cin: int, cout: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(cin, cout),
            make_norm(norm, cout),
            nn.Mish(),
            conv(cout, cout),
            make_norm(norm, cout),
            nn.Mish(),
        )
        self.skip = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``skip(x) + body(x)``."""
        y: Tensor = self.skip(x) + self.body(x)
        return y


class DownUpBlock(nn.Module):
    """Residual encoder–decoder: two strided convolutions down, two transposed ones up, plus the input."""

    def __init__(self, channels: int, norm: Norm, kernel: int, dropout: float) -> None:
        super().__init__()
        c = channels

        def step(layer: nn.Module, cout: int) -> nn.Sequential:
            return nn.Sequential(layer, make_norm(norm, cout), nn.Mish(), ConvMishBlock(cout, cout, norm))

        self.down = nn.Sequential(step(conv(c, 2 * c, kernel, 2), 2 * c), step(conv(2 * c, 4 * c, kernel, 2), 4 * c))
        self.up = nn.Sequential(
            step(nn.ConvTranspose2d(4 * c, 2 * c, 2, 2), 2 * c), step(nn.ConvTranspose2d(2 * c, c, 2, 2), c)
        )
        self.tail = nn.Sequential(ConvMishBlock(c, c, norm), nn.Conv2d(c, c, 1), nn.Dropout2d(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x + tail(up(down(x)))``; height and width must be multiples of 4."""
        y: Tensor = x + self.tail(self.up(self.down(x)))
        return y


class ChannelAttention(nn.Module):
    """Scale each channel by a gate computed from its mean and maximum over the map."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(channels // reduction, 8)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.Mish(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its channel gate."""
        gate = self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))
        return x * torch.sigmoid(gate)


class SpatialAttention(nn.Module):
    """Scale each pixel by a gate computed from the mean and maximum over its channels."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = conv(2, 1, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` times its spatial gate."""
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.conv(summary))


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
