"""Score whether a place's dry past takes a flood off the map.

    python -m benchmarks.floods.past DATA OUT [--weights base] [--every N]

The patches of `python -m benchmarks.floods`, nothing of t2 seen, each with a past of three dry dates made of t1: other
light (a gain of each band), noise, clouds over a third, radar with other speckle. Each is mapped with it as
`crgen fill` would, and without. OUT takes `floods_past.md`: water as in that command's tables, and PSNR over clear
pixels. Aimed at: F1 of water and false new water within .01 of what they are without.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from benchmarks.ordinary.past import map_of
from benchmarks.water import Counts, count, of_image, scored_patches, water_table
from crgen.model.generator import Generator, Prediction
from crgen.model.looks import Look
from crgen.model.weights import load_model
from crgen.training.augment import jitter_backscatter, paint_clouds
from crgen.training.data.channels import arranged
from crgen.training.data.dataset import Sample
from crgen.training.data.ombria import Ombria
from crgen.training.metrics import psnr

T2, APART = 712, 12
"""Day of t2, counted from anywhere, and days between the dates."""
DATES = 3
CLOUDED, GAIN, NOISE = 0.3, 0.15, 0.01
"""Share of a dry date under cloud, deviation of the logarithm of a band's gain, and of the reflectance of a pixel."""
Rows = dict[str, dict[str, list[Counts]]]


def looks_of(sample: Sample, data: Ombria, generator: Generator, seed: int) -> tuple[list[Look], Look]:
    """Return t1 and the dates made of it, and t2."""
    rng = torch.Generator().manual_seed(seed)
    ground, radar = (torch.from_numpy(image)[None] for image in (sample.s2_t1, sample.s1_t1))
    assert sample.clear_t1 is not None
    clear = torch.from_numpy(sample.clear_t1)[None]

    def look(day: int, s1: torch.Tensor, s2: torch.Tensor, seen: torch.Tensor) -> Look:
        config = generator.config
        bands, pols = arranged(s2[0].numpy(), data.bands, config.bands), arranged(s1[0].numpy(), data.pols, config.pols)
        return Look(day, torch.from_numpy(pols)[None], torch.from_numpy(bands)[None], seen)

    looks = [look(T2 - APART, radar, ground, clear)]
    for step in range(2, DATES + 2):
        light = (GAIN * torch.randn((1, len(data.bands), 1, 1), generator=rng)).exp()
        made = ground * light + NOISE * torch.randn(ground.shape, generator=rng)
        painted, opacity = paint_clouds(made.clamp(0, 1), data.bands, torch.tensor([CLOUDED]), rng)
        again = jitter_backscatter(radar, rng)
        looks.append(look(T2 - step * APART, again, painted, clear & (opacity < 0.1)))
    then = look(T2, torch.from_numpy(sample.s1_t2)[None], torch.from_numpy(sample.target)[None], clear)
    return looks, then


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="base")
    parser.add_argument("--every", type=int, default=1, help="score every Nth patch")
    given = parser.parse_args()
    data, generator = Ombria(given.data / "ombria", "test"), load_model(given.weights).generator
    water: Rows = defaultdict(lambda: defaultdict(list))
    decibels: dict[str, list[float]] = defaultdict(list)
    for index, sample, truth in scored_patches(data, given.every):
        looks, then = looks_of(sample, data, generator, index)
        for name, held in (("without a past", looks[:1]), ("with a dry past", looks)):
            made: Prediction = map_of(generator, held, looks[0], then, calibrated=False)[0]
            assert made.water is not None
            image = arranged(made.reflectance[0].numpy(), generator.config.bands, data.bands)
            water[f"{name}, its image"][sample.event].append(count(of_image(image, data.bands), truth))
            water[f"{name}, p ≥ .5"][sample.event].append(count(made.water[0, 1].numpy() >= 0.5, truth))
            target, mask = (torch.from_numpy(np.nan_to_num(array))[None] for array in (sample.target, sample.clear))
            decibels[name].append(float(psnr(torch.from_numpy(image)[None], target, mask)))
    scores = "; ".join(f"{name} {np.mean(some):.2f} dB" for name, some in decibels.items())
    text = f"{water_table(water)}\n\nAll clear pixels of {len(decibels[name])} patches: {scores}."
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "floods_past.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
