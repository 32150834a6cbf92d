"""crgen evaluate on a data set: tables, file and pictures, and what it refuses."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crgen.errors import CrgenError, OutputError, RequestError, TrainingError
from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator
from crgen.training.data.dataset import Sample
from crgen.training.score.evaluate import Condition
from crgen.training.score.scoring import Scoring
from tests.training.patches import Patches

PLAIN = (Condition("as it is"), Condition("half seen", seen=0.5))


@pytest.fixture(autouse=True, scope="module")
def quick() -> object:
    """The speed is measured for a moment only."""
    patch = pytest.MonkeyPatch()
    patch.setattr("crgen.training.score.scoring.windows_per_second", lambda generator: 12.34)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def generator() -> Generator:
    return build_generator(preset("tiny"), 0).eval()


def test_a_folder_of_tables_and_pictures(generator: Generator, tmp_path: Path) -> None:
    seen: list[int] = []
    scoring = Scoring(Patches(count=3), PLAIN, fid=None, out=tmp_path / "scores")
    text = scoring.run(generator, lambda done, total: seen.append(done))
    assert seen == [1, 2, 3]
    assert text.splitlines()[0].startswith("| condition |")
    cost = r"\d\.\d\d M parameters, \d\.\d\d GFLOPs \(2 × multiply-add\) and 12\.3 windows/s at 256 × 256 px on cpu"
    assert re.fullmatch(cost, text.splitlines()[-1])
    folder = tmp_path / "scores"
    assert sorted(p.name for p in folder.iterdir()) == ["samples.png", "scores.csv", "scores.md"]
    assert (folder / "scores.md").read_text() == text + "\n"
    rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"copy S2_t1", "generator"}
    with Image.open(folder / "samples.png") as image:
        assert image.size == (6 * 68, 6 * 82), "three samples under two conditions"
        shown = np.asarray(image)
    unseen, half = (shown[top + 14 : top + 78, 3 * 68 : 3 * 68 + 64] for top in (0, 82))
    missing = np.array((90, 90, 110))
    assert (unseen == missing).all()
    assert 0.3 < (half == missing).all(-1).mean() < 0.7


def test_fid_stands_beside_the_scores(generator: Generator, tmp_path: Path) -> None:
    class Features(torch.nn.Module):
        def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(x.float(), 2).flatten(1)

    torch.jit.script(Features()).save(str(tmp_path / "network.pt"))
    text = Scoring(Patches(count=3), PLAIN, fid=tmp_path / "network.pt", out=None).run(generator, lambda *_: None)
    head, _, *rows = text.split("\n\n")[0].splitlines()
    assert head.endswith("| FID |")
    assert all(float(row.split("|")[-2]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        (
            {"conditions": (Condition("all seen", seen=1.0),)},
            RequestError,
            "'all seen': a share must be",
        ),
        ({"conditions": (Condition("x", painted=-0.1),)}, RequestError, "a share"),
        ({"fid": Path("missing.pt")}, RequestError, "FID needs the Inception network"),
        ({"out": Path("/dev/null/scores")}, OutputError, "cannot write"),
    ],
)
def test_what_cannot_be_scored(options: dict, error: type[CrgenError], problem: str) -> None:
    with pytest.raises(error, match=problem):
        Scoring(Patches(), **{"conditions": PLAIN, "fid": None, "out": None, **options})


def test_data_without_a_clear_target_are_refused(generator: Generator) -> None:
    class Overcast(Patches):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return sample._replace(clear=sample.clear & False)

    with pytest.raises(TrainingError, match="none of 6 samples can be scored: 6 have less than half"):
        Scoring(Overcast(), PLAIN, fid=None, out=None).run(generator, lambda *_: None)
