"""Ridge regression on cosines, solved inside the scene: what no linear function of a pixel's inputs tells.

Source: Rahimi & Recht, "Random features for large-scale kernel machines", NeurIPS 2007.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crgen.model.adaptive.ridge import PACE

KERNEL = 5.0
"""Width of the Gaussian kernel whose cosines the learning starts from, in deviations of the inputs."""
MOST = 2048
"""Seen pixels of a window regressed at most, spread over the seen ones: neighbours say nearly the same."""
AT_ONCE = 8192
"""Pixels whose cosines are held at a time."""


class WaveRidge(nn.Module):
    """Regress seen pixels on cosines of their inputs, and predict all pixels: one solution for the whole window.

    The cosines run along directions that are drawn as for a Gaussian kernel, and learned on.

    Args:
        inputs: number of inputs.
        waves: number of cosines.
    """

    def __init__(self, inputs: int, waves: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(waves, inputs) / KERNEL)
        self.phases = nn.Parameter(torch.pi * (2 * torch.rand(waves) - 1))
        self.precision_change = nn.Parameter(torch.zeros(1 + inputs + waves))
        """Learned, as powers of :data:`crgen.model.adaptive.ridge.PACE`: the precision of a coefficient over 100."""

    def forward(self, inputs: Tensor, target: Tensor, seen: Tensor) -> Tensor:
        """Return the regression's value, ``(batch, band, y, x)`` float32, 0 where nothing was seen.

        Args:
            inputs: ``(batch, input, y, x)``; their mean and deviation over the window do not matter.
            target: what to regress, ``(batch, band, y, x)``; read where ``seen``, finite everywhere.
            seen: 1 where a pixel was seen, else 0, ``(batch, 1, y, x)``.
        """
        with torch.autocast(inputs.device.type, enabled=False):
            x = inputs.float()
            x = (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 0.05)
            at, weight = _spread_over(seen.flatten(1))
            pixels, values = (
                a.float().flatten(2).gather(2, at[:, None].expand(-1, a.shape[1], -1)) for a in (x, target)
            )
            pixels = self._features(pixels)
            weighted = pixels * weight[:, None] / 4
            gram = weighted @ pixels.transpose(1, 2) + torch.diag(100 * PACE**self.precision_change)
            moment = weighted @ values.transpose(1, 2)
            solution = torch.cholesky_solve(moment, torch.linalg.cholesky(gram)).transpose(1, 2)
            made = [solution @ self._features(some) for some in torch.split(x.flatten(2), AT_ONCE, 2)]
            return torch.cat(made, 2).view_as(target)

    def _features(self, pixels: Tensor) -> Tensor:
        pixels = pixels.clamp(-4, 4)
        directions = self.directions.expand(len(pixels), -1, -1)
        waves = torch.baddbmm(self.phases[:, None], directions, pixels).cos()
        return torch.cat([torch.ones_like(pixels[:, :1]), pixels, waves], 1)


def _spread_over(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Choose at most :data:`MOST` of the seen pixels, evenly among them, for each window.

    Args:
        seen: 1 or 0, ``(batch, pixel)``.

    Returns:
        Which pixels, and for how many each stands, 0 beyond the last, both ``(batch, MOST)``.
    """
    number = seen.long().cumsum(1)
    count = number[:, -1:]
    order = torch.arange(min(MOST, seen.shape[1]), device=seen.device)
    step = (count / len(order)).clamp(min=1)
    wanted = (order * step).long() + 1
    at = torch.searchsorted(number, wanted).clamp(max=seen.shape[1] - 1)
    return at, step * (wanted <= count)
