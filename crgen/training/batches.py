"""The batches of a training run: batch number ``step`` is a function of the seed and the step alone.

So a run that was interrupted and resumed follows the same curve as one that was not, and worker processes may prepare
batches ahead in any number.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from crgen.errors import TrainingError
from crgen.training.augment import VARIATIONS, Inputs, Truth, dihedral
from crgen.training.data.dataset import Batch, DamagedPatch, Mixture, PatchDataset, collate
from crgen.training.recipe import Recipe

MIN_CLEAR = 0.02
"""Least share of clear target pixels in a crop: crops below teach nothing."""
TRIES = 50
"""Crops drawn for one place in a batch before the data are called unusable."""


class Crops(NamedTuple):
    """The samples of one training step, cut and turned."""

    step: int
    batch: Batch
    names: list[str]
    """The samples' names."""
    skipped: list[str]
    """What was said of damaged samples, passed over for others."""


class Step(NamedTuple):
    """What one training step works on."""

    inputs: Inputs
    truth: Truth


def step_rng(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a random generator for a seed, a step, …: PyTorch's keeps 32 bits of its seed, so they are mixed."""
    mixed = np.random.SeedSequence(numbers).generate_state(1)
    return torch.Generator(device).manual_seed(int(mixed[0]))


class Steps(Dataset[Crops | TrainingError]):
    """The run's batches by step; a process of several draws its own share of each.

    Crops are drawn by whoever prepares them, and varied on the device that trains.

    Args:
        data: where to draw from.
        recipe: batch, crop, variation and seed.
        steps: length of the run.
        rank: number of this process.
        processes: how many there are.
    """

    def __init__(self, data: PatchDataset, recipe: Recipe, steps: int, rank: int = 0, processes: int = 1) -> None:
        self.data = data if isinstance(data, Mixture) else Mixture([(data, 1.0)])
        self.recipe, self.steps, self.rank, self.processes = recipe, steps, rank, processes

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Crops | TrainingError:
        """Return the crops of ``step``, or the error: errors lose their form on the way out of a worker process."""
        try:
            return self.draw(step)
        except TrainingError as error:
            return error

    def draw(self, step: int) -> Crops:
        """Draw random crops of random samples, turned by the symmetries of the square.

        Raises:
            TrainingError: if no crop with clear target pixels, or no readable sample, was found.
        """
        rng = step_rng(self.recipe.seed, self._own(step))
        crops, names = [], []
        skipped: list[str] = []
        for _ in range(self.recipe.batch // self.processes):
            crop, name = self._draw_crop(rng, skipped)
            crops.append(crop)
            names.append(name)
        return Crops(step, Batch(*map(torch.cat, zip(*crops, strict=True))), names, skipped)

    def vary(self, crops: Crops, device: torch.device | str = "cpu") -> Step:
        """Vary crops as the recipe says, on a device."""
        rng = step_rng(self.recipe.seed, self._own(crops.step), 1, device=device)
        batch = Batch(*(t.to(device, non_blocking=True) for t in crops.batch))
        with torch.device(device):
            return Step(*VARIATIONS[self.recipe.variation](batch, self.data.pols, self.data.bands, rng))

    def _own(self, step: int) -> int:
        return step * self.processes + self.rank

    def _draw_crop(self, rng: torch.Generator, skipped: list[str]) -> tuple[Batch, str]:
        tried = set()
        for _ in range(TRIES):
            try:
                sample = self.data[self.data.draw(rng)]
            except DamagedPatch as error:
                skipped.append(str(error))
                continue
            tried.add(sample.name)
            crop = cut(collate([sample]), self.recipe.crop, rng)
            if float(crop.clear.float().mean()) >= MIN_CLEAR:
                return crop, sample.name
        found = f"in {len(tried)} samples ({', '.join(sorted(tried)[:5])} …)" if tried else f"({skipped[-1]})"
        raise TrainingError(
            f"{TRIES} crops drawn one after the other hold no clear target pixels {found}; check the data"
        )


def cut(sample: Batch, side: int, rng: torch.Generator) -> Batch:
    """Return a random crop of one sample, turned at random; what lies beyond a smaller sample is missing."""
    height, width = sample.target.shape[-2:]
    y = int(torch.randint(max(height - side, 0) + 1, (1,), generator=rng))
    x = int(torch.randint(max(width - side, 0) + 1, (1,), generator=rng))
    *images, calibrated, labelled = sample
    window = [a[..., y : y + side, x : x + side] for a in images]
    beyond = (0, max(side - width, 0), 0, max(side - height, 0))
    if any(beyond):
        *values, clear = window
        window = [*(F.pad(v, beyond, value=torch.nan) for v in values), F.pad(clear, beyond, value=False)]
    turned = dihedral(window, int(torch.randint(8, (1,), generator=rng)))
    return Batch._make([*turned, calibrated, labelled])


def batches(steps: Steps, first: int, workers: int, *, pin: bool) -> Iterator[Crops | TrainingError]:
    """Return the crops from step ``first`` on, prepared ahead by ``workers`` processes (0: by this one)."""
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(first, len(steps)),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_leave_signals_to_the_parent,
    )
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # and in workers for good
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _leave_signals_to_the_parent(worker: int) -> None:
    """End without a word when told to; Ctrl-C is not heard: the parent ends its workers.

    What goes wrong here reaches the parent as a batch, so nothing is said of queues that end as the parent leaves.
    """
    threading.Thread(target=_end_when_told, daemon=True).start()
    sys.excepthook = lambda *error: None
    torch.set_num_threads(1)


def _end_when_told() -> None:
    signal.sigwait([signal.SIGTERM])
    os._exit(0)
