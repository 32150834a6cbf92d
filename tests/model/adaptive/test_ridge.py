"""The regression inside the scene: what it solves, what it leaves, and what it says of itself."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from crgen.model.adaptive.ridge import LENT, TILE, SceneRidge, _apply, _image, _tiles


def scene(seed: int = 0, features: int = 4, bands: int = 3, side: int = 2 * TILE) -> tuple[Tensor, Tensor, Tensor]:
    """Random features with a constant, random targets, and a random third of the pixels seen."""
    rng = torch.Generator().manual_seed(seed)
    phi = torch.randn(1, features, side, side, generator=rng)
    phi[:, 0] = 1
    target = torch.randn(1, bands, side, side, generator=rng)
    return phi, target, (torch.rand(1, 1, side, side, generator=rng) < 0.3).float()


def ridge(scales: tuple[float, ...] = (), *, learn_mean: bool = True, features: int = 4, bands: int = 3) -> SceneRidge:
    torch.manual_seed(1)
    solver = SceneRidge(features, bands, scales, learn_mean=learn_mean).requires_grad_(False)
    solver.precision_change.copy_(torch.randn(features) / 10)
    if learn_mean:
        solver.start.copy_(torch.randn(features, bands))
    return solver


def test_what_is_lent_counts_as_if_it_were_seen_here() -> None:
    phi, target, seen = scene()
    solver = ridge()
    there = solver.evidence(phi, target, seen)
    assert there.shape == (1, solver.evidence_size)
    few = seen * (seen.cumsum(-1) < 5)  # no more than count in full
    assert LENT / 2 < float(few.sum()) <= LENT
    nothing = torch.zeros_like(seen)
    lent = solver(phi, target, nothing, solver.evidence(phi, target, few)).image
    assert torch.allclose(lent, solver(phi, target, few).image, atol=1e-4)
    halves = [few * half for half in (phi[:, 1:2] > 0, phi[:, 1:2] <= 0)]
    parts = sum(solver.evidence(phi, target, half) for half in halves)
    assert torch.allclose(parts, solver.evidence(phi, target, few), atol=1e-2)


def test_what_is_lent_never_counts_more_than_its_limit() -> None:
    phi, target, seen = scene()
    solver = ridge()
    nothing, evidence = torch.zeros_like(seen), solver.evidence(phi, target, seen)
    once, thrice = (solver(phi, target, nothing, evidence * n).image for n in (1.0, 3.0))
    assert float(seen.sum()) > LENT
    assert torch.allclose(once, thrice, atol=1e-4)


def test_nothing_lent_moves_the_coefficients_of_what_differs_between_windows() -> None:
    phi, target, seen = scene()
    solver = SceneRidge(4, 3, (), learn_mean=True, shared=torch.tensor([1.0, 1, 0, 1])).requires_grad_(False)
    evidence = solver.evidence(phi, target, seen)
    only = torch.zeros_like(phi)
    only[:, 2] = phi[:, 2]
    assert float(solver(only, target, torch.zeros_like(seen), evidence).image.abs().max()) == 0
    assert float(solver(phi, target, torch.zeros_like(seen), evidence).image.abs().max()) > 1e-3


@given(st.integers(0, 1000))
def test_the_window_is_the_posterior_mean_that_numpy_finds(seed: int) -> None:
    phi, target, seen = scene(seed)
    solver = ridge()
    made, spread = (solution := solver(phi, target, seen)).image, solution.spread(phi)
    there = seen[0, 0].bool().numpy()
    x, y = phi[0].numpy()[:, there].T.astype(np.float64), target[0].numpy()[:, there].T
    precision = np.diag(30 * 1e4 ** solver.precision_change.numpy())
    mean = solver.mean.numpy()
    inverse = np.linalg.inv(x.T @ x + precision)
    coefficients = mean + inverse @ (x.T @ (y - x @ mean))
    everywhere = phi[0].flatten(1).numpy().T
    np.testing.assert_allclose(made[0].flatten(1).numpy().T, everywhere @ coefficients, atol=1e-4)
    expected = np.einsum("ni,ij,nj->n", everywhere, inverse, everywhere)
    np.testing.assert_allclose(spread.flatten().numpy(), expected, rtol=1e-3, atol=1e-6)


def test_the_windows_solution_is_what_its_image_is_made_with() -> None:
    phi, target, seen = scene()
    solver = ridge()
    solution = solver.solution(phi, target, seen)
    assert solution.shape == (1, 4, 3)
    image = torch.einsum("ndyx,ndk->nkyx", phi, solution)
    torch.testing.assert_close(image, solver(phi, target, seen).image, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scales", [(), (64.0, 32.0)])
def test_nothing_seen_leaves_the_prior_mean(scales: tuple[float, ...]) -> None:
    phi, target, seen = scene()
    solver = ridge(scales)
    made = solver(phi, target, torch.zeros_like(seen)).image
    expected = torch.einsum("ndyx,dk->nkyx", phi, solver.mean)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


def test_hidden_targets_do_not_matter() -> None:
    phi, target, seen = scene()
    other = torch.where(seen > 0, target, target + 5)
    solver = ridge((64.0, 32.0))
    assert torch.equal(solver(phi, target, seen).image, solver(phi, other, seen).image)


def test_a_linear_world_is_recovered_from_a_few_pixels() -> None:
    phi, _, seen = scene()
    truth = torch.einsum("ndyx,dk->nkyx", phi, torch.randn(4, 3))
    few = torch.zeros_like(seen)
    few[..., :3, :3] = 1
    solver = SceneRidge(4, 3, precision=1e-4, learn_mean=False)
    made = solver(phi, truth, few).image
    assert (made - truth).abs().max() < 1e-2


def test_parts_of_a_scene_that_differ_get_coefficients_of_their_own() -> None:
    side = 8 * TILE
    phi, _, seen = scene(side=side)
    left = (torch.arange(side) < side // 2).float()
    truth = phi[:, 1:2] * (2 * left - 1) + left
    errors = []
    for scales in ((), (64.0,), (64.0, 32.0)):
        made = SceneRidge(4, 1, scales, learn_mean=False)(phi, truth, seen).image
        errors.append((made.detach() - truth).square().mean().item())
    assert errors[2] < 0.7 * errors[1] < 0.2 * errors[0]


def test_coefficients_change_without_steps_between_tiles() -> None:
    """A constant feature shows the coefficients themselves: no jump at a tile's edge is larger than within tiles."""
    side = 4 * TILE
    phi = torch.ones(1, 1, side, side)
    target = torch.linspace(0, 1, side).expand(1, 1, side, side)
    made = SceneRidge(1, 1, (32.0,), precision=1.0, learn_mean=False)(phi, target, torch.ones(1, 1, side, side)).image
    steps = made[0, 0, TILE].diff().detach().abs()
    edges = steps[TILE - 1 :: TILE]
    assert edges.max() <= steps.max() + 1e-6
    assert steps.max() < 3 / side


