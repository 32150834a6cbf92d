"""What a generator makes of an ordinary place together with the place's own past, as ``crgen fill`` would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.made import Array
from crgen.model import mixing, past
from crgen.model.days import shown_by
from crgen.model.generator import SIZE_MULTIPLE, Generator, Prediction
from crgen.model.looks import Look, candidates_of
from crgen.pipeline.source.past import USUAL, choose_looks
from crgen.pipeline.source.past import Look as Seen
from crgen.training.data.channels import arranged
from crgen.training.data.series import BANDS, POLS
from crgen.training.data.worldcereal import Date

AT_LEAST = 8
"""Days before t2 of any look that counts as the past."""

Maker = Callable[..., Prediction]
"""Of two looks and what is lent, and what was seen of the second, if anything."""


def day_of(one: Date) -> int:
    """Return the day of a date, counted from year 1."""
    return date.fromisoformat(str(one.day)[:10]).toordinal()


def taken(dates: list[Date], a: int, b: int) -> list[Date]:
    """Return the earlier looks that ``--past 1y`` takes for a map of ``dates[b]`` from ``dates[a]``."""
    t1, t2 = (date.fromordinal(day_of(dates[at])) for at in (a, b))
    found = [Seen(date.fromordinal(day_of(one)), float(one.clear.mean())) for one in dates[:a]]
    days = {day.toordinal() for day in choose_looks(found, t1, t2, USUAL)}
    return [one for one in dates[:a] if day_of(one) in days and day_of(dates[b]) - day_of(one) >= AT_LEAST]


def look(one: Date, generator: Generator) -> Look:
    """Return a date as a window of a generator's channels, missing beyond its edge."""
    config, (height, width) = generator.config, one.clear.shape
    beyond = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)

    def window(image: Array) -> Tensor:
        return F.pad(torch.from_numpy(np.ascontiguousarray(image))[None], beyond, value=torch.nan)

    clear = F.pad(torch.from_numpy(one.clear)[None, None], beyond, value=False)
    return Look(
        day_of(one), window(arranged(one.s1, POLS, config.pols)), window(arranged(one.s2, BANDS, config.bands)), clear
    )


def maker(generator: Generator, *, calibrated: bool = True) -> Maker:
    """Return the function that makes the second of two looks from the first."""
    level = torch.full((1,), float(calibrated))

    def make(a: Look, b: Look, lent: Tensor | None, seen: Tensor | None = None) -> Prediction:
        with torch.inference_mode():
            prediction: Prediction = generator(
                a.s1, a.s2, b.s1, seen, calibrated=level, lent=None if lent is None else lent[None]
            )
        return prediction._replace(reflectance=prediction.reflectance.float().clamp(0, 1))

    return make


def believed(
    generator: Generator, looks: list[Look], t1: int, t2: int, make: Maker, *, calibrated: bool = True
) -> past.Believed:
    """Return what to believe of a place at t2."""
    level = torch.full((1,), float(calibrated))

    def evidence(a: Look, b: Look) -> Tensor:
        s2 = torch.where(b.clear, b.s2, torch.nan)
        with torch.inference_mode():
            return generator.evidence(a.s1, a.s2, b.s1, s2, calibrated=level).sum(0)

    return past.learn(looks, t1, t2, generate=make, evidence=evidence)


def map_of(
    generator: Generator,
    looks: list[Look],
    first: Look,
    then: Look,
    seen: Tensor | None = None,
    *,
    calibrated: bool = True,
) -> tuple[Prediction, past.Believed]:
    """Return the map of a window at t2, and what was believed of it.

    Args:
        generator: the generator.
        looks: t1's and other looks.
        first: t1's.
        then: t2's, of which the radar is read.
        seen: reflectance at t2 where it was seen, NaN elsewhere; None for nothing.
        calibrated: whether the level of the radar means something.
    """
    make = maker(generator, calibrated=calibrated)
    belief = believed(generator, looks, first.day, then.day, make, calibrated=calibrated)
    made = make(first, then, belief.evidence if belief.evidence.numel() else None, seen)
    return made._replace(reflectance=_mixed(generator, made, looks, first, then, belief, seen)), belief


def mixed(generator: Generator, looks: list[Look], first: Look, then: Look, belief: past.Believed) -> Tensor:
    """Return the reflectance of a window of calibrated radar at t2 by what is believed, nothing of it seen."""
    made = maker(generator)(first, then, belief.evidence if belief.evidence.numel() else None)
    return _mixed(generator, made, looks, first, then, belief, None)


def _mixed(
    generator: Generator,
    made: Prediction,
    looks: list[Look],
    first: Look,
    then: Look,
    belief: past.Believed,
    seen: Tensor | None,
) -> Tensor:
    shown = candidates_of(shown_by(looks, first.day, then.day), then.day)
    weights = torch.from_numpy(belief.mixture.weights).float()
    known = torch.zeros(1) if seen is None else torch.isfinite(seen[:, generator.core]).all(1).flatten(1).sum(1)
    changed = mixing.radar_changed(first.s1, then.s1)
    return mixing.mix(made, shown, changed, known + belief.near, weights)
