"""FID is the distance of two Gaussians, and needs its own network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor, nn

from crgen.errors import RequestError
from crgen.training.data.dataset import Sample
from crgen.training.score.evaluate import Condition, Inputs
from crgen.training.score.fid import Fid, distance
from tests.training.patches import Patches


class Features(nn.Module):
    """Takes and gives what the Inception network does: the means of a few places stand for features."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(x.float(), 2).flatten(1)


def write_network(folder: Path) -> Path:
    path = folder / "network.pt"
    torch.jit.script(Features()).save(str(path))
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("fid"))


def test_the_distance_is_that_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((300, 8)) @ rng.standard_normal((8, 8))
    b = rng.standard_normal((200, 8)) @ rng.standard_normal((8, 8)) + 0.5
    left, right = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(left @ right).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(left + right - 2 * root)
    assert distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert distance(a, a) == pytest.approx(0, abs=1e-6)
    few = rng.standard_normal((5, 50))
    assert distance(few, few) == pytest.approx(0, abs=1e-4), "fewer images than features"
    assert np.isnan(distance(a[:1], b))


def test_pixels_that_do_not_count_do_not_matter(network: Path) -> None:
    data, fid = Patches(), Fid(network, ("B11", "B8", "B3"))
    plain = Condition("plain")
    for index in range(4):
        sample: Sample = data[index]
        truth, mask = torch.from_numpy(sample.target)[None], torch.from_numpy(sample.clear)[None]
        images = {"truth": torch.where(mask, truth, 9.0), "darker": truth * 0.8}
        fid.add(plain, sample, Inputs(truth, truth, truth, truth), images, mask)
    scores = fid.scores()
    assert scores["plain", "truth"] == pytest.approx(0, abs=1e-3)
    assert scores["plain", "darker"] > 10


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("404: Not Found")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "state.pt")
    torch.jit.script(nn.Conv2d(4, 1, 1)).save(str(tmp_path / "other.pt"))
    for name in ("missing.pt", "text.pt", "state.pt", "other.pt"):
        with pytest.raises(RequestError, match=r"FID needs the Inception network .* leave FID out") as caught:
            Fid(tmp_path / name, ("B4", "B3", "B2"))
        assert "\n" not in str(caught.value)
