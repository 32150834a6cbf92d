"""The state of a training run on disk: written by atomic rename, read without running code from the file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from crgen.errors import TrainingError
from crgen.files import replacing
from crgen.model.card import FIELDS_OF_0_1


def one_line(error: Exception) -> str:
    """Return the first line of what ``error`` says."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def write_checkpoint(path: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Save a run's state, with what tells it from other runs.

    Raises:
        TrainingError: if it cannot be written; an earlier file stays as it was.
    """
    try:
        with replacing(path) as part:
            torch.save({"identity": identity, **state}, part)
    except (OSError, RuntimeError) as error:
        raise TrainingError(
            f"cannot write checkpoint {path} ({one_line(error)}); free space or give another file"
        ) from None


def read_checkpoint(path: Path, identity: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a run's state.

    Raises:
        TrainingError: if the file cannot be read, is of a version of crgen with another network, or belongs to a run
            with another identity.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        found = state["identity"]
        old = not FIELDS_OF_0_1.isdisjoint(dict(found).get("config", ()))
    except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"checkpoint {path} cannot be read ({type(error).__name__}); remove it to start anew"
        ) from None
    if old:
        raise TrainingError(
            f"checkpoint {path}: made by crgen 0.1; this version has another network and cannot go on with it: give "
            "another file, or go on with crgen 0.1"
        )
    if found != identity:
        differs = next(iter(name for name in identity if found.get(name) != identity[name]), "form")
        raise TrainingError(
            f"checkpoint {path} belongs to a run with other settings (its {differs} differs); "
            "give another file or remove it"
        )
    return state
