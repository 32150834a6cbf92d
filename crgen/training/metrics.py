"""Image quality between a generated and a true image, over the pixels that count.

All functions take reflectance in [0, 1], ``(batch, band, y, x)``, and a mask ``(batch, 1, y, x)`` of the pixels that
count (boolean, or how much each counts), and return one value per image, ``(batch,)``, NaN where no pixel counts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of ``x`` over bands and the mask's pixels, per image."""
    kept = torch.where(mask.bool(), x, 0.0) * mask
    return kept.sum((1, 2, 3)) / (mask.to(x.dtype).sum((1, 2, 3)) * x.shape[1])


def mae(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error."""
    return masked_mean((x - y).abs(), mask)


def rmse(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Root mean squared error."""
    return masked_mean((x - y).square(), mask).sqrt()


def psnr(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1."""
    return -20 * torch.log10(rmse(x, y, mask).clamp(min=1e-6))


def sam(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Spectral angle in degrees."""
    cosine = F.cosine_similarity(x, y, dim=1, eps=1e-6).clamp(-1, 1)
    return masked_mean(torch.rad2deg(torch.arccos(cosine))[:, None], mask)


def _blur(x: Tensor) -> Tensor:
    """Gaussian of deviation 1.5 over 11 × 11 pixels, borders reflected."""
    at = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-at.square() / (2 * 1.5**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (5, 5, 5, 5), mode="reflect")
    x = F.conv2d(x, kernel[:, :, None, :], groups=x.shape[1])
    return F.conv2d(x, kernel[:, :, :, None], groups=x.shape[1])


def ssim_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM and its contrast–structure factor per pixel (Wang et al. 2004), of the inputs' shape."""
    mx, my = _blur(x), _blur(y)
    vx, vy, cov = _blur(x * x) - mx * mx, _blur(y * y) - my * my, _blur(x * y) - mx * my
    structure = (2 * cov + _C2) / (vx + vy + _C2)
    return (2 * mx * my + _C1) / (mx * mx + my * my + _C1) * structure, structure


def ssim(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Structural similarity; pixels outside the mask take the truth's value, so they add no difference."""
    return masked_mean(ssim_maps(torch.where(mask.bool(), x, y), y)[0], mask)


def ms_ssim(x: Tensor, y: Tensor, mask: Tensor, scales: int = 3) -> Tensor:
    """Multi-scale structural similarity with equal weights over ``scales`` octaves (Wang et al. 2003)."""
    weight = mask.to(x.dtype)
    x = torch.where(mask.bool(), x, y)
    result = torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
    for scale in range(scales):
        full, structure = ssim_maps(x, y)
        factor = ((full if scale == scales - 1 else structure) * weight).sum((1, 2, 3))
        factor = factor / (weight.sum((1, 2, 3)) * x.shape[1])
        result = result * factor.clamp(min=1e-4) ** (1 / scales)
        x, y, weight = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2), F.avg_pool2d(weight, 2)
    return result


METRICS = {"PSNR": psnr, "SSIM": ssim, "MAE": mae, "RMSE": rmse, "SAM": sam}
