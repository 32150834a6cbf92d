"""Metrics agree with formulas written apart, and see only the pixels that count."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from crgen.training.metrics import METRICS, masked_mean, ms_ssim, psnr, ssim, ssim_maps

Array = NDArray[np.float64]


def images(seed: int = 0, height: int = 48, width: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """Two images with structure in common, and a mask with holes; two of a batch, in float64."""
    rng = np.random.default_rng(seed)
    truth = gaussian_filter(rng.random((2, 3, height, width)), (0, 0, 2, 2))
    truth = (truth - truth.min()) / np.ptp(truth)
    made = np.clip(0.8 * truth + 0.1 + 0.08 * rng.standard_normal(truth.shape), 0, 1)
    mask = gaussian_filter(rng.random((2, 1, height, width)), (0, 0, 3, 3)) > 0.5
    return torch.from_numpy(made), torch.from_numpy(truth), torch.from_numpy(mask)


def reference(name: str, x: Array, y: Array, mask: NDArray[np.bool_]) -> float:
    """One image's metric by the textbook: ``(band, y, x)`` and a mask ``(y, x)``."""
    xs, ys = x[:, mask], y[:, mask]
    if name == "MAE":
        return float(np.abs(xs - ys).mean())
    if name == "RMSE":
        return math.sqrt(((xs - ys) ** 2).mean())
    if name == "PSNR":
        return 10 * math.log10(1 / ((xs - ys) ** 2).mean())
    if name == "SAM":
        angles = [math.acos(a @ b / math.sqrt(a @ a * (b @ b))) for a, b in zip(xs.T, ys.T, strict=True)]
        return math.degrees(sum(angles) / len(angles))
    return float(ssim_map(np.where(mask, x, y), y)[0][:, mask].mean())


def ssim_map(x: Array, y: Array) -> tuple[Array, Array]:
    """SSIM and its contrast–structure factor per pixel, as Wang et al. 2004 print them."""

    def blur(a: Array) -> Array:
        return np.stack([gaussian_filter(band, 1.5, truncate=5 / 1.5, mode="mirror") for band in a])

    c1, c2 = 0.01**2, 0.03**2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x**2) - mx**2, blur(y**2) - my**2, blur(x * y) - mx * my
    structure = (2 * cov + c2) / (vx + vy + c2)
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1) * structure, structure


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_is_what_the_textbook_says(name: str) -> None:
    made, truth, mask = images()
    expected = [reference(name, x, y, m[0]) for x, y, m in zip(*(t.numpy() for t in (made, truth, mask)), strict=True)]
    np.testing.assert_allclose(METRICS[name](made, truth, mask).numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(METRICS[name](made.float(), truth.float(), mask).numpy(), expected, rtol=2e-3)


def test_ms_ssim_is_the_product_over_octaves() -> None:
    made, truth, _ = images(height=64, width=64)
    everywhere = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    expected = []
    for x, y in zip(made.numpy(), truth.numpy(), strict=True):
        factors = []
        for scale in range(3):
            full, structure = ssim_map(x, y)
            factors.append((full if scale == 2 else structure).mean())
            x, y = (zoom(a, (1, 0.5, 0.5), order=1, grid_mode=True, mode="nearest") for a in (x, y))
        expected.append(np.prod(factors) ** (1 / 3))
    np.testing.assert_allclose(ms_ssim(made, truth, everywhere).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", METRICS)
def test_pixels_that_do_not_count_change_nothing(name: str) -> None:
    made, truth, mask = images()
    before = METRICS[name](made, truth, mask)
    for value in (0.0, 7.0, torch.nan, torch.inf):
        assert torch.equal(METRICS[name](torch.where(mask, made, value), truth, mask), before)
        if name != "SSIM":  # its windows see the truth around the pixels that count
            assert torch.equal(METRICS[name](made, torch.where(mask, truth, value), mask), before)
    assert torch.equal(METRICS[name](made, truth, mask.double()), before), "a mask of 0 and 1 is a mask"


def test_a_perfect_image_has_perfect_scores() -> None:
    _, truth, mask = (t.float() if t.is_floating_point() else t for t in images())
    scores = {name: metric(truth, truth, mask) for name, metric in METRICS.items()}
    assert scores["PSNR"].tolist() == pytest.approx([120, 120])
    assert scores["SSIM"].tolist() == [1, 1]
    assert scores["MAE"].tolist() == scores["RMSE"].tolist() == [0, 0]
    assert scores["SAM"].max() < 0.05
    assert ms_ssim(truth, truth, mask).tolist() == [1, 1]


def test_each_image_of_a_batch_is_scored_by_itself_and_none_without_pixels() -> None:
    made, truth, mask = images()
    mask[1] = False
    for metric in (*METRICS.values(), ms_ssim):
        both = metric(made, truth, mask)
        assert both[0].item() == pytest.approx(metric(made[:1], truth[:1], mask[:1]).item(), rel=1e-9)
        assert both[1].isnan()


def test_masked_mean_counts_bands_and_pixels() -> None:
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert masked_mean(x, torch.tensor([[[[1, 0], [0, 1]]]])).item() == (0 + 3 + 4 + 7) / 4


def test_worse_images_have_worse_scores() -> None:
    made, truth, mask = images()
    worse = (made + 0.3 * (made - truth)).clamp(0, 1) + 0.02
    assert (psnr(worse, truth, mask) < psnr(made, truth, mask)).all()
    assert (ssim(made.flip(-1), truth, mask) < ssim(made, truth, mask)).all()


def test_ssim_is_symmetric_and_at_most_one() -> None:
    made, truth, _ = images()
    full, structure = ssim_maps(made, truth)
    torch.testing.assert_close(full, ssim_maps(truth, made)[0])
    assert full.max() <= 1
    assert structure.max() <= 1
