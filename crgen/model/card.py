"""The ModelCard: what a weights file says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crgen.errors import WeightsError
from crgen.model.config import GeneratorConfig

if TYPE_CHECKING:
    from torch import Tensor

FIELDS_OF_0_1 = frozenset({"features", "waves", "gate"})
"""Fields of a generator's configuration that crgen 0.1 wrote and no later version knows."""


class WaterErrors(BaseModel):
    """How far probabilities of water are off, fitted on events that the weights never saw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slope: float = Field(gt=0)
    """A probability is to be read as one whose logit is as many times as large, and that times the share of what is
    around that agrees with it."""
    near: float = Field(ge=0, le=1)
    """Share of a pixel's doubt that it has in common with those right beside it."""
    reach: float = Field(gt=0)
    """Metres over which that falls off to 1/e."""
    scene: float = Field(ge=0)
    """Relative standard deviation of the area that a whole scene has in common."""

    def read(self, p: Tensor) -> Tensor:
        """See :func:`crgen.model.certainty.read_water`."""
        from crgen.model.certainty import read_water  # loads PyTorch, which whoever only reads cards does without

        return read_water(p, self.slope)


class ErrorWidths(BaseModel):
    """How wide intervals must be, in deviations that the generator states; fitted on events that it never saw."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bands: dict[str, float]
    """Half the width of the interval that holds 90 % of the pixels, by band, where nothing of t2 is seen; 1.64 where
    there is none."""
    seen: dict[str, float] = Field(default_factory=dict)
    """The same where some of t2 is seen; that of :attr:`bands` where there is none."""
    hidden: float = Field(default=1.0, gt=0)
    """How many times as far off a pixel is that S2 at t1 does not show; by degrees where it shows some of it."""
    blocks: float = Field(gt=0)
    """How many hidden blocks of a scene tell as much as this does."""

    def read(self, deviation: Tensor, hidden: Tensor) -> Tensor:
        """Return what stated deviations are to be read as; ``hidden`` is 1 where S2 at t1 does not show the ground."""
        return deviation * self.hidden**hidden


class ModelCard(BaseModel):
    """Travels as JSON in the header of the weights file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """What the weights are called, e.g. ``base``."""
    preset: str
    """The preset the configuration started from."""
    generator: GeneratorConfig
    """Architecture, channels, units."""
    window: int = Field(ge=32, multiple_of=32)
    """Side of the sliding window in pixels."""
    resolution: float = Field(gt=0)
    """Ground size of a pixel in metres."""
    trained_on: str
    """Data, split, and what was left out."""
    radiometry: str
    """What backscatter and reflectance meant in the training data."""
    training: dict[str, Any]
    """Steps, batch, crop, losses and the compute the weights got."""
    held_out: dict[str, Any]
    """Scores on data the weights never saw, with what they are compared with."""
    usual: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By variable, the range of its mean over a window in the training data (:mod:`crgen.model.usual`)."""
    limits: list[str]
    """What the weights are known not to do."""
    licence: str
    water: WaterErrors | None = None
    """How far probabilities of water are off; None where that was not looked at: then areas have no interval."""
    error: ErrorWidths | None = None
    """How wide intervals of reflectance must be; None where that was not looked at."""
    tensors_sha256: str = ""
    """Digest of the tensors' names, shapes and bytes; written when saved, checked when loaded."""

    @property
    def config(self) -> GeneratorConfig:
        """The generator's configuration."""
        return self.generator

    @classmethod
    def parse(cls, text: str, where: str) -> ModelCard:
        """Read a card from JSON.

        Raises:
            WeightsError: naming ``where`` and the first field that does not fit, or the version of crgen that knows the
                weights.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            named = {place["loc"][-1] for place in error.errors() if place["loc"][:1] == ("generator",)}
            if named & FIELDS_OF_0_1:
                raise WeightsError(
                    f"{where}: made by crgen 0.1; this version has another network: use other weights (see 'crgen "
                    "models'), or crgen 0.1"
                ) from None
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the card"
            raise WeightsError(
                f"{where}: the model card is not valid: {field}: {first['msg']}; update crgen or use other weights"
            ) from None
