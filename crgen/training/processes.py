"""Several processes that train one network, as `torchrun` starts them: each its share of a batch, one average gradient.

Gradients are averaged by hand, not by wrapping the network: a gradient penalty differentiates twice, parameters may
rest for some steps, and any module trains as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

ALONE = timedelta(days=1)
"""How long the first process may work alone, as while it scores; the others' usual limit is 10 to 30 minutes."""


@dataclass(frozen=True)
class Processes:
    """This process among its fellows; alone by default."""

    rank: int = 0
    count: int = 1
    waiting: dist.ProcessGroup | None = None
    """All of them, joined over gloo, to wait in for up to :data:`ALONE`; the networks' own group may be of NCCL."""

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes."""
        held = list(tensors)
        if self.count > 1 and held:
            flat = torch.cat([tensor.reshape(-1) for tensor in held])  # one message: each has its delay
            dist.all_reduce(flat)
            flat /= self.count
            for tensor, mean in zip(held, torch.split(flat, [t.numel() for t in held]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module's parameters."""
        self.average(p.grad for p in module.parameters() if p.grad is not None)

    def align(self, module: nn.Module) -> None:
        """Give all processes the first one's parameters and buffers."""
        if self.count > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.detach(), 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier(self.waiting)

    def all(self, good: bool, device: torch.device) -> bool:
        """Return whether all processes say so."""
        if self.count == 1:
            return good
        flag = torch.tensor(float(good), device=device)
        dist.all_reduce(flag, dist.ReduceOp.MIN)
        return bool(flag > 0)


@contextmanager
def leaving_processes() -> Iterator[None]:
    """Leave, at the end, the processes that :func:`join_processes` joined inside.

    Threads that still listened to the others when the interpreter ends could abort it. After an error NCCL is not left:
    it would wait for the others, who wait for this process; `torchrun` ends them.
    """
    try:
        yield
    except BaseException:
        if dist.is_available() and dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()
        raise
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def join_processes(device: str) -> tuple[Processes, str]:
    """Join the processes that `torchrun` started, if it did; return this one's place and its device.

    To be called inside :func:`leaving_processes`.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Processes(), device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        device = f"cuda:{local % torch.cuda.device_count()}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    waiting = dist.new_group(backend="gloo", timeout=ALONE)
    return Processes(dist.get_rank(), count, waiting), device
