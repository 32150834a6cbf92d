"""A training job from a configuration file and flags to a weights file with its card."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from crgen.errors import OutputError, RequestError
from crgen.files import check_writable
from crgen.model.build import build_generator
from crgen.model.card import ModelCard
from crgen.model.config import GeneratorConfig, preset
from crgen.model.device import pick_device
from crgen.model.usual import usual_of, window_means
from crgen.model.weights import start_from
from crgen.training.augment import painted_text
from crgen.training.data.dataset import DamagedPatch, Mixture, PatchDataset, Sample, left_out
from crgen.training.data.kinds import KINDS, DataSpec, open_data, table_spec
from crgen.training.discriminator import build_discriminator
from crgen.training.log import TrainingLog
from crgen.training.losses import Perceptual
from crgen.training.processes import join_processes
from crgen.training.recipe import RECIPES, Recipe, changed, merged
from crgen.training.score.evaluate import validation_scores
from crgen.training.train import Trainer


class TrainingFile(BaseModel):
    """What ``crgen train --config FILE`` reads (TOML); flags replace single fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str = "base"
    """Which generator and recipe to start from."""
    pols: tuple[str, ...] | None = None
    """Sentinel-1 polarisations; the data's or the preset's if not given."""
    bands: tuple[str, ...] | None = None
    """Sentinel-2 bands."""
    generator: dict[str, Any] = Field(default_factory=dict)
    """Fields of the generator's configuration to change."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Fields of the recipe to change."""
    data: list[dict[str, Any]] = Field(default_factory=list)
    """Tables of ``path``, ``kind``, ``weight`` and the kind's options."""
    validation: list[dict[str, Any]] = Field(default_factory=list)
    """The same, for scores; a known held-out part of ``data`` if not given."""
    validation_samples: int = Field(default=64, ge=1)
    """Samples of the validation data scored during training, spread over them."""
    out: Path | None = None
    """Weights file to make."""
    start: str | None = None
    """Weights to start from, by name or path."""
    perceptual: str = "torchvision"
    """Where a perceptual loss has its network from: ``torchvision``, a file, or ``none`` to leave the loss out."""
    checkpoint: Path | None = None
    checkpoint_every: int = Field(default=250, ge=1)
    log: Path | None = None
    """Folder of the log; ``NAME.log`` beside ``out`` if not given."""
    tensorboard: bool = False
    picture_every: int | None = Field(default=None, ge=1)
    """Steps between sample pictures; once an epoch if not given."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that prepare batches; 0 on a CPU and 8 on a GPU if not given."""
    device: str = "auto"


