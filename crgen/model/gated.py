"""The default generator (preset ``base``): the paper's order of work, changed where its form loses what users need.

It fuses radar and optical of t1 first and then aligns with the radar of t2 by attention, as the paper does. But
affine-free instance norms take the brightness of the optical input away, and nothing marks missing pixels there.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crgen.model.config import GeneratorConfig
from crgen.model.generator import Generator, Prediction, present, standardise
from crgen.model.layers import ConvMishBlock, Decoder, DownUpBlock, FusionAttention, MiniConvMish, conv, upsample
from crgen.model.swin import SwinTower


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
