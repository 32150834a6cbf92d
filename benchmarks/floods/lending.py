"""What windows lend each other: nothing of t2 is seen in a patch, 30 % of it in up to four patches of the same flood.

    python -m benchmarks.floods.lending DATA [--every N] [--split test] [--weights base]

DATA holds `ombria`. Prints PSNR / SSIM over the patch's clear pixels, alone and with what the others lend, with S2 at
t1 as it is and half of it under painted cloud, and over the flooded ones among them.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crgen.model.weights import load_model
from crgen.training.augment import cloud_opacity, paint_clouds
from crgen.training.data.ombria import Ombria
from crgen.training.metrics import psnr, ssim

NEIGHBOURS = (-2, -1, 1, 2)
SEEN, PAINTED = 0.3, 0.5
UNCALIBRATED = torch.zeros(1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="score every Nth patch")
    parser.add_argument("--split", default="test")
    parser.add_argument("--weights", default="base")
    given = parser.parse_args()
    generator = load_model(given.weights).generator
    config, core = generator.config, generator.core
    data = Ombria(given.data / "ombria", given.split, pols=config.pols, bands=config.bands)

    @lru_cache(64)
    def told(index: int) -> tuple[str, Tensor]:
        sample = data[index]
        rng = torch.Generator().manual_seed(index)
        cloud = cloud_opacity(torch.tensor([1 - SEEN]), *sample.clear.shape[-2:], rng)[0].numpy() > 0.5
        s2_t2 = np.where(sample.clear & ~cloud, sample.target, np.float32(np.nan))
        return sample.event, generator.evidence(
            *map(batched, (sample.s1_t1, sample.s2_t1, sample.s1_t2, s2_t2)), calibrated=UNCALIBRATED
        )

    scores: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for index in range(0, len(data), given.every):
        sample = data[index]
        others = [told(i) for i in (index + step for step in NEIGHBOURS) if 0 <= i < len(data)]
        lent = torch.stack([torch.zeros(1, generator.evidence_size), *(e for v, e in others if v == sample.event)]).sum(
            0
        )
        if sample.clear.mean() < 0.5 or not lent.any():
            continue
        s1_t1, s2_t1, s1_t2, clear = map(batched, (sample.s1_t1, sample.s2_t1, sample.s1_t2, sample.clear))
        truth = torch.nan_to_num(batched(sample.target))[:, core]
        painted, _ = paint_clouds(s2_t1, data.bands, torch.tensor([PAINTED]), torch.Generator().manual_seed(index))
        for sky, optical in (("as it is", s2_t1), ("half under cloud", painted)):
            for name, borrowed in (("alone", None), ("with what others lend", lent)):
                made = generator(s1_t1, optical, s1_t2, calibrated=UNCALIBRATED, lent=borrowed).reflectance.clamp(0, 1)[
                    :, core
                ]
                scores[sky, name].append((float(psnr(made, truth, clear)), float(ssim(made, truth, clear))))
                if sample.flooded is not None and (under := clear & batched(sample.flooded)).sum() >= 100:
                    flooded = float(psnr(made, truth, under)), float(ssim(made, truth, under))
                    scores[f"{sky}, flooded pixels", name].append(flooded)
        print(f"{index + 1}/{len(data)}", end="\r", flush=True)
    print("| S2 at t1 | window | patches | PSNR, dB | SSIM |\n|---|---|---|---|---|")
    for (sky, name), values in scores.items():
        mean = np.mean(values, 0)
        print(f"| {sky} | {name} | {len(values)} | {mean[0]:.2f} | {mean[1]:.3f} |")


def batched(array: np.ndarray) -> Tensor:
    """Return an array as a batch of one."""
    return torch.from_numpy(np.ascontiguousarray(array))[None]


if __name__ == "__main__":
    with torch.inference_mode():
        main()
