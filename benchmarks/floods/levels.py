"""Whether a generator sees the level of calibrated backscatter, and does not fall for one that merely differs.

Calibrated series of ordinary ground (:mod:`crgen.training.data.series`), nothing of t2 seen, the radar of t2 changed:

- t2 10 dB lower everywhere, as calm water all over a window: water is to be called;
- t2 3 dB lower, as dry or frozen ground: no new water is to be called;
- both dates 10 dB lower, as ground that is always dark: no new water is to be called.

And held-out floods given as calibrated radar after a plausible random gain and offset: the F1 of water is not to fall
below that without the flag. New water is what is called at t2 where S2 at t1 is clear and dry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.made import Array, Channels, Made, generate
from benchmarks.ordinary.pairs import nearest_pairs
from benchmarks.water import Counts, count, of_image, pooled, scored_patches
from crgen.model.generator import Generator
from crgen.training.data.ombria import Ombria
from crgen.training.data.series import BANDS, GROUND, POLS, low_sun, series, water_labels

SHIFTS = {
    "radar as it is: new water": (0.0, 0.0),
    "t2 10 dB lower: water (to reach 90 %)": (0.0, -10.0),
    "t2 3 dB lower: new water": (0.0, -3.0),
    "both dates 10 dB lower: new water": (-10.0, -10.0),
}
"""What is added to the radar of t1 and of t2, in dB."""
OMBRIA_LAND, LAND = -8.3, -9.0
"""Median of land in OMBRIA's radar as it is read, and a usual one of calibrated VV, in dB."""


def called(made: Made, bands: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return what is called water at t2: by its probability where there is one, else by the image."""
    if made.water is not None:
        return np.asarray(made.water[1] >= 0.5)
    assert made.reflectance is not None
    return of_image(made.reflectance, bands)


def as_calibrated(s1_t1: Array, s1_t2: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return OMBRIA's radar of both dates as calibrated radar might have it: one random gain and offset for both."""
    gain, offset = rng.uniform(0.6, 1.1), rng.uniform(-3.0, 3.0)
    first, then = (((s1 - OMBRIA_LAND) * gain + LAND + offset).astype(np.float32) for s1 in (s1_t1, s1_t2))
    return first, then


def shares(generator: Generator, data: Path, every: int) -> dict[str, float]:
    """Return the share of ground, clear and dry in S2 at t1, that is called water at t2, by shift."""
    hits, ground = dict.fromkeys(SHIFTS, 0), 0
    for place in GROUND:
        dates = series(place, data)
        labels = water_labels(place, dates)
        for a, b in nearest_pairs(dates)[::every]:
            if low_sun(place, dates[a]):
                continue
            dry = labels[a] == 0
            ground += int(dry.sum())
            for name, (first, then) in SHIFTS.items():
                images = dates[a].s1 + np.float32(first), dates[a].s2, dates[b].s1 + np.float32(then)
                nothing = np.full_like(dates[a].s2, np.nan)
                made = generate(generator, (*images, nothing), Channels(POLS, BANDS), calibrated=True)
                hits[name] += int((called(made, BANDS) & dry).sum())
    return {name: some / ground for name, some in hits.items()}


def floods(generator: Generator, data: Ombria, every: int) -> Iterator[tuple[Counts, Counts]]:
    """Yield what each flood patch counts without and with the flag of calibrated radar."""
    channels = Channels(data.pols, data.bands)
    for index, sample, truth in scored_patches(data, every):
        nothing = np.full_like(sample.target, np.nan)
        first, then = as_calibrated(sample.s1_t1, sample.s1_t2, np.random.default_rng(index))
        plain = generate(generator, (sample.s1_t1, sample.s2_t1, sample.s1_t2, nothing), channels, calibrated=False)
        given = generate(generator, (first, sample.s2_t1, then, nothing), channels, calibrated=True)
        yield count(called(plain, data.bands), truth), count(called(given, data.bands), truth)


def table(generators: Mapping[str, Generator], data: Path, patches: Ombria, every: int = 3) -> str:
    """Return the rows of levels as a Markdown table, on every Nth pair of dates and flood patch."""
    columns = (*SHIFTS, "floods as calibrated: F1 (without the flag)")
    lines = [f"| levels | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, generator in generators.items():
        plain, given = (pooled(some) for some in zip(*floods(generator, patches, every), strict=True))
        cells = [f"{share:.1%}" for share in shares(generator, data, every).values()]
        lines.append(f"| {name} | {' | '.join((*cells, f'{given.f1:.2f} ({plain.f1:.2f})'))} |")
    return "\n".join(lines)
