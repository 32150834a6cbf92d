"""Convolutions that the default generator is built of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """The input plus two convolutions of it, the second from zero: at first the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = convolution(channels, channels), convolution(channels, channels)
        nn.init.zeros_(self.second.weight)
        if self.second.bias is not None:
            nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the input's shape."""
        y: Tensor = x + self.second(F.silu(self.first(x)))
        return y


def convolution(cin: int, cout: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3 × 3 convolution."""
    return nn.Conv2d(cin, cout, 3, stride, padding=1)


def biased(layer: nn.Conv2d, bias: float) -> nn.Conv2d:
    """Return the layer with its bias set."""
    assert layer.bias is not None
    nn.init.constant_(layer.bias, bias)
    return layer


def down(cin: int, cout: int) -> nn.Sequential:
    """Return layers that halve height and width."""
    return nn.Sequential(convolution(cin, cout, 2), nn.SiLU(), Residual(cout))


def up(cin: int, cout: int) -> nn.Sequential:
    """Return layers that double height and width."""
    return nn.Sequential(nn.Conv2d(cin, 4 * cout, 1), nn.PixelShuffle(2))


def join(cin: int, cout: int) -> nn.Sequential:
    """Return layers that merge concatenated maps."""
    return nn.Sequential(convolution(cin, cout), nn.SiLU(), Residual(cout))


def stem(cin: int, cout: int) -> nn.Sequential:
    """Return layers that take all pixels to half resolution without losing one."""
    return nn.Sequential(nn.PixelUnshuffle(2), convolution(4 * cin, cout), nn.SiLU())
