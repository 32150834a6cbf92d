"""A small U-Net that calls water at t2 from radar of both dates and S2 at t1: what any design has to beat.

    python -m benchmarks.floods.water_unet DATA OUT.pt [--steps N]

Trained on the flood events that the shipped weights are trained on, by binary cross-entropy and dice on the label of
water (:mod:`crgen.model.water`); makes no image. Some five minutes on one idle core.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.floods.regressions import View
from benchmarks.made import Made
from crgen.model.generator import present, standardise
from crgen.model.water import water_label
from crgen.training.augment import dihedral, tint
from crgen.training.data.ombria import BANDS, Ombria
from crgen.training.noise import happens


class Block(nn.Sequential):
    """Twice convolution, batch norm, ReLU."""

    def __init__(self, cin: int, cout: int) -> None:
        layers: list[nn.Module] = []
        for channels in (cin, cout):
            layers += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
        super().__init__(*layers)


class WaterUNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) of 0.9 M parameters with one output, the logit of water at t2."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 60, 92, 130)) -> None:
        super().__init__()
        self.enter = Block(4 + len(BANDS) + 1, widths[0])
        self.down = nn.ModuleList(Block(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, 2) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.join = nn.ModuleList(Block(2 * b, b) for b in widths[-2::-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor) -> Tensor:
        """Return logits, ``(batch, 1, y, x)``, of inputs in physical units with NaN where missing."""
        inputs = []
        for radar in (s1_t1, s1_t2):
            here = present(radar)
            inputs += [standardise(radar, here), here]
        here = present(s2_t1)
        x = self.enter(torch.cat([*inputs, torch.where(here > 0, s2_t1 * 4 - 0.6, 0.0), here], 1))
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        for up, join, skip in zip(self.up, self.join, reversed(skips), strict=True):
            x = join(torch.cat([up(x), skip], 1))
        return self.head(x)


def loss_of(logit: Tensor, label: Tensor) -> Tensor:
    """Return cross-entropy and dice over the pixels whose label is known."""
    known = torch.isfinite(label)
    logit, label = logit[known], label[known]
    p = logit.sigmoid()
    dice = 1 - (2 * (p * label).sum() + 1) / (p.sum() + label.sum() + 1)
    return F.binary_cross_entropy_with_logits(logit, label) + dice


def train(data: Path, out: Path, steps: int, crop: int = 128, batch: int = 8) -> None:
    """Train and keep the network."""
    patches = Ombria(data / "ombria", "not test", evenness=0.5)
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    network = WaterUNet()
    optimiser = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    start = time.perf_counter()
    for step in range(steps):
        picked = []
        for index in torch.multinomial(patches.weights, batch, replacement=True, generator=rng).tolist():
            sample = patches[index]
            y, x, turn = (int(torch.randint(n, (1,), generator=rng)) for n in (257 - crop, 257 - crop, 8))
            arrays = (sample.s1_t1, sample.s2_t1, sample.s1_t2, sample.target, sample.clear)
            cut = [torch.from_numpy(a[..., y : y + crop, x : x + crop].astype(np.float32)) for a in arrays]
            picked.append(dihedral(cut, turn))
        s1_t1, s2_t1, s1_t2, target, clear = (torch.stack(images) for images in zip(*picked, strict=True))
        label = water_label(target, BANDS, clear)
        (s2_t1,) = tint([s2_t1], torch.ones(batch, 1, 1, 1), rng)
        s2_t1 = torch.where(happens(batch, 0.1, rng), torch.nan, s2_t1)
        loss = loss_of(network(s1_t1, s2_t1, s1_t2), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"{step} loss {float(loss.detach()):.3f}, {time.perf_counter() - start:.0f} s", flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), out)


class WaterRow:
    """The trained network as a row."""

    def __init__(self, path: Path) -> None:
        self.network = WaterUNet()
        self.network.load_state_dict(torch.load(path, weights_only=True))
        self.network.eval()

    def __call__(self, view: View) -> Made:
        images = (torch.from_numpy(a)[None] for a in (view.s1_t1, view.s2_t1, view.s1_t2))
        with torch.inference_mode():
            p = self.network(*images).sigmoid()[0].numpy()
        return Made(None, np.concatenate([np.full_like(p, np.nan), p]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    train(given.data, given.out, given.steps)
