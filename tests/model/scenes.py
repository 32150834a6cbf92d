"""Scenes for generators, and generators whose every path carries something."""

from typing import NamedTuple

import torch
from torch import Tensor

from crgen.model.config import GeneratorConfig
from crgen.model.generator import Generator, build_generator

BANDS12 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")


class Inputs(NamedTuple):
    s1_t1: Tensor
    s2_t1: Tensor
    s1_t2: Tensor
    s2_t2: Tensor


def inputs(config: GeneratorConfig, height: int = 32, width: int = 32, n: int = 1, seed: int = 0) -> Inputs:
    """A scene within all ranges, so that nothing is clipped; a part of t2 is seen."""
    rng = torch.Generator().manual_seed(seed)
    radar = [-18 + 10 * torch.rand(n, len(config.pols), height, width, generator=rng) for _ in range(2)]
    optical = [0.1 + 0.4 * torch.rand(n, len(config.bands), height, width, generator=rng) for _ in range(2)]
    optical[1][..., height // 2 :, :] = torch.nan
    return Inputs(radar[0], optical[0], radar[1], optical[1])


def trained(config: GeneratorConfig) -> Generator:
    """A generator whose every path carries something, as after training: no gamma of zero, no open gate."""
    torch.manual_seed(0)
    generator = build_generator(config).eval().requires_grad_(False)
    generator.get_parameter("fusion.gamma").fill_(0.5)
    if config.form == "gated":
        generator.get_parameter("gate.bias").zero_()
    return generator
