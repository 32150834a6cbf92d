"""How far to believe each candidate for the land of a place: weights that would have been best on lessons.

Candidates for the map of t2 are:

- the nearest clear look, copied,
- the mean of the last looks, weighted by age,
- the look of the same season a year or more before,
- the generator, or the generator with the evidence of lessons, whichever does better.

The map mixes them with non-negative weights that sum to one, per band, apart for pixels whose radar changed and did
not. As the weights sum to one, the error of a mixture is the mixture of errors, so all that is needed of a lesson is
the second moments of its candidates' errors. A place has few lessons, so they are averaged with those of the training
series (:mod:`crgen.model.past_learned`), where all but the copy is charged with some error more: what is believed
beside it is to be proven.
Forecasters call this linear pooling: Bates & Granger, "The combination of forecasts", Operational Research Quarterly 20
(1969); with such weights: Granger & Ramanathan, J. Forecasting 3 (1984).

Water is never mixed away: where the generator sees water at t1 or t2, it stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crgen.model import past_learned
from crgen.model.adaptive.surroundings import local_mean
from crgen.model.generator import Prediction
from crgen.model.looks import COPY, LOOKS, as_they_are_now

CANDIDATES = ("nearest clear look", "mean of the last looks", "same season before", "generator", "generator with past")
ALONE, TAUGHT = range(len(LOOKS), len(CANDIDATES))
"""Candidates that are made; the others were seen."""
SIDE = 7
"""Side in pixels over which the change of the radar is averaged: 49 pixels leave little of the speckle."""
ENOUGH = 30
"""Pixels of a lesson below which a class is not judged by it."""

Numbers = NDArray[np.float64]


class Errors(NamedTuple):
    """Moments of the candidates' errors over the pixels of a lesson; a candidate that is missing has NaN."""

    second: Numbers
    """Sums of products of two candidates' errors, ``(class, band, candidate, candidate)``."""
    first: Numbers
    """Sums of errors, ``(class, band, candidate)``."""
    pixels: Numbers
    """Pixels of each class: radar unchanged, changed."""

    def __add__(self, other: tuple[object, ...]) -> Errors:
        """Return the moments over the pixels of both."""
        assert isinstance(other, Errors)
        return Errors(*(a + b for a, b in zip(self, other, strict=True)))


class Sample(NamedTuple):
    """Some pixels of a lesson, at every :data:`EVERY` of them down and across."""

    errors: NDArray[np.float32]
    """Of the candidates, ``(candidate, band, pixel)``; a candidate that is missing has NaN."""
    changed: NDArray[np.bool_]
    """Whether the radar changed, ``(pixel,)``."""
    deviation: NDArray[np.float32]
    """Standard deviation that each generator states, ``(generator, band, pixel)``; NaN where it states none."""


class Mixture(NamedTuple):
    """How much to believe of each candidate."""

    weights: Numbers
    """``(class, band, candidate)``, not negative, sum 1."""

    @classmethod
    def alone(cls, bands: int) -> Mixture:
        """Return the generator alone: what is believed of a place without a past."""
        weights = np.zeros((2, bands, len(CANDIDATES)))
        weights[..., ALONE] = 1
        return cls(weights)

    @property
    def copies(self) -> bool:
        """Whether anything that was seen takes part."""
        return bool(self.weights[..., : len(LOOKS)].any())

    @property
    def generator(self) -> int:
        """The candidate made by the generator that takes part."""
        return TAUGHT if self.weights[..., TAUGHT].any() else ALONE

    def score(self, errors: Errors) -> tuple[Numbers, Numbers]:
        """Return the mean squared error and the mean error of each band over a lesson's pixels."""
        weights = _within(self.weights, ~np.isnan(errors.first))
        second, first = np.nan_to_num(errors.second), np.nan_to_num(errors.first)
        squared = np.einsum("zbc,zbcd,zbd->b", weights, second, weights)
        return squared / errors.pixels.sum(), np.einsum("zbc,zbc->b", weights, first) / errors.pixels.sum()

    def ratios(self, sample: Sample) -> NDArray[np.float32]:
        """Return the size of errors in units of the deviation that the generator states, ``(band, pixel)``."""
        there = np.asarray(np.isfinite(sample.errors).all(2)).T
        weights = _within(self.weights, there[None])[sample.changed.astype(int)]  # pixel, band, candidate
        errors = np.einsum("pbc,cbp->bp", weights, np.nan_to_num(sample.errors))
        stated = sample.deviation[self.generator - ALONE]
        return np.asarray(np.abs(errors) / np.maximum(stated, 1e-9), np.float32)


