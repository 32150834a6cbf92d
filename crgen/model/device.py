"""The device to compute on, and its reduced precision, behind a measured drift.

Reduced precision is used only where the generator's result hardly moves.

Convolutions and matrix products are computed in bfloat16 or float16 where the hardware does so natively; norms, sums
over many pixels and the regression inside the scene stay in float32 (PyTorch's autocast, and the layers' own word).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crgen.errors import RequestError
from crgen.model.config import PrecisionName
from crgen.model.generator import Generator

REDUCED = {"bfloat16": torch.bfloat16, "float16": torch.float16}

MAX_DRIFT, RMS_DRIFT = 0.01, 0.001
"""Most that a reflectance may move: any pixel, and root mean square. Sentinel-2's own surface reflectance is right to
about 0.01. Preset ``base`` moves by 0.0032 and 0.00012 in bfloat16, and takes 0.9 of the time where a CPU has it."""


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


class Drift(NamedTuple):
    """How far reflectance moves from float32's, over a few fixed windows."""

    maximum: float
    rms: float

    @property
    def small(self) -> bool:
        """Whether it is within the bounds; not if any pixel is lost."""
        return self.maximum <= MAX_DRIFT and self.rms <= RMS_DRIFT

    def __str__(self) -> str:
        return f"{self.maximum:.2g} at most, {self.rms:.2g} root mean square"


class Precision(NamedTuple):
    """The precision to compute in, and what it was found to change (None for float32)."""

    name: PrecisionName
    drift: Drift | None = None


def pick_precision(asked: PrecisionName, generator: Generator, side: int) -> Precision:
    """Return the precision to run a generator in, where it is.

    Args:
        asked: ``auto`` takes the reduced precision of the hardware if its drift is small, else float32.
        generator: in evaluation mode.
        side: height and width of its windows.

    Raises:
        RequestError: if the precision that was asked for by name drifts too far.
    """
    if asked == "float32":
        return Precision("float32")
    name = native_precision(generator.db_low.device) if asked == "auto" else asked
    if name is None:
        return Precision("float32")
    drift = measure_drift(generator, name, side)
    if drift.small:
        return Precision(name, drift)
    if asked == "auto":
        return Precision("float32")
    raise RequestError(
        f"in {asked} these weights' reflectance drifts by {drift}; the bounds are {MAX_DRIFT} and {RMS_DRIFT}: use "
        "--precision float32"
    )


def native_precision(device: torch.device) -> Literal["bfloat16", "float16"] | None:
    """Return the reduced precision that a device computes faster than float32, None if there is none.

    bfloat16 before float16, whose range a large activation could leave.
    """
    if device.type == "cuda":
        generation, _ = torch.cuda.get_device_capability(device)
        return "bfloat16" if generation >= 8 else "float16" if generation == 7 else None
    if device.type == "cpu":
        flags = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return "bfloat16" if any(getattr(torch.cpu, flag, bool)() for flag in flags) else None
    return None


def computing_in(precision: str, device: str) -> AbstractContextManager[object]:
    """Return a context in which generators on a device compute in a precision."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=REDUCED[precision])


def measure_drift(generator: Generator, precision: str, side: int) -> Drift:
    """Return what a precision changes in the reflectance of :func:`fixed_windows`, to two digits.

    Computed by one thread, so that the number does not depend on how many there are.
    """
    device = generator.db_low.device
    windows = [tensor.to(device) for tensor in fixed_windows(generator, side)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            exact = generator(*windows).reflectance
            with computing_in(precision, device.type):
                reduced = generator(*windows).reflectance
        error = (reduced.double() - exact.double()).abs()
    finally:
        torch.set_num_threads(threads)
    return Drift(*(float(f"{float(e):.2g}") for e in (error.max(), error.square().mean().sqrt())))


def fixed_windows(generator: Generator, side: int) -> list[Tensor]:
    """Return the inputs of two windows, always the same: nothing seen of t2; a third of it seen, and t1 cloudy.

    Smooth fields and speckle, with the contrasts of land: radar around -12 dB, reflectance around 0.2.
    """
    rng = torch.Generator().manual_seed(0)
    config = generator.config

    def land(channels: int) -> Tensor:
        fields = (torch.randn(2, channels, side // step, side // step, generator=rng) for step in (32, 8, 1))
        return sum((F.interpolate(field, size=(side, side), mode="bilinear") for field in fields), torch.zeros(()))

    radar = [(-12 + 3 * land(len(config.pols))).clamp(-30, 5) for _ in range(2)]
    optical = [(0.2 + 0.07 * land(len(config.bands))).clamp(0, 1) for _ in range(2)]
    ground = land(1)
    optical[0][1] = torch.where(ground[0] > 2, optical[0][1] + 0.5, optical[0][1])
    optical[1][0] = torch.nan
    optical[1][1] = torch.where(ground[1] > 0.8, optical[1][1], torch.nan)
    return [radar[0], optical[0], radar[1], optical[1]]
