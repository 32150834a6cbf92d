"""Labels of open water from reflectance: what training learns water from, and what scores count."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DARK = {"B8": 0.15, "B11": 0.12}
"""Reflectance that open water stays below, by band; cloud, snow and bright wet ground are above in one of them."""
BLACK = 0.05
"""Reflectance below which, in NIR and SWIR alike, ground is never taken for dry: lakes and rivers without light from
within have MNDWI of any sign."""


def water_label(reflectance: Tensor, bands: Sequence[str], clear: Tensor | None = None) -> Tensor:
    """Return where an optical image shows open water: 1 water, 0 dry, NaN unknown, ``(batch, 1, y, x)``.

    Water: MNDWI = (B3 - B11) / (B3 + B11) > 0 and dark in NIR and SWIR (B8 < .15, B11 < .12). Dry: MNDWI < 0 and not
    black (B8 or B11 above .05). Unknown: all else; MNDWI above 0 alone also holds for cloud, snow, bright wet ground.
    Unknown, too, where one of the three bands is missing (NaN, or not among ``bands``) and outside ``clear``.

    What it gets wrong, to the eye: shadow of clouds or, under low sun, of terrain, and snow in shadow are called water:
    give a mask where there is one. Water brighter than .15 in NIR or .12 in SWIR (much sediment) is unknown, and
    flooded vegetation mostly dry.

    MNDWI: Xu (2006), "Modification of normalised difference water index (NDWI) to enhance open water features in
    remotely sensed imagery", Int. J. Remote Sens. 27(14), 3025-3033, with 0 as its threshold. The limits of NIR and
    SWIR are this project's own.

    Args:
        reflectance: ``(batch, band, y, x)``, 0 to 1, NaN where missing.
        bands: Names of its bands, in order.
        clear: ``(batch, 1, y, x)``, true where no cloud, shadow or snow is known; ``None`` for everywhere.
    """
    index = mndwi(reflectance, bands)
    if any(name not in bands for name in DARK):
        return torch.full_like(index, torch.nan)
    dark = torch.ones_like(index, dtype=torch.bool)
    black, known = dark.clone(), torch.isfinite(index)
    for name, limit in DARK.items():
        band = reflectance[:, [list(bands).index(name)]]
        dark, black = dark & (band < limit), black & (band < BLACK)
        known = known & torch.isfinite(band)
    if clear is not None:
        known = known & clear.bool()
    label = torch.full_like(index, torch.nan)
    label[known & (index < 0) & ~black] = 0.0
    label[known & (index > 0) & dark] = 1.0
    return label


def mndwi(reflectance: Tensor, bands: Sequence[str]) -> Tensor:
    """Return (B3 - B11) / (B3 + B11), ``(batch, 1, y, x)``; NaN where a band is missing or their sum is not above 0."""
    names = list(bands)
    if "B3" not in names or "B11" not in names:
        return torch.full_like(reflectance[:, :1], torch.nan)
    green, swir = (reflectance[:, [names.index(name)]] for name in ("B3", "B11"))
    total = green + swir
    return torch.where(total > 0, (green - swir) / total.clamp_min(1e-6), torch.nan)