def believe(lessons: Sequence[tuple[float, Errors]], bands: int) -> Mixture:
    """Return the mixture that would have been best on lessons, each with its weight; the generator alone without any.

    The generator takes part as it is or with the past's evidence, never both, so that it runs once.
    """
    if not any(weight > 0 for weight, _ in lessons):
        return Mixture.alone(bands)
    total = np.repeat(_prior()[:, None] * past_learned.LEARNED.lessons, bands, 1)
    for weight, errors in lessons:
        total += weight * _comparable(errors)
    taught = any(np.isfinite(errors.first[..., TAUGHT]).any() for _, errors in lessons)
    found = []
    for made in (ALONE, TAUGHT) if taught else (ALONE,):
        some = [*LOOKS, made]
        weights = np.zeros(total.shape[:3])
        weights[..., some] = _best(total[..., some, :][..., some])
        found.append((float(np.einsum("zbc,zbcd,zbd->", weights, total, weights)), weights))
    (plain, alone), *others = found
    return Mixture(next((weights for value, weights in others if value < past_learned.LEARNED.margin * plain), alone))


def _prior() -> Numbers:
    """Return the training series' mean products of errors, with which anything but the copy is believed cautiously.

    All else is charged with :attr:`Learned.caution`, an error common to it. So places are mapped by the copy more than
    would be best on average, but fewer of them worse than by copying; lessons that prove a gain outweigh it.
    """
    prior = past_learned.LEARNED.prior.copy()
    made = np.arange(len(CANDIDATES)) != COPY
    prior[:, np.outer(made, made)] += past_learned.LEARNED.caution
    return prior


def _comparable(errors: Errors) -> Numbers:
    """Return mean products of errors in units of the copy's mean square; what a lesson lacks is as on the series."""
    copied = np.nansum(errors.second[:, :, COPY, COPY], 0).mean() / max(errors.pixels.sum(), 1)
    mean = errors.second / np.maximum(errors.pixels, 1)[:, None, None, None] / max(copied, 1e-12)
    mean[errors.pixels < ENOUGH] = np.nan
    return np.where(np.isnan(mean), past_learned.LEARNED.prior[:, None], mean)


def _best(moments: Numbers) -> Numbers:
    """Return the weights, not negative and of sum 1, of the least ``w · moments · w``: every support is tried.

    Args:
        moments: ``(…, candidate, candidate)``.
    """
    size = moments.shape[-1]
    values, vectors = np.linalg.eigh((moments + moments.swapaxes(-1, -2)) / 2)
    values = np.maximum(values, 1e-6 * values.max(-1, keepdims=True))  # parts of several lessons may contradict
    moments = (vectors * values[..., None, :]) @ vectors.swapaxes(-1, -2)
    best = np.zeros(moments.shape[:-1])
    least = np.full(moments.shape[:-2], np.inf)
    for count in range(1, size + 1):
        for some in map(list, combinations(range(size), count)):
            part = np.linalg.solve(moments[..., some, :][..., some], np.ones((count, 1)))[..., 0]
            value = 1 / part.sum(-1)
            better = (part >= 0).all(-1) & (value < least)
            least[better] = value[better]
            best[better] = 0
            best[..., some] = np.where(better[..., None], part * value[..., None], best[..., some])
    return best


def _within(weights: Numbers, there: NDArray[np.bool_]) -> Numbers:
    """Return weights with those of missing candidates given to the others, in proportion, or else to the generator."""
    kept = weights * there
    total = kept.sum(-1, keepdims=True)
    alone = np.zeros(weights.shape)
    alone[..., ALONE] = 1
    return np.where(total > 0, kept / np.where(total > 0, total, 1), alone)


