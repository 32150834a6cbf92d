"""The OMBRIA flood data set as training samples in physical units.

Drakonakis et al., "OmbriaNet", IEEE JSTARS 2022; repository geodrak/OMBRIA. Bitemporal quadruples of 256 × 256 px,
8-bit PNG: one Sentinel-1 polarisation (VV) and Sentinel-2 B11, B8, B3, before and after a flood.

Units are not documented by its authors. Sentinel-2 looks like 255 × reflectance. Sentinel-1 is a stretch of dB whose
ends differ from patch to patch (each reaches both 0 and 255): it is read as -25 … 0 dB, but its absolute level and
gain mean nothing, so a generator trained on it must not depend on them.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from crgen.errors import TrainingError
from crgen.training.data.channels import arranged
from crgen.training.data.dataset import DamagedPatch, Sample

POLS = ("VV",)
BANDS = ("B11", "B8", "B3")
DB_RANGE = (-25.0, 0.0)
SIDE = 256
Split = Literal["train", "validation", "test", "not test", "all"]

EVENTS: dict[str, tuple[tuple[int, int], ...]] = {
    "yellow desert": ((1, 17),),
    "pink desert": ((18, 31), (313, 341)),
    "wooded river plain": ((32, 73),),
    "ploughed plain": ((74, 105),),
    "bright fields": ((106, 312),),
    "dark flood": ((342, 391),),
    "lakes": ((392, 404),),
    "pastures": ((405, 435),),
    "turquoise flood": ((436, 720),),
    "overcast plain": ((721, 736),),
    "river valleys": ((737, 752),),
    "meanders": ((753, 787),),
}
"""Patch numbers of each flood event. The data set does not name its events: they were told apart by eye, places that
may be one event were put together, and each was called after its looks."""

VALIDATION = ("ploughed plain", "dark flood")
HELD_OUT = ("pink desert", "wooded river plain", "pastures", "meanders")

RADIOMETRY = "OMBRIA: reflectance = DN / 255; backscatter = DN / 255 · 25 - 25 dB, stretched anew in every patch"

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


def event_of(number: int) -> str:
    """Return the event of a patch by its number, "" for a number that no event holds."""
    return next((name for name, runs in EVENTS.items() if any(a <= number <= b for a, b in runs)), "")


def split_of(event: str) -> str:
    """Return the split an event belongs to."""
    return "validation" if event in VALIDATION else "test" if event in HELD_OUT else "train"


def cloud_mask(s2: NDArray[np.uint8]) -> Mask:
    """Guess the cloudy pixels of a B11/B8/B3 image, ``(y, x, 3)`` uint8, with a margin of 6 px.

    OMBRIA has no cloud masks. Clouds are bright in B3 and nearly white; desert is redder (B11 well above B3) and
    turbid water has next to no B11. Bright roofs and salt flats are lost with the clouds; cloud shadows are kept.
    """
    b11, b8, b3 = (s2[..., i].astype(np.float32) / 255 for i in range(3))
    white = (b3 > 0.8 * b11) & (b3 > 0.55 * b8)
    thick = (b3 > 0.45) & (b3 > 0.7 * b11)
    cloud = (b3 > 0.20) & (b8 > 0.24) & (b11 > 0.10) & (white | thick)
    cloud = ndimage.binary_opening(cloud, np.ones((3, 3), bool))
    return np.asarray(ndimage.binary_dilation(cloud, iterations=6), dtype=bool)


class Ombria:
    """OMBRIA's patches by flood event: seven to train on, and others to choose by and to score on.

    The published split is not used: its test patches are neighbours of its training patches. Files are read when first
    asked for and then held in memory as 8-bit values.

    Args:
        folder: the folder that holds ``OmbriaS1`` and ``OmbriaS2``.
        split: ``train``, ``validation`` and ``test`` share no event. ``not test`` is the first two, which the shipped
            weights are trained on once all is chosen; ``all`` is the three together.
        pols: polarisations to hand out; missing but for VV.
        bands: bands to hand out; missing but for B11, B8 and B3.
        evenness: how far training draws events alike, however many patches each has: from 0, when it draws all patches
            alike, to 1.

    Raises:
        TrainingError: if the folder is not OMBRIA, or holds no patch of the split.
    """

    def __init__(
        self,
        folder: Path,
        split: Split = "train",
        *,
        pols: tuple[str, ...] = POLS,
        bands: tuple[str, ...] = BANDS,
        evenness: float = 0.0,
    ) -> None:
        self.pols, self.bands = pols, bands
        self._published = {
            path.stem.rsplit("_", 1)[1]: part
            for part in ("train", "test")
            for path in (folder / "OmbriaS1" / part / "BEFORE").glob("S1_before_*.png")
        }
        if not self._published:
            raise TrainingError(
                f"no OMBRIA patches: {folder / 'OmbriaS1' / 'train' / 'BEFORE'} holds no S1_before_*.png; "
                "give the folder with OmbriaS1"
            )
        splits = {"all": ("train", "validation", "test"), "not test": ("train", "validation")}.get(split, (split,))
        self.ids = sorted(number for number in self._published if split_of(event_of(int(number))) in splits)
        if not self.ids:
            raise TrainingError(f"{folder} holds no OMBRIA patch of the split '{split}'")
        events = [event_of(int(number)) for number in self.ids]
        patches = Counter(events)
        self.weights = torch.tensor([patches[event] ** -evenness for event in events])
        """How often training draws each patch, up to a factor."""
        self._folder = folder
        self._images: dict[str, tuple[NDArray[Any], ...]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one patch.

        Raises:
            DamagedPatch: if one of its images is missing or damaged.
        """
        number = self.ids[index]
        if number not in self._images:
            self._images[number] = self._read(number)
        s1_before, s1_after, s2_before, s2_after, flood, missing, cloud_before, cloud_after = self._images[number]

        def backscatter(dn: NDArray[np.uint8]) -> Array:
            db = dn.astype(np.float32)[None] / 255 * (DB_RANGE[1] - DB_RANGE[0]) + DB_RANGE[0]
            return arranged(np.where(missing, np.float32(np.nan), db), POLS, self.pols)

        def reflectance(dn: NDArray[np.uint8]) -> Array:
            values = np.where(missing, np.float32(np.nan), dn.astype(np.float32).transpose(2, 0, 1) / 255)
            return arranged(values, BANDS, self.bands)

        return Sample(
            s1_t1=backscatter(s1_before),
            s2_t1=reflectance(s2_before),
            s1_t2=backscatter(s1_after),
            target=reflectance(s2_after),
            clear=~(missing | cloud_after)[None],
            name=number,
            event=event_of(int(number)),
            clear_t1=~(missing | cloud_before)[None],
            flooded=(flood > 0)[None] & ~missing,
            s1_calibrated=False,
        )

    def _read(self, number: str) -> tuple[NDArray[Any], ...]:
        """Return radar and optical before and after, the flood, missing pixels, and clouds before and after."""
        part = self._published[number]

        def image(sensor: str, when: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
            name = f"{sensor}_{when.lower()}_{number}.png"
            return _read(self._folder / f"Ombria{sensor}" / part / when / name, shape)

        grey, colour = (SIDE, SIDE), (SIDE, SIDE, 3)
        s1_before, s1_after = (image("S1", when, grey) for when in ("BEFORE", "AFTER"))
        s2_before, s2_after = (image("S2", when, colour) for when in ("BEFORE", "AFTER"))
        missing = (s2_before == 0).all(-1) | (s2_after == 0).all(-1) | ((s1_before == 255) & (s1_after == 255))
        masks = _without_specks(missing), cloud_mask(s2_before), cloud_mask(s2_after)
        return s1_before, s1_after, s2_before, s2_after, image("S1", "MASK", grey), *masks


def _without_specks(missing: Mask) -> Mask:
    """Drop what is smaller than 3 × 3 px (dark water), but keep thin strips of nodata along the border."""
    outside = np.pad(missing, 3, constant_values=True)
    return np.asarray(ndimage.binary_opening(outside, np.ones((3, 3), bool))[3:-3, 3:-3], dtype=bool)


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except FileNotFoundError:
        raise DamagedPatch(f"OMBRIA patch is incomplete: {path} is missing") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DamagedPatch(f"OMBRIA image {path} is damaged ({error}); fetch it again") from None
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise DamagedPatch(f"OMBRIA image {path} is {pixels.dtype} of shape {pixels.shape}, expected uint8 {shape}")
    return pixels
