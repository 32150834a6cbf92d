"""What `base` is compared with, trained by crgen's own trainer on the same data: a plain U-Net, pix2pix, `paper`.

    python -m benchmarks.floods.networks unet|pix2pix|paper DATA OUT.pt [--steps N] [--crop PX]

The U-Net sees what `base` sees: radar of both dates, S2 at t1, S2 at t2 where seen, and which pixels are there. pix2pix
(Isola et al. 2017) is the same U-Net with dropout against a 70 × 70 patch discriminator and 100 × L1. `paper` is the
paper's generator for the same channels; L1 stands for the perceptual loss, whose weights are not ours to pass on, no
discriminator takes part, and no image is left out: instance norm of what is missing throughout has no finite gradient.
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crgen.model.build import build_generator
from crgen.model.config import preset
from crgen.model.generator import Generator, Prediction, present
from crgen.training import augment
from crgen.training.data.dataset import Mixture
from crgen.training.data.kinds import open_data, table_spec
from crgen.training.job import read_training_file
from crgen.training.recipe import RECIPES, Adversary, Optimiser, Recipe, changed
from crgen.training.train import Trainer

BASE = Path(__file__).parents[2] / "examples" / "train_base.toml"


class Block(nn.Sequential):
    """Twice convolution, batch norm, ReLU."""

    def __init__(self, cin: int, cout: int) -> None:
        layers: list[nn.Module] = []
        for channels in (cin, cout):
            layers += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
        super().__init__(*layers)


class UNet(Generator):
    """A U-Net (Ronneberger et al. 2015) of about the parameters of `base`."""

    def __init__(self, widths: tuple[int, ...] = (17, 34, 68, 136, 220), dropout: float = 0.0) -> None:
        super().__init__(preset("base"))
        p, b = len(self.config.pols), len(self.config.bands)
        self.enter = Block(2 * (p + 1) + 2 * (b + 1), widths[0])
        self.down = nn.ModuleList(Block(a, c) for a, c in pairwise(widths))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, c, 2, 2) for a, c in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.join = nn.ModuleList(Block(2 * c, c) for c in widths[-2::-1])
        self.dropout = nn.Dropout2d(dropout)
        self.head = nn.Conv2d(widths[0], b, 1)

    def generate(
        self, s1_t1: Tensor, s2_t1: Tensor, s1_t2: Tensor, s2_t2: Tensor, lent: Tensor | None = None
    ) -> Prediction:
        """See :meth:`Generator.forward`."""
        inputs = []
        for image, scale in (
            (s1_t1, self.scale_backscatter), (s1_t2, self.scale_backscatter),
            (s2_t1, self.scale_reflectance), (s2_t2, self.scale_reflectance),
        ):  # fmt: skip
            here = present(image)
            inputs += [torch.where(here > 0, scale(image), 0.0), here]
        x = self.enter(torch.cat(inputs, 1))
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(F.max_pool2d(x, 2))
        x = self.dropout(x)
        for up, join, skip in zip(self.up, self.join, reversed(skips), strict=True):
            x = join(torch.cat([up(x), skip], 1))
        return Prediction(self.to_reflectance(torch.tanh(self.head(x).float())))


class PatchDiscriminator(nn.Module):
    """One judgement for every 70 × 70 px patch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for cin, cout, stride in ((channels, 64, 2), (64, 128, 2), (128, 256, 2), (256, 512, 1)):
            layers += [nn.Conv2d(cin, cout, 4, stride, 1), nn.LeakyReLU(0.2)]
            if cin != channels:
                layers.insert(-1, nn.InstanceNorm2d(cout, affine=True))
        self.layers = nn.Sequential(*layers, nn.Conv2d(512, 1, 4, 1, 1))

    def forward(self, image: Tensor, condition: Tensor) -> list[Tensor]:
        """Return one map of scores."""
        return [self.layers(torch.cat([image, condition], 1))]


def recipe(name: str, steps: int, crop: int) -> Recipe:
    """Return how a network is trained: as `base`, but for what makes it what it is."""
    base = changed(
        RECIPES["base"], {"steps": steps, "crop": crop, "warmup": min(200, steps // 5), "precision": "bfloat16"}
    )
    if name == "paper":
        own = RECIPES["paper"]
        losses = {"l1": 1.0, **{term: weight for term, weight in own.losses.items() if term != "perceptual"}}
        return replace(base, losses=losses, flooded=1.0, optimiser=own.optimiser)
    losses = {k: v for k, v in base.losses.items() if k not in ("prior", "gaussian")}
    if name == "unet":
        return replace(base, losses=losses)
    adam = Optimiser("adam", 2e-4, (0.5, 0.999), 0.0)
    adversary = Adversary("least squares", weight=1.0, penalty=0.0, optimiser=adam)
    return replace(base, losses={"l1": 100.0}, flooded=1.0, optimiser=adam, clip=None, adversary=adversary)


def build(name: str) -> Generator:
    """Return an untrained network."""
    torch.manual_seed(0)
    if name == "paper":
        config = preset("base")
        return build_generator(preset("paper", pols=config.pols, bands=config.bands))
    return UNet(dropout=0.5 if name == "pix2pix" else 0.0)


def training_data(folder: Path, *, even: bool = True) -> Mixture:
    """Return the data `base` is trained on; not ``even``: without its favour for events of few patches."""
    config = preset("base")
    tables = read_training_file(BASE, {}).data
    if not even:
        tables = [{name: value for name, value in table.items() if name != "evenness"} for table in tables]
    specs = [table_spec({**table, "path": str(folder / Path(table["path"]).name)}) for table in tables]
    return Mixture([(open_data(spec, config.pols, config.bands), spec.weight) for spec in specs])


def train(name: str, folder: Path, out: Path, steps: int, crop: int) -> None:
    """Train a network and save its averaged weights."""
    generator, how = build(name), recipe(name, steps, crop)
    channels = 2 * len(generator.config.bands) + 2 * len(generator.config.pols)
    trainer = Trainer(
        generator,
        how,
        training_data(folder),
        discriminator=PatchDiscriminator(channels) if how.adversary else None,
        checkpoint=out.with_suffix(".checkpoint"),
    )

    def report(step: int, values: dict[str, float]) -> None:
        if step % 50 == 0:
            print(step, {k: round(v, 4) for k, v in values.items()}, flush=True)

    with mock.patch.object(augment, "drop_images", lambda images, rng: images) if name == "paper" else nullcontext():
        trained = trainer.run(report)
    torch.save(trained.state_dict(), out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("unet", "pix2pix", "paper"))
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--crop", type=int, default=192, help="side of the crops in pixels")
    given = parser.parse_args()
    train(given.name, given.data, given.out, given.steps, given.crop)
