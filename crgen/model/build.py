"""An untrained generator from its configuration."""

from __future__ import annotations

import torch

from crgen.model.adaptive.network import AdaptiveGenerator
from crgen.model.config import GeneratorConfig
from crgen.model.generator import Generator
from crgen.model.paper.network import PaperGenerator


def build_generator(config: GeneratorConfig, seed: int | None = None) -> Generator:
    """Return an untrained generator of ``config.form``, its weights drawn from ``seed`` if given."""
    form = PaperGenerator if config.form == "paper" else AdaptiveGenerator
    if seed is None:
        return form(config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return form(config)
