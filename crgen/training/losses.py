"""Losses of the generator and the discriminator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crgen.errors import RequestError
from crgen.model.generator import Prediction
from crgen.training.augment import Truth
from crgen.training.batches import MIN_CLEAR
from crgen.training.contact_sheet import rgb_positions
from crgen.training.metrics import masked_mean, ms_ssim, ssim

Term = Callable[[Prediction, Truth], Tensor]
"""Of a prediction and what it is compared with: a scalar, over the pixels that count."""


class Images:
    """Terms that compare the reflectance of the bands that a generator makes itself, mean over usable samples.

    Args:
        core: places of these bands, see :attr:`Generator.core`.
        new_water: how much a pixel newly under water counts; all others count 1.
    """

    def __init__(self, core: list[int], new_water: float = 1.0) -> None:
        self.core, self.new_water = core, new_water

    def __call__(self, name: str, made: Prediction, truth: Truth) -> Tensor:
        """Return the term ``name`` of :data:`IMAGE_TERMS`; 0 where no sample has enough pixels that count."""
        usable = truth.counts.float().mean((1, 2, 3)) > MIN_CLEAR
        if not usable.any():
            return made.reflectance.sum() * 0
        weight = truth.counts * (1 + (self.new_water - 1) * truth.new_water)
        images = made.reflectance.float()[:, self.core], torch.nan_to_num(truth.target)[:, self.core]
        value: Tensor = IMAGE_TERMS[name](images[0][usable], images[1][usable], weight[usable]).mean()
        return value


def l1(made: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Mean absolute error."""
    return masked_mean((made - truth).abs(), counts)


