"""The self-check: blocks of t2 that were seen are hidden, predicted, and compared with what was seen there.

A block is a cell of the lattice; in every other one all of t2 is hidden, in the rest its middle alone, as clouds hide
much or little. Its middle is compared. From the same blocks follows how wide an interval must be in units of the
deviation that the generator states: that ratio's quantile (split conformal prediction, normalised), drawn towards what
the place's past says where blocks are few, and that towards what the weights' card says.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.model.card import ErrorWidths
from crgen.pipeline.tiling.lending import Origin
from crgen.pipeline.tiling.water import UNKNOWN, PerCent

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

COVERED = 0.9
"""Share of pixels that an interval holds."""
NORMAL = 1.6449
"""Deviations that hold so many of a normal distribution."""
GROUP = 16
"""Blocks that are computed together."""
FEWEST, EVERY = 8, 32
"""Blocks looked at, at least; and windows of the whole run for each further one, so that they cost 3 % of its time."""
RATIOS = np.geomspace(1e-3, 1e3, 801)
"""Edges of the bins of error over stated deviation."""


@dataclass
class Hidden:
    """What was found on hidden blocks; adds up."""

    bands: int
    blocks: int = 0
    pixels: int = 0
    """Pixels of them that were seen at t2 and have an optical image of t1."""
    errors: NDArray[np.float64] = field(init=False)
    """Sums of errors over these, by band: of the prediction, and of copying t1, ``(2, band)``."""
    squares: NDArray[np.float64] = field(init=False)
    """Sums of their squares, alike."""
    ratios: NDArray[np.int64] = field(init=False)
    """Pixels by band and by bin of error over stated deviation, ``(band, bin)``."""
    water: Counter[str] = field(default_factory=Counter)
    """Pixels whose image tells of water: ``hits``, ``false``, ``missed``."""

    def __post_init__(self) -> None:
        self.errors, self.squares = np.zeros((2, self.bands)), np.zeros((2, self.bands))
        self.ratios = np.zeros((self.bands, len(RATIOS) + 1), np.int64)

    def add(self, other: Hidden) -> None:
        """Count others in."""
        self.blocks, self.pixels = self.blocks + other.blocks, self.pixels + other.pixels
        self.errors, self.squares = self.errors + other.errors, self.squares + other.squares
        self.ratios = self.ratios + other.ratios
        self.water.update(other.water)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        arrays = {name: getattr(self, name).tolist() for name in ("errors", "squares", "ratios")}
        return {"bands": self.bands, "blocks": self.blocks, "pixels": self.pixels, "water": dict(self.water)} | arrays

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Hidden:
        """Return what :meth:`to_json` was called on."""
        made = cls(held["bands"], held["blocks"], held["pixels"], Counter(held["water"]))
        for name in ("errors", "squares", "ratios"):
            setattr(made, name, np.array(held[name]))
        return made


def choose(seen: Mapping[Origin, float], windows: int) -> list[list[Origin]]:
    """Return which cells to hide, in groups: as good as at random, and the same however the area is cut.

    Args:
        seen: share of the middle of cells that was seen at t2; those of which half was come first.
        windows: in the whole run.
    """

    def order(cell: Origin) -> tuple[bool, int, Origin]:
        return seen[cell] < 0.5, zlib.crc32("{},{}".format(*cell).encode()), cell

    ordered = sorted((cell for cell in seen if seen[cell]), key=order)
    chosen = sorted(ordered[: max(FEWEST, windows // EVERY)])
    return [chosen[i : i + GROUP] for i in range(0, len(chosen), GROUP)]


def middle(side: int, margin: int = 0) -> tuple[slice, slice]:
    """Return the middle of a window, of half its side, in an array that reaches ``margin`` pixels beyond the window."""
    inner = slice(margin + side // 4, margin + side - side // 4)
    return inner, inner


def hidden_part(cell: Origin, side: int) -> Mask:
    """Return where t2 is hidden in a cell: everywhere, or in its middle."""
    everywhere = sum(start // side for start in cell) % 2 == 0
    hidden = np.full((side, side), everywhere)
    hidden[middle(side)] = True
    return hidden


@dataclass(frozen=True)
class Seen:
    """What was seen in the middle of a cell, arrays ``(band, y, x)``."""

    reflectance: Array
    copy: Array
    """S2 at t1."""
    known: Mask
    """Where t2 was seen, ``(y, x)``."""
    told: PerCent
    """What the image of t2 tells of water."""


def compare(
    seen: Seen,
    reflectance: NDArray[np.float64],
    deviation: NDArray[np.float64] | None,
    water: NDArray[np.float64] | None,
) -> Hidden:
    """Compare the middle of a cell with what was predicted there.

    Args:
        seen: the truth.
        reflectance: predicted, ``(band, y, x)``.
        deviation: stated with it, alike.
        water: probability at t2, ``(y, x)``.
    """
    found = Hidden(len(reflectance), blocks=int(seen.known.any()))
    error = reflectance - seen.reflectance
    both = seen.known & np.isfinite(seen.copy).all(0)
    found.pixels = int(both.sum())
    pairs = [error[:, both], seen.copy[:, both].astype(np.float64) - seen.reflectance[:, both]]
    found.errors = np.stack([pair.sum(1) for pair in pairs])
    found.squares = np.stack([np.square(pair).sum(1) for pair in pairs])
    if deviation is not None:
        found.ratios = binned(np.abs(error[:, seen.known]) / np.maximum(deviation[:, seen.known], 1e-9))
    if water is not None:
        called, known = water >= 0.5, seen.known & (seen.told != UNKNOWN)
        is_water = seen.told == 100
        cases = {"hits": called & is_water, "false": called & ~is_water, "missed": ~called & is_water}
        found.water = Counter({name: int((case & known).sum()) for name, case in cases.items()})
    return found


def binned(ratios: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return pixels by band and by bin of error over stated deviation, of these ratios ``(band, pixel)``."""
    counts = [np.bincount(band, minlength=len(RATIOS) + 1) for band in np.searchsorted(RATIOS, ratios)]
    return np.array(counts, np.int64).reshape(len(ratios), len(RATIOS) + 1)


def widths(found: Sequence[Hidden], bands: Sequence[str], known: ErrorWidths | None) -> NDArray[np.float64]:
    """Return half the width of the 90 % interval by band, in stated deviations.

    Args:
        found: where truth was hidden: on the place's past, if there is one, and last on blocks of the scene.
        bands: their names.
        known: what the weights' card says; None for a normal distribution.
    """
    known = known or ErrorWidths(bands={}, blocks=FEWEST)
    unseen = {band: known.bands.get(band, NORMAL) for band in bands}
    logs = np.log([known.seen.get(band, unseen[band]) if found[-1].ratios.any() else unseen[band] for band in bands])
    for some in found:
        share = some.blocks / (some.blocks + known.blocks)
        for at, counts in enumerate(some.ratios):
            if counts.any():
                logs[at] = share * np.log(_quantile(counts)) + (1 - share) * logs[at]
    return np.asarray(np.exp(logs))


def _quantile(counts: NDArray[np.int64]) -> float:
    """Return the ratio below which a share :data:`COVERED` of the pixels lie."""
    reached = np.cumsum(counts) / counts.sum()
    at = int(np.clip(np.searchsorted(reached, COVERED), 1, len(RATIOS) - 1))
    below = reached[at - 1]
    part = (COVERED - below) / max(reached[at] - below, 1e-12)
    return float(RATIOS[at - 1] * (RATIOS[at] / RATIOS[at - 1]) ** np.clip(part, 0, 1))
