"""A small data set in memory: places whose optical image follows from their radar, to be learned."""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter

from crgen.training.data.dataset import Sample


@dataclass
class Patches:
    """``count`` squares of ``side`` px; ``spoilt`` ones hold an infinite target."""

    count: int = 6
    side: int = 64
    spoilt: tuple[int, ...] = ()
    cloudy: tuple[int, ...] = ()
    pols: tuple[str, ...] = ("VV",)
    bands: tuple[str, ...] = ("B11", "B8", "B3")
    visited: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.visited.append(index)
        rng = np.random.default_rng(index)
        shape = (1, self.side, self.side)
        land = gaussian_filter(rng.standard_normal(shape), (0, 5, 5)) * 8
        flood = gaussian_filter(rng.standard_normal(shape), (0, 5, 5)) > 0.03
        colour = np.array([0.3, 0.25, 0.1])[:, None, None]
        before = np.clip(colour * (1 + 0.5 * land), 0, 1)
        after = np.where(flood, 0.05, before * 0.8)
        target = after.astype(np.float32)
        if index in self.spoilt:
            target[:] = np.inf
        clear = np.ones(shape, bool)
        clear[:, :, : self.side // 8] = False
        if index in self.cloudy:
            clear[:, : self.side * 3 // 4] = False
        return Sample(
            s1_t1=(-10 + 3 * land).astype(np.float32),
            s2_t1=before.astype(np.float32),
            s1_t2=np.where(flood, -20, -10 + 3 * land).astype(np.float32),
            target=target,
            clear=clear,
            name=f"patch-{index}",
        )
