"""Checkpoints, weights, logs and pictures appear whole or not at all, also when an interrupt comes while they are
written."""

from pathlib import Path

import pytest
import torch

from crgen.files import replacing
from crgen.training.checkpoint import write_checkpoint


class Interrupted:
    """What asks to stop while it is saved, as Ctrl-C does."""

    def __reduce__(self) -> str:
        raise KeyboardInterrupt


def test_an_interrupt_while_a_checkpoint_is_written_leaves_the_last_one_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.checkpoint.pt"
    write_checkpoint(path, {"seed": 0}, {"step": 1})
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {"seed": 0}, {"weights": torch.zeros(1000), "step": Interrupted()})
    assert [p.name for p in tmp_path.iterdir()] == ["mine.checkpoint.pt"]
    assert torch.load(path, weights_only=True) == {"identity": {"seed": 0}, "step": 1}


def test_what_is_written_whole_replaces_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("before")
    with replacing(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"train.csv": "after"}


def test_what_stopped_the_writing_is_raised_also_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "train.csv"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
