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
from crgen.training.augment import Truth
from crgen.training.discriminator import build_discriminator
from crgen.training.losses import IMAGE_TERMS, TERMS, Perceptual, gaussian, reliability, terms_of, water
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


CORE = [1, 2]
"""Places of the bands that the terms on images compare, in the fixture of three."""


def truth_of(target: Tensor, counts: Tensor, **known: Tensor) -> Truth:
    """A truth of which all else is unknown."""
    unknown = torch.full_like(target[:, :1], torch.nan)
    rest = {name: unknown for name in ("shown_t1", "water_t1", "water_t2", "flooded")}
    return Truth(target, counts, **{"clean_t1": torch.full_like(target, torch.nan), **rest, **known})


def everything(image: Tensor) -> Prediction:
    """A prediction whose every part is the image."""
    return Prediction(image, image[:, :1], image, image[:, :2], image[:, CORE], image)


@pytest.fixture
def made() -> Tensor:
    return 0.05 + 0.9 * torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def truth(made: Tensor) -> Truth:
    rng = torch.Generator().manual_seed(1)
    target, clean = torch.rand(2, *made.shape, generator=rng)
    labels = torch.rand(3, 2, 1, 48, 48, generator=rng)
    three = torch.where(labels < 0.3, torch.nan, (labels > 0.6).float())
    counts = torch.rand(2, 1, 48, 48, generator=rng) > 0.3
    return truth_of(target, counts, clean_t1=clean, shown_t1=three[0], water_t1=three[1], water_t2=three[2])


def test_terms_by_hand() -> None:
    target = torch.full((1, 2, 16, 16), 0.2)
    image = torch.stack([torch.full((16, 16), 0.2), torch.full((16, 16), 0.5)])[None]
    known = {"clean_t1": target + 0.3, "water_t1": 0 * target[:, :1], "water_t2": 0 * target[:, :1] + 1}
    truth = truth_of(target, torch.ones(1, 1, 16, 16, dtype=torch.bool), **known, shown_t1=known["water_t2"])
    water = torch.stack([torch.full((16, 16), 0.4), torch.full((16, 16), 0.7)])[None]
    prediction = Prediction(
        image, 0 * target[:, :1] + 0.8, torch.full_like(image, 0.01), water, target[:, :1], target + 0.1
    )
    cosine = (0.2 * 0.2 + 0.2 * 0.5) / (math.hypot(0.2, 0.2) * math.hypot(0.2, 0.5))
    dice = 1 - (2 * 256 * 0.7 + 1) / (256 * 0.7 + 256 + 1)
    expected = {
        "log_error": math.log(0.045 / 1e-5 + 1),
        "l1": 0.15,
        "charbonnier": (math.hypot(0.3, 1e-3) - 1e-3) / 2,
        "cosine": 1 - cosine,
        "auxiliary": 0.1,
        "gaussian": 0.5 * math.log(0.01) + 0.5 * (0.5 * 0.3**2 / 0.01),
        "reliability": -math.log(0.8),
        "clean": math.hypot(0.3, 1e-3) - 1e-3,
        "water": -math.log(0.7) - 0.5 * math.log(1 - 0.4) + dice,
    }
    terms = terms_of(TERMS, [0, 1], 1.0)
    terms["clean"] = terms_of(["clean"], [0], 1.0)["clean"]
    for name, value in expected.items():
        assert terms[name](prediction, truth).item() == pytest.approx(value, rel=1e-4), name
    others = terms_of(["others"], [0], 1.0)["others"]
    assert others(prediction, truth).item() == pytest.approx(math.hypot(0.3, 1e-3) - 1e-3, rel=1e-4)


ONLY_COUNTED = sorted({*TERMS} - {"reliability", "clean", "water"})


@pytest.mark.parametrize("name", ONLY_COUNTED)
def test_pixels_that_do_not_count_give_no_gradient(name: str, made: Tensor, truth: Truth) -> None:
    made.requires_grad_()
    variance = made + 0.1
    loss = terms_of([name], CORE, 3.0)[name](everything(made)._replace(variance=variance), truth)
    assert loss.shape == ()
    loss.backward()
    assert made.grad is not None
    seen = {"others": [0], "gaussian": [0, 1, 2], "auxiliary": [0, 1, 2]}.get(name, CORE)
    beside = ~truth.counts.expand(-1, len(seen), -1, -1)
    assert (made.grad[:, seen][beside] == 0).all()
    assert made.grad[:, seen][~beside].abs().min() > 0 or name in ("ssim", "ms_ssim")
    unseen = [at for at in range(3) if at not in seen]
    assert (made.grad[:, unseen] == 0).all(), "each term has its own bands"


def test_a_perfect_image_has_no_loss_nor_an_undefined_gradient(truth: Truth) -> None:
    image = truth.target.clone().requires_grad_()
    prediction = everything(image)._replace(clean_t1=truth.clean_t1[:, CORE] + 0 * image[:, CORE])
    for name, term in terms_of(sorted({*TERMS} - {"gaussian", "reliability", "water"}), CORE, 3.0).items():
        loss = term(prediction, truth)
        assert loss.abs() < 1e-5, name
        (slope,) = torch.autograd.grad(loss, image)
        assert slope.isfinite().all(), name


