"""How far each pixel of S2 at t1 can be relied on: the gate of the default generator."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from crgen.model.adaptive.convolutions import biased, convolution, down, join, stem, up
from crgen.model.adaptive.ridge import SceneRidge
from crgen.model.adaptive.surroundings import REACH, local_mean


class Reliability(nn.Module):
    """How far each pixel of S2 at t1 can be relied on, from itself and the window about it.

    Beside S2 and the radar it is told how far S2 departs from a regression of the whole window on the radar: what is
    too bright or too dark for its ground may be cloud or shadow.

    Args:
        pols: number of polarisations.
        bands: number of bands.
        width: channels at half resolution.
    """

    def __init__(self, pols: int, bands: int, width: int) -> None:
        super().__init__()
        sides = width, 3 * width // 2, 2 * width, 2 * width, 3 * width
        self.usual = SceneRidge(1 + 5 * pols, bands, scales=(), precision=10.0, learn_mean=False)
        self.enter = stem(2 * bands + 1 + pols, width)
        self.down = nn.ModuleList(down(*pair) for pair in pairwise(sides))
        self.up = nn.ModuleList(up(wide, narrow) for narrow, wide in reversed(list(pairwise(sides))))
        self.join = nn.ModuleList(join(2 * side, side) for side in reversed(sides[:-1]))
        self.leave = nn.Sequential(biased(convolution(width, 4), 2.0), nn.PixelShuffle(2))

    def forward(self, radar: Tensor, radar_here: Tensor, optical: Tensor, here: Tensor) -> Tensor:
        """Return values from 0 to 1, 0 where S2 is missing, ``(batch, 1, y, x)``.

        In float32 at any precision: by it is decided which pixels trees are grown on.

        Args:
            radar: backscatter at t1, standardised, ``(batch, pol, y, x)``.
            radar_here: 1 where it is present, else 0, ``(batch, 1, y, x)``.
            optical: S2 at t1, centred, ``(batch, band, y, x)``.
            here: 1 where it is present, else 0.
        """
        with torch.autocast(radar.device.type, enabled=False):
            means = [local_mean(radar, radar_here, side) for side in REACH]
            about = torch.cat([torch.ones_like(here), radar, *means, *(mean.square() / 2 for mean in means)], 1)
            surprise = (optical - self.usual(about, optical, here).image) * here
            maps = [self.enter(torch.cat([optical, here, radar, surprise], 1))]
            for layer in self.down:
                maps.append(layer(maps[-1]))
            x = maps.pop()
            for wider, joined in zip(self.up, self.join, strict=True):
                x = joined(torch.cat([wider(x), maps.pop()], 1))
            return torch.sigmoid(self.leave(x)) * here