def test_far_from_what_was_seen_the_spread_is_larger() -> None:
    phi, target, seen = scene()
    usual, strange = phi.clone(), phi.clone()
    strange[..., 5, 5] = 30.0
    solver = ridge()

    def spread(features: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        return solver(features, target, where).spread(features)

    assert spread(strange, seen)[0, 0, 5, 5] > 10 * spread(usual, seen)[0, 0, 5, 5]
    assert spread(phi, torch.zeros_like(seen)).mean() > 10 * spread(phi, seen).mean()


def test_gradients_pass_through_the_solve() -> None:
    phi, target, seen = scene()
    phi.requires_grad_()
    solver = SceneRidge(4, 3, learn_mean=True)
    solver(phi, target, seen).image.square().sum().backward()
    assert phi.grad is not None
    assert phi.grad.isfinite().all()
    for name, parameter in solver.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_coefficients_change_bilinearly_between_the_centres_of_tiles() -> None:
    rng = torch.Generator().manual_seed(0)
    down, across, d, k = 3, 2, 4, 3
    coefficients = torch.randn(2, down, across, d, k, generator=rng)
    features = torch.randn(2, d, down * TILE, across * TILE, generator=rng)
    everywhere = F.interpolate(
        coefficients.permute(0, 3, 4, 1, 2).flatten(1, 2), scale_factor=TILE, mode="bilinear", align_corners=False
    ).unflatten(1, (d, k))
    expected = (features[:, :, None] * everywhere).sum(1)
    made = _image(_apply(coefficients, _tiles(features, down, across)), down * TILE, across * TILE, down)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
