"""What earlier looks at a place show of a later day: the candidates of :mod:`crgen.model.mixing` that were seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crgen.model import past_learned
from crgen.model.days import YEAR, season_apart, shown_by

LOOKS = COPY, MEAN, SEASON = 0, 1, 2
"""The nearest clear look, the mean of the last looks, and the look of the same season a year or more before."""
OUTLIER = 3 * 1.4826
"""Median deviations from which a value is an outlier: three standard deviations of a normal distribution."""


class Look(NamedTuple):
    """What was seen of some windows on a day; channels are the generator's, NaN where missing."""

    day: int
    s1: Tensor
    """Backscatter in dB, ``(window, pol, y, x)``."""
    s2: Tensor
    """Reflectance, ``(window, band, y, x)``."""
    clear: Tensor
    """Where it counts as clear, ``(window, 1, y, x)`` bool."""
    score: Tensor | None = None
    """Clear-sky score, ``(window, 1, y, x)``."""


def candidates_of(looks: Sequence[Look], day: int) -> Tensor:
    """Return the candidates that were seen before a day, ``(window, candidate, band, y, x)``."""
    images, clear = torch.stack([look.s2 for look in looks], 1), torch.stack([look.clear[:, 0] for look in looks], 1)
    ages = [day - look.day for look in looks]
    return torch.stack([looked_at(*window, ages) for window in zip(images, clear, strict=True)])


def looked_at(images: Tensor, clear: Tensor, ages: Sequence[float]) -> Tensor:
    """Return the candidates that were seen, ``(candidate, band, y, x)``, NaN where none is clear.

    Args:
        images: reflectance of the looks, ``(look, band, y, x)``, t1's among them.
        clear: where each is clear, ``(look, y, x)`` bool.
        ages: days from each look to the day that is made, above 0.
    """
    there = torch.isfinite(images)
    clear = clear & (there | ~there.any(3, keepdim=True).any(2, keepdim=True)).all(1)  # a band may lack altogether
    known = torch.where(clear[:, None], images, 0.0)
    nothing = torch.full_like(images[0], torch.nan)

    def nearest(order: list[int]) -> Tensor:
        image = nothing
        for at in reversed(order):
            image = torch.where(clear[at], images[at], image)
        return image

    recent = sorted((at for at, age in enumerate(ages) if age < YEAR / 2), key=lambda at: ages[at])
    before = [at for at, age in enumerate(ages) if age >= YEAR / 2]
    weight = torch.zeros_like(known[:1, :1])
    total = torch.zeros_like(known[0])
    for at in recent:
        share = 0.5 ** ((ages[at] - ages[recent[0]]) / past_learned.LEARNED.half_life)
        weight = weight + share * clear[at]
        total = total + share * known[at]
    mean = torch.where(weight[0] > 0, total / weight[0].clamp(min=1e-9), nothing)
    season = nearest(sorted(before, key=lambda at: season_apart(ages[at], 0)))
    return torch.stack([nearest([*recent, *before]), mean, season])


def as_they_are_now(looks: Tensor) -> Tensor:
    """Return what was seen, with the nearest clear look where older ones show what is not there any more.

    A pixel changed for good (a quarry, a reservoir, a harvest) stands out from how all of a window changed since: its
    difference from the nearest look is off the median by more than three scaled median deviations, the usual limit of
    an outlier (Hampel, 1974).

    Args:
        looks: the candidates that were seen, ``(batch, candidate, band, y, x)``, NaN where there is none.
    """
    nearest, others = looks[:, : COPY + 1], looks[:, COPY + 1 :]
    since = (others - nearest).flatten(3)
    off = (since - since.nanmedian(3, keepdim=True).values).abs()
    limit = OUTLIER * off.nanmedian(3, keepdim=True).values
    changed = (off > limit).any(2, keepdim=True).view(*others.shape[:2], 1, *others.shape[3:])
    return torch.cat([nearest, torch.where(changed, nearest, others)], 1)


def outdated(looks: Sequence[Look], first: int, day: int) -> float:
    """Return the share of the ground that older looks show otherwise than the nearest: there they are not shown.

    Args:
        looks: at some windows.
        first: day of the pair's first look.
        day: the day that is made.
    """
    shown = shown_by(looks, first, day)
    if len(shown) < 2:
        return 0.0
    seen = candidates_of(shown, day)
    there = torch.isfinite(seen).any(2)
    changed = ((as_they_are_now(seen) != seen) & torch.isfinite(seen)).any(2)
    return float(changed.any(1).sum() / there.any(1).sum().clamp(min=1))
