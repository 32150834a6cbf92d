"""The blocks of CRGenNet keep to their formulas."""

import math

import pytest
import torch
from torch import Tensor, nn

from crgen.model.fusion import FusionAttention
from crgen.model.paper.blocks import (
    ChannelAttention,
    ConvMishBlock,
    DownUpBlock,
    MiniConvMish,
    PixelNorm,
    SpatialAttention,
)


def fusion(axis: str = "channel", channels: int = 32) -> FusionAttention:
    torch.manual_seed(1)
    attention = FusionAttention(channels, axis)
    nn.init.constant_(attention.gamma, 0.7)
    return attention.eval()


def scores(attention: FusionAttention, x1: Tensor, x2: Tensor) -> Tensor:
    q, k = attention.queries_keys(x1, x2)
    return q.transpose(1, 2) @ k


def attended(attention: FusionAttention, weights: Tensor, x1: Tensor, x2: Tensor) -> Tensor:
    """The paper's equations with the whole weight matrix: y_i = x_i + γ · W · V_i."""
    outputs = []
    for x, value in ((x1, attention.value1), (x2, attention.value2)):
        v = value(x).flatten(2).transpose(1, 2)
        outputs.append(x + attention.gamma * (weights @ v).transpose(1, 2).reshape(x.shape))
    return torch.cat(outputs, 1)


@pytest.mark.parametrize("axis", ["channel", "space"])
def test_fusion_attention_in_linear_time_equals_the_whole_first_order_matrix(axis: str) -> None:
    attention, x1, x2 = fusion(axis), torch.randn(2, 32, 6, 8), torch.randn(2, 32, 6, 8)
    weights = 1 + scores(attention, x1, x2)
    weights = weights / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(attention(x1, x2), attended(attention, weights, x1, x2), atol=2e-6, rtol=1e-5)


def test_fusion_attention_stays_close_to_the_softmax_it_expands() -> None:
    attention, x1, x2 = fusion(), 3 * torch.randn(2, 32, 12, 12), 3 * torch.randn(2, 32, 12, 12)
    s = scores(attention, x1, x2)
    bound = 1 / math.sqrt(8)  # queries of both dates together: 2 × 4 channels
    assert s.abs().max() <= bound + 1e-6
    softmax, linear = torch.softmax(s, -1), (1 + s) / (1 + s).sum(-1, keepdim=True)
    # 1 + s misses exp(s) by at most s²/2 · exp(|s|), in the entry and in the row's sum
    miss = bound**2 / 2 * math.exp(bound)
    assert ((linear - softmax).abs() / softmax).max() < 2 * miss / (1 - bound)
    exact, made = attended(attention, softmax, x1, x2), attention(x1, x2)
    attention.gamma.data.zero_()
    torch.testing.assert_close(attention(x1, x2), torch.cat([x1, x2], 1), atol=0, rtol=0)
    contribution = exact - torch.cat([x1, x2], 1)
    assert (made - exact).square().mean().sqrt() < 0.05 * contribution.square().mean().sqrt()


@pytest.mark.parametrize(
    ("axis", "channels", "largest", "weight_error", "output_error"),
    [
        ("channel", 32, 0.36, 0.09, 0.01),
        ("channel", 64, 0.25, 0.04, 0.005),
        ("channel", 128, 0.18, 0.02, 0.002),
        ("space", 64, 0.02, 0.0005, 0.0001),
    ],
)
def test_how_close_the_expansion_is_to_the_softmax(
    axis: str, channels: int, largest: float, weight_error: float, output_error: float
) -> None:
    """Scores are at most 1/√d over channels, d = channels / 4; over space they vanish, and so does the attention."""
    attention, x1, x2 = fusion(axis, channels), *(3 * torch.randn(2, 2, channels, 24, 24))
    q, k = attention.queries_keys(x1, x2)
    s = q.transpose(1, 2) @ k
    assert largest / 4 < s.abs().max() <= largest
    softmax, linear = torch.softmax(s, -1), (1 + s) / (1 + s).sum(-1, keepdim=True)
    assert ((linear - softmax).abs() / softmax).max() < weight_error
    v = torch.cat([attention.value1(x1), attention.value2(x2)], 1).flatten(2)
    exact, made = v @ softmax.transpose(1, 2), attention.attend(q, k, v)
    assert (made - exact).norm() < output_error * exact.norm()
    spread = linear.max() * linear.shape[-1] - 1
    assert spread > 0.1 if axis == "channel" else spread < 0.03


def test_the_expansion_fails_where_scores_are_not_small() -> None:
    """Four and eight times the scores: what the norm and 1/√d guard against."""
    attention, x1, x2 = fusion("channel", 64), *(3 * torch.randn(2, 1, 64, 16, 16))
    q, k = attention.queries_keys(x1, x2)
    misses, least = [], []
    for gain in (1, 4, 8):
        s = gain * q.transpose(1, 2) @ k
        softmax, linear = torch.softmax(s, -1), (1 + s) / (1 + s).sum(-1, keepdim=True)
        misses.append(((linear - softmax).abs() / softmax).max().item())
        least.append(linear.min().item())
    assert misses[0] < 0.04 < 0.3 < misses[1] < 2 < misses[2]
    assert least[0] > 0 > least[2]


def test_fusion_attention_weighs_every_pixel_positively_and_in_sum_by_one() -> None:
    attention, x1, x2 = fusion(), torch.randn(1, 32, 5, 7), torch.randn(1, 32, 5, 7)
    q, k = attention.queries_keys(x1, x2)
    weights = attention.attend(q, k, torch.eye(35)[None]).transpose(1, 2)  # values that name their pixel
    assert weights.min() > 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 35))
    assert weights.max() / weights.min() > 1.2, "attention that cannot tell pixels apart is a mean"


def test_pixel_norm_looks_at_one_pixel_only() -> None:
    norm, x = PixelNorm(8), torch.randn(1, 8, 6, 6)
    changed = x.clone()
    changed[..., 2, 3] += torch.randn(8)
    differs = (norm(changed) != norm(x)).any(1)[0]
    assert differs.nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("norm", ["instance", "pixel"])
@pytest.mark.parametrize("kernel", [3, 7])
def test_down_up_block_returns_what_it_got_plus_a_residual(norm: str, kernel: int) -> None:
    block, x = DownUpBlock(8, norm, kernel, 0.0).eval(), torch.randn(2, 8, 16, 24)
    assert block(x).shape == x.shape
    last = block.tail[1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    torch.testing.assert_close(block(x), x, atol=0, rtol=0)


def test_blocks_keep_height_and_width() -> None:
    x = torch.randn(2, 8, 10, 14)
    assert MiniConvMish(8, 5)(x).shape == (2, 5, 10, 14)
    assert ConvMishBlock(8, 5, "pixel")(x).shape == (2, 5, 10, 14)
    assert isinstance(ConvMishBlock(8, 8, "pixel").skip, nn.Identity)


@pytest.mark.parametrize("attention", [ChannelAttention(8), SpatialAttention()])
def test_gates_only_dampen(attention: nn.Module) -> None:
    x = torch.randn(2, 8, 10, 14)
    gate = attention(x) / x
    assert gate.min() > 0
    assert gate.max() < 1
    spread = gate.std((2, 3)) if isinstance(attention, ChannelAttention) else gate.std(1)
    assert spread.max() < 1e-5, "one gate per channel, or one per pixel"
