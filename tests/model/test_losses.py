"""Loss terms: their values, their gradients, and the perceptual loss that has no stand-in."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from crgen.errors import RequestError
from crgen.model.generator import Prediction
from crgen.model.losses import TERMS, VGG19, Perceptual, gaussian, reliability_error

BANDS = ("B11", "B8", "B3")


@pytest.fixture
def pair() -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    made, truth = torch.rand(2, 2, 3, 48, 48, generator=rng)
    return made, truth, torch.rand(2, 1, 48, 48, generator=rng) > 0.3


def test_terms_by_hand() -> None:
    truth = torch.full((1, 2, 16, 16), 0.2)
    made = torch.stack([torch.full((16, 16), 0.2), torch.full((16, 16), 0.5)])[None]
    every = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    prediction = Prediction(made, variance=torch.full_like(made, 0.01), prior=truth + 0.2, auxiliary=truth + 0.1)
    assert TERMS["prior"](prediction, truth, every).item() == pytest.approx(0.2, abs=1e-2)
    assert TERMS["log_error"](prediction, truth, every).item() == pytest.approx(math.log(0.045 / 1e-5 + 1), rel=1e-5)
    assert TERMS["l1"](prediction, truth, every).item() == pytest.approx(0.15)
    assert TERMS["charbonnier"](prediction, truth, every).item() == pytest.approx(0.15, abs=1e-3)
    cosine = (0.2 * 0.2 + 0.2 * 0.5) / (math.hypot(0.2, 0.2) * math.hypot(0.2, 0.5))
    assert TERMS["cosine"](prediction, truth, every).item() == pytest.approx(1 - cosine, rel=1e-5)
    assert TERMS["auxiliary"](prediction, truth, every).item() == pytest.approx(0.1, rel=1e-5)
    expected = 0.5 * math.log(0.01) + 0.5 * (0.5 * 0.3**2 / 0.01)
    assert TERMS["gaussian"](prediction, truth, every).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_pixels_that_do_not_count_give_no_gradient(name: str, pair: tuple[Tensor, Tensor, Tensor]) -> None:
    made, truth, counts = pair
    made.requires_grad_()
    loss = TERMS[name](Prediction(made, variance=made + 0.1, prior=made, auxiliary=made), truth, counts)
    assert loss.shape == (2,)
    loss.sum().backward()
    assert made.grad is not None
    beside = ~counts.expand_as(made)
    assert (made.grad[beside] == 0).all()
    assert made.grad[~beside].abs().min() > 0 or name in ("ssim", "ms_ssim")


def test_a_perfect_image_has_no_loss_nor_an_undefined_gradient(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    _, truth, counts = pair
    made = truth.clone().requires_grad_()
    for name in set(TERMS) - {"gaussian"}:
        loss = TERMS[name](Prediction(made, prior=made, auxiliary=made), truth, counts)
        assert loss.abs().max() < 1e-5, name
        (slope,) = torch.autograd.grad(loss.sum(), made)
        assert slope.isfinite().all(), name


def test_the_likelihood_is_best_at_the_true_variance(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    _, truth, counts = pair
    made = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))
    losses = [
        gaussian(Prediction(made, variance=torch.full_like(made, v)), truth, counts).mean() for v in (0.003, 0.01, 0.03)
    ]
    assert losses[1] < min(losses[0], losses[2])
    with pytest.raises(RequestError, match="needs a generator that predicts a variance"):
        gaussian(Prediction(made), truth, counts)


def test_the_likelihood_trains_the_variance_alone(pair: tuple[Tensor, Tensor, Tensor]) -> None:
    made, truth, counts = pair
    made.requires_grad_()
    variance = torch.full_like(made, 0.01).requires_grad_()
    gaussian(Prediction(made, variance=variance), truth, counts).sum().backward()
    assert made.grad is None
    assert variance.grad is not None


def test_reliability_is_right_where_it_says_how_much_of_the_ground_is_seen() -> None:
    s2_t1 = torch.rand(1, 3, 8, 8)
    s2_t1[..., 0] = torch.nan
    clear = torch.full((1, 1, 8, 8), 1.0)
    clear[..., 1:4], clear[..., 7] = 0.0, torch.nan
    best = reliability_error(clear.nan_to_num(0.5), clear, s2_t1)
    assert best < 1e-4
    for wrong in (0.5, 0.9):
        assert reliability_error(torch.full_like(clear, wrong), clear, s2_t1) > best + 0.3
    elsewhere = torch.where(clear.isnan() | s2_t1.isnan().any(1, keepdim=True), 0.3, clear)
    assert reliability_error(elsewhere, clear, s2_t1) == best, "unknown and missing pixels do not count"


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the tensors of torchvision's VGG-19, by name and shape; random, and without its classifier's bulk."""
    rng = torch.Generator().manual_seed(0)
    state, at, cin = {}, 0, 3
    for width in VGG19:
        if width:
            state[f"features.{at}.weight"] = torch.randn(width, cin, 3, 3, generator=rng) * (2 / (9 * cin)) ** 0.5
            state[f"features.{at}.bias"] = torch.zeros(width)
            cin = width
        at += 2 if width else 1
    state["classifier.6.bias"] = torch.zeros(1000)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_the_perceptual_loss_is_zero_for_the_truth_and_blind_to_pixels_that_do_not_count(
    vgg: Path, pair: tuple[Tensor, Tensor, Tensor]
) -> None:
    made, truth, counts = pair
    perceptual = Perceptual(BANDS, vgg)
    assert not any(p.requires_grad for p in perceptual.parameters())
    loss = perceptual(Prediction(made), truth, counts)
    assert loss.min() > 0.01
    assert (perceptual(Prediction(truth), truth, counts) == 0).all()
    assert torch.equal(perceptual(Prediction(torch.where(counts, made, 7.0)), truth, counts), loss)
    assert torch.equal(perceptual(Prediction(made), truth, 3.0 * counts), loss), "whatever weight a pixel has"


def test_the_perceptual_loss_sees_true_colour_where_it_is_made(vgg: Path) -> None:
    assert Perceptual(("B2", "B3", "B4", "B8"), vgg).picks == [2, 1, 0]
    assert Perceptual(BANDS, vgg).picks == [0, 1, 2]
    assert Perceptual(("B8",), vgg).picks == [0, 0, 0]


def test_without_weights_the_perceptual_loss_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    cases = {"missing.pth": None, "text.pth": b"404: Not Found", "other.pth": {"weight": torch.zeros(3)}}
    for name, content in cases.items():
        if isinstance(content, bytes):
            (tmp_path / name).write_bytes(content)
        elif content is not None:
            torch.save(content, tmp_path / name)
    for weights in (None, *(tmp_path / name for name in cases)):
        with pytest.raises(RequestError, match=r"perceptual loss (has no VGG-19|needs torchvision's VGG-19)") as caught:
            Perceptual(BANDS, weights)
        assert "\n" not in str(caught.value)
