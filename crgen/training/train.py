"""The training loop: a generator, with or without a discriminator, after one recipe.

Samples and their variation are drawn from the seed and the step (:mod:`crgen.training.batches`) and dropout is seeded
by them, so a run that was interrupted and resumed follows the same curve as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crgen.errors import TrainingError
from crgen.model.generator import SIZE_MULTIPLE, Generator
from crgen.training.batches import Crops, Steps, batches
from crgen.training.checkpoint import read_checkpoint, write_checkpoint
from crgen.training.data.dataset import PatchDataset, channels
from crgen.training.discriminator import condition_of
from crgen.training.log import TrainingLog
from crgen.training.losses import ADVERSARIAL, TERMS, Term, gradient_penalty, score_losses, terms_of
from crgen.training.processes import Processes
from crgen.training.recipe import Optimiser, Recipe, learning_rate

Values = dict[str, float]
ADVERSARY_VALUES = ("d_loss", "d_penalty", "d_real", "d_fake", "discriminator_gradient", "adversarial")
"""What a step tells of the adversary; NaN before it takes part."""


def build_optimiser(module: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """Return the optimiser of a network's parameters; vectors (biases, norms) do not decay."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.learning_rate, betas=settings.betas)


class Trainer:
    """One training run: the networks, their optimisers, the averaged generator and the step reached.

    Args:
        generator: what to train, from its present weights.
        recipe: how.
        data: on what; its channels must be the generator's.
        discriminator: its adversary, called with an image and a condition (see :mod:`crgen.training.discriminator`),
            to return a list of score maps; needed exactly if the recipe has one.
        perceptual: the perceptual term, :class:`crgen.training.losses.Perceptual`, needed exactly if the recipe weighs
            it.
        validate: returns scores of the averaged generator, among them ``PSNR`` if the recipe keeps the best; of several
            processes only the first calls it, but all of them or none are given it.
        checkpoint: file to save to and to resume from; nothing is saved if None.
        checkpoint_every: steps between saves.
        origin: what the present weights are, to tell runs apart.
        log: where to write losses, scores and pictures.
        device: where to train.
        workers: processes that prepare batches ahead; 0 prepares them in this one.
        processes: this process among those that train together.

    Raises:
        TrainingError: if the parts do not fit, or the checkpoint belongs to another run.
    """

    def __init__(
        self,
        generator: Generator,
        recipe: Recipe,
        data: PatchDataset,
        *,
        discriminator: nn.Module | None = None,
        perceptual: nn.Module | None = None,
        validate: Callable[[Generator], Values] | None = None,
        checkpoint: Path | None = None,
        checkpoint_every: int = 250,
        origin: str = "",
        log: TrainingLog | None = None,
        device: str = "cpu",
        workers: int = 0,
        processes: Processes = Processes(),  # noqa: B008  (immutable)
    ) -> None:
        self._check(generator, recipe, data, discriminator, perceptual, processes)
        self.recipe, self.validate, self.log = recipe, validate, log
        self.checkpoint, self.checkpoint_every, self.origin = checkpoint, checkpoint_every, origin
        self.device, self.workers, self.processes = torch.device(device), workers, processes
        self.steps, self.epoch_steps = recipe.total_steps(len(data)), recipe.epoch_steps(len(data))
        self.source = Steps(data, recipe, self.steps, processes.rank, processes.count)
        self.terms: dict[str, Term] = terms_of(recipe.losses, generator.core, recipe.new_water)
        if perceptual is not None:
            self.terms["perceptual"] = perceptual.to(self.device)

        self.generator = generator.to(self.device)
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.processes.align(self.generator)
        self.averaged = deepcopy(self.generator).eval().requires_grad_(False)
        self.best: dict[str, Any] = {"PSNR": -math.inf, "step": 0, "state": None}
        self.optimisers = {"generator": build_optimiser(self.generator, recipe.optimiser)}
        self.peaks = {"generator": recipe.optimiser.learning_rate}
        self.discriminator = discriminator
        if discriminator is not None and recipe.adversary is not None:
            self.processes.align(discriminator.to(self.device))
            self.optimisers["discriminator"] = build_optimiser(discriminator, recipe.adversary.optimiser)
            self.peaks["discriminator"] = recipe.adversary.optimiser.learning_rate
        self.plateaus = {
            name: torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=10)
            for name, optimiser in self.optimisers.items()
            if recipe.schedule == "plateau"
        }
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")
        self.step, self.epoch_loss = 0, 0.0
        self.skipped: dict[str, None] = {}
        if checkpoint is not None and checkpoint.exists():
            self._restore(read_checkpoint(checkpoint, self._identity(), self.device))
        if log is not None and processes.first:
            log.rewind(self.step)

    @staticmethod
    def _check(
        generator: Generator,
        recipe: Recipe,
        data: PatchDataset,
        discriminator: nn.Module | None,
        perceptual: nn.Module | None,
        processes: Processes,
    ) -> None:
        config = generator.config
        if (data.pols, data.bands) != (config.pols, config.bands):
            raise TrainingError(
                f"the data hold {channels(data)}, "
                f"the generator takes {'/'.join(config.pols)} and {'/'.join(config.bands)}"
            )
        if unknown := set(recipe.losses) - set(TERMS) - {"perceptual"}:
            raise TrainingError(f"there is no loss '{min(unknown)}'; choose from {', '.join(TERMS)}, perceptual")
        if (recipe.adversary is None) != (discriminator is None):
            raise TrainingError("a recipe with an adversary needs a discriminator, and one without takes none")
        if ("perceptual" in recipe.losses) != (perceptual is not None):
            raise TrainingError("the loss 'perceptual' needs its network, and no other loss takes one")
        if recipe.batch % processes.count:
            raise TrainingError(f"a batch of {recipe.batch} cannot be shared by {processes.count} processes")
        if config.form == "adaptive" and recipe.batch // processes.count * (recipe.crop // SIZE_MULTIPLE) ** 2 < 2:
            raise TrainingError(
                f"one crop of {recipe.crop} pixels a process is too little for batch norms; give a larger crop or batch"
            )

    def run(self, on_step: Callable[[int, Values], None] = lambda step, values: None) -> Generator:
        """Train to the last step and return the averaged generator, or its best state if the recipe keeps it.

        Raises:
            TrainingError: if a loss or gradient is not a number, the data are unusable, or a file cannot be written;
                the last checkpoint stays good.
        """
        for values in self._steps():
            on_step(self.step, values)
        if self.recipe.keep_best and self.best["state"] is not None:
            self.averaged.load_state_dict(self.best["state"])
        return self.averaged

    def _steps(self) -> Iterator[Values]:
        if self.step >= self.steps:
            return
        for item in batches(self.source, self.step, self.workers, pin=self.device.type == "cuda"):
            if isinstance(item, TrainingError):
                raise item
            values = self._train_step(item)
            self.step += 1
            self._end_step(values)
            yield values

    def _train_step(self, item: Crops) -> Values:
        """Update the discriminator, then the generator, then its average."""
        torch.manual_seed(self.recipe.seed + self.step * self.processes.count + self.processes.rank)
        self.skipped.update(dict.fromkeys(item.skipped))
        inputs, truth = self.source.vary(item, self.device)
        values = self._set_rates()
        self.generator.train()
        weights, adversary = dict(self.recipe.losses), self.recipe.adversary
        with self._autocast():
            made = self.generator(**inputs._asdict())
        terms = {name: term(made, truth) for name, term in self.terms.items()}
        if adversary is not None and self.discriminator is not None and self.step >= adversary.start:
            condition = condition_of(self.generator, inputs.s1_t1, inputs.s2_t1, inputs.s1_t2)
            fake = self.generator.scale_reflectance(made.reflectance.float(), clip=False)
            # Where the truth is cloudy or missing there is nothing real to show: the same pixels stand in both images.
            clear = truth.counts | torch.isfinite(inputs.s2_t2).all(1, keepdim=True)
            real = torch.where(clear, self.generator.scale_reflectance(truth.target), fake.detach())
            values |= self._train_discriminator(self.discriminator, real, fake.detach(), condition, item.names)
            self.discriminator.requires_grad_(False)
            with self._autocast():
                scores = self.discriminator(fake, condition)
            self.discriminator.requires_grad_(True)
            loss_of = ADVERSARIAL[adversary.pair].generator
            terms["adversarial"] = torch.stack([loss_of(s.float()) for s in scores]).mean()
            weights["adversarial"] = adversary.weight
        elif adversary is not None:
            values |= dict.fromkeys(ADVERSARY_VALUES, math.nan)
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        slope = self._update("generator", self.generator, loss, self.recipe.clip, item.names)
        self.scaler.update()
        self.processes.average(b for b in self.generator.buffers() if b.is_floating_point())  # what norms measured
        self._average()
        self.epoch_loss += float(loss.detach())
        told = {name: float(term.detach()) for name, term in terms.items()}
        return {"loss": float(loss.detach()), **values, **slope, **told}

    def _train_discriminator(
        self, discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, names: list[str]
    ) -> Values:
        adversary = self.recipe.adversary
        assert adversary is not None
        discriminator.train()
        with self._autocast():
            of_real, of_fake = discriminator(real, condition), discriminator(fake, condition)
        loss = score_losses(list(zip(of_real, of_fake, strict=True)), adversary.pair)
        penalty = real.new_zeros(())
        if adversary.penalty:
            penalty = gradient_penalty(discriminator, real, fake, condition, adversary.pair)
        slope = self._update("discriminator", discriminator, loss + adversary.penalty * penalty, None, names)
        mean_real, mean_fake = (torch.stack([s.float().mean() for s in maps]).mean() for maps in (of_real, of_fake))
        shown = {"d_loss": loss, "d_penalty": penalty, "d_real": mean_real, "d_fake": mean_fake}
        return {name: float(value.detach()) for name, value in shown.items()} | slope

    def _update(self, name: str, module: nn.Module, loss: Tensor, clip: float | None, patches: list[str]) -> Values:
        """Take one step of an optimiser; a loss or gradient that is not a number stops the run before it."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(module)
        self.scaler.unscale_(optimiser)
        slope = nn.utils.clip_grad_norm_(module.parameters(), math.inf if clip is None else clip)
        # In float16 a gradient beyond its range is met by a smaller scale and one step left out.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        good = bool(torch.isfinite(loss)) and (overflow or bool(torch.isfinite(slope)))
        if not self.processes.all(good, self.device):
            raise TrainingError(
                f"the {name}'s loss or its gradient is not a number at step {self.step} "
                f"(patches {', '.join(patches)}); the last checkpoint is good: lower the learning rate or look at "
                "these patches"
            )
        self.scaler.step(optimiser)
        return {f"{name}_gradient": float(slope)}

    def _average(self) -> None:
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for mean, new in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(new.detach(), 1 - keep)
        for kept, current in zip(self.averaged.buffers(), self.generator.buffers(), strict=True):
            if kept.is_floating_point():  # what norms measured belongs to the weights it was measured under
                kept.lerp_(current, 1 - keep)
            else:
                kept.copy_(current)

    def _set_rates(self) -> Values:
        for name, optimiser in self.optimisers.items():
            if name not in self.plateaus:
                rate = learning_rate(self.step, self.steps, self.recipe, self.peaks[name])
                for group in optimiser.param_groups:
                    group["lr"] = rate
        return {"learning_rate": self.optimisers["generator"].param_groups[0]["lr"]}

    def _autocast(self) -> torch.autocast:
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.recipe.precision)
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    def _end_step(self, values: Values) -> None:
        """Do what is due after a step: the epoch's end, validation, log, pictures, checkpoint."""
        last = self.step == self.steps
        if self.step % self.epoch_steps == 0:
            mean = torch.tensor(self.epoch_loss / self.epoch_steps, device=self.device)
            self.processes.average([mean])
            for plateau in self.plateaus.values():
                plateau.step(float(mean))
            self.epoch_loss = 0.0
        every = self.recipe.validate_every
        scored = self.validate is not None and every is not None and (self.step % every == 0 or last)
        if self.processes.first:
            if self.log is not None:
                self.log.step(self.step, values)
                self.log.pictures(self.step, self.epoch_steps, self.averaged, last=last)
            if self.validate is not None and scored:
                scores = self.validate(self.averaged)
                if self.log is not None:
                    self.log.scores(self.step, scores)
                if self.recipe.keep_best and scores["PSNR"] > self.best["PSNR"]:
                    state = {name: t.detach().cpu().clone() for name, t in self.averaged.state_dict().items()}
                    self.best = {"PSNR": scores["PSNR"], "step": self.step, "state": state}
            if self.checkpoint is not None and (self.step % self.checkpoint_every == 0 or last):
                write_checkpoint(self.checkpoint, self._identity(), self._state())
        if scored:
            self.processes.wait()

    def _identity(self) -> dict[str, Any]:
        identity = {"config": self.generator.config.to_dict(), "recipe": self.recipe.to_dict(), "origin": self.origin}
        return {**identity, "generator": type(self.generator).__name__, "samples": len(self.source.data)}

    def _parts(self) -> dict[str, Any]:
        parts: dict[str, Any] = {"generator": self.generator, "averaged": self.averaged, "scaler": self.scaler}
        if self.discriminator is not None:
            parts["discriminator"] = self.discriminator
        parts |= {f"{name} optimiser": optimiser for name, optimiser in self.optimisers.items()}
        return parts | {f"{name} plateau": plateau for name, plateau in self.plateaus.items()}

    def _state(self) -> dict[str, Any]:
        state = {name: part.state_dict() for name, part in self._parts().items()}
        return {**state, "step": self.step, "epoch loss": self.epoch_loss, "best": self.best}

    def _restore(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.epoch_loss, self.best = state["step"], state["epoch loss"], state["best"]