def charbonnier(made: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Mean of ``√(error² + 0.001²) - 0.001``: L1 with a round bottom."""
    return masked_mean(((made - truth).square() + 1e-6).sqrt() - 1e-3, counts)


def cosine(made: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """One minus the cosine between the spectra of a pixel."""
    return masked_mean(1 - F.cosine_similarity(made, truth, dim=1, eps=1e-4)[:, None], counts)


def structure(made: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """One minus SSIM."""
    return 1 - ssim(made, truth, counts)


def multi_scale_structure(made: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """One minus MS-SSIM."""
    return 1 - ms_ssim(made, truth, counts)


def log_error(made: Tensor, truth: Tensor, counts: Tensor) -> Tensor:
    """Logarithm of the mean squared error over 10⁻⁵: PSNR but for a factor, so that no scene outweighs another."""
    return (masked_mean((made - truth).square(), counts) / 1e-5 + 1).log()


def others(made: Prediction, truth: Truth, core: list[int]) -> Tensor:
    """Charbonnier of the bands that follow, where a data set has them."""
    follow = [i for i in range(truth.target.shape[1]) if i not in core]
    if not follow:
        return made.reflectance.sum() * 0
    known = truth.counts & torch.isfinite(truth.target[:, follow])
    error = made.reflectance.float()[:, follow] - torch.nan_to_num(truth.target[:, follow])
    return _mean((error.square() + 1e-6).sqrt() - 1e-3, known)


def gaussian(made: Prediction, truth: Truth) -> Tensor:
    """Negative log-likelihood of the truth under the predicted mean and variance, up to a constant.

    The mean itself is not moved towards the truth by it: that is left to the other terms. What the two share is.
    """
    if made.variance is None:
        raise RequestError("the loss 'gaussian' needs a generator that predicts a variance")
    variance = made.variance.float().clamp(min=1e-6)
    error = made.reflectance.float().detach() - torch.nan_to_num(truth.target)
    known = truth.counts & torch.isfinite(truth.target)
    return _mean(0.5 * (variance.log() + error.square() / variance), known)


def auxiliary(made: Prediction, truth: Truth) -> Tensor:
    """L1 of the auxiliary image; nothing where the generator has none."""
    if made.auxiliary is None:
        return made.reflectance.sum() * 0
    return _mean((made.auxiliary - torch.nan_to_num(truth.target)).abs(), truth.counts.expand_as(truth.target))


def reliability(made: Prediction, truth: Truth) -> Tensor:
    """Cross-entropy between a reliability and whether S2 at t1 shows the ground, where that is known."""
    if made.reliability is None:
        raise RequestError("the loss 'reliability' needs a generator that tells how far it trusts S2 at t1")
    return _cross_entropy(made.reliability, truth.shown_t1)


def clean(made: Prediction, truth: Truth, core: list[int]) -> Tensor:
    """Charbonnier of t1 as it is without the painted clouds."""
    if made.clean_t1 is None:
        raise RequestError("the loss 'clean' needs a generator that cleans S2 at t1")
    error = made.clean_t1.float() - torch.nan_to_num(truth.clean_t1[:, core])
    known = torch.isfinite(truth.clean_t1[:, core]).all(1, keepdim=True).expand_as(error)
    return _mean((error.square() + 1e-6).sqrt() - 1e-3, known)


def water(made: Prediction, truth: Truth, new_water: float) -> Tensor:
    """Cross-entropy of the probability of water at t2, half of that at t1, and the dice loss at t2.

    Water is rare in most scenes: cross-entropy alone teaches to doubt it everywhere. New water counts ``new_water``.

    Only pixels whose label is known count; at t2 only hidden ones.
    """
    if made.water is None:
        raise RequestError("the loss 'water' needs a generator that tells water")
    before, after = made.water.float()[:, :1], made.water.float()[:, 1:]
    label = torch.where(truth.counts, truth.water_t2, torch.nan)
    wet = torch.nan_to_num(label)
    weight = torch.isfinite(label) * (1 + (new_water - 1) * ((wet == 1) & (truth.water_t1 == 0)))
    both = (after * wet * weight).sum()
    dice = 1 - (2 * both + 1) / (((after + wet) * weight).sum() + 1)
    return _cross_entropy(after, label, weight) + 0.5 * _cross_entropy(before, truth.water_t1) + dice


def _cross_entropy(share: Tensor, truth: Tensor, weight: Tensor | None = None) -> Tensor:
    known, share = torch.isfinite(truth), share.float().clamp(1e-5, 1 - 1e-5)
    truth = torch.nan_to_num(truth)
    return _mean(-(truth * share.log() + (1 - truth) * (1 - share).log()), known if weight is None else weight)


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    total: Tensor = torch.where(weight > 0, x * weight, 0.0).sum() / weight.sum().clamp(min=1)
    return total


IMAGE_TERMS = {
    "l1": l1,
    "charbonnier": charbonnier,
    "ssim": structure,
    "ms_ssim": multi_scale_structure,
    "cosine": cosine,
    "log_error": log_error,
}
"""Functions of two images ``(batch, band, y, x)`` and how much each pixel counts; one value per sample."""
TERMS = (*IMAGE_TERMS, "others", "gaussian", "auxiliary", "reliability", "clean", "water")
"""The terms a recipe may weigh; ``perceptual`` comes beside them, as it needs weights of its own."""


def terms_of(names: Iterable[str], core: list[int], new_water: float) -> dict[str, Term]:
    """Return the terms of a recipe for a generator, see :class:`Images`."""
    images = Images(core, new_water)
    special: dict[str, Term] = {
        "others": partial(others, core=core),
        "gaussian": gaussian,
        "auxiliary": auxiliary,
        "reliability": reliability,
        "clean": partial(clean, core=core),
        "water": partial(water, new_water=new_water),
    }
    return {name: special[name] if name in special else partial(images, name) for name in names if name in TERMS}


VGG19 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0)
"""Channels of VGG-19's convolutions 3 × 3, 0 for a pooling (Simonyan & Zisserman 2015, configuration E)."""
VGG_WEIGHTS = "vgg19-dcbb9e9d.pth"
"""The name torchvision gives its weights."""


class Perceptual(nn.Module):
    """Mean absolute difference of VGG-19's features at relu1_2, 2_2, 3_4, 4_4 (weights of torchvision, ImageNet).

    Pixels that do not count take the truth's value. VGG sees three bands: red, green and blue where the generator
    makes them, else SWIR, NIR and green, else its first three (a band is repeated where there are fewer).

    Args:
        bands: the generated bands.
        weights: torchvision's state of VGG-19, a ``.pth`` file; None asks torchvision for it (it downloads once).

    Raises:
        RequestError: if the weights cannot be had. There is no stand-in.
    """

    TAPS = (3, 8, 17, 26)

    def __init__(self, bands: tuple[str, ...], weights: Path | None = None) -> None:
        super().__init__()
        self.picks = rgb_positions(bands)
        self.features = _vgg_features(_vgg_state(weights))
        self.requires_grad_(False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    mean: Tensor
    deviation: Tensor

    def forward(self, made: Prediction, truth: Truth) -> Tensor:
        """Return the loss, mean over the samples."""
        image, target = made.reflectance.float()[:, self.picks], torch.nan_to_num(truth.target)[:, self.picks]
        x = torch.where(truth.counts, image, target)
        x, y = ((image.clamp(0, 1) - self.mean) / self.deviation for image in (x, target))
        total = x.new_zeros(x.shape[0])
        for i, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if i in self.TAPS:
                total = total + (x - y).abs().mean((1, 2, 3))
        return total.mean() / len(self.TAPS)


def _vgg_features(state: dict[str, Tensor]) -> nn.Sequential:
    layers: list[nn.Module] = []
    cin = 3
    for width in VGG19:
        if width:
            layers += [nn.Conv2d(cin, width, 3, padding=1), nn.ReLU()]
            cin = width
        else:
            layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers)
    try:
        features.load_state_dict(
            {name.removeprefix("features."): t for name, t in state.items() if name.startswith("features.")}
        )
    except RuntimeError:
        raise RequestError(f"the perceptual loss needs torchvision's VGG-19 ({VGG_WEIGHTS}); this is not it") from None
    return nn.Sequential(*layers[: Perceptual.TAPS[-1] + 1])


def _vgg_state(weights: Path | None) -> dict[str, Tensor]:
    way_out = f"give the file {VGG_WEIGHTS} (--perceptual FILE) or train without it (--perceptual none)"
    try:
        if weights is not None:
            state: dict[str, Tensor] = torch.load(weights, map_location="cpu", weights_only=True)
            return state
        from torchvision.models import VGG19_Weights

        state = VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
        return state
    except Exception as error:  # whatever keeps torchvision from importing or downloading: there is no stand-in
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise RequestError(f"the perceptual loss has no VGG-19 weights ({reason}); {way_out}") from None


class Adversarial(NamedTuple):
    """A pair of losses on score maps."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """Scores of real and of generated images → what the discriminator minimises."""
    generator: Callable[[Tensor], Tensor]
    """Scores of generated images → what the generator minimises."""
    between: bool
    """Whether the gradient penalty is taken between real and generated images (else R1, at the real ones)."""


def _critic(real: Tensor, fake: Tensor) -> Tensor:
    return fake.mean() - real.mean()


ADVERSARIAL: dict[str, Adversarial] = {
    "hinge": Adversarial(
        lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(), lambda fake: -fake.mean(), False
    ),
    "least squares": Adversarial(
        lambda real, fake: (real - 1).square().mean() + fake.square().mean(),
        lambda fake: (fake - 1).square().mean(),
        False,
    ),
    "wasserstein": Adversarial(_critic, lambda fake: -fake.mean(), True),
    "paper": Adversarial(_critic, lambda fake: (fake - 1).square().mean(), True),
}
"""``paper`` joins a critic's loss with a least-squares generator, on scores between 0 and 1."""


def score_losses(pairs: list[tuple[Tensor, Tensor]], name: str) -> Tensor:
    """Return the discriminator's loss: the mean over scales of ``(real, fake)`` score maps."""
    loss = ADVERSARIAL[name].discriminator
    return torch.stack([loss(real.float(), fake.float()) for real, fake in pairs]).mean()


def gradient_penalty(
    discriminator: Callable[[Tensor, Tensor], list[Tensor]],
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    name: str,
) -> Tensor:
    """Return R1, half the squared gradient at real images, or ``(‖gradient‖ - 1)²`` at images between.

    R1: Mescheder, Geiger & Nowozin 2018; between: Gulrajani et al. 2017. The gradient is that of the sum over scales
    of the mean score, scaled by the number of pixels, so its size does not depend on the image's.
    """
    between = ADVERSARIAL[name].between
    if between:
        share = torch.rand(real.shape[0], 1, 1, 1, device=real.device)
        real = real + share * (fake - real)
    image = real.detach().requires_grad_()
    scores = torch.stack([s.float().mean((1, 2, 3)) for s in discriminator(image, condition)]).mean(0)
    (slope,) = torch.autograd.grad(scores.sum(), image, create_graph=True)
    size = slope.float().square().sum((1, 2, 3)) * math.prod(image.shape[-2:])
    return ((size + 1e-12).sqrt() - 1).square().mean() if between else 0.5 * size.mean()
