"""What a data set hands to training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crgen.errors import TrainingError


class DamagedPatch(TrainingError):  # noqa: N818
    """One sample cannot be read: it is named and counted, and the others go on."""


class Sample(NamedTuple):
    """One place at two dates, in physical units, NaN where data is missing."""

    s1_t1: NDArray[np.float32]
    """Backscatter at t1 in dB, ``(pol, y, x)``."""
    s2_t1: NDArray[np.float32]
    """Reflectance at t1, ``(band, y, x)``; may be cloudy."""
    s1_t2: NDArray[np.float32]
    """Backscatter at t2 in dB."""
    target: NDArray[np.float32]
    """Reflectance at t2."""
    clear: NDArray[np.bool_]
    """Where the target is valid and free of cloud, ``(1, y, x)``."""
    name: str
    """What identifies the sample to a person."""
    event: str = ""
    """What the sample shares with its neighbours, e.g. one flood; "" if unknown."""
    clear_t1: NDArray[np.bool_] | None = None
    """Where S2 at t1 is valid and free of cloud, ``(1, y, x)``, if that is known."""
    flooded: NDArray[np.bool_] | None = None
    """Where t2 is flooded, ``(1, y, x)``, if that is known."""
    s1_calibrated: bool = True
    """Whether backscatter is in true dB; else its level means nothing."""
    water: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
    """Labels of water at t1 and t2, ``(1, y, x)`` each: 1 water, 0 dry, NaN unknown; None to take those of the images
    (:func:`crgen.model.water.water_label`)."""


class PatchDataset(Protocol):
    """A sequence of samples with their channels' names."""

    pols: tuple[str, ...]
    bands: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises:
            DamagedPatch: if it cannot be read.
        """
        ...


def left_out(data: PatchDataset) -> list[str]:
    """Return what a data set's ``skipped``, if it has that, says of samples it left out when it was opened."""
    return list(getattr(data, "skipped", ()))


class Mixture:
    """Several data sets, drawn from with given weights.

    Args:
        parts: data sets of the same polarisations and bands, each with its weight.

    Raises:
        TrainingError: if their channels differ, a weight is not positive, or one is empty.
    """

    def __init__(self, parts: Sequence[tuple[PatchDataset, float]]) -> None:
        if not parts:
            raise TrainingError("there are no data to train on; name at least one data set")
        first = parts[0][0]
        self.pols, self.bands = first.pols, first.bands
        for part, weight in parts:
            if (part.pols, part.bands) != (first.pols, first.bands):
                raise TrainingError(
                    f"data sets of other channels cannot be mixed: {channels(first)} and {channels(part)}"
                )
            if not len(part):
                raise TrainingError("a data set holds no samples")
            if not weight > 0:
                raise TrainingError(f"a data set has the weight {weight}; give a positive number")
        self.parts = [part for part, _ in parts]
        self.weights = torch.tensor([weight for _, weight in parts])
        self.skipped = list(dict.fromkeys(line for part in self.parts for line in left_out(part)))

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Sample:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError

    def draw(self, rng: torch.Generator) -> int:
        """Return the index of a random sample: first the data set by weight, then one of its samples.

        A data set's own ``weights``, one a sample, say how often each is drawn; without them all are alike.
        """
        which = int(torch.multinomial(self.weights, 1, generator=rng))
        part = self.parts[which]
        before = sum(len(part) for part in self.parts[:which])
        weights: Tensor | None = getattr(part, "weights", None)
        if weights is None:
            return before + int(torch.randint(len(part), (1,), generator=rng))
        return before + int(torch.multinomial(weights, 1, generator=rng))


class Part:
    """Some samples of a data set, by index."""

    def __init__(self, data: PatchDataset, indices: Sequence[int]) -> None:
        self.data, self.indices = data, indices
        self.pols, self.bands = data.pols, data.bands

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.data[self.indices[index]]


def channels(data: PatchDataset) -> str:
    """Return a data set's channels for people: ``"VV/VH and B4/B3/B2"``."""
    return f"{'/'.join(data.pols)} and {'/'.join(data.bands)}"


class Batch(NamedTuple):
    """Stacked samples as tensors."""

    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    target: Tensor
    clear_t1: Tensor
    """How much of the ground S2 at t1 shows, 0 (cloud) to 1, float32; NaN where that is unknown."""
    flooded: Tensor
    """1 where t2 is flooded, else 0, float32; NaN where that is unknown."""
    water_t1: Tensor
    """1 water, 0 dry, NaN unknown or not given."""
    water_t2: Tensor
    clear: Tensor
    calibrated: Tensor
    """Whether backscatter is in true dB, ``(batch,)``."""
    labelled: Tensor
    """Whether the labels of water are given, ``(batch,)``."""


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one size."""

    def stacked(arrays: list[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    def known(masks: list[NDArray[np.bool_] | None]) -> Tensor:
        unknown = np.full(samples[0].clear.shape, np.nan, np.float32)
        return stacked([unknown if mask is None else mask.astype(np.float32) for mask in masks])

    def labels(images: list[NDArray[np.float32] | None]) -> Tensor:
        return stacked([np.full(samples[0].clear.shape, np.nan, np.float32) if a is None else a for a in images])

    return Batch(
        stacked([s.s1_t1 for s in samples]),
        stacked([s.s2_t1 for s in samples]),
        stacked([s.s1_t2 for s in samples]),
        stacked([s.target for s in samples]),
        known([s.clear_t1 for s in samples]),
        known([s.flooded for s in samples]),
        labels([s.water and s.water[0] for s in samples]),
        labels([s.water and s.water[1] for s in samples]),
        stacked([s.clear for s in samples]),
        torch.tensor([s.s1_calibrated for s in samples]),
        torch.tensor([s.water is not None for s in samples]),
    )
