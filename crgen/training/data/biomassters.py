"""BioMassters chips as training samples: two months of one place in Finland.

Data of the BioMassters challenge (2022): 256 × 256 px at 10 m, twelve months from September (00) to August (11) in
GeoTIFFs without georeference. ``<chip>_S1_MM.tif``: backscatter in dB, -9999 missing (VV, VH ascending, VV, VH
descending). ``<chip>_S2_MM.tif``: reflectance × 10,000 (ten bands, 0 missing) and a cloud probability, 0 to 100 (255
missing), that misses some cloud and takes some snow for cloud: name the months to use where it matters.
"""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from pydantic import validate_call
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from crgen.errors import TrainingError
from crgen.training.data.channels import Several, positions
from crgen.training.data.dataset import DamagedPatch, Sample

POLS = ("VV", "VH")
BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
RADIOMETRY = "BioMassters: backscatter in dB, reflectance = DN / 10,000"
CLOUDY = 30
"""Cloud probability from which a pixel counts as cloudy."""

Array = NDArray[np.float32]


class BioMassters:
    """All pairs of months of the chips in a folder whose later month is clear enough.

    Args:
        folder: where the ``<chip>_S1_MM.tif`` and ``<chip>_S2_MM.tif`` are.
        pols: polarisations to hand out, in this order.
        bands: bands to hand out.
        chips: the chips to use; all if not given.
        months: the months to use, 0 (September) to 11; all if not given.
        max_cloud: largest share of cloudy pixels in the later month, by cloud probability.
        max_gap: most months between the two.
        orbit: which passes of Sentinel-1.

    Raises:
        TrainingError: if there are no such chips or no pair is left, or a channel is not in the data.
    """

    @validate_call
    def __init__(
        self,
        folder: Path,
        pols: tuple[str, ...] = POLS,
        bands: tuple[str, ...] = BANDS,
        *,
        chips: Several[tuple[str, ...] | None] = None,
        months: Several[tuple[int, ...] | None] = None,
        max_cloud: float = 0.5,
        max_gap: int = 11,
        orbit: Literal["ascending", "descending"] = "ascending",
    ) -> None:
        self.pols, self.bands, self.folder = pols, bands, folder
        self._pols = [p + (2 if orbit == "descending" else 0) for p in positions(pols, POLS, "BioMassters")]
        self._bands = positions(bands, BANDS, "BioMassters")
        self.skipped: list[str] = []
        found: dict[str, list[int]] = {}
        for path in sorted(folder.glob("*_S2_??.tif")):
            chip, _, month = path.stem.rsplit("_", 2)
            if (chips is None or chip in chips) and month.isdigit() and (months is None or int(month) in months):
                if (folder / f"{chip}_S1_{month}.tif").exists():
                    found.setdefault(chip, []).append(int(month))
                else:
                    self.skipped.append(f"{path} has no Sentinel-1 beside it")
        if not found:
            raise TrainingError(f"no BioMassters chips as asked for in {folder}; it should hold CHIP_S1_MM.tif files")
        clear = {(c, m) for c, ms in found.items() for m in ms if self._cloud_share(c, m) <= max_cloud}
        self.pairs = [
            (chip, first, then)
            for chip, its_months in found.items()
            for first, then in combinations(its_months, 2)
            if then - first <= max_gap and (chip, then) in clear
        ]
        if not self.pairs:
            raise TrainingError(f"no pair of months in {folder} has a later month with at most {max_cloud:.0%} cloud")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        chip, first, then = self.pairs[index]
        target, probability = self._s2(chip, then)
        shape = target.shape[-2:]
        before, probability_before = self._s2(chip, first)
        inputs = (self._s1(chip, first), before, self._s1(chip, then))
        if any(array.shape[-2:] != shape for array in inputs):
            raise DamagedPatch(f"chip {chip}: the images of months {first} and {then} differ in size")
        clear, clear_t1 = (
            (np.isfinite(image).all(0) & (cloud < CLOUDY))[None]
            for image, cloud in ((target, probability), (before, probability_before))
        )
        return Sample(*inputs, target, clear, f"{chip} {first:02d}→{then:02d}", chip, clear_t1)

    def _s1(self, chip: str, month: int) -> Array:
        stored = self._read(chip, "S1", month, 4)[self._pols]
        return np.where(stored == -9999, np.float32(np.nan), stored)

    def _s2(self, chip: str, month: int) -> tuple[Array, Array]:
        stored = self._read(chip, "S2", month, 11)
        reflectance = np.where((stored[:10] == 0).all(0), np.float32(np.nan), stored[:10] * np.float32(1e-4))
        return reflectance[self._bands], stored[10]

    def _cloud_share(self, chip: str, month: int) -> float:
        """Return the share of cloudy or unknown pixels, from every eighth row and column."""
        try:
            probability = self._read(chip, "S2", month, 11, only=11, thin=8)
        except DamagedPatch as error:
            self.skipped.append(str(error))
            return np.inf
        return float((probability >= CLOUDY).mean())

    def _read(self, chip: str, kind: str, month: int, bands: int, only: int | None = None, thin: int = 1) -> Array:
        path = self.folder / f"{chip}_{kind}_{month:02d}.tif"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(path) as file:
                    if file.count < bands:
                        raise DamagedPatch(f"{path} has {file.count} bands instead of {bands}")
                    shape = (file.height // thin, file.width // thin)
                    pixels = file.read(only, out_shape=shape if only else None, resampling=Resampling.nearest)
        except (RasterioError, OSError, ValueError) as error:
            raise DamagedPatch(f"{path} is missing or damaged ({error}); fetch it again") from None
        return np.asarray(pixels, np.float32)
