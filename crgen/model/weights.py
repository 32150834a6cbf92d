"""Weights files: safetensors with the ModelCard in the header. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from crgen.errors import OutputError, WeightsError
from crgen.files import replacing
from crgen.model import find
from crgen.model.build import build_generator
from crgen.model.card import ModelCard
from crgen.model.find import CARD_KEY, find_weights, opened, read_card
from crgen.model.generator import Generator

SHIPPED_DIGESTS = {
    "base": {
        "826a7eda558cb390442adc1925586c82b73435b65a6bea48b554cb0f1809902c": 256,
        "8b4bf1534ed65f79e535749c8c5e774d266d35c0af543a1421d6de4b8fbdff99": 256,
        "d667fa8bbebaa616f77ebbba02179f3b7ecc036aff0955ff864348fc2780ada3": 256,
        "56a7f5e19ed9a9f6f8304f672b960f34a2a59e738a2ca9e7a4b7ffa614476ce3": 256,
        "437347a9d1bac451969523a07875c099a02e826de11c9030ef68253b2bc38c67": 256,
    }
}
"""By name, the digests of all weights that a version of crgen shipped, with the side of their windows. New ones are
added and none is taken out: maps made with earlier weights of a name are known by them."""


class LoadedModel(NamedTuple):
    """A trained generator, ready to predict, with its card."""

    generator: Generator
    card: ModelCard
    path: Path

    @property
    def sha256(self) -> str:
        """Digest of the tensors, as checked at loading."""
        return self.card.tensors_sha256


def earlier_digests(path: Path) -> dict[str, int]:
    """Return the digests of what other versions of crgen shipped under the name of a shipped weights file.

    Returns:
        The digests, each with the side of a window; none for a file that crgen does not ship.
    """
    if path.parent != find.SHIPPED:
        return {}
    here = read_card(path).tensors_sha256
    return {sha: window for sha, window in SHIPPED_DIGESTS.get(path.stem, {}).items() if sha != here}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes, in the order of names."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def save_weights(path: Path, generator: Generator, card: ModelCard) -> ModelCard:
    """Write the generator's tensors and its card to ``path``, by atomic rename; return the card with its digest.

    Raises:
        OutputError: if the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in generator.state_dict().items()}
    card = card.model_copy(update={"tensors_sha256": digest(tensors)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            save_file(tensors, part, metadata={CARD_KEY: card.model_dump_json()})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write weights {path} ({error}); free space or choose another place") from None
    return card


def load_model(name_or_path: str = "base", device: str | torch.device = "cpu") -> LoadedModel:
    """Load a trained generator in evaluation mode.

    Args:
        name_or_path: a name listed by ``crgen models``, or the path of a ``.safetensors`` file.
        device: where to put it.

    Returns:
        The generator, its card and its file.

    Raises:
        WeightsError: if the file is missing, truncated or altered, or its tensors do not fit its card.
    """
    path = find_weights(name_or_path)
    with opened(path, framework="pt") as (card, file):
        tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if digest(tensors) != card.tensors_sha256:
        raise WeightsError(f"{path}: the tensors do not have the digest the card states; copy or download it again")
    generator = build_generator(card.config)
    expected = generator.state_dict()
    problems = [f"'{n}' is missing" for n in expected if n not in tensors]
    problems += [f"'{n}' is unknown" for n in tensors if n not in expected]
    problems += [
        f"'{n}' has shape {tuple(tensors[n].shape)}, the card's generator needs {tuple(t.shape)}"
        for n, t in expected.items()
        if n in tensors and tensors[n].shape != t.shape
    ]
    if problems:
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise WeightsError(f"{path}: the tensors do not fit the card: {problems[0]}{more}")
    generator.load_state_dict(tensors)
    generator.eval().requires_grad_(False)
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return LoadedModel(generator.to(device), card, path)


def start_from(generator: Generator, name_or_path: str) -> str:
    """Give a generator the tensors of a weights file of the same layers and channels; return the tensors' digest.

    Raises:
        WeightsError: if the file cannot be used, or its generator is another.
    """
    model = load_model(name_or_path)
    ours, theirs = generator.config, model.card.config
    for name in ("pols", "bands", "db_range", "reflectance_range"):
        if getattr(ours, name) != getattr(theirs, name):
            raise WeightsError(f"{model.path}: cannot start from it: its {name} are {getattr(theirs, name)}")
    try:
        generator.load_state_dict(model.generator.state_dict())
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise WeightsError(f"{model.path}: cannot start from it: its layers are others ({reason})") from None
    return model.sha256
