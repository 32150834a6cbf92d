"""A small data set in memory: places whose optical image follows from their radar, to be learned."""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from crgen.model.config import CORE, preset
from crgen.training.augment import Inputs, Truth, leave
from crgen.training.data.dataset import Batch, PatchDataset, Sample, collate

LAND = {
    "B2": 0.08, "B3": 0.10, "B4": 0.11, "B5": 0.15, "B6": 0.20, "B7": 0.22, "B8": 0.25, "B8A": 0.26, "B11": 0.30,
    "B12": 0.20,
}  # fmt: skip
WATER = {
    "B2": 0.06, "B3": 0.07, "B4": 0.06, "B5": 0.05, "B6": 0.04, "B7": 0.04, "B8": 0.03, "B8A": 0.03, "B11": 0.02,
    "B12": 0.02,
}  # fmt: skip


@dataclass
class Patches:
    """``count`` squares of ``side`` px, under water in places at t2; ``spoilt`` ones hold an infinite target.

    Bands that are not ``held`` are missing, in whole planes, as are those that a data set lacks.
    """

    count: int = 6
    side: int = 64
    spoilt: tuple[int, ...] = ()
    cloudy: tuple[int, ...] = ()
    pols: tuple[str, ...] = preset("tiny").pols
    bands: tuple[str, ...] = preset("tiny").bands
    held: tuple[str, ...] = tuple(LAND)
    calibrated: bool = True
    visited: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.visited.append(index)
        rng = np.random.default_rng(index)
        shape = (1, self.side, self.side)
        land = gaussian_filter(rng.standard_normal(shape), (0, 5, 5)) * 8
        flood = gaussian_filter(rng.standard_normal(shape), (0, 5, 5)) > 0.03
        colour, water = (
            np.array([table[b] if b in self.held else np.nan for b in self.bands])[:, None, None]
            for table in (LAND, WATER)
        )
        before = np.clip(colour * (1 + 0.5 * land), 0, 1)
        target = np.where(flood, water, before * 0.8).astype(np.float32)
        if index in self.spoilt:
            target[:] = np.inf
        clear = np.ones(shape, bool)
        clear[:, :, : self.side // 8] = False
        if index in self.cloudy:
            clear[:, : self.side * 3 // 4] = False
        below = np.array([{"VV": 0, "VH": 6}[pol] for pol in self.pols])[:, None, None]
        return Sample(
            s1_t1=(-10 + 3 * land - below).astype(np.float32),
            s2_t1=before.astype(np.float32),
            s1_t2=(np.where(flood, -20, -10 + 3 * land) - below).astype(np.float32),
            target=target,
            clear=clear,
            name=f"patch-{index}",
            s1_calibrated=self.calibrated,
        )


OMBRIA_LIKE = Patches(held=CORE, calibrated=False)
"""Floods as OMBRIA knows them: in three bands, under a radar without level."""


def batch_of(data: PatchDataset) -> Batch:
    """All samples of a data set."""
    return collate([data[i] for i in range(len(data))])


def as_they_are(data: PatchDataset) -> tuple[Inputs, Truth]:
    """All samples of a data set, without any variation."""
    return leave(batch_of(data), data.pols, data.bands, torch.Generator())
