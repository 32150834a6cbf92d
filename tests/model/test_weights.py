"""Weights files come back bit for bit or not at all."""

import json
import os
import pickle
import re
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crgen.errors import OutputError, WeightsError
from crgen.model.build import build_generator
from crgen.model.card import ModelCard
from crgen.model.device import measure_drift
from crgen.model.find import cache_folder, find_weights, known_weights, read_card
from crgen.model.weights import digest, load_model, save_weights
from tests.model.scenes import inputs


def refused(path: Path, *problem: str) -> None:
    """Loading ``path`` ends in one line that names the file and the problem."""
    with pytest.raises(WeightsError) as caught:
        load_model(str(path))
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    for words in problem:
        assert words in line
    assert caught.value.__cause__ is None


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a safetensors file, and the bytes of its tensors."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


@pytest.fixture
def altered(tiny_weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the tiny weights with another card or other tensors."""

    def write(
        card: Callable[[dict[str, Any]], Any] = lambda card: card, *, resign: bool = False, **tensors: Any
    ) -> Path:
        named = {name.replace("__", "."): value for name, value in tensors.items()}
        state = {n: t for n, t in {**load_file(tiny_weights), **named}.items() if t is not None}
        text = json.loads(header(tiny_weights)[0]["__metadata__"]["crgen_card"])
        if resign:
            text["tensors_sha256"] = digest(state)
        changed = card(text)
        path = tmp_path / "altered.safetensors"
        text = changed if isinstance(changed, str) else json.dumps(changed)
        save_file(state, path, metadata={"crgen_card": text})
        return path

    return write


def test_weights_come_back_bit_for_bit(tiny_weights: Path, tmp_path: Path) -> None:
    first = load_model(str(tiny_weights))
    path = tmp_path / "new folder" / "again.safetensors"
    card = save_weights(path, first.generator, first.card)
    second = load_model(str(path))
    assert second.card == first.card == card == read_card(path)
    assert second.sha256 == first.sha256 == digest(load_file(path))
    assert second.path == path
    state = second.generator.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in first.generator.state_dict().items())
    x, y, *_ = inputs(first.card.config)
    assert torch.equal(first.generator(x, y, x).reflectance, second.generator(x, y, x).reflectance)
    assert not second.generator.training
    assert not any(p.requires_grad for p in second.generator.parameters())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_one_flipped_bit_in_the_tensors_is_noticed(tiny_weights: Path, tmp_path: Path) -> None:
    content = bytearray(tiny_weights.read_bytes())
    content[-1000] ^= 1
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(content)
    refused(path, "digest")


@pytest.mark.parametrize("kept", [0, 4, 8, 200, 0.5, -1])
def test_a_truncated_file_is_refused(tiny_weights: Path, tmp_path: Path, kept: float) -> None:
    content = tiny_weights.read_bytes()
    path = tmp_path / "truncated.safetensors"
    path.write_bytes(content[: int(len(content) * kept) if kept == 0.5 else int(kept)])
    refused(path, "not a whole safetensors file", "download it again")
    with pytest.raises(WeightsError, match="not a whole"):
        read_card(path)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    text, image, saved = (tmp_path / f"{n}.safetensors" for n in ("text", "zeros", "saved"))
    text.write_text("<html>404 Not Found</html>\n" * 20)
    image.write_bytes(bytes(1000))
    torch.save({"weight": torch.zeros(3)}, saved)
    for path in (text, image, saved):
        refused(path, "not a whole safetensors file")


def test_loading_runs_no_code_from_the_file(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Malicious:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(trace),)

    path = tmp_path / "malicious.safetensors"
    path.write_bytes(pickle.dumps(Malicious()))
    refused(path, "not a whole safetensors file")
    torch.save(Malicious(), path)
    refused(path, "not a whole safetensors file")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious()))
    assert trace.exists(), "the file would have left its trace, had it been unpickled"


def test_safetensors_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    refused(path, "no crgen model card")
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    refused(path, "no crgen model card")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda card: "{not json", "Invalid JSON"),
        (lambda card: "[]", "the card"),
        (lambda card: card | {"colour": "red"}, "colour"),
        (lambda card: {k: v for k, v in card.items() if k != "licence"}, "licence"),
        (lambda card: card | {"window": 100}, "window"),
        (lambda card: card | {"generator": card["generator"] | {"wings": 2}}, "generator.wings"),
        (lambda card: card | {"generator": card["generator"] | {"form": "dream"}}, "generator.form"),
        (lambda card: card | {"generator": card["generator"] | {"stem": "wide"}}, "generator.stem"),
        (lambda card: card | {"generator": card["generator"] | {"head_dim": 5}}, "multiple of head_dim"),
        (lambda card: card | {"generator": card["generator"] | {"pols": ["VV"]}}, "db_range"),
    ],
)
def test_a_card_that_cannot_be_understood_is_refused(
    altered: Callable[..., Path], change: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    path = altered(change)
    refused(path, "model card is not valid", problem)
    with pytest.raises(WeightsError, match=re.escape(problem)):
        read_card(path)


def test_tensors_that_do_not_fit_the_card_are_named(altered: Callable[..., Path]) -> None:
    refused(altered(resign=True, fusion__gamma=None), "do not fit the card: 'fusion.gamma' is missing")
    refused(altered(resign=True, extra__weight=torch.zeros(2)), "'extra.weight' is unknown")
    refused(altered(resign=True, fusion__gamma=torch.zeros(2)), "'fusion.gamma' has shape (2,)", "needs (1,)")
    refused(altered(resign=True, fusion__query1__bias=None, fusion__query1__weight=None), "and 1 more")
    wider = altered(lambda card: card | {"generator": card["generator"] | {"widths": [12, 12, 16, 24, 24, 32]}})
    refused(wider, "do not fit the card", "more")


def test_weights_are_found_by_name_or_path(tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRGEN_WEIGHTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cache_folder() == tmp_path
    with pytest.raises(WeightsError, match=r"there are no weights 'mine': no such file, and the known names are"):
        find_weights("mine")
    cached = tmp_path / "mine.safetensors"
    cached.write_bytes(tiny_weights.read_bytes())
    assert find_weights("mine") == known_weights()["mine"] == cached
    assert load_model("mine").card.name == "tiny"
    assert find_weights(str(tiny_weights)) == tiny_weights
    with pytest.raises(WeightsError, match="no such file"):
        find_weights(str(tmp_path))


def test_a_cached_file_does_not_hide_shipped_weights(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr("crgen.model.find.SHIPPED", shipped)
    monkeypatch.setenv("CRGEN_WEIGHTS", str(tmp_path))
    for folder in (shipped, tmp_path):
        (folder / "base.safetensors").write_bytes(tiny_weights.read_bytes())
    assert known_weights() == {"base": shipped / "base.safetensors"}


def test_the_cache_is_in_the_home_folder_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRGEN_WEIGHTS", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "crgen" / "weights"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 kB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_old_weights_and_nothing_half_written(tiny_card: ModelCard, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(b"the old weights")
    with pytest.raises(OutputError, match=rf"cannot write weights {re.escape(str(path))}.*free space"):
        save_weights(path, build_generator(tiny_card.config), tiny_card)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"tiny.safetensors": b"the old weights"}


def test_a_folder_in_the_place_of_the_file_stays_and_nothing_is_left_beside_it(
    tiny_card: ModelCard, tmp_path: Path
) -> None:
    (tmp_path / "tiny.safetensors").mkdir()
    with pytest.raises(OutputError, match="cannot write weights"):
        save_weights(tmp_path / "tiny.safetensors", build_generator(tiny_card.config), tiny_card)
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_a_folder_that_cannot_be_made_is_one_line(tiny_card: ModelCard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write weights"):
        save_weights(tmp_path / "file" / "tiny.safetensors", build_generator(tiny_card.config), tiny_card)


@pytest.fixture
def tiny_card(tiny_weights: Path) -> ModelCard:
    return read_card(tiny_weights)


@pytest.mark.parametrize("reflectance", [0.0, 0.1, 1.0, 2.0])
@pytest.mark.parametrize("seen", [False, True])
def test_ground_without_any_texture_has_an_image(reflectance: float, seen: bool) -> None:
    generator = load_model("base").generator
    config = generator.config
    radar = torch.full((1, len(config.pols), 256, 256), -12.0)
    optical = torch.full((1, len(config.bands), 256, 256), reflectance)
    made = generator(radar, optical, radar, optical if seen else torch.full_like(optical, torch.nan))
    assert torch.isfinite(made.reflectance).all()


def test_the_shipped_weights_bear_bfloat16() -> None:
    assert measure_drift(load_model("base").generator, "bfloat16", 256).small
