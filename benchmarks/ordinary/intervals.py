"""Score intervals of reflectance on ordinary ground, where nothing is flooded.

    python -m benchmarks.ordinary.intervals DATA OUT [--weights NAME_OR_PATH]

The targets of `benchmarks.ordinary`, nothing of t2 seen and nothing of the place's past: which share of the pixels that
are clear at both dates lies within the 90 % interval that the weights' card gives, as mean over bands and targets, with
t1 as it is and under cloud. OUT takes `intervals.md`. "Days held out" are those of which no image was trained on.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.common import markdown
from benchmarks.made import Array, Channels, Made, generate
from benchmarks.ordinary.pairs import nearest_pairs
from crgen.model.card import ErrorWidths
from crgen.model.weights import load_model
from crgen.pipeline.tiling.hidden import Hidden, widths
from crgen.training.augment import paint_clouds
from crgen.training.data.series import BANDS, GROUND, POLS, held_out, series

CLEAR, CLOUDED = "t1 as it is", "100 % cloud on t1"


class Target(NamedTuple):
    """How much of one target the intervals hold."""

    place: str
    condition: str
    apart: bool
    """Whether its day was held out of training."""
    held: float


def held_share(made: Made, truth: Array, where: np.ndarray, known: ErrorWidths) -> float:
    """Return which share of the pixels ``where`` lies within their intervals, as mean over the bands that are made."""
    assert made.reflectance is not None
    assert made.deviation is not None
    assert made.hidden is not None
    own = [at for at in range(len(BANDS)) if np.isfinite(made.reflectance[at]).any() and np.isfinite(truth[at]).any()]
    times = widths([Hidden(len(own))], [BANDS[at] for at in own], known)
    half = made.deviation[own] * known.hidden**made.hidden * times[:, None, None]
    return float((np.abs(made.reflectance - truth)[own] <= half)[:, where].mean())


def targets(root: Path, weights: str) -> Iterator[Target]:
    """Yield every target of every place under either condition."""
    model = load_model(weights)
    known = model.card.error or ErrorWidths(bands={}, blocks=1)
    for place in GROUND:
        dates = series(place, root)
        for a, b in nearest_pairs(dates):
            first, then = dates[a], dates[b]
            rng = torch.Generator().manual_seed(b)
            cloud = paint_clouds(torch.from_numpy(first.s2)[None], BANDS, torch.tensor([1.0]), rng)[0][0].numpy()
            where = first.clear & then.clear & np.isfinite(then.s2[BANDS.index("B11")])
            for condition, s2 in ((CLEAR, first.s2), (CLOUDED, cloud)):
                images = (first.s1, s2, then.s1, np.full_like(s2, np.nan))
                made = generate(model.generator, images, Channels(POLS, BANDS), calibrated=True)
                share = held_share(made, then.s2, where, known)
                yield Target(place, condition, held_out(place, then), share)


def table(found: list[Target]) -> str:
    """Return the shares by place and condition, with what 95 % of bootstraps over targets hold."""
    cells: dict[tuple[str, str], list[Target]] = defaultdict(list)
    for one in found:
        cells[one.place, one.condition].append(one)
    rows = []
    for (place, condition), some in cells.items():
        held = np.array([one.held for one in some])
        draws = np.random.default_rng(0).integers(0, len(held), (2000, len(held)))
        low, high = np.percentile(held[draws].mean(1), (2.5, 97.5))
        apart = [one.held for one in some if one.apart]
        means = [f"{held.mean():.1%}", f"{low:.1%} to {high:.1%}", f"{np.mean(apart):.1%}" if apart else ""]
        rows.append([place, condition, *means, f"{len(held)} ({len(apart)})"])
    head = ["series", "", "pixels held (90 % is right)", "95 % of bootstraps", "days held out", "targets (held out)"]
    return markdown(head, rows)


def main() -> None:
    """Print the table, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="base")
    given = parser.parse_args()
    held = table(list(targets(given.data, given.weights)))
    print(held)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "intervals.md").write_text(f"{held}\n")


if __name__ == "__main__":
    main()
