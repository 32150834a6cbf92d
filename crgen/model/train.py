"""The plain training loop: masked L1 + MS-SSIM on clear reference pixels, an average of the weights, checkpoints.

Each step draws its samples and its augmentation from a random generator seeded by ``(seed, step)``, so a run that
was interrupted and resumed follows the same curve as one that was not.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from crgen.errors import TrainingError
from crgen.model.augment import cloud_opacity, dihedral, jitter_backscatter, paint_clouds, uniform
from crgen.model.config import GeneratorConfig
from crgen.model.data import Batch, PatchDataset, collate
from crgen.model.generator import Generator, Prediction, build_generator
from crgen.model.metrics import masked_mean, ms_ssim


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a training run beside the generator and the data."""

    steps: int = 3600
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.999
    ms_ssim_weight: float = 0.15
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_every: int = 250


def one_line(error: Exception) -> str:
    """Return the first line of what ``error`` says."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def step_rng(seed: int, step: int) -> torch.Generator:
    """Return the random generator of one step."""
    return torch.Generator().manual_seed((seed << 32) + step)


def draw_batch(data: PatchDataset, settings: TrainSettings, rng: torch.Generator) -> tuple[Batch, list[str]]:
    """Draw random crops of random samples, turned by the symmetries of the square."""
    picks = torch.randint(len(data), (settings.batch,), generator=rng).tolist()
    samples = [data[i] for i in picks]
    crops = []
    for sample in samples:
        height, width = sample.target.shape[-2:]
        if min(height, width) < settings.crop:
            raise TrainingError(f"sample {sample.name} is {height} × {width} px, smaller than the crop {settings.crop}")
        y = int(torch.randint(height - settings.crop + 1, (1,), generator=rng))
        x = int(torch.randint(width - settings.crop + 1, (1,), generator=rng))
        which = int(torch.randint(8, (1,), generator=rng))
        window = [a[..., y : y + settings.crop, x : x + settings.crop] for a in collate([sample])]
        crops.append(dihedral(window, which))
    return Batch(*map(torch.cat, zip(*crops, strict=True))), [s.name for s in samples]


def vary(batch: Batch, bands: tuple[str, ...], rng: torch.Generator) -> tuple[Batch, Tensor]:
    """Paint clouds on t1, jitter the radar, drop whole inputs, and choose which clear pixels of t2 are seen.

    Returns:
        The varied batch, and ``s2_t2``: the target where it is shown to the generator, NaN elsewhere. Half of the
        samples show nothing; the others a cloud-shaped share from 1 to 90 %.
    """
    n, _, height, width = batch.target.shape
    painted_share = uniform((n,), 0.05, 0.7, rng) * (uniform((n,), 0, 1, rng) < 0.5)
    s2_t1, _ = paint_clouds(batch.s2_t1, bands, painted_share, rng)
    s1_t1, s1_t2 = jitter_backscatter(batch.s1_t1, rng), jitter_backscatter(batch.s1_t2, rng)
    for array in (s1_t1, s2_t1):
        array[uniform((n,), 0, 1, rng) < 0.04] = torch.nan
    share = torch.exp(uniform((n,), math.log(0.01), math.log(0.9), rng))
    seen = (cloud_opacity(share, height, width, rng) > 0.5) & (uniform((n, 1, 1, 1), 0, 1, rng) < 0.5)
    s2_t2 = torch.where(seen & batch.clear, batch.target, torch.nan)
    return batch._replace(s1_t1=s1_t1, s2_t1=s2_t1, s1_t2=s1_t2), s2_t2


def similarity_loss(made: Prediction, batch: Batch, seen: Tensor, settings: TrainSettings) -> Tensor:
    """Return L1 + λ·(1 − MS-SSIM) over clear pixels the generator was not shown, mean over samples that have any."""
    counts = batch.clear & ~seen
    usable = counts.float().mean((1, 2, 3)) > 0.02
    if not usable.any():
        return made.reflectance.sum() * 0
    x, y, mask = made.reflectance.float()[usable], torch.nan_to_num(batch.target)[usable], counts[usable]
    losses = masked_mean((x - y).abs(), mask) + settings.ms_ssim_weight * (1 - ms_ssim(x, y, mask))
    if made.auxiliary is not None:
        losses = losses + 0.2 * masked_mean((made.auxiliary.float()[usable] - y).abs(), mask)
    return losses.mean()


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Return the rate at ``step``: linear warm-up, then a cosine to 1 % of the peak."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(settings.steps - settings.warmup, 1)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


class Trainer:
    """One training run: the generator, its averaged copy, the optimiser and the step reached.

    Args:
        config: the generator to train.
        settings: how.
        data: on what; its channels must be the generator's.
        checkpoint: file to save to and to resume from; nothing is saved if None.
        device: where to train.

    Raises:
        TrainingError: if data and generator do not fit, or the checkpoint belongs to another run.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        settings: TrainSettings,
        data: PatchDataset,
        *,
        checkpoint: Path | None = None,
        device: str = "cpu",
    ) -> None:
        if (data.pols, data.bands) != (config.pols, config.bands):
            raise TrainingError(
                f"the data hold {'/'.join(data.pols)} and {'/'.join(data.bands)}, "
                f"the generator takes {'/'.join(config.pols)} and {'/'.join(config.bands)}"
            )
        self.config, self.settings, self.data = config, settings, data
        self.checkpoint, self.device = checkpoint, torch.device(device)
        torch.manual_seed(settings.seed)
        self.generator = build_generator(config).to(self.device)
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = deepcopy(self.generator)
        self.averaged.eval().requires_grad_(False)
        decay = [p for p in self.generator.parameters() if p.ndim > 1]
        rest = [p for p in self.generator.parameters() if p.ndim <= 1]
        groups = [
            {"params": decay, "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.99))
        self.step = 0
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def run(self, on_step: Callable[[int, float], None] = lambda step, loss: None) -> Generator:
        """Train to the last step and return the averaged generator.

        Raises:
            TrainingError: if the loss or its gradient is not a number, or a checkpoint cannot be written; the last
                checkpoint stays good.
        """
        for loss in self._losses():
            on_step(self.step, loss)
        return self.averaged

    def _losses(self) -> Iterator[float]:
        while self.step < self.settings.steps:
            loss = self._train_step()
            self.step += 1
            if self.step % self.settings.checkpoint_every == 0 or self.step == self.settings.steps:
                self._save()
            yield loss

    def _train_step(self) -> float:
        settings = self.settings
        rng = step_rng(settings.seed, self.step)
        torch.manual_seed(settings.seed + self.step)
        batch, names = draw_batch(self.data, settings, rng)
        batch, s2_t2 = vary(batch, self.config.bands, rng)
        batch, s2_t2 = Batch(*(t.to(self.device) for t in batch)), s2_t2.to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        self.generator.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            made = self.generator(batch.s1_t1, batch.s2_t1, batch.s1_t2, s2_t2)
        loss = similarity_loss(made, batch, torch.isfinite(s2_t2).all(1, keepdim=True), settings)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        slope = nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        if not torch.isfinite(loss + slope):
            raise TrainingError(
                f"the loss or its gradient is not a number at step {self.step} (patches {', '.join(names)}); "
                f"the last checkpoint is good: lower the learning rate or look at these patches"
            )
        self.optimiser.step()
        keep = min(settings.ema, (1 + self.step) / (10 + self.step))
        for mean, new in zip(self.averaged.parameters(), self.generator.parameters(), strict=True):
            mean.lerp_(new.detach(), 1 - keep)
        return float(loss.detach())

    def _identity(self) -> dict[str, Any]:
        return {"config": self.config.to_dict(), "settings": asdict(self.settings)}

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "identity": self._identity(),
            "step": self.step,
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        part = self.checkpoint.with_suffix(".part")
        try:
            torch.save(state, part)
            part.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:
            with suppress(OSError):
                part.unlink()
            raise TrainingError(
                f"cannot write checkpoint {self.checkpoint} ({one_line(error)}); free space or give another file"
            ) from None

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            identity = state["identity"]
        except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"checkpoint {path} cannot be read ({type(error).__name__}); remove it to start anew"
            ) from None
        if identity != self._identity():
            raise TrainingError(
                f"checkpoint {path} belongs to a run with other settings; give another file or remove it"
            )
        self.step = state["step"]
        self.generator.load_state_dict(state["generator"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
