"""Choosing polarisations and bands from what a data set holds."""

from __future__ import annotations

from crgen.errors import TrainingError


def positions(wanted: tuple[str, ...], held: tuple[str, ...], where: str) -> list[int]:
    """Return where the wanted channels stand among those held.

    Raises:
        TrainingError: if one is not there.
    """
    if missing := [name for name in wanted if name not in held]:
        raise TrainingError(f"{where} has no {', '.join(missing)}; it holds {', '.join(held)}")
    return [held.index(name) for name in wanted]
