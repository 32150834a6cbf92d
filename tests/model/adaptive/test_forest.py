"""Trees grown on the seen pixels of a window."""

from __future__ import annotations

import pytest
import torch
from crgen.model.adaptive.forest import FEWEST, HALF, PIXELS, forest, forest_share
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def field_world() -> tuple[Tensor, Tensor, Tensor]:
    """Two windows: fields whose colour is one of two, by a limit of one input; a stripe of each was seen."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 3, 64, 96, generator=rng)
    target = torch.where(inputs[:, :1] > 0.5, 0.8, 0.2).expand(-1, 3, -1, -1)
    seen = torch.zeros(2, 1, 64, 96)
    seen[..., 10:60] = 1
    return inputs, target, seen


def test_a_limit_of_the_inputs_is_found() -> None:
    inputs, target, seen = field_world()
    error = (forest(inputs, target, seen) - target).abs()[..., 60:].mean()
    blind = (forest(torch.zeros_like(inputs), target, seen) - target).abs()[..., 60:].mean()
    assert error < blind / 2


def test_a_limit_in_the_ground_is_found_where_the_inputs_tell_nothing() -> None:
    seen = torch.zeros(1, 1, 64, 64)
    seen[..., ::2, ::2] = 1
    beyond = torch.arange(64.0)[:, None] + 2 * torch.arange(64.0) - 90
    target = (beyond > 0).float().expand(1, 3, 64, 64)
    error = (forest(torch.zeros(1, 2, 64, 64), target, seen) - target).abs()
    assert error[(beyond.abs() > 20).expand_as(error)].max() < 0.1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0.4, 0.99))
def test_no_prediction_lies_beyond_what_was_seen(seed: int, share: float) -> None:
    rng = torch.Generator().manual_seed(seed)
    inputs, target = (torch.randn(1, n, 64, 64, generator=rng) for n in (4, 3))
    seen = (torch.rand(1, 1, 64, 64, generator=rng) < share).float()
    assert seen.sum() >= FEWEST
    made, shown = forest(inputs, target, seen).flatten(2), target.flatten(2)[..., seen.flatten() > 0]
    assert (made <= shown.amax(2, keepdim=True) + 1e-6).all()
    assert (made >= shown.amin(2, keepdim=True) - 1e-6).all()


def test_hidden_targets_decide_nothing() -> None:
    inputs, target, seen = field_world()
    other = torch.where(seen > 0, target, torch.rand(target.shape))
    assert torch.equal(forest(inputs, target, seen), forest(inputs, other, seen))


def test_a_window_has_the_same_bits_in_any_batch() -> None:
    inputs, target, seen = field_world()
    both = forest(inputs, target, seen)
    for window in range(2):
        assert torch.equal(forest(*(a[window : window + 1] for a in (inputs, target, seen)))[0], both[window])


def test_many_seen_pixels_are_drawn_from() -> None:
    rng = torch.Generator().manual_seed(1)
    inputs = torch.randn(1, 2, 128, 128, generator=rng)
    assert PIXELS < 128 * 128
    made = forest(inputs, inputs, torch.ones(1, 1, 128, 128))
    assert (made - inputs).abs().mean() < 0.1


def test_the_share_of_the_trees_grows_with_what_was_seen() -> None:
    seen = torch.zeros(4, 1, 256, 256)
    seen[1].view(-1)[: int(HALF)] = 1
    seen[2] = 1
    seen[3].view(-1)[: FEWEST - 1] = 1
    nothing, half, all_of_it, too_little = forest_share(seen).flatten().tolist()
    assert nothing == too_little == 0
    assert half == pytest.approx(0.5)
    assert half < all_of_it < 1
    assert not forest(seen, seen, seen)[[0, 3]].any()
