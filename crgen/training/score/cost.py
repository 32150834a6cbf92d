"""What a generator costs: parameters, operations, time."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crgen.model.build import build_generator
from crgen.model.config import GeneratorConfig
from crgen.model.device import fixed_windows
from crgen.model.generator import Generator


def parameters(module: nn.Module) -> int:
    """Return the number of trainable and other parameters."""
    return sum(p.numel() for p in module.parameters())


def operations(config: GeneratorConfig, side: int = 256) -> int:
    """Return the floating-point operations (2 × multiply-add) of one window whose t1 is clear.

    Convolutions, linear maps, matrix products and attention count; norms, activations and resampling do not, as usual.
    """
    generator = build_generator(config).eval()
    radar = torch.zeros(1, len(config.pols), side, side)
    optical = torch.zeros(1, len(config.bands), side, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        generator(radar, optical, radar, optical)
    return int(counter.get_total_flops())


def windows_per_second(generator: Generator, side: int = 256, batch: int = 4, seconds: float = 5.0) -> float:
    """Return how many windows the generator makes in a second, after a first batch; every other one saw part of t2."""
    device = next(generator.parameters()).device
    inputs = [windows[torch.arange(batch) % 2].to(device) for windows in fixed_windows(generator, side)]

    def run() -> float:
        with torch.inference_mode():
            return float(generator(*inputs).reflectance.mean())  # waits for the device

    run()
    start, windows = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds or not windows:
        run()
        windows += batch
    return windows / elapsed
