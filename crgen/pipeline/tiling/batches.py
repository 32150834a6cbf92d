"""Computing many windows in batches of one fixed size, on a device or on the cores of a CPU.

A convolution's rounding may change with the batch size, so the last batch is padded with copies. PyTorch's threads
share the sums of one batch, so its last bit depends on their number; a batch computed by one thread does not depend on
how many others there are. So on a CPU each core computes a batch of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch

from crgen.model.device import computing_in


def batch_on(device: str, side: int) -> int:
    """Return how many windows of ``side`` a device computes at once; part of what decides the last bit of a result.

    On a CPU one of 256 px: more would not stay in a core's cache. Small ones are not worth the calls of one.
    """
    return max(1, min(4, 256**2 // side**2)) if device == "cpu" else 16


def in_batches(
    count: int, batch: int, device: str, precision: str, compute: Callable[[list[int]], torch.Tensor]
) -> Iterator[tuple[range, torch.Tensor]]:
    """Yield batches of windows in order, by their places in a list of ``count``, with what is computed of them.

    Args:
        count: how many windows there are.
        batch: how many are computed at once.
        device: where.
        precision: what to compute in, see :mod:`crgen.model.device`.
        compute: called with the places of a batch, the last one padded with copies of its last.
    """

    def compute_padded(some: range) -> torch.Tensor:
        with torch.inference_mode(), computing_in(precision, device):
            return compute([*some] + [some[-1]] * (batch - len(some)))

    def compute_alone(some: range) -> torch.Tensor:
        torch.set_num_threads(1)
        return compute_padded(some)

    batches = [range(i, min(i + batch, count)) for i in range(0, count, batch)]
    if device != "cpu":
        for some in batches:
            yield some, compute_padded(some)
        return
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(cores) as lanes:
            ahead: deque[tuple[range, Future[torch.Tensor]]] = deque()
            waiting = iter(batches)
            while True:
                ahead.extend(
                    (some, lanes.submit(compute_alone, some)) for some in islice(waiting, cores + 1 - len(ahead))
                )
                if not ahead:
                    return
                some, future = ahead.popleft()
                yield some, future.result()
    finally:
        torch.set_num_threads(cores)
