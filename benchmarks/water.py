"""What benchmarks count of water, on arrays of one window, and what calls it without a generator.

Labels have three values (:mod:`crgen.model.water`): 1 water, 0 dry, NaN unknown; unknown pixels count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from crgen.model.water import mndwi, water_label
from crgen.training.data.dataset import Sample
from crgen.training.data.ombria import Ombria

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
FIRM = -0.1
"""MNDWI below which, at both dates, dry ground counts towards false new water."""


class Truth(NamedTuple):
    """What the optical images of both dates say of water, ``(y, x)``."""

    t1: Array
    """Label at t1."""
    t2: Array
    dry: Mask
    """Clear and dry at both dates, with MNDWI below :data:`FIRM`: what is called water here is false."""
    flooded: Mask
    """Clear at t2 and in the published mask of the flood; nowhere where there is none."""

    @property
    def new(self) -> Mask:
        """Where water is new: dry at t1, water at t2, clear at both."""
        return (self.t1 == 0) & (self.t2 == 1)


class Counts(NamedTuple):
    """Pixels, of one window or of many together."""

    hits: int = 0
    false: int = 0
    missed: int = 0
    dry: int = 0
    """Of :attr:`Truth.dry`, and how many of them were called water."""
    dry_called: int = 0
    flooded: int = 0
    """Of :attr:`Truth.flooded`, and how many of them were called water."""
    flooded_called: int = 0

    @property
    def precision(self) -> float:
        """Share of what was called water that is water."""
        return _share(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of water that was called water."""
        return _share(self.hits, self.hits + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there is no water and none was called."""
        return _share(2 * self.hits, 2 * self.hits + self.false + self.missed)

    @property
    def false_new(self) -> float:
        """Share of ground dry at both dates that was called water at t2."""
        return _share(self.dry_called, self.dry)

    @property
    def recall_in_masks(self) -> float:
        """Share of the published masks that was called water."""
        return _share(self.flooded_called, self.flooded)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def label_of(s2: Array, bands: Sequence[str], clear: Mask | None = None) -> Array:
    """Return the label of water of one image ``(band, y, x)``."""
    mask = None if clear is None else torch.from_numpy(clear)[None, None]
    return water_label(torch.from_numpy(np.ascontiguousarray(s2))[None], bands, mask)[0, 0].numpy()


def truth_of(
    s2_t1: Array, clear_t1: Mask, s2_t2: Array, clear_t2: Mask, bands: Sequence[str], flooded: Mask | None = None
) -> Truth:
    """Return what two images ``(band, y, x)`` and where they are clear ``(y, x)`` say of water."""
    t1, t2 = label_of(s2_t1, bands, clear_t1), label_of(s2_t2, bands, clear_t2)
    firm = [mndwi(torch.from_numpy(s2)[None], bands)[0, 0].numpy() < FIRM for s2 in (s2_t1, s2_t2)]
    masked = np.zeros_like(clear_t2) if flooded is None else flooded & clear_t2
    return Truth(t1, t2, (t1 == 0) & (t2 == 0) & firm[0] & firm[1], masked)


def scored_patches(data: Ombria, every: int) -> Iterator[tuple[int, Sample, Truth]]:
    """Yield every Nth flood patch that is clear at t2 by half at least: number, patch, what is true of water there."""
    for index in range(0, len(data), every):
        sample = data[index]
        if sample.clear.mean() >= 0.5:
            assert sample.clear_t1 is not None
            flooded = None if sample.flooded is None else sample.flooded[0]
            clear_t1, clear_t2 = sample.clear_t1[0], sample.clear[0]
            yield index, sample, truth_of(sample.s2_t1, clear_t1, sample.target, clear_t2, data.bands, flooded)
            print(f"{index + 1}/{len(data)}", end="\r", flush=True)


def count(called: Mask, truth: Truth) -> Counts:
    """Count one window by what was called water at t2, ``(y, x)``."""
    water, dry = truth.t2 == 1, truth.t2 == 0
    masks = (
        called & water, called & dry, ~called & water,
        truth.dry, truth.dry & called, truth.flooded, truth.flooded & called,
    )  # fmt: skip
    return Counts(*(int(mask.sum()) for mask in masks))


def pooled(counts: Iterable[Counts]) -> Counts:
    """Add windows up."""
    return Counts(*(sum(column) for column in zip(*counts, strict=True)))


def of_image(reflectance: Array, bands: Sequence[str]) -> Mask:
    """Return where an image ``(band, y, x)`` itself shows water, by the label's rule."""
    return label_of(reflectance, bands) == 1


def otsu(radar: Array, side: int = 5) -> Mask:
    """Return the darker class of backscatter in dB, ``(y, x)``, averaged over ``side`` × ``side`` pixels.

    One threshold a window: Otsu (1979), "A threshold selection method from gray-level histograms", on 256 levels.
    """
    known = np.isfinite(radar)
    if not known.any():
        return known
    weight = uniform_filter(known.astype(np.float64), side, mode="nearest")
    smooth = uniform_filter(np.where(known, radar, 0.0).astype(np.float64), side, mode="nearest")
    smooth = smooth / weight.clip(1e-6)
    frequency, edges = np.histogram(smooth[known], 256)
    below = frequency.cumsum()
    above = below[-1] - below
    centres = (edges[:-1] + edges[1:]) / 2
    sums = (frequency * centres).cumsum()
    difference = sums / below.clip(1) - (sums[-1] - sums) / above.clip(1)
    best = int((below * above * difference**2).argmax())
    return known & (smooth < edges[best + 1])


def water_table(counts: dict[str, dict[str, list[Counts]]]) -> str:
    """Return a Markdown table of windows' counts by row and event: pooled, means over events, F1 by event."""
    events = sorted({event for some in counts.values() for event in some})
    head = ("water", "F1 (mean over events)", "precision", "recall", "false new water", "recall in published masks")
    lines = [f"| {' | '.join((*head, *(f'F1, {event}' for event in events)))} |", "|---" * (6 + len(events)) + "|"]
    for row, some in counts.items():
        by_event = {event: pooled(some[event]) for event in some}
        whole = pooled(by_event.values())
        scores = [by_event[event].f1 for event in events if event in by_event]
        known = [score for score in scores if score == score]
        cells = [
            f"{whole.f1:.2f} ({np.mean(known) if known else float('nan'):.2f})",
            f"{whole.precision:.2f}", f"{whole.recall:.2f}", f"{whole.false_new:.1%}", f"{whole.recall_in_masks:.2f}",
            *(f"{by_event[event].f1:.2f}" if event in by_event else "" for event in events),
        ]  # fmt: skip
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)
