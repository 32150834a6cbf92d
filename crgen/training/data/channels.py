"""Choosing polarisations and bands from what a data set holds, and options of several items."""

from __future__ import annotations

from typing import Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from crgen.errors import TrainingError


def split_items(value: object) -> object:
    """Return a text such as ``"B4+B3+B2"`` as its items, and anything else as it is."""
    return [item.strip() for item in value.split("+")] if isinstance(value, str) else value


T = TypeVar("T")
Several = Annotated[T, BeforeValidator(split_items)]
"""An option of several items, which may also be one text with ``+`` between them."""


def positions(wanted: tuple[str, ...], held: tuple[str, ...], where: str) -> list[int]:
    """Return where the wanted channels stand among those held.

    Raises:
        TrainingError: if one is not there.
    """
    if missing := [name for name in wanted if name not in held]:
        raise TrainingError(f"{where} has no {', '.join(missing)}; it holds {', '.join(held)}")
    return [held.index(name) for name in wanted]


def arranged(image: NDArray[np.float32], held: tuple[str, ...], wanted: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the wanted channels of an image ``(channel, y, x)``; whole planes are NaN for those it lacks."""
    planes = np.full((len(wanted), *image.shape[1:]), np.nan, np.float32)
    for at, name in enumerate(wanted):
        if name in held:
            planes[at] = image[held.index(name)]
    return planes
