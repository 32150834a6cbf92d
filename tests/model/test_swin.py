"""The Swin tower attends inside windows and nowhere else."""

import pytest
import torch
from torch import Tensor

from crgen.model.swin import SwinBlock, SwinTower, WindowAttention


def block(shift: int, window: int = 4) -> SwinBlock:
    torch.manual_seed(2)
    return SwinBlock(16, heads=2, window=window, shift=shift).eval()


def touched(block: SwinBlock, height: int, width: int, row: int, col: int) -> Tensor:
    """Which tokens of a map change when one token does."""
    x = torch.randn(1, height, width, 16)
    changed = x.clone()
    changed[0, row, col] += 5 * torch.randn(16)
    return (block(changed) - block(x)).abs().amax(-1)[0] > 0


def test_a_token_reaches_its_own_window_and_no_other() -> None:
    expected = torch.zeros(12, 16, dtype=torch.bool)
    expected[4:8, 8:12] = True
    assert torch.equal(touched(block(shift=0), 12, 16, 5, 10), expected)


def test_shifted_windows_straddle_the_borders_of_the_unshifted() -> None:
    expected = torch.zeros(12, 16, dtype=torch.bool)
    expected[2:6, 10:14] = True
    assert torch.equal(touched(block(shift=2), 12, 16, 5, 10), expected)


@pytest.mark.parametrize(("row", "col"), [(0, 0), (11, 15), (0, 15), (11, 7)])
def test_shifted_windows_do_not_wrap_around_the_map(row: int, col: int) -> None:
    reached = touched(block(shift=2), 12, 16, row, col).nonzero()
    assert reached.shape[0] > 1
    distance = (reached - torch.tensor([row, col])).abs().max()
    assert distance < 4, "a token saw the other side of the map"


@pytest.mark.parametrize("shift", [0, 2])
def test_padding_takes_no_part_in_attention(shift: int) -> None:
    """The last tokens of a map that fills no whole number of windows attend to themselves, as if nothing followed."""
    made, x = block(shift), torch.randn(1, 10, 9, 16)
    rows, cols = (slice(8, 10), slice(8, 9)) if shift == 0 else (slice(6, 10), slice(6, 9))
    side_y, side_x = rows.stop - rows.start, cols.stop - cols.start
    tokens = x[:, rows, cols].reshape(1, -1, 16)
    alone = explicit_attention(made.attention, tokens, positions=(4, side_y, side_x))
    expected = alone.view(1, side_y, side_x, 16)
    torch.testing.assert_close(made._attend(x)[:, rows, cols], expected, atol=1e-5, rtol=1e-4)


def explicit_attention(attention: WindowAttention, x: Tensor, positions: tuple[int, int, int]) -> Tensor:
    """Softmax of scaled cosines plus the position bias, written out token by token (Swin V2, equation 2)."""
    side, height, width = positions
    n, tokens, c = x.shape
    heads = attention.heads
    q, k, v = attention.qkv(x).split(c, -1)
    bias = attention.position_bias(side)
    where = [y * side + z for y in range(height) for z in range(width)]
    out = torch.empty(n, tokens, c)
    for h in range(heads):
        at = slice(h * c // heads, (h + 1) * c // heads)
        tau = attention.logit_scale[h].exp().clamp(max=100)
        qh, kh = (t[..., at] / t[..., at].norm(dim=-1, keepdim=True) for t in (q, k))
        logits = tau * qh @ kh.transpose(1, 2) + bias[h][where][:, where]
        out[..., at] = torch.softmax(logits, -1) @ v[..., at]
    y: Tensor = attention.proj(out)
    return y


def test_attention_is_a_softmax_of_scaled_cosines_plus_a_position_bias() -> None:
    torch.manual_seed(3)
    attention, x = WindowAttention(16, 2, 4).eval(), torch.randn(3, 16, 16)
    expected = explicit_attention(attention, x, (4, 4, 4))
    torch.testing.assert_close(attention(x, 4, None), expected, atol=1e-6, rtol=1e-5)


def test_cosine_attention_does_not_care_how_long_its_queries_are() -> None:
    torch.manual_seed(3)
    attention, x = WindowAttention(16, 2, 4).eval(), torch.randn(1, 16, 16)
    before = attention(x, 4, None)
    attention.qkv.weight.data[:32] *= 9
    attention.qkv.bias.data[:32] *= 9
    torch.testing.assert_close(attention(x, 4, None), before, atol=1e-6, rtol=1e-4)


def test_the_position_bias_depends_on_the_offset_alone() -> None:
    torch.manual_seed(3)
    bias = WindowAttention(16, 2, 8).position_bias(4).detach()
    bias = bias.view(2, 4, 4, 4, 4)
    assert torch.equal(bias[:, 0, 0, 1, 2], bias[:, 2, 1, 3, 3])
    assert not torch.equal(bias[:, 0, 0, 1, 2], bias[:, 1, 2, 0, 0])
    assert bias.min() >= 0
    assert bias.max() <= 16


@pytest.mark.parametrize("patch", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 160), (96, 64), (224, 32)])
def test_any_multiple_of_32_goes_through_the_tower(height: int, width: int, patch: int) -> None:
    tower = SwinTower(3, (8, 8, 16, 16), (2, 2, 2, 2), 8, 8, patch).eval()
    with torch.inference_mode():
        scales = tower(torch.randn(1, 3, height, width))
    shapes = [tuple(s.shape[1:]) for s in scales]
    assert shapes == [(c, height // patch // 2**i, width // patch // 2**i) for i, c in enumerate((8, 8, 16, 16))]


def test_a_map_smaller_than_the_window_is_one_window() -> None:
    small = block(shift=4, window=8)
    assert touched(small, 4, 4, 0, 0).all()


def test_no_similarity_is_great_enough_to_see_through_the_mask() -> None:
    """The worst case of cosine attention at its sharpest: neighbours opposed, the other side of the map a match."""
    made = block(shift=2)
    attention = made.attention
    with torch.no_grad():
        attention.logit_scale.fill_(5.0)
        attention.qkv.bias.zero_()
        attention.qkv.weight[:32] = torch.cat([torch.eye(16), -torch.eye(16)])
    x = torch.ones(1, 12, 12, 16)
    changed = x.clone()
    changed[0, 11, 11] = -1
    assert torch.equal(made(changed)[0, :2, :2], made(x)[0, :2, :2])
