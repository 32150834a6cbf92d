"""Run a generator over the windows of a chunk, and add the windows up.

A window's result depends on its place and its pixels alone: windows are computed in batches of one fixed size, the
last batch padded with copies, because a convolution's rounding may change with the batch size.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crgen.errors import RequestError
from crgen.model.weights import LoadedModel
from crgen.pipeline.windows import Box, Lattice

Array = NDArray[np.float32]
REFLECTANCE_SCALE = 10_000
MAX_DN = 65_535

BATCH = 4
"""Windows computed at once; part of what decides the last bit of a result."""


class Cancelled(Exception):  # noqa: N818
    """The run was told to stop; not an error of its own."""


def pick_device(name: str) -> str:
    """Return the device to compute on: ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        RequestError: if the device is unknown or this machine does not have it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, here in available.items() if here)
    if name not in available:
        raise RequestError(f"there is no device '{name}'; choose auto, {', '.join(available)}")
    if not available[name]:
        raise RequestError(f"this machine has no usable '{name}' device; use --device auto or cpu")
    return name


@dataclass(frozen=True)
class WindowInputs:
    """What the generator sees of a rectangle, NaN where missing; arrays are ``(channel, y, x)`` over ``box``."""

    box: Box
    s1_t1: Array
    s2_t1: Array
    s1_t2: Array
    s2_t2: Array
    """Reflectance at t2 where it was seen clear, NaN elsewhere."""
    wanted: NDArray[np.bool_]
    """Pixels that need a generated value, ``(y, x)``: windows without any are skipped."""


class Predictor:
    """A loaded model with the lattice its card asks for; shared by all threads, which take turns on the device.

    Args:
        model: the generator and its card.
        device: where the generator is.
        batch: windows computed at once; part of what decides the last bit of the result.
        on_windows: called with the number of windows just computed or found to need no work.
    """

    def __init__(
        self,
        model: LoadedModel,
        device: str,
        batch: int,
        on_windows: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.model, self.device, self.batch, self.on_windows = model, device, batch, on_windows
        self.lattice = Lattice(model.card.window)
        self.cancelled = threading.Event()
        self._turn = threading.Lock()

    def predict(self, inputs: WindowInputs, windows: list[tuple[int, int]]) -> tuple[NDArray[np.int64], int]:
        """Return the weighted sum of the windows' digital numbers over ``inputs.box``, and how many were computed.

        The sum is ``(band, y, x)``; where all windows of the lattice are added, dividing it by
        ``lattice.total · REFLECTANCE_SCALE`` gives reflectance.

        Raises:
            Cancelled: if :attr:`cancelled` was set.
        """
        side = self.lattice.window
        total = np.zeros((inputs.s2_t1.shape[0], *inputs.box.shape), np.int64)
        weights = self.lattice.weights
        places = [Box(r, r + side, c, c + side).slices(inputs.box) for r, c in windows]
        places = [place for place in places if inputs.wanted[place].any()]
        self.on_windows(len(windows) - len(places))
        for start in range(0, len(places), self.batch):
            some = places[start : start + self.batch]
            for place, dn in zip(some, self._forward(inputs, some), strict=False):
                total[..., *place] += dn * weights
            self.on_windows(len(some))
        return total, len(places)

    def _forward(self, inputs: WindowInputs, places: list[tuple[slice, slice]]) -> NDArray[np.int64]:
        padded = places + [places[-1]] * (self.batch - len(places))

        def stacked(array: Array) -> torch.Tensor:
            windows = torch.from_numpy(np.stack([array[..., *place] for place in padded]))
            return windows.to(self.device)

        with self._turn, torch.inference_mode():
            if self.cancelled.is_set():
                raise Cancelled
            made = self.model.generator(*map(stacked, (inputs.s1_t1, inputs.s2_t1, inputs.s1_t2, inputs.s2_t2)))
            dn = (made.reflectance.float() * REFLECTANCE_SCALE).round().clamp(1, MAX_DN)
            return np.asarray(dn.to(torch.int32).cpu().numpy(), np.int64)
