"""Sheets of pictures: for each place the inputs, what was made of them, and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from crgen.errors import OutputError
from crgen.files import replacing

Array = NDArray[np.float32]
_GAP, _TITLE = 4, 14
_MISSING = (90, 90, 110)


class Row(NamedTuple):
    """One place: arrays are ``(channel, y, x)`` in dB or reflectance, NaN where missing."""

    name: str
    s1_t1: Array
    s2_t1: Array
    s1_t2: Array
    made: Mapping[str, Array]
    """Images to compare with the truth, by title."""
    truth: Array


def save_sheet(path: Path, rows: Sequence[Row], bands: tuple[str, ...]) -> None:
    """Write one PNG with a row per place; optical images of a row share the stretch and the bands of its truth.

    Raises:
        OutputError: if it cannot be written.
    """
    side = max(max(row.truth.shape[-2:]) for row in rows)
    titles = ["S1 t1", "S2 t1", "S1 t2", *rows[0].made, "S2 t2"]
    sheet = Image.new("RGB", (len(titles) * (side + _GAP), len(rows) * (side + _GAP + _TITLE)), "white")
    draw = ImageDraw.Draw(sheet)
    for at, row in enumerate(rows):
        like = row.truth if np.isfinite(row.truth).any() else row.s2_t1
        low, high = stretch(like)
        held = [i for i, plane in enumerate(like) if np.isfinite(plane).any()] or list(range(len(bands)))
        optical = [image[held] for image in (row.s2_t1, *row.made.values(), row.truth)]
        colour = [paint(image, tuple(bands[i] for i in held), low, high) for image in optical]
        radar = [paint(image[:1], ("S1",), *stretch(image[:1])) for image in (row.s1_t1, row.s1_t2)]
        top = at * (side + _GAP + _TITLE)
        for column, (title, image) in enumerate(zip(titles, [radar[0], colour[0], radar[1], *colour[1:]], strict=True)):
            text = f"{title}  {row.name}" if column == 0 else title
            draw.text((column * (side + _GAP) + 2, top + 1), text, fill="black")
            sheet.paste(Image.fromarray(image), (column * (side + _GAP), top + _TITLE))
    try:
        with replacing(path) as part:
            sheet.save(part, format="PNG")
    except OSError as error:
        raise OutputError(f"cannot write picture {path} ({error.strerror or error}); free space") from None


def stretch(image: Array) -> tuple[float, float]:
    """Return the values to show as black and white: the 2nd and 98th percentile."""
    if not np.isfinite(image).any():
        return 0.0, 1.0
    low, high = (float(v) for v in np.nanpercentile(image, (2, 98)))
    return low, max(high, low + 1e-3)


def rgb_positions(bands: tuple[str, ...]) -> list[int]:
    """Return where red, green and blue stand, or else SWIR, NIR and green; of other bands the first three, repeated."""
    pictures = (("B4", "B3", "B2"), ("B11", "B8", "B3"), (bands * 3)[:3])
    return [bands.index(b) for b in next(picture for picture in pictures if set(picture) <= set(bands))]


def paint(image: Array, bands: tuple[str, ...], low: float, high: float) -> NDArray[np.uint8]:
    """Return ``(y, x, 3)``: see :func:`rgb_positions`."""
    shown = image[rgb_positions(bands)].transpose(1, 2, 0)
    missing = ~np.isfinite(shown).all(-1)
    pixels: NDArray[np.uint8] = (np.nan_to_num(np.clip((shown - low) / (high - low), 0, 1)) * 255).astype(np.uint8)
    pixels[missing] = _MISSING
    return pixels
