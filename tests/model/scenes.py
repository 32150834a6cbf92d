"""Scenes for generators, and generators whose every path carries something."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from crgen.model.build import build_generator
from crgen.model.config import GeneratorConfig, preset
from crgen.model.generator import Generator

BANDS12 = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")

TINY_PAPER = replace(
    preset("tiny"),
    form="paper",
    stem=4,
    width=8,
    down_kernel=3,
    embed=(16, 24, 32, 48),
    head_dim=8,
    depths=(1, 1, 1, 1),
    decoder=(32, 24, 16, 16),
)
"""The paper's form at the size of preset tiny."""


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
    """A generator whose every path carries something, as after training: nothing starts from zero."""
    torch.manual_seed(0)
    generator = build_generator(config).eval().requires_grad_(False)
    generator.get_parameter("fusion.gamma").fill_(0.5)
    if config.form == "adaptive":
        torch.nn.init.normal_(generator.get_parameter("light.weight"), std=0.1)
        norms = [m for m in generator.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.train().momentum = 1.0
        generator(*inputs(config, 64, 64, n=2))
        for norm in norms:
            norm.eval()
    return generator


def lean(generator: Generator, head: str, channel: int, to: float = 200.0) -> None:
    """Have one output channel of a head say the same everywhere, whatever it sees."""
    generator.get_parameter(f"{head}.weight")[channel] = 0
    generator.get_parameter(f"{head}.bias")[channel] = to
