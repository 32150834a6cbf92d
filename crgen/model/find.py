"""Weights files by name or path, and the card in the header of each; PyTorch (200 MB) is not loaded for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from crgen.errors import WeightsError
from crgen.files import home_cache
from crgen.model.card import ModelCard

SHIPPED = Path(__file__).parent / "shipped"
CARD_KEY = "crgen_card"


def cache_folder() -> Path:
    """Return the folder where people put further weights: ``$CRGEN_WEIGHTS`` or ``~/.cache/crgen/weights``.

    Without a home folder it is ``weights`` in ``$CRGEN_CACHE``, or that of the shipped weights.
    """
    if chosen := os.environ.get("CRGEN_WEIGHTS"):
        return Path(chosen)
    home = home_cache() or os.environ.get("CRGEN_CACHE")
    return Path(home) / "weights" if home else SHIPPED


def known_weights() -> dict[str, Path]:
    """Return the weights files shipped and cached, by name; a cached file does not hide a shipped one."""
    return {path.stem: path for folder in (cache_folder(), SHIPPED) for path in sorted(folder.glob("*.safetensors"))}


def find_weights(name_or_path: str) -> Path:
    """Return the file of weights given by name or path.

    Raises:
        WeightsError: if there is none.
    """
    known = known_weights()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise WeightsError(
        f"there are no weights '{name_or_path}': no such file, and the known names are {', '.join(known) or 'none'}"
    )


@contextmanager
def opened(path: Path, framework: str) -> Iterator[tuple[ModelCard, Any]]:
    """Open a weights file: its card, and its tensors as safetensors gives them to a framework, ``"np"`` or ``"pt"``.

    Raises:
        WeightsError: if the file cannot be read, is truncated or is not a crgen weights file.
    """
    try:
        with safe_open(path, framework=framework) as file:
            metadata = file.metadata() or {}
            if CARD_KEY not in metadata:
                raise WeightsError(f"{path}: these safetensors carry no crgen model card; they are not crgen weights")
            yield ModelCard.parse(metadata[CARD_KEY], str(path)), file
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a whole safetensors file ({error}); copy or download it again") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_card(path: Path) -> ModelCard:
    """Return the card of a weights file.

    Raises:
        WeightsError: if the file is truncated or is not a crgen weights file.
    """
    with opened(path, "np") as (card, _):
        return card
