"""Patches without all their files: `crgen train` and `crgen evaluate` name them, skip them and count them."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from crgen.model.config import preset
from tests.cli.conftest import Crgen

PLACES = {"s1_t1": 2, "s2_t1": 10, "s1_t2": 2, "target": 10}
BANDS = "+".join(preset("tiny").bands)
NAMES = ("a", "b", "c", "d")


@pytest.fixture
def patches(tmp_path: Path) -> Path:
    """Four patches of noise: ``b`` has no radar of t2, the target of ``d`` is no image."""
    rng = np.random.default_rng(0)
    for place, channels in PLACES.items():
        (tmp_path / place).mkdir()
        for name in NAMES:
            profile = {"driver": "GTiff", "count": channels, "height": 64, "width": 64, "dtype": "float32"}
            with rasterio.open(tmp_path / place / f"{name}.tif", "w", **profile) as file:
                file.write(rng.uniform(0, 1, (channels, 64, 64)).astype(np.float32))
    (tmp_path / "s1_t2/b.tif").unlink()
    (tmp_path / "target/d.tif").write_text("404: Not Found")
    return tmp_path


def flag(folder: Path) -> str:
    places = ",".join(f"{place}={place}" for place in PLACES)
    return f"patches:{folder},{places},file_pols=VV+VH,file_bands={BANDS},s1_scale=25+-25,s2_scale=1+0"


def notes(err: str) -> list[str]:
    return [line.removeprefix("note: ") for line in err.splitlines() if line.startswith("note: ")]


def test_evaluate(crgen: Crgen, here: Path, patches: Path, tiny_weights: Path) -> None:
    outcome = crgen("evaluate", "--data", flag(patches), "--weights", tiny_weights, "--out", "scores")
    assert outcome.code == 0, outcome.err
    missing = f"{patches}: 'b' has no s1_t2"
    assert notes(outcome.err) == [f"skipped: {missing}", "skipped as missing or damaged: 2"]
    line = next(line for line in outcome.out.splitlines() if line.startswith("Skipped as missing or damaged: 2 ("))
    assert missing in line
    assert "patch 'd': target cannot be read" in line
    assert line in (here / "scores/scores.md").read_text()


def test_an_evaluation_of_damaged_patches_alone_counts_the_missing_ones_too(
    crgen: Crgen, here: Path, patches: Path, tiny_weights: Path
) -> None:
    (patches / "names.txt").write_text("b\nd\n")
    outcome = crgen("evaluate", "--data", f"{flag(patches)},only={patches}/names.txt", "--weights", tiny_weights)
    assert outcome.code == 8
    assert "none of 2 samples can be scored" in outcome.err
    assert "2 are missing or damaged" in outcome.err


def test_data_to_train_on_and_data_to_validate_on(crgen: Crgen, here: Path, patches: Path) -> None:
    """``b`` is missing from both, and ``e`` from the list of names to validate on."""
    (patches / "names.txt").write_text("a\nb\nd\ne\n")
    places = "\n".join(f'{place} = "{place}"' for place in PLACES)
    table = f'''kind = "patches"
path = "{patches}"
{places}
file_pols = ["VV", "VH"]
file_bands = "{BANDS}"
s1_scale = [25, -25]
s2_scale = [1, 0]
'''
    (here / "run.toml").write_text(f"[[data]]\n{table}\n[[validation]]\n{table}only = '{patches}/names.txt'\n")
    words = ("--preset", "tiny", "--batch", "2", "--crop", "32", "--steps", "4", "--out", "mine.safetensors")
    outcome = crgen("train", "--config", "run.toml", *words)
    assert outcome.code == 0, outcome.err
    first, second, damaged, count = notes(outcome.err)
    assert first == f"skipped: {patches}: 'b' has no s1_t2"
    assert second == f"skipped: {patches}: 'e' has no s1_t1, s2_t1, s1_t2, target"
    assert damaged.startswith("skipped: patch 'd': target cannot be read")
    assert count == "skipped as missing or damaged: 3"
    assert "Skipped as missing or damaged: 3 (" in outcome.out, "of the validation data: b, d and e"