# --- water -----------------------------------------------------------------------------------------------------------


def test_water_is_learned_from_known_labels_alone_and_at_t2_from_hidden_pixels_alone(truth: Truth) -> None:
    probability = torch.rand(2, 2, 48, 48, generator=torch.Generator().manual_seed(3)).requires_grad_()
    water(everything(truth.target)._replace(water=probability), truth, 1.0).backward()
    assert probability.grad is not None
    before, after = probability.grad.split(1, 1)
    assert torch.equal(before != 0, truth.water_t1.isfinite())
    assert torch.equal(after != 0, truth.water_t2.isfinite() & truth.counts)
    assert (before[truth.water_t1 == 1] < 0).all()
    assert (before[truth.water_t1 == 0] > 0).all()
    assert (after[(truth.water_t2 == 1) & truth.counts] < 0).all()
    assert (after[(truth.water_t2 == 0) & truth.counts] > 0).all()


def test_without_any_label_of_water_there_is_nothing_to_learn_and_no_undefined_value(truth: Truth) -> None:
    unknown = torch.full_like(truth.water_t1, torch.nan)
    probability = torch.rand(2, 2, 48, 48).requires_grad_()
    prediction = everything(truth.target)._replace(water=probability)
    loss = water(prediction, truth._replace(water_t1=unknown, water_t2=unknown), 1.0)
    loss.backward()
    assert loss == 0
    assert (probability.grad == 0).all()


@pytest.mark.parametrize("certain", [0.0, 1.0])
def test_certainty_that_is_wrong_is_finite_and_its_gradient_too(truth: Truth, certain: float) -> None:
    logit = torch.full((2, 2, 48, 48), 200.0 * (2 * certain - 1)).requires_grad_()
    loss = water(everything(truth.target)._replace(water=logit.sigmoid()), truth, 1.0)
    loss.backward()
    assert loss > 1
    assert loss.isfinite()
    assert logit.grad.isfinite().all()


def test_new_water_counts_as_much_as_the_recipe_says() -> None:
    """In one of two samples a quarter is newly under water, and wrong by a tenth; the other is right."""
    target = torch.full((2, 3, 16, 16), 0.2)
    after = torch.zeros(2, 1, 16, 16)
    after[0, :, :4] = 1
    truth = truth_of(target, torch.ones_like(after, dtype=torch.bool), water_t1=0 * after, water_t2=after)
    wrong = Prediction(target + 0.1 * after)

    def l1(truth: Truth, times: float) -> float:
        return float(terms_of(["l1"], CORE, times)["l1"](wrong, truth))

    assert l1(truth, 1.0) == pytest.approx(0.1 * 0.25 / 2)
    assert l1(truth, 3.0) == pytest.approx(0.1 * 3 * 0.25 / (1 + 2 * 0.25) / 2)
    unknown = torch.full_like(after, torch.nan)
    masked = truth._replace(water_t1=unknown, water_t2=unknown, flooded=after)
    assert l1(masked, 3.0) == pytest.approx(l1(truth, 3.0)), "so does a published mask"
    for same in (truth._replace(water_t1=after), truth._replace(water_t2=unknown), truth._replace(water_t2=0 * after)):
        assert l1(same, 3.0) == pytest.approx(l1(truth, 1.0)), "old water, unknown or dry"


def test_new_water_counts_as_much_in_its_own_term_and_old_water_as_before() -> None:
    """Half of the pixels are water, told with .4; the rest is dry, told with .1."""
    wet = (torch.arange(16) < 8).float().expand(1, 1, 16, 16)
    told = torch.where(wet == 1, 0.4, 0.1)
    image = torch.full((1, 3, 16, 16), 0.2)

    def loss(before: Tensor, times: float) -> float:
        truth = truth_of(image, torch.ones_like(wet, dtype=torch.bool), water_t1=before, water_t2=wet)
        made = Prediction(image, water=torch.cat([torch.full_like(wet, 0.5), told], 1))
        return float(water(made, truth, times)) - 0.5 * math.log(2)

    def expected(times: float) -> float:
        entropy = -(times * math.log(0.4) + math.log(0.9)) / (times + 1)
        return entropy + 1 - (2 * 0.4 * times * 128 + 1) / (128 * (1.4 * times + 0.1) + 1)

    assert loss(0 * wet, 1.0) == pytest.approx(expected(1.0), rel=1e-5)
    assert loss(0 * wet, 3.0) == pytest.approx(expected(3.0), rel=1e-5)
    assert loss(wet, 3.0) == pytest.approx(loss(wet, 1.0)), "rivers and lakes"


# --- t1, other bands -------------------------------------------------------------------------------------------------


