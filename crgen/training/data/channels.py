"""Choosing polarisations and bands from what a data set holds, and options of several items."""

from __future__ import annotations

from typing import Annotated, TypeVar

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
