"""The paper's three-scale discriminator, conditioned on the generator's inputs.

Source: Duan, Belgiu & Stein, ISPRS J. Photogramm. Remote Sens. 236 (2026), doi 10.1016/j.isprsjprs.2026.03.042.

The paper scores through BatchNorm and a sigmoid and trains that with a critic's loss and a gradient penalty, while its
generator minimises least squares. A gradient penalty asks for a score of each image by itself, which BatchNorm is not,
and a sigmoid holds the gradient below what the penalty asks for. The default here scores without either
(``paper=False``) and takes a consistent pair of losses; ``paper=True`` keeps the paper's form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from crgen.model.generator import Generator, fill_missing, present
from crgen.model.paper.blocks import ChannelAttention, SpatialAttention, conv
from crgen.training.recipe import Adversary


class SubDiscriminator(nn.Module):
    """Strided spectral-norm convolutions, each after (BatchNorm and) Mish, then channel and spatial attention."""

    def __init__(self, cin: int, widths: tuple[int, ...], *, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [spectral_norm(conv(cin, widths[0]))]
        for before, width in zip((widths[0], *widths), widths, strict=False):
            layers += [nn.BatchNorm2d(before)] if batch_norm else []
            layers += [nn.Mish(), spectral_norm(conv(before, width, 3, 2))]
        self.body = nn.Sequential(*layers)
        self.attention = nn.Sequential(ChannelAttention(widths[-1]), SpatialAttention())
        self.head = nn.Sequential(nn.Mish(), spectral_norm(conv(widths[-1], 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of scores, ``(batch, 1, y / 2^depth, x / 2^depth)``."""
        y: Tensor = self.head(self.attention(self.body(x)))
        return y


class ThreeScaleDiscriminator(nn.Module):
    """Three sub-discriminators on the full, half and quarter resolution; each next one is a convolution less deep.

    Args:
        cin: channels of the image and the condition together (10 for red, green, blue with VV and VH).
        widths: channels of the deepest one's strided convolutions, at least three.
        paper: BatchNorm in the sub-discriminators, and one map: the mean of their sigmoids.
    """

    def __init__(self, cin: int, widths: tuple[int, ...] = (64, 128, 256), *, paper: bool = False) -> None:
        super().__init__()
        self.paper = paper
        self.scales = nn.ModuleList(
            SubDiscriminator(cin, widths[: len(widths) - less], batch_norm=paper) for less in range(3)
        )

    def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """Score ``image`` given ``condition`` (see :func:`condition_of`), both in [-1, 1].

        Returns:
            One map of scores per scale, ``(batch, 1, y, x)``, high for real; of form ``paper`` one map in [0, 1].
        """
        x = torch.cat([image, condition], 1)
        maps = []
        for discriminator in self.scales:
            maps.append(discriminator(x))
            x = F.avg_pool2d(x, 2)
        return [torch.stack([torch.sigmoid(m) for m in maps]).mean(0)] if self.paper else maps


def condition_of(generator: Generator, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor) -> Tensor:
    """Return what a discriminator sees beside the image: S1_t1 ⊕ S1_t2 ⊕ S2_t1 in [-1, 1], missing pixels filled."""
    radar, optical = generator.scale_backscatter, generator.scale_reflectance
    return torch.cat([fill_missing(x, present(x)) for x in (radar(s1_t1), radar(s1_t2), optical(s2_t1))], 1)


def build_discriminator(generator: Generator, adversary: Adversary, seed: int) -> ThreeScaleDiscriminator:
    """Return an untrained discriminator for a generator's channels, its weights drawn from ``seed``."""
    pols, bands = len(generator.config.pols), len(generator.config.bands)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ThreeScaleDiscriminator(2 * bands + 2 * pols, adversary.widths, paper=adversary.pair == "paper")
