"""Convolutions that the default generator is built of."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Sequential):
    """Twice a 3 × 3 convolution, batch norm and ReLU; the first convolution may halve height and width."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__(
            *(nn.Conv2d(cin, cout, 3, stride, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)),
            *(nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)),
        )


class Join(nn.Module):
    """Double a coarse map's height and width, and merge it with finer ones: a step of a U-Net's decoder.

    Args:
        coarse: channels of the coarse map.
        beside: channels of the finer maps together.
        cout: channels of the result.
    """

    def __init__(self, coarse: int, beside: int, cout: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, cout, 1)
        self.block = Block(cout + beside, cout)

    def forward(self, coarse: Tensor, *beside: Tensor) -> Tensor:
        """Return a map of the finer ones' height and width."""
        wider = F.interpolate(self.narrow(coarse), scale_factor=2, mode="bilinear", align_corners=False)
        merged: Tensor = self.block(torch.cat([wider, *beside], 1))
        return merged


class Encoder(nn.ModuleList):
    """A block for every step from one of ``widths`` to the next, each of which halves height and width."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(Block(a, b, stride=2) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the input and what every block makes of the map before."""
        maps = [x]
        for block in self:
            maps.append(block(maps[-1]))
        return maps


class Decoder(nn.ModuleList):
    """The way back from the coarsest of an :class:`Encoder`'s maps, a :class:`Join` a step."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__(Join(coarse, fine, fine) for fine, coarse in reversed(list(pairwise(widths))))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return maps of all resolutions of ``maps``, finest first, the last of them as it was."""
        *finer, x = maps
        made = [x]
        for join, beside in zip(self, reversed(finer), strict=True):
            made.append(join(made[-1], beside))
        return made[::-1]
