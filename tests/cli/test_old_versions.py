"""What crgen 0.1 left: its weights and checkpoints are refused by name, its products can be made again."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.noise import write_ombria

OLD_GENERATOR = {
    "pols": ["VV"], "bands": ["B11", "B8", "B3"], "db_range": [[-25.0, 0.0]], "reflectance_range": [0.0, 1.0],
    "form": "adaptive", "stem": 24, "width": 48, "down_kernel": 7, "attention_axis": "channel",
    "embed": [64, 96, 128], "depths": [2, 2, 2], "head_dim": 32, "window": 8, "decoder": [64, 48, 32],
    "features": 16, "waves": 512, "gate": 20, "dropout": 0.0,
}  # fmt: skip
"""The generator of a card as crgen 0.1 wrote it."""


@pytest.fixture
def old_weights(tiny_weights: Path, tmp_path: Path) -> Path:
    content = tiny_weights.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    card = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["crgen_card"])
    path = tmp_path / "old.safetensors"
    save_file(load_file(tiny_weights), path, metadata={"crgen_card": json.dumps({**card, "generator": OLD_GENERATOR})})
    return path


def test_old_weights_are_refused_by_the_version_that_knows_them(
    refused, crgen, fill, here, small_images, tmp_path, old_weights, monkeypatch
):
    data = tmp_path / "data"
    write_ombria(data, ("0001", "0342"))
    for words in (
        (*fill, "--weights", old_weights),
        ("models", "show", old_weights),
        ("evaluate", "--data", data, "--weights", old_weights),
    ):
        line = refused(5, *words)
        assert f"{old_weights}: made by crgen 0.1; " in line
        assert "use other weights" in line
    (tmp_path / "start.toml").write_text(f'start = "{old_weights}"\n')
    words = (
        "train",
        "--config",
        tmp_path / "start.toml",
        "--data",
        data,
        "--preset",
        "tiny",
        "--out",
        "new.safetensors",
    )
    assert "made by crgen 0.1; " in refused(5, *words)
    monkeypatch.setenv("CRGEN_WEIGHTS", str(tmp_path))
    listed = crgen("models")
    assert listed.code == 0
    (row,) = (line for line in listed.out.splitlines() if line.startswith("old "))
    assert "cannot be used" in row
    assert "made by crgen 0.1; " in row


def test_an_old_checkpoint_is_refused_by_the_version_that_knows_it(crgen, here, small_images, tmp_path):
    write_ombria(tmp_path / "data", ("0001", "0002", "0080"))
    identity = {"config": OLD_GENERATOR, "recipe": {}, "origin": "", "generator": "AdaptiveGenerator", "samples": 2}
    torch.save({"identity": identity, "step": 3}, here / "mine.checkpoint.pt")
    before = (here / "mine.checkpoint.pt").read_bytes()
    words = ("--preset", "tiny", "--batch", "2", "--crop", "32", "--steps", "3", "--out", "mine.safetensors")
    outcome = crgen("train", "--data", tmp_path / "data", *words)
    assert outcome.code == 8
    line = outcome.err.splitlines()[-1]
    assert line.startswith("error: checkpoint ")
    assert "mine.checkpoint.pt: made by crgen 0.1; " in line
    assert "give another file" in line
    assert (here / "mine.checkpoint.pt").read_bytes() == before
    assert not (here / "mine.safetensors").exists()


def as_of_0_1(path: Path, **model: Any) -> None:
    """Make a product's Item one that names no bands, as crgen 0.1 wrote it."""
    item = json.loads(path.read_text())
    properties = item["properties"]
    for unknown in ("bands", "s1_calibrated"):
        del properties["crgen:settings"][unknown]
    properties["processing:software"] |= {"crgen": "0.1.0", "scikit-learn": "1.9.1"}
    properties["crgen:model"] |= model
    path.write_text(json.dumps(item))


def test_an_old_product_is_made_again_with_its_own_bands(crgen, fill, here, tiny_weights):
    shutil.copy(tiny_weights, here)
    assert crgen(*fill, "--bands", "B11,B8,B3", "--out", "map.tif").code == 0
    as_of_0_1(here / "map.json")
    outcome = crgen("fill", "--manifest", "map.json", "--out", "again.tif")
    assert outcome.code == 0, outcome.err
    assert (here / "again.tif").read_bytes() == (here / "map.tif").read_bytes()


def test_an_old_product_of_other_weights_is_refused_in_one_line(crgen, refused, fill, here, tiny_weights):
    shutil.copy(tiny_weights, here)
    assert crgen(*fill, "--bands", "B11,B8,B3", "--out", "map.tif").code == 0
    as_of_0_1(here / "map.json", sha256="ab" * 32)
    line = refused(5, "fill", "--manifest", "map.json", "--out", "again.tif")
    assert "map.json was made by crgen 0.1.0 with weights '" in line
    assert "name others with --weights" in line