def test_the_clean_image_of_t1_is_learned_wherever_t1_is_known_clear_or_not_at_t2(made: Tensor, truth: Truth) -> None:
    known = truth.clean_t1.clone()
    known[:, CORE[0], :20] = torch.nan  # one band of the three is enough
    known[:, 0, 30:] = torch.nan  # of the others none is needed
    clean_t1 = made[:, CORE].clone().requires_grad_()
    term = terms_of(["clean"], CORE, 1.0)["clean"]
    term(everything(made)._replace(clean_t1=clean_t1), truth._replace(clean_t1=known)).backward()
    assert (clean_t1.grad[:, :, :20] == 0).all()
    assert (clean_t1.grad[:, :, 20:] != 0).all(), "whatever counts at t2"


def test_other_bands_count_where_a_data_set_has_them(made: Tensor, truth: Truth) -> None:
    """Of two samples one lacks the band, as OMBRIA does."""
    lacking = truth.target.clone()
    lacking[1, 0] = torch.nan
    term = terms_of(["others"], CORE, 1.0)["others"]
    made.requires_grad_()
    loss = term(Prediction(made), truth._replace(target=lacking))
    loss.backward()
    assert (made.grad[1] == 0).all()
    first = Truth(*(part[:1] for part in truth))
    torch.testing.assert_close(loss, term(Prediction(made[:1]), first), msg="nor does it dilute the other")
    without = lacking.clone()
    without[:, 0] = torch.nan
    assert term(Prediction(made), truth._replace(target=without)) == 0
    assert terms_of(["others"], [0, 1, 2], 1.0)["others"](Prediction(made), truth) == 0, "where none follows"


def test_bands_that_a_data_set_lacks_have_no_likelihood(made: Tensor, truth: Truth) -> None:
    lacking = truth.target.clone()
    lacking[:, 0] = torch.nan
    variance = torch.full_like(made, 0.1).requires_grad_()
    gaussian(Prediction(made, variance=variance), truth._replace(target=lacking)).backward()
    assert (variance.grad[:, 0] == 0).all()
    assert (variance.grad[:, 1:][truth.counts.expand(-1, 2, -1, -1)] != 0).all()


def test_reliability_is_right_where_it_says_how_much_of_the_ground_is_seen(made: Tensor, truth: Truth) -> None:
    known = truth.shown_t1.isfinite()

    def loss(said: Tensor) -> float:
        return float(reliability(everything(made)._replace(reliability=said), truth))

    best = loss(truth.shown_t1.nan_to_num(0.5))
    assert best < 1e-4
    for wrong in (0.5, 0.9):
        assert loss(torch.full_like(truth.shown_t1, wrong)) > best + 0.3
    assert loss(torch.where(known, truth.shown_t1, 0.3)) == best, "unknown pixels do not count"


@pytest.mark.parametrize("name", ["gaussian", "reliability", "clean", "water"])
def test_a_term_of_what_the_generator_does_not_make_is_refused(name: str, made: Tensor, truth: Truth) -> None:
    with pytest.raises(RequestError, match=f"the loss '{name}' needs a generator that"):
        terms_of([name], CORE, 1.0)[name](Prediction(made), truth)


def test_the_likelihood_is_best_at_the_true_variance(truth: Truth) -> None:
    made = truth.target + 0.1 * torch.randn(truth.target.shape, generator=torch.Generator().manual_seed(1))
    losses = [gaussian(Prediction(made, variance=torch.full_like(made, v)), truth) for v in (0.003, 0.01, 0.03)]
    assert losses[1] < min(losses[0], losses[2])


def test_the_likelihood_trains_the_variance_alone(made: Tensor, truth: Truth) -> None:
    made.requires_grad_()
    variance = torch.full_like(made, 0.01).requires_grad_()
    gaussian(Prediction(made, variance=variance), truth).backward()
    assert made.grad is None
    assert variance.grad is not None


# --- samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGE_TERMS)
def test_a_sample_without_pixels_that_count_does_not_dilute_the_others(name: str, made: Tensor, truth: Truth) -> None:
    term = terms_of([name], CORE, 3.0)[name]
    truth.counts[1] = False
    alone = term(Prediction(made[:1]), Truth(*(part[:1] for part in truth)))
    torch.testing.assert_close(term(Prediction(made), truth), alone)
    made.requires_grad_()
    nothing = term(Prediction(made), truth._replace(counts=truth.counts & False))
    assert nothing == 0
    nothing.backward()
    assert (made.grad == 0).all()


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
    vgg: Path, made: Tensor, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stub_torchvision(monkeypatch, torch.load(vgg, weights_only=True))
    perceptual = Perceptual(BANDS)
    assert asked == [{"progress": False, "check_hash": True}]
    assert torch.equal(perceptual(Prediction(made), truth), Perceptual(BANDS, vgg)(Prediction(made), truth))


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
    generator, perceptual = build_generator(TINY_PAPER, 0), Perceptual(TINY_PAPER.bands, vgg)
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
    vgg: Path, made: Tensor, truth: Truth
) -> None:
    perceptual = Perceptual(BANDS, vgg)
    assert not any(p.requires_grad for p in perceptual.parameters())
    loss = perceptual(Prediction(made), truth)
    assert loss > 0.01
    assert perceptual(Prediction(truth.target), truth) == 0
    assert torch.equal(perceptual(Prediction(torch.where(truth.counts, made, 7.0)), truth), loss)


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
