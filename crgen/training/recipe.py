"""What decides a training run beside the generator and the data: one frozen recipe, and each preset's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from crgen.errors import RequestError

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@checked_dataclass(frozen=True, config=_STRICT)
class Optimiser:
    """Adam or AdamW. Weight decay spares biases, norms and other vectors."""

    name: Literal["adam", "adamw"] = "adamw"
    learning_rate: float = 1e-3
    """Peak rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ValueError(f"the learning rate is {self.learning_rate}; give a positive number, e.g. 1e-3")


@checked_dataclass(frozen=True, config=_STRICT)
class Adversary:
    """How a discriminator takes part."""

    pair: Literal["hinge", "least squares", "wasserstein", "paper"] = "hinge"
    """The two losses, see :data:`crgen.training.losses.ADVERSARIAL`."""
    weight: float = 1.0
    """Weight of the generator's adversarial term."""
    penalty: float = 1.0
    """Weight of the gradient penalty: R1 on real images, for ``wasserstein`` and ``paper`` on images between."""
    start: int = 0
    """First step at which the discriminator and the adversarial term count."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Channels of each sub-discriminator's strided convolutions."""
    optimiser: Optimiser = Optimiser("adam", betas=(0.0, 0.99), weight_decay=0.0)


@checked_dataclass(frozen=True, config=_STRICT)
class Recipe:
    """Everything that decides a training run beside the generator, the data and the discriminator's layers.

    Raises:
        ValueError: if the fields contradict each other.
    """

    steps: int | None = 3600
    """Steps of the optimiser; None where ``epochs`` says how long."""
    epochs: int | None = None
    """Passes over as many samples as the data hold; None where ``steps`` says how long."""
    batch: int = 8
    """Crops in a step, over all processes."""
    crop: int = 128
    """Side of a crop in pixels, a multiple of 32; smaller samples are padded with missing pixels."""
    variation: Literal["none", "mild", "full"] = "full"
    """How inputs are varied beside crops and turns, see :data:`crgen.training.augment.VARIATIONS`."""
    losses: Mapping[str, float] = field(default_factory=lambda: {"l1": 1.0, "ms_ssim": 0.15, "auxiliary": 0.2})
    """Weights of the terms of :data:`crgen.training.losses.TERMS` and of ``perceptual``."""
    new_water: float = 1.0
    """How much a pixel newly under water counts in the terms that compare images or tell water; others count 1."""
    optimiser: Optimiser = Optimiser()
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    """``cosine``: to 1 % of the peak at the last step. ``plateau``: half after 10 epochs without a better mean loss."""
    warmup: int = 200
    """Steps of linear rise to the peak."""
    clip: float | None = 1.0
    """Largest norm of the generator's gradient; None for any."""
    ema: float = 0.999
    """Decay of the average of the weights, reached over the first steps; 0 for no average."""
    adversary: Adversary | None = None
    """None for a generator trained without discriminator."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the networks; losses are computed in float32."""
    validate_every: int | None = None
    """Steps between scores on the validation data; None for none."""
    keep_best: bool = False
    """Return the averaged weights with the best validation PSNR instead of the last."""
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if any(n is not None and n < 1 for n in (self.steps, self.epochs, self.batch, self.validate_every)):
            raise ValueError("steps, epochs, batch and validate_every must be at least 1")
        if self.crop < 32 or self.crop % 32:
            raise ValueError("the crop must be a multiple of 32")
        if not 0 < self.new_water < math.inf:
            raise ValueError(f"new water counts {self.new_water}; give a positive number, e.g. 3")
        if not 0 <= self.ema < 1 or not 0 <= self.seed < 2**31:
            raise ValueError("ema must be from 0 to below 1, the seed from 0 to below 2^31")
        if self.schedule == "plateau" and self.warmup:
            raise ValueError("the schedule 'plateau' takes no warmup")
        if self.keep_best and self.validate_every is None:
            raise ValueError("keep_best needs validate_every")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, ready for JSON."""
        return asdict(self)

    def epoch_steps(self, samples: int) -> int:
        """Return the steps of one epoch over ``samples``."""
        return -(-samples // self.batch)

    def total_steps(self, samples: int) -> int:
        """Return the steps of the whole run over ``samples``."""
        return self.steps if self.steps is not None else (self.epochs or 0) * self.epoch_steps(samples)


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's table with another laid over it, tables within it alike; ``losses`` are replaced whole.

    ``steps`` replaces ``epochs`` and the other way round.
    """
    result = dict(old)
    for name, value in new.items():
        before = result.get(name)
        nested = isinstance(value, Mapping) and isinstance(before, Mapping) and name != "losses"
        result[name] = merged(before, value) if nested else value  # type: ignore[arg-type]
        if name in ("steps", "epochs") and value is not None:
            result["epochs" if name == "steps" else "steps"] = None
    return result


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return ``recipe`` with some fields replaced, see :func:`merged`.

    Raises:
        RequestError: naming the first field that does not exist or does not fit.
    """
    try:
        return TypeAdapter(Recipe).validate_python(merged(recipe.to_dict(), changes))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(f"recipe: {where + ': ' if where else ''}{message}") from None


def learning_rate(step: int, total: int, recipe: Recipe, peak: float) -> float:
    """Return the rate at ``step`` of ``total``: linear warm-up to ``peak``, then the recipe's schedule.

    ``plateau`` stays at the peak here: the trainer halves what comes out.
    """
    if step < recipe.warmup:
        return peak * (step + 1) / recipe.warmup
    if recipe.schedule != "cosine":
        return peak
    done = (step - recipe.warmup) / max(total - recipe.warmup, 1)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


_BASE = Recipe(
    batch=8,
    crop=128,
    losses={
        "charbonnier": 1.0,
        "ssim": 0.3,
        "cosine": 0.1,
        "log_error": 0.03,
        "others": 0.5,
        "clean": 0.2,
        "reliability": 0.1,
        "water": 0.4,
        "gaussian": 0.01,
    },
    new_water=3.0,
    optimiser=Optimiser(weight_decay=0.05),
)

RECIPES: dict[str, Recipe] = {
    "base": _BASE,
    "tiny": _BASE,
    "paper": Recipe(
        steps=None,
        epochs=200,
        batch=8,
        crop=256,
        variation="none",
        losses={"perceptual": 1.0, "cosine": 1.0, "ms_ssim": 1.0, "auxiliary": 1.0},
        optimiser=Optimiser("adam", 2e-4, (0.9, 0.999), 0.0),
        schedule="plateau",
        warmup=0,
        clip=None,
        ema=0.0,
        adversary=Adversary("hinge", 0.05, 1e-3, optimiser=Optimiser("adam", 3e-3, (0.5, 0.99), 1e-5)),
    ),
}
"""The recipe of each preset.

``paper`` is the paper's but for what its discriminator needs to take hold (``benchmarks/adversarial.py``), as a
generator at the paper's rate outruns it: both scores then stay equal.

=============================  ===================  ================================================================
what                           here                 in the paper
=============================  ===================  ================================================================
pair                           hinge, with R1       a critic's loss on sigmoids, a least-squares generator
learning rates                 2e-4; 3e-3           1e-3 for both
the discriminator's betas      (0.5, 0.99)          (0.9, 0.999)
weight of the adversary        0.05                 1
weight of the penalty          1e-3                 10, of the gradient between images
loss of the auxiliary image    L1, of weight 1      not told
=============================  ===================  ================================================================

The paper's column is ``adversary.pair = "paper"`` with the fields that ``examples/train_paper.toml`` gives.
"""
