"""CRGenNet's generator: Sentinel-1 at t1 and t2 and a possibly cloudy Sentinel-2 at t1 → Sentinel-2 at t2.

Source: Duan, Belgiu & Stein, ISPRS J. Photogramm. Remote Sens. 236 (2026), doi 10.1016/j.isprsjprs.2026.03.042.
Here is what its forms share: what they take and return, units, missing pixels. :mod:`crgen.model.paper` follows the
paper, :mod:`crgen.model.adaptive` is the default.

Inputs are in physical units with NaN where data is missing, as in the Stack; the generator normalises by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crgen.model.config import GeneratorConfig

SIZE_MULTIPLE = 32


class Prediction(NamedTuple):
    """What a generator returns."""

    reflectance: Tensor
    """Reflectance of the bands at t2, ``(batch, band, y, x)``."""
    reliability: Tensor | None = None
    """``adaptive``: how far S2 at t1 is relied on, 0 to 1, ``(batch, 1, y, x)``."""
    variance: Tensor | None = None
    """Variance of the reflectance, of its shape, where the generator predicts one."""
    water: Tensor | None = None
    """Probability of water at t1 and at t2, ``(batch, 2, y, x)``."""
    clean_t1: Tensor | None = None
    """``adaptive``: the three bands it makes itself as t1 would show them without cloud, ``(batch, 3, y, x)``."""
    auxiliary: Tensor | None = None
    """``paper``: the bottleneck image as reflectance, supervised like the output."""


def present(x: Tensor) -> Tensor:
    """Return 1 where every channel of ``x`` holds data and 0 elsewhere, ``(batch, 1, y, x)``."""
    return torch.isfinite(x).all(1, keepdim=True).to(x.dtype)


def fill_missing(x: Tensor, here: Tensor) -> Tensor:
    """Replace missing pixels by their channel's mean over the window (0 where a window holds no data)."""
    known = torch.where(here > 0, x, 0.0)
    mean = known.sum((2, 3), keepdim=True) / here.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(here > 0, x, mean)


def standardise(x: Tensor, here: Tensor) -> Tensor:
    """Scale each channel to zero mean and unit deviation over the window's valid pixels; missing pixels become 0.

    ``here`` is 1 where a pixel is valid, else 0, of one channel or as many as ``x`` has.

    Makes what follows blind to a gain and offset in dB (calibration, stretch).
    """
    count = here.sum((2, 3), keepdim=True).clamp(min=1)
    known = torch.where(here > 0, x, 0.0)
    mean = known.sum((2, 3), keepdim=True) / count
    centred = torch.where(here > 0, x - mean, 0.0)
    deviation = (centred.square().sum((2, 3), keepdim=True) / count).sqrt()
    return (centred / deviation.clamp(min=1e-3)).clamp(-4, 4)


class Generator(nn.Module, ABC):
    """What both forms share: configuration, units, and the check of the input's size."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        low, high = torch.tensor(config.db_range).T[:, None, :, None, None]
        self.register_buffer("db_low", low, persistent=False)
        self.register_buffer("db_span", high - low, persistent=False)

    db_low: Tensor
    db_span: Tensor
    evidence_size = 0
    """Numbers in :meth:`evidence`; 0 for a form that learns nothing from other windows."""

    def scale_backscatter(self, x: Tensor) -> Tensor:
        """Map dB to [-1, 1]; NaN stays NaN."""
        return ((x - self.db_low) / self.db_span).clamp(0, 1) * 2 - 1

    def scale_reflectance(self, x: Tensor, *, clip: bool = True) -> Tensor:
        """Map reflectance to [-1, 1]; NaN stays NaN."""
        low, high = self.config.reflectance_range
        share = (x - low) / (high - low)
        return (share.clamp(0, 1) if clip else share) * 2 - 1

    def to_reflectance(self, x: Tensor) -> Tensor:
        """Invert :meth:`scale_reflectance` without clipping."""
        low, high = self.config.reflectance_range
        return (x + 1) / 2 * (high - low) + low

    @property
    def core(self) -> list[int]:
        """Places of the bands that are made from the inputs themselves."""
        return [self.config.bands.index(band) for band in self.config.core]

    def forward(
        self,
        s1_t1: Tensor,
        s2_t1: Tensor,
        s1_t2: Tensor,
        s2_t2: Tensor | None = None,
        *,
        clear_t1: Tensor | None = None,
        calibrated: Tensor | None = None,
        lent: Tensor | None = None,
    ) -> Prediction:
        """Generate the optical image of t2.

        Args:
            s1_t1: backscatter at t1 in dB, ``(batch, pol, y, x)``, NaN where missing; so are the others.
            s2_t1: reflectance at t1, ``(batch, band, y, x)``; may be cloudy.
            s1_t2: backscatter at t2.
            s2_t2: reflectance at t2 where it was seen clear, NaN elsewhere; None where nothing was seen.
            clear_t1: clear-sky score of S2 at t1, 0 to 1, ``(batch, 1, y, x)``; None, or NaN, where there is none.
            calibrated: 1 where the radar is in true dB, 0 where its level means nothing, ``(batch,)``; None for 1.
            lent: what other windows saw of t2, the weighted sum of their :meth:`evidence`,
                ``(batch, evidence_size)``; None for nothing.

        Returns:
            The prediction; height and width as the input's.

        Raises:
            ValueError: if height or width is not a multiple of 32.
        """
        height, width = s1_t2.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"windows of {height} × {width} pixels: both sides must be multiples of {SIZE_MULTIPLE}")
        seen = torch.full_like(s2_t1, torch.nan) if s2_t2 is None else s2_t2
        return self.generate(s1_t1, s2_t1, s1_t2, seen, clear_t1=clear_t1, calibrated=calibrated, lent=lent)

    @abstractmethod
    def generate(
        self,
        s1_t1: Tensor,
        s2_t1: Tensor,
        s1_t2: Tensor,
        s2_t2: Tensor,
        *,
        clear_t1: Tensor | None,
        calibrated: Tensor | None,
        lent: Tensor | None,
    ) -> Prediction:
        """Do the work of :meth:`forward`."""

    def evidence(
        self,
        s1_t1: Tensor,
        s2_t1: Tensor,
        s1_t2: Tensor,
        s2_t2: Tensor,
        *,
        clear_t1: Tensor | None = None,
        calibrated: Tensor | None = None,
    ) -> Tensor:
        """Return what the seen pixels of each window tell of others, ``(batch, evidence_size)``; it adds up.

        Arguments as :meth:`forward`'s.
        """
        return s1_t1.new_zeros(len(s1_t1), 0)
