"""Two processes on this machine train one network, as torchrun starts them: by environment variables, over gloo."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from crgen.errors import TrainingError
from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator
from crgen.training.discriminator import build_discriminator
from crgen.training.processes import Processes, join_processes, leaving_processes
from crgen.training.recipe import Adversary, Recipe
from crgen.training.train import Trainer
from tests.training.patches import Patches

ADVERSARY = Adversary(pair="paper", widths=(4, 8, 8))
RECIPE = Recipe(steps=4, batch=4, crop=32, warmup=0, adversary=ADVERSARY)


def train(rank: int, port: int, folder: Path, last: int, spoilt: tuple[int, ...]) -> None:
    """One of two processes: leaves its networks, or its error."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(1)
    with leaving_processes():
        train_together(rank, folder, last, spoilt)
    assert not dist.is_initialized()


def train_together(rank: int, folder: Path, last: int, spoilt: tuple[int, ...]) -> None:
    processes, device = join_processes("cpu")
    generator = build_generator(preset("tiny"), rank)  # unlike at first: those of the first process count
    trainer = Trainer(
        generator, RECIPE, Patches(spoilt=spoilt if rank else ()), processes=processes, device=device,
        discriminator=build_discriminator(generator, ADVERSARY, rank), checkpoint=folder / "run.pt", checkpoint_every=2,
    )  # fmt: skip
    first = trainer.step

    def stop(step: int, values: dict[str, float]) -> None:
        if step == last:
            os._exit(0)

    try:
        trainer.run(stop)
    except TrainingError as error:
        (folder / f"error{rank}").write_text(str(error))
    torch.save((first, trainer.generator.state_dict()), folder / f"rank{rank}.pt")


def score_for_long(rank: int, port: int, limit: float) -> None:
    """One of two processes whose first scores for longer than the others wait for it within a step."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=limit))

    def scores(generator: Generator) -> dict[str, float]:
        if trainer.step == 1:
            time.sleep(1.5 * limit)
        return {"PSNR": 20.0}

    with leaving_processes():
        processes, _ = join_processes("cpu")
        recipe = Recipe(steps=2, batch=4, crop=32, warmup=0, validate_every=1)
        generator = build_generator(preset("tiny"), 0)
        trainer = Trainer(generator, recipe, Patches(), processes=processes, validate=scores)
        trainer.run()


def together(folder: Path, last: int = 0, spoilt: tuple[int, ...] = ()) -> None:
    folder.mkdir(exist_ok=True)
    two(train, folder, last, spoilt)


def two(target: Callable[..., None], *args: object) -> None:
    """Run two processes, which must end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    pair = [fork.Process(target=target, args=(rank, port, *args)) for rank in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
        assert process.exitcode == 0


def test_both_processes_hold_the_same_network_and_resume_alike(tmp_path: Path) -> None:
    together(tmp_path / "whole")
    (_, left), (_, right) = (torch.load(tmp_path / f"whole/rank{rank}.pt") for rank in (0, 1))
    assert all(torch.equal(left[name], right[name]) for name in left)
    together(tmp_path / "parts", last=2)
    together(tmp_path / "parts")
    resumed_at, resumed = torch.load(tmp_path / "parts/rank1.pt")
    assert resumed_at == 2
    assert all(torch.equal(left[name], resumed[name]) for name in left)


def test_a_loss_that_is_not_a_number_in_one_stops_both(tmp_path: Path) -> None:
    together(tmp_path, spoilt=tuple(range(6)))
    for rank in (0, 1):
        assert "not a number at step 0" in (tmp_path / f"error{rank}").read_text()


def test_the_first_process_may_score_for_longer_than_a_step_may_take() -> None:
    two(score_for_long, 5.0)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(TrainingError, match="a batch of 3 cannot be shared by 2 processes"):
        Trainer(
            build_generator(preset("tiny"), 0), Recipe(steps=1, batch=3, crop=32), Patches(), processes=Processes(0, 2)
        )


def test_one_small_crop_a_process_is_too_little_for_batch_norms() -> None:
    recipe = Recipe(steps=1, batch=2, crop=32)
    with pytest.raises(TrainingError, match="one crop of 32 pixels a process is too little"):
        Trainer(build_generator(preset("tiny"), 0), recipe, Patches(), processes=Processes(0, 2))
    Trainer(build_generator(preset("tiny"), 0), recipe, Patches())


def test_one_process_is_alone_unless_started_by_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    processes, device = join_processes("cpu")
    assert (processes, device, processes.first) == (Processes(0, 1), "cpu", True)


def test_gradients_of_all_layers_are_averaged_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message has its delay; the other process's gradients are all 3 here."""
    messages: list[int] = []

    def all_reduce(flat: torch.Tensor) -> None:
        messages.append(flat.numel())
        flat += 3

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(4, 5), torch.nn.Linear(7, 1))
    network.to(memory_format=torch.channels_last)
    for parameter in network[:2].parameters():
        parameter.grad = torch.randn_like(parameter)
    expected = [(p.grad + 3) / 2 for p in network[:2].parameters()]
    Processes(0, 2).average_gradients(network)
    assert messages == [2 * 3 * 9 + 3 + 4 * 5 + 5]
    for parameter, mean in zip(network[:2].parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, mean)
    assert network[2].weight.grad is None
    Processes(0, 2).average([])
    Processes().average_gradients(network)
    assert len(messages) == 1, "nothing to tell, nobody to tell it"