def read_training_file(path: Path | None, flags: Mapping[str, Any]) -> TrainingFile:
    """Read a configuration and replace what flags give; ``recipe`` is merged field by field.

    Raises:
        RequestError: naming the file and the field that does not fit.
    """
    fields: dict[str, Any] = {}
    if path is not None:
        try:
            fields = tomllib.loads(path.read_text())
        except OSError as error:
            raise RequestError(f"cannot read configuration {path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"configuration {path} is not TOML: {error}") from None
    fields |= {name: value for name, value in flags.items() if value is not None and name != "recipe"}
    try:
        file = TrainingFile.model_validate(fields)
        return file.model_copy(update={"recipe": merged(file.recipe, flags.get("recipe", {}))})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{path or 'the options'}: {where}: {first['msg']}") from None


@dataclass
class Job:
    """A training run ready to start."""

    trainer: Trainer
    preset: str
    out: Path
    specs: list[DataSpec]
    validation: PatchDataset | None
    skipped: list[str] = field(default_factory=list)
    """What was said of samples that the data left out when they were opened."""
    notes: list[str] = field(default_factory=list)

    def card(self, held_out: dict[str, Any]) -> ModelCard:
        """Return the card of the weights, with their scores on the validation data."""
        config, recipe = self.trainer.generator.config, self.trainer.recipe
        kinds = [KINDS[spec.kind] for spec in self.specs]
        return ModelCard(
            name=self.out.stem,
            preset=self.preset,
            generator=config,
            window=256,
            resolution=10.0,
            trained_on="; ".join(f"{k.about} [{s}]" for k, s in zip(kinds, self.specs, strict=True)),
            radiometry="; ".join(dict.fromkeys(k.radiometry for k in kinds)),
            training={
                **recipe.to_dict(),
                "started from": self.trainer.origin or "nothing",
                "painted events": painted_text(recipe.variation),
                "data licences": {spec.kind: KINDS[spec.kind].licence for spec in self.specs},
            },
            held_out=held_out,
            usual=usual(self.trainer.source.data),
            limits=[
                *dict.fromkeys(limit for k in kinds for limit in k.limits),
                "generated detail is plausible, not measured: check decisions against the radar of t2",
            ],
            licence="Apache-2.0",
        )


def usual(data: PatchDataset) -> dict[str, tuple[float, float]]:
    """Return how bright the training windows are, see :mod:`crgen.model.usual`; of at most 500 samples."""
    windows = []
    for sample in _spread(data, 500):
        radar = sample.s1_t2 if sample.s1_calibrated else sample.s1_t2[:0]
        everywhere = np.ones(sample.clear.shape[-2:], bool)
        clear = everywhere if sample.clear_t1 is None else sample.clear_t1[0]
        means = window_means(radar, sample.s2_t1, data.pols, data.bands, everywhere, clear)
        windows += [by_name for _, by_name in means]
    return usual_of(windows)


def bands_without_data(data: PatchDataset, bands: Sequence[str]) -> list[str]:
    """Return those bands that none of at most 20 samples holds at t2."""
    samples = _spread(data, 20)
    held = [any(np.isfinite(s.target[data.bands.index(band)]).any() for s in samples) for band in bands]
    return [band for band, there in zip(bands, held, strict=True) if samples and not there]


def prepare(file: TrainingFile) -> Job:
    """Open the data, build the networks and resume where a checkpoint stands; nothing is trained or written yet.

    To be called inside :func:`~crgen.training.processes.leaving_processes`, as is the training.

    Raises:
        RequestError: if options contradict each other.
        OutputError: if the results could not be written.
        TrainingError: if the data or the checkpoint do not fit.
        WeightsError: if the weights to start from do not fit.
    """
    if file.out is None or not file.data:
        raise RequestError("training needs data and the weights file to make; give --data and --out")
    if file.out.suffix != ".safetensors":
        raise OutputError(f"the weights file '{file.out}' must end in .safetensors")
    recipe = _recipe(file)
    specs = [table_spec(table) for table in file.data]
    config = _config(file, specs)
    device = pick_device(file.device)
    state = file.checkpoint or file.out.with_name(file.out.stem + ".checkpoint.pt")
    for path in (file.out, state):
        check_writable(path.parent)
        if path.is_dir():
            raise OutputError(f"cannot write {path}: a folder of that name is in the way; choose another name")

    perceptual = None
    if "perceptual" in recipe.losses:
        perceptual = Perceptual(config.bands, None if file.perceptual == "torchvision" else Path(file.perceptual))
    data = Mixture([(open_data(spec, config.pols, config.bands), spec.weight) for spec in specs])
    if lacking := bands_without_data(data, config.core):
        raise RequestError(
            f"the data hold no {', '.join(lacking)}, which would be learned from nothing; give the configuration bands "
            "that they hold, e.g. bands = ['B11', 'B8', 'B3']"
        )
    validation = open_validation(file, config.pols, config.bands)
    generator = build_generator(config, recipe.seed)
    origin = start_from(generator, file.start) if file.start else ""
    log = TrainingLog(
        file.log or file.out.with_name(file.out.stem + ".log"),
        _spread(validation if validation is not None else data, 4),
        picture_every=file.picture_every,
        tensorboard=file.tensorboard,
    )
    validate = None
    if validation is not None:
        validate = partial(validation_scores, data=validation, count=file.validation_samples)
    discriminator = None
    if recipe.adversary is not None:
        discriminator = build_discriminator(generator, recipe.adversary, recipe.seed)
    processes, device = join_processes(device)
    trainer = Trainer(
        generator,
        recipe,
        data,
        discriminator=discriminator,
        perceptual=perceptual,
        validate=validate,
        checkpoint=state,
        checkpoint_every=file.checkpoint_every,
        origin=origin,
        log=log,
        device=device,
        workers=file.workers if file.workers is not None else 8 if device.startswith("cuda") else 0,
        processes=processes,
    )
    skipped = left_out(data) + (left_out(validation) if validation is not None else [])
    notes = [f"resuming {state} at step {trainer.step}"] if trainer.step else []
    return Job(trainer, file.preset, file.out, specs, validation, list(dict.fromkeys(skipped)), notes)


def _recipe(file: TrainingFile) -> Recipe:
    if file.preset not in RECIPES:
        raise RequestError(f"there is no preset '{file.preset}'; choose one of {', '.join(RECIPES)}")
    recipe = changed(RECIPES[file.preset], file.recipe)
    if file.perceptual == "none":
        return replace(recipe, losses={n: w for n, w in recipe.losses.items() if n != "perceptual"})
    return recipe


def _config(file: TrainingFile, specs: list[DataSpec]) -> GeneratorConfig:
    """Return the generator's configuration: channels as asked for, else as the data hold them."""
    pols, bands = next(filter(None, (KINDS[spec.kind].channels for spec in specs)), (None, None))
    config = preset(file.preset, pols=file.pols or pols, bands=file.bands or bands)
    if unknown := set(file.generator) - set(config.to_dict()):
        raise RequestError(f"generator: {min(unknown)}: there is no such field")
    try:
        return TypeAdapter(GeneratorConfig).validate_python({**config.to_dict(), **file.generator})
    except ValidationError as error:
        first = error.errors()[0]
        raise RequestError(f"generator: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None


def open_validation(file: TrainingFile, pols: tuple[str, ...], bands: tuple[str, ...]) -> PatchDataset | None:
    """Open the data to score on: those named, else the held-out parts of those trained on; None without any.

    A part that is itself trained on is not held out.

    Raises:
        RequestError: if an option does not fit.
        TrainingError: if the data are missing.
    """
    named = [table_spec(table) for table in file.validation]
    if not named:
        trained = [table_spec(table) for table in file.data]
        parts = [(spec, KINDS[spec.kind].held_out) for spec in trained]
        held_out = [
            replace(spec, options={**spec.options, **part})
            for spec, part in parts
            if part is not None and not any(s.path == spec.path and part.items() <= s.options.items() for s in trained)
        ]
        named = [spec for at, spec in enumerate(held_out) if spec.place not in [s.place for s in held_out[:at]]]
    return Mixture([(open_data(spec, pols, bands), 1.0) for spec in named]) if named else None


def _spread(data: PatchDataset, count: int) -> list[Sample]:
    """Return at most ``count`` samples spread over a data set, those that can be read."""
    samples = []
    for place in sorted({len(data) * i // count for i in range(count)}):
        with suppress(DamagedPatch):
            samples.append(data[place])
    return samples
