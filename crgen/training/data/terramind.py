"""TerraMind's examples as training samples: five places of one date each, at both dates the same.

Repository IBM/terramind (Apache-2.0): 224 × 224 px, ``S1RTC`` (VV, VH in dB) and ``S2L2A`` (12 bands × 10,000). They
teach that ground without change is left alone on coast, savanna, snow, fields and a town, and painted events are
painted on them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import torch
from pydantic import validate_call
from rasterio.errors import RasterioError

from crgen.errors import TrainingError
from crgen.model.water import water_label
from crgen.training.data.channels import arranged, positions
from crgen.training.data.dataset import DamagedPatch, Sample

POLS = ("VV", "VH")
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
SNOWY = 3000
"""Median of B2 as stored from which a place lies under snow."""
RADIOMETRY = "TerraMind: backscatter (RTC) in dB, reflectance = DN / 10,000"


class TerraMind:
    """The places in a folder.

    Args:
        folder: where ``S1RTC`` and ``S2L2A`` are.
        pols: polarisations to hand out, in this order.
        bands: bands to hand out.

    Raises:
        TrainingError: if there are no places.
    """

    @validate_call
    def __init__(self, folder: Path, pols: tuple[str, ...] = POLS, bands: tuple[str, ...] = BANDS) -> None:
        self.pols, self.bands, self.folder = pols, bands, folder
        self._pols = positions(pols, POLS, "TerraMind")
        self.names = sorted(path.stem for path in (folder / "S2L2A").glob("*.tif"))
        if not self.names:
            raise TrainingError(f"{folder / 'S2L2A'} holds no place; give the folder with S1RTC and S2L2A")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        images = []
        for kind in ("S1RTC", "S2L2A"):
            path = self.folder / kind / f"{name}.tif"
            try:
                with rasterio.open(path) as file:
                    images.append(file.read().astype(np.float32))
            except (RasterioError, OSError) as error:
                raise DamagedPatch(f"{path} is missing or damaged ({error}); fetch it again") from None
        s1 = images[0][self._pols]
        s2 = arranged(images[1] * np.float32(1e-4), BANDS, self.bands)
        clear = np.asarray(np.isfinite(s2).any(0, keepdims=True), dtype=bool)
        water = water_label(torch.from_numpy(s2)[None], self.bands)[0].numpy()
        if np.nanmedian(images[1][1]) > SNOWY:  # its shadows look like water
            water = np.where(water == 1, np.float32(np.nan), water)
        return Sample(s1, s2, s1, s2, clear, name, name, clear, water=(water, water))
