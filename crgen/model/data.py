"""What a data set hands to training and evaluation."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


class PatchDataset(Protocol):
    """A sequence of samples with their channels' names."""

    pols: tuple[str, ...]
    bands: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Return one sample."""
        ...


class Batch(NamedTuple):
    """Stacked samples as tensors."""

    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    target: Tensor
    clear: Tensor


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of one size."""
    return Batch(*(torch.from_numpy(np.stack([s[i] for s in samples])) for i in range(5)))
