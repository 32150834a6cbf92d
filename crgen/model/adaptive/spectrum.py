"""The bands that follow: every band of Sentinel-2 from the three that the generator makes.

Within a scene, other bands are close to a quadratic function of B3, B8 and B11. The function is regressed on what S2 at
t1 shows and on what was seen of t2, about a prior that is learned; water has a function of its own, linear, regressed
alike on what of it is water. What a pixel of t1 had beside the land's function, it keeps as far as the image keeps t1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crgen.model.adaptive.ridge import SceneRidge
from crgen.model.config import CORE
from crgen.model.generator import present
from crgen.model.water import water_label

NEAREST = {"B2": 0, "B4": 0, "B5": 0, "B6": 1, "B7": 1, "B8A": 1, "B12": 2}
"""The core band, by its place, that learning starts from."""
MOST = 1000.0
"""Pixels that a window's function is regressed on count for this many at most: neighbours say nearly the same."""
CENTRE = SPREAD = 0.15
"""Reflectance of a usual land pixel, and its spread: optical values are centred and scaled by them inside."""


def quadratic(x: Tensor) -> Tensor:
    """Return a constant, the channels of ``x`` and their products, ``(batch, 1 + c + c(c + 1)/2, y, x)``."""
    first, second = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return torch.cat([torch.ones_like(x[:, :1]), x, x[:, first] * x[:, second] / 2], 1)


def linear(x: Tensor) -> Tensor:
    """Return a constant and the channels of ``x``, ``(batch, 1 + c, y, x)``."""
    return torch.cat([torch.ones_like(x[:, :1]), x], 1)


class Spectrum(nn.Module):
    """From the core bands to all.

    Args:
        bands: all bands, in order; :data:`CORE` among them.
    """

    def __init__(self, bands: tuple[str, ...]) -> None:
        super().__init__()
        self.bands = bands
        self.core = [bands.index(band) for band in CORE]
        self.others = [i for i, band in enumerate(bands) if band not in CORE]
        self.order = [(self.core + self.others).index(i) for i in range(len(bands))]
        b, n = len(CORE), len(self.others)
        self.land = SceneRidge(1 + b + b * (b + 1) // 2, n, scales=(), precision=30.0, learn_mean=True)
        self.water = SceneRidge(1 + b, n, scales=(), precision=30.0, learn_mean=True)
        self.kept = nn.Parameter(torch.zeros(n))
        self.error = nn.Parameter(torch.full((n,), -4.0))
        nearest = torch.zeros(b, n)
        for i, at in enumerate(self.others):
            nearest[NEAREST.get(bands[at], 0), i] = 1
        with torch.no_grad():
            self.land.start[1 : 1 + b] = nearest
            self.water.start[1:] = nearest

    def forward(
        self,
        land: Tensor,
        colour: Tensor,
        p: Tensor,
        before: Tensor,
        kept: Tensor,
        clean: Tensor,
        s2_t1: Tensor,
        shown: Tensor,
        s2_t2: Tensor,
    ) -> Tensor:
        """Return the reflectance of all bands, ``(batch, band, y, x)``; to be called outside autocast.

        Args:
            land: the core bands as if there were no water, centred.
            colour: the core bands of water, centred.
            p: probability of water, ``(batch, 1, y, x)``.
            before: the same at t1.
            kept: how far the image keeps t1.
            clean: the core bands of t1, centred.
            s2_t1: reflectance of all bands at t1, NaN where missing.
            shown: how far t1 shows the ground.
            s2_t2: reflectance of all bands at t2 where it was seen, NaN elsewhere.
        """
        image = torch.lerp(land, colour, p)
        if not self.others:
            return (image * SPREAD + CENTRE)[:, self.order]
        known, weight = torch.cat([s2_t1, s2_t2], 3), torch.cat([shown, present(s2_t2[:, self.core])], 3)
        wet = torch.cat([before, p], 3).detach() * (water_label(known, self.bands) == 1)  # ice is not
        known = (known - CENTRE) / SPREAD
        core, others = torch.nan_to_num(known[:, self.core]).clamp(-1, 4), known[:, self.others]

        def law(ridge: SceneRidge, about: Tensor, weight: Tensor) -> Tensor:
            usual = torch.einsum("bfyx,fk->bkyx", about, ridge.mean)
            told = torch.where(torch.isfinite(others), others, usual.detach())
            most = MOST / weight.sum((1, 2, 3), keepdim=True).clamp(min=MOST)
            return ridge.solution(about, told, weight * most)

        coefficients = law(self.land, quadratic(core), weight)
        water = law(self.water, linear(core), weight * wet)

        def follow(core: Tensor) -> Tensor:
            return torch.einsum("bfyx,bfk->bkyx", quadratic(core.clamp(-1, 4)), coefficients)

        had = others[..., : land.shape[3]]
        beside = torch.where(torch.isfinite(had), had - follow(clean), 0.0)
        of_land = follow(land) + kept * self.kept.sigmoid()[:, None, None] * beside
        of_water = torch.einsum("bfyx,bfk->bkyx", linear(colour), water)
        every = torch.cat([image, torch.lerp(of_land, of_water, p)], 1)
        return (every * SPREAD + CENTRE)[:, self.order]

    def variance(self, core: Tensor) -> Tensor:
        """Return the variance of all bands from that of the core bands: their mean, and the function's own error."""
        if not self.others:
            return core[:, self.order]
        own = self.error.exp().square()[:, None, None]
        return torch.cat([core, core.mean(1, keepdim=True) + own], 1)[:, self.order]
