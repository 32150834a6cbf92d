"""Shared fixtures: small untrained weights, so that tests of the path do not wait for a trained network.

One thread a process, also in those that tests start: networks this small gain nothing by a second one, and two tests
run at once.
"""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch when it is loaded, and by processes

import torch
from hypothesis import settings

from crgen.model.build import build_generator
from crgen.model.card import ModelCard
from crgen.model.config import preset
from crgen.model.weights import save_weights

pytest_plugins = ["tests.earthengine.fixtures"]

torch.set_num_threads(1)
settings.register_profile("crgen", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("crgen")


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of preset ``tiny`` with windows of 64 px; untrained, so only good for testing what is around them."""
    return write_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors", seed=0)


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with other numbers."""
    return write_tiny(tmp_path_factory.mktemp("weights") / "other.safetensors", seed=1)


@pytest.fixture
def drawn_lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that ask of their products neither picture nor page, which are half of the work of a small one."""
    from tests.light import draw_lightly

    draw_lightly(monkeypatch.setattr)


def write_tiny(path: Path, seed: int) -> Path:
    config = preset("tiny")
    card = ModelCard(
        name="tiny",
        preset="tiny",
        generator=config.to_dict(),
        window=64,
        resolution=10.0,
        trained_on="nothing",
        radiometry="none",
        training={},
        held_out={},
        limits=["untrained"],
        licence="Apache-2.0",
    )
    save_weights(path, build_generator(config, seed), card)
    return path
