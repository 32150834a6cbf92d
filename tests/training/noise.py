"""A folder in OMBRIA's layout, with noise in place of images."""

from pathlib import Path

import numpy as np
from PIL import Image

from crgen.training.data import ombria


def write_ombria(folder: Path, numbers: tuple[str, ...]) -> None:
    """Write quadruples and flood masks, dark enough to be free of clouds."""
    rng, side = np.random.default_rng(0), ombria.SIDE
    for number in numbers:
        for sensor, shape in (("S1", (side, side)), ("S2", (side, side, 3))):
            for when in ("BEFORE", "AFTER", "MASK")[: 3 if sensor == "S1" else 2]:
                pixels = rng.integers(5, 45, shape, np.uint8)
                path = folder / f"Ombria{sensor}" / "train" / when / f"{sensor}_{when.lower()}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
