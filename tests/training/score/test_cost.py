"""What is counted is what the layers cost."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.fusion import FusionAttention
from crgen.model.swin import SwinTower
from crgen.training.score.cost import operations, parameters, windows_per_second

TINY = preset("tiny")


def counted(module: nn.Module, *inputs: torch.Tensor) -> int:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        module.eval()(*inputs)
    return int(counter.get_total_flops())


def test_window_attention_is_counted() -> None:
    """One block of 8 × 8 tokens: qkv, q·kᵀ, weights·v, projection, position bias and MLP, 2 operations each."""
    dim, heads, n = 16, 2, 64
    tower = SwinTower(3, (dim, dim, dim, dim), (1, 0, 0, 0), dim // heads, 8, patch=4)
    linear = n * dim * dim * (3 + 1 + 8)
    attention = 2 * n * n * dim
    bias = 15 * 15 * (2 * 128 + 128 * heads)
    embed, merges = n * dim * 3 * 16, (16 + 4 + 1) * 4 * dim * dim
    assert counted(tower, torch.zeros(1, 3, 32, 32)) == 2 * (linear + attention + bias + embed + merges)


def test_fusion_attention_is_counted_and_grows_with_the_area_alone() -> None:
    channels, d = 32, 2 * 4
    for n in (16 * 16, 32 * 32):
        x = torch.zeros(1, channels, n // 32, 32)
        projections = n * channels * (2 * channels + 2 * d)
        products = n * d * (2 * channels * 2 + 1)
        assert counted(FusionAttention(channels), x, x) == 2 * (projections + products)


def test_operations_grow_with_the_area_and_the_width() -> None:
    assert operations(TINY, 128) == pytest.approx(4 * operations(TINY, 64), rel=0.05)
    assert operations(replace(TINY, widths=(8, 12, 32, 24, 24, 32)), 64) > operations(TINY, 64)


def test_windows_per_second_and_parameters() -> None:
    generator = build_generator(TINY).eval()
    assert parameters(generator) == sum(p.numel() for p in generator.parameters())
    assert windows_per_second(generator, side=64, batch=1, seconds=0.1) > 1
