"""Loss terms: their values, their gradients, and the perceptual loss that has no stand-in."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from crgen.errors import RequestError
from crgen.model.build import build_generator
from crgen.model.generator import Prediction
from crgen.training.discriminator import build_discriminator
from crgen.training.losses import TERMS, Perceptual, gaussian, reliability_error
from crgen.training.recipe import RECIPES
from crgen.training.train import Trainer
from tests.model.scenes import TINY_PAPER
from tests.training.patches import Patches

BANDS = ("B11", "B8", "B3")

VGG19 = {
    0: (64, 3, 3, 3),
    2: (64, 64, 3, 3),
    5: (128, 64, 3, 3),
    7: (128, 128, 3, 3),
    10: (256, 128, 3, 3),
    12: (256, 256, 3, 3),
    14: (256, 256, 3, 3),
    16: (256, 256, 3, 3),
    19: (512, 256, 3, 3),
    21: (512, 512, 3, 3),
    23: (512, 512, 3, 3),
    25: (512, 512, 3, 3),
    28: (512, 512, 3, 3),
    30: (512, 512, 3, 3),
    32: (512, 512, 3, 3),
    34: (512, 512, 3, 3),
}
"""The convolutions of torchvision's ``vgg19().features``: place in it, and shape of the weight."""


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
    state = {}
    for at, shape in VGG19.items():
        state[f"features.{at}.weight"] = torch.randn(shape, generator=rng) * (2 / (9 * shape[1])) ** 0.5
        state[f"features.{at}.bias"] = torch.randn(shape[0], generator=rng) * 0.01
    state["classifier.6.bias"] = torch.zeros(1000)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def stub_torchvision(monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]) -> list[dict[str, object]]:
    """Have torchvision give ``state`` as its VGG-19; returns what it was asked with."""
    asked: list[dict[str, object]] = []

    def get_state_dict(**options: object) -> dict[str, Tensor]:
        asked.append(options)
        return state

    models = ModuleType("torchvision.models")
    vars(models)["VGG19_Weights"] = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(get_state_dict=get_state_dict))
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return asked


def test_the_network_is_torchvisions_vgg_19_layer_by_layer(vgg: Path) -> None:
    state, layers = torch.load(vgg, weights_only=True), Perceptual(BANDS, vgg).features
    kept = layers.state_dict()
    assert {int(name.split(".")[0]) for name in kept} == {at for at in VGG19 if at < 26}, "up to relu4_4"
    assert all(torch.equal(tensor, state[f"features.{name}"]) for name, tensor in kept.items())
    assert [at for at, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)] == [4, 9, 18]
    for tap, last in zip(Perceptual.TAPS, (2, 7, 16, 25), strict=True):  # conv1_2, 2_2, 3_4, 4_4
        assert tap == last + 1
        assert isinstance(layers[tap], nn.ReLU)


def test_without_a_file_torchvision_is_asked_for_the_weights(
    vgg: Path, pair: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, truth, counts = pair
    asked = stub_torchvision(monkeypatch, torch.load(vgg, weights_only=True))
    perceptual = Perceptual(BANDS)
    assert asked == [{"progress": False, "check_hash": True}]
    assert torch.equal(
        perceptual(Prediction(made), truth, counts), Perceptual(BANDS, vgg)(Prediction(made), truth, counts)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"features.34.weight": None},
        {"features.36.weight": torch.zeros(512, 512, 3, 3)},
        {"features.34.weight": torch.zeros(512, 512, 1, 1)},
    ],
    ids=["a layer less", "a layer more", "another kernel"],
)
def test_a_network_that_is_nearly_vgg_19_is_refused(
    change: dict[str, Tensor | None], vgg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(vgg, weights_only=True) | change
    stub_torchvision(monkeypatch, {name: tensor for name, tensor in state.items() if tensor is not None})
    with pytest.raises(RequestError, match=r"needs torchvision's VGG-19 .* this is not it"):
        Perceptual(BANDS)


def test_the_papers_whole_loss_trains_both_networks(vgg: Path) -> None:
    """All terms of the paper's recipe together; it is cut to two small steps."""
    recipe = replace(RECIPES["paper"], steps=2, epochs=None, batch=2, crop=32)
    assert set(recipe.losses) == {"perceptual", "cosine", "ms_ssim", "auxiliary"}
    assert recipe.adversary is not None
    generator, perceptual = build_generator(TINY_PAPER, 0), Perceptual(BANDS, vgg)
    networks = {
        "generator": generator,
        "discriminator": build_discriminator(generator, recipe.adversary, 0),
        "perceptual": perceptual,
    }
    before = {name: {n: p.clone() for n, p in m.named_parameters()} for name, m in networks.items()}
    told: list[dict[str, float]] = []
    Trainer(generator, recipe, Patches(), discriminator=networks["discriminator"], perceptual=perceptual).run(
        lambda step, values: told.append(values)
    )
    for name, network in networks.items():
        moved = {n.split(".")[0] for n, p in network.named_parameters() if not torch.equal(p, before[name][n])}
        parts = {n.split(".")[0] for n in before[name]}
        assert moved == (parts if name != "perceptual" else set()), name
    assert len(told) == 2
    for values in told:
        assert {*recipe.losses, "adversarial", "d_loss", "d_penalty", "d_real", "d_fake"} <= set(values)
        assert all(math.isfinite(value) for value in values.values())
        assert all(values[name] > 0 for name in recipe.losses)
        terms = sum(weight * values[name] for name, weight in recipe.losses.items())
        assert values["loss"] == pytest.approx(terms + recipe.adversary.weight * values["adversarial"], rel=1e-5)


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
