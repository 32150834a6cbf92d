"""The generator of the paper (preset ``paper``).

Source: Duan, Belgiu & Stein, ISPRS J. Photogramm. Remote Sens. 236 (2026), doi 10.1016/j.isprsjprs.2026.03.042.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crgen.model.config import GeneratorConfig
from crgen.model.fusion import FusionAttention
from crgen.model.generator import Generator, Prediction, fill_missing, present
from crgen.model.paper.blocks import ConvMishBlock, Decoder, DownUpBlock, MiniConvMish, conv, upsample
from crgen.model.swin import SwinTower


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
        self.water = conv(d // 2, 2 + bands) if config.water else None

    def generate(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor, **unused: object) -> Prediction:
        """See :meth:`Generator.forward`."""
        r1 = fill_missing(self.scale_backscatter(s1_t1), present(s1_t1))
        r2 = fill_missing(self.scale_backscatter(s1_t2), present(s1_t2))
        o1 = fill_missing(self.scale_reflectance(s2_t1), present(s2_t1))
        t1 = self.down_up(self.stem_t1(torch.cat([self.stem_s1_t1(r1), o1], 1)))
        image = self.extended(self.fusion(t1, self.stem_s1_t2(r2)))
        x = self.join_half(upsample(self.dropout(self.decoder(self.tower(image)))))
        x = self.join_full(upsample(x))
        made, p = self.head(x), None
        if self.water is not None:  # not in the paper
            logits, colour = self.water(x).split([2, made.shape[1]], 1)
            p = logits.sigmoid()
            made = torch.lerp(made, colour.tanh(), p[:, 1:])
        return Prediction(self.to_reflectance(made), water=p, auxiliary=self.to_reflectance(image))
