"""Paired patches in folders or in a Zarr store as training samples.

Takes data sets of one file (or one row of an array) per place and input, such as TCSEN12 (doi 10.5281/zenodo.19707507:
red, green, blue with VV and VH; 4,424 pairs of two dates, 1,681 samples of three; references with less than 5 % cloud)
and DTSEN1-2. Neither could be looked into when this was written: so the folders' names, the order of the bands and
what the numbers mean are options and have no default that would guess them. For a split, list its names in a file.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import zarr
from numpy.typing import NDArray
from pydantic import validate_call
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from crgen.errors import RequestError, TrainingError
from crgen.training.data.channels import Several, arranged
from crgen.training.data.dataset import DamagedPatch, Sample

Array = NDArray[np.float32]
SUFFIXES = (".tif", ".tiff", ".png", ".npy")
INPUTS = ("s1_t1", "s2_t1", "s1_t2", "target")


class PairedPatches:
    """Samples whose four images stand in four folders under one name, or in four arrays in one row.

    Args:
        folder: what holds the folders, or a Zarr group (``.zarr``) with arrays ``(sample, channel, y, x)``.
        pols: polarisations to hand out, in this order; whole planes are missing for those that the files lack.
        bands: bands to hand out, alike.
        s1_t1: folder (or array) of backscatter at t1; may be nested (``train/S1_before``). The next ones alike.
        s2_t1: reflectance at t1.
        s1_t2: backscatter at t2.
        target: reflectance at t2.
        clear: masks, not 0 where the target is clear; all valid target pixels count as clear if not given.
        file_pols: the polarisations as the files hold them.
        file_bands: the bands as the files hold them.
        s1_scale: dB = number × first + second, e.g. ``(25 / 255, -25)``.
        s2_scale: reflectance = number × first + second, e.g. ``(1e-4, 0)``.
        nodata: number that means missing, beside NaN and what a file itself declares.
        key: regular expression searched for in a file's name without suffix, whose first group is the name shared by
            the images of a sample, e.g. ``_(\\d+)$``; the whole name if not given.
        only: text file with the names to use, one a line; one without any image is skipped and named like the others.

    Raises:
        RequestError: if ``key`` is no regular expression with a group.
        TrainingError: if a folder is missing, or no sample is whole. Samples that lack an image are skipped and named
            in :attr:`skipped`.
    """

    @validate_call
    def __init__(
        self,
        folder: Path,
        pols: tuple[str, ...],
        bands: tuple[str, ...],
        *,
        s1_t1: str,
        s2_t1: str,
        s1_t2: str,
        target: str,
        file_pols: Several[tuple[str, ...]],
        file_bands: Several[tuple[str, ...]],
        s1_scale: Several[tuple[float, float]],
        s2_scale: Several[tuple[float, float]],
        clear: str | None = None,
        nodata: float | None = None,
        key: str | None = None,
        only: Path | None = None,
    ) -> None:
        self.pols, self.bands = pols, bands
        self._held, self._wanted = (file_pols, file_bands), (pols, bands)
        for held, wanted in zip(self._held, self._wanted, strict=True):
            if not set(held) & set(wanted):
                raise TrainingError(f"{folder} holds {', '.join(held)}, and none of {', '.join(wanted)}")
        self._scales, self._nodata = (s1_scale, s2_scale), nodata
        places = {"s1_t1": s1_t1, "s2_t1": s2_t1, "s1_t2": s1_t2, "target": target}
        if clear is not None:
            places["clear"] = clear
        listed = {name: _images(folder, place, _pattern(key)) for name, place in places.items()}
        names = sorted(set().union(*listed.values()))
        if only is not None:
            names = sorted(_lines(only))
        lacking = {name: [place for place, images in listed.items() if name not in images] for name in names}
        self.skipped = [f"{folder}: '{name}' has no {', '.join(gaps)}" for name, gaps in lacking.items() if gaps]
        self.names = [name for name, gaps in lacking.items() if not gaps]
        self._images = listed
        if not self.names:
            example = f" ({self.skipped[0]})" if self.skipped else ""
            raise TrainingError(f"{folder} holds no sample with all of {', '.join(places)}{example}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        s1_t1, s2_t1, s1_t2, target = (
            self._read(name, place, kind) for place, kind in zip(INPUTS, (0, 1, 0, 1), strict=True)
        )
        shapes = {place: array.shape[-2:] for place, array in zip(INPUTS, (s1_t1, s2_t1, s1_t2, target), strict=True)}
        held = [at for at, band in enumerate(self.bands) if band in self._held[1]]
        clear = np.asarray(np.isfinite(target[held]).all(0), dtype=bool)
        if "clear" in self._images:
            mask = self._load(name, "clear")[0]
            shapes["clear"] = mask.shape
            clear = clear & (mask != 0) if mask.shape == clear.shape else clear
        if len(set(shapes.values())) > 1:
            sizes = ", ".join(f"{place} {h} × {w}" for place, (h, w) in shapes.items())
            raise DamagedPatch(f"patch '{name}': its images differ in size ({sizes})")
        return Sample(s1_t1, s2_t1, s1_t2, target, clear[None], name)

    def _read(self, name: str, place: str, kind: int) -> Array:
        stored = self._load(name, place)
        if stored.shape[0] != len(self._held[kind]):
            raise DamagedPatch(
                f"patch '{name}': {place} has {stored.shape[0]} channels, expected {len(self._held[kind])}"
            )
        gain, offset = self._scales[kind]
        missing = ~np.isfinite(stored) | (stored == self._nodata)
        values = np.where(missing, np.float32(np.nan), stored * np.float32(gain) + np.float32(offset))
        return arranged(values, self._held[kind], self._wanted[kind])

    def _load(self, name: str, place: str) -> Array:
        try:
            return self._images[place][name]()
        except (RasterioError, OSError, ValueError, EOFError, RuntimeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DamagedPatch(f"patch '{name}': {place} cannot be read ({reason}); fetch it again") from None


def _pattern(key: str | None) -> re.Pattern[str]:
    try:
        pattern = re.compile(key or r"(.+)")
    except re.error as error:
        raise RequestError(f"key '{key}' is no regular expression ({error})") from None
    if not pattern.groups:
        raise RequestError(f"key '{key}' has no group; put the shared part of the names in parentheses")
    return pattern


def _images(folder: Path, place: str, pattern: re.Pattern[str]) -> dict[str, Callable[[], Array]]:
    """Return what reads each image of one input, by the name shared with the other inputs."""
    if folder.suffix == ".zarr":
        try:
            array = zarr.open_group(folder, mode="r")[place]
        except (OSError, KeyError, ValueError) as error:
            raise TrainingError(f"{folder} has no array '{place}' ({type(error).__name__})") from None
        if not isinstance(array, zarr.Array) or array.ndim != 4:
            raise TrainingError(f"{folder}: '{place}' is no array (sample, channel, y, x)")
        return {str(i): partial(_read_row, array, i) for i in range(array.shape[0])}
    if not (folder / place).is_dir():
        raise TrainingError(f"there is no folder {folder / place}")
    images: dict[str, Callable[[], Array]] = {}
    for path in sorted(p for p in (folder / place).rglob("*") if p.suffix.lower() in SUFFIXES):
        if found := pattern.search(path.stem):
            if found[1] in images:
                raise TrainingError(f"{folder / place} holds two images named '{found[1]}'; give another key")
            images[found[1]] = partial(_read_array if path.suffix.lower() == ".npy" else _read_image, path)
    return images


def _read_row(array: Any, row: int) -> Array:
    return np.asarray(array[row], np.float32)


def _read_array(path: Path) -> Array:
    array = np.asarray(np.load(path, allow_pickle=False), np.float32)
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(f"{array.ndim} axes instead of (channel, y, x)")
    return array


def _read_image(path: Path) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            pixels = file.read(masked=True)
    return np.asarray(pixels.astype(np.float32).filled(np.nan))


def _lines(path: Path) -> set[str]:
    try:
        return {line.strip() for line in path.read_text().splitlines() if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read the list of names {path} ({error})") from None