def radar_changed(s1_a: Tensor, s1_b: Tensor) -> Tensor:
    """Return where the radar of a window changed, ``(batch, 1, y, x)`` bool.

    The change is averaged over :data:`SIDE` pixels and the polarisations and compared with the window's median, so that
    neither a calibration nor rain over all of it counts.
    """
    here = (torch.isfinite(s1_a) & torch.isfinite(s1_b)).float()
    change = torch.where(here > 0, s1_b - s1_a, 0.0).sum(1, keepdim=True) / here.sum(1, keepdim=True).clamp(min=1)
    known = here.amax(1, keepdim=True)
    middle = torch.where(known > 0, change, torch.nan).flatten(1).nanmedian(1).values.nan_to_num()
    around = local_mean(change - middle[:, None, None, None], known, SIDE)
    return around.abs() > past_learned.LEARNED.changed


def dry(prediction: Prediction) -> Tensor:
    """Return how far something else may be mixed into a pixel, 0 to 1, ``(batch, 1, y, x)``.

    That is 1 where there is no water at either date, or the generator tells none, and 0 from a probability of a half:
    what is called water stays as the generator made it.
    """
    if prediction.water is None:
        return torch.ones_like(prediction.reflectance[:, :1])
    return (1 - 2 * prediction.water).clamp(min=0).prod(1, keepdim=True)


def mix(made: Prediction, looks: Tensor, changed: Tensor, seen: Tensor, weights: Tensor) -> Tensor:
    """Return the reflectance that is believed, ``(batch, band, y, x)``.

    Args:
        made: by the generator that takes part.
        looks: the candidates that were seen, ``(batch, candidate, band, y, x)``, NaN where there is none.
        changed: :func:`radar_changed`.
        seen: pixels of t2 that each window's regression knows, its own and lent, ``(batch,)``: with them the generator
            knows more than it did in the lessons, where nothing of the later look was shown.
        weights: :attr:`Mixture.weights` of the bands of ``looks``, ``(class, band, candidate)``.
    """
    weights, looks = weights.to(made.reflectance), as_they_are_now(looks)
    of_looks = weights[..., : len(LOOKS)]
    share = torch.where(changed[..., None], of_looks[1, :, None, None], of_looks[0, :, None, None]).movedim(-1, 1)
    there = torch.isfinite(looks)
    fade = past_learned.LEARNED.seen / (past_learned.LEARNED.seen + seen.to(share))
    of_generator = 1 - share.sum(1)
    share = share * there
    # What no look shows goes to the other looks and the generator, in proportion.
    share = share / (share.sum(1, keepdim=True) + of_generator[:, None]).clamp(min=1e-6)
    share = share * (fade[:, None, None, None] * dry(made))[:, None]
    image = made.reflectance * (1 - share.sum(1)) + (share * torch.where(there, looks, 0.0)).sum(1)
    return image


def moments(candidates: Tensor, truth: Tensor, changed: Tensor, clear: Tensor) -> Errors:
    """Return the moments of the candidates' errors where all that exist at all are there.

    Args:
        candidates: ``(batch, candidate, band, y, x)``, NaN where there is none.
        truth: reflectance, ``(batch, band, y, x)``.
        changed: :func:`radar_changed`.
        clear: where the truth counts, ``(batch, 1, y, x)`` bool.
    """
    errors = (candidates - truth[:, None]).movedim(0, 2).flatten(2)  # candidate, band, pixel
    finite = torch.isfinite(errors)
    exist = finite.any(2).any(1)
    usable = clear.flatten() & finite[exist].all(0).all(0)
    bands, size = errors.shape[1], len(errors)
    second = torch.full((2, bands, size, size), torch.nan, dtype=torch.float64)
    first = torch.full((2, bands, size), torch.nan, dtype=torch.float64)
    count = np.zeros(2)
    there = exist.nonzero()[:, 0]
    for at, of_class in enumerate((~changed, changed)):
        some = errors[exist][..., usable & of_class.flatten()].double().transpose(0, 1)  # band, candidate, pixel
        count[at] = some.shape[2]
        second[at, :, there[:, None], there] = some @ some.transpose(1, 2)
        first[at][:, there] = some.sum(2)
    return Errors(second.numpy(), first.numpy(), count)
