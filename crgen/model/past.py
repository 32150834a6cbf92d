"""What to believe of a place: its own past as evidence, and as the judge of the generator.

Each pair of earlier looks (a → b) is a lesson with a known answer. Its evidence (:meth:`Generator.evidence`) is lent to
the scene's regression, and on its answer candidates for the land of b are compared:

- the nearest clear look, copied,
- the mean of the last looks, weighted by age,
- the look of the same season a year or more before,
- the generator, or the generator with the evidence of all *other* lessons, whichever does better.

The map of t2 mixes the candidates with non-negative weights that sum to one, per band, apart for pixels whose radar
changed and did not: those that would have been best on the lessons. As the weights sum to one, the error of a mixture
is the mixture of errors, so all that is needed of a lesson is the second moments of its candidates' errors. A place has
few lessons, so they are averaged with those of the training series (:mod:`crgen.model.past_learned`), where all but the
copy is charged with some error more: what is believed beside it is to be proven.
Forecasters call this linear pooling: Bates & Granger, "The combination of forecasts", Operational Research Quarterly 20
(1969); with such weights: Granger & Ramanathan, J. Forecasting 3 (1984).

Water is never mixed away: where the generator sees water at t1 or t2, it stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crgen.model import past_learned
from crgen.model.adaptive.surroundings import local_mean
from crgen.model.days import season_apart, shown_by
from crgen.model.generator import Prediction
from crgen.model.looks import COPY, LOOKS, Look, as_they_are_now, candidates_of

CANDIDATES = ("nearest clear look", "mean of the last looks", "same season before", "generator", "generator with past")
ALONE, TAUGHT = range(len(LOOKS), len(CANDIDATES))
"""Candidates that are made; the others were seen."""
SIDE = 7
"""Side in pixels over which the change of the radar is averaged: 49 pixels leave little of the speckle."""
EVERY = 4
"""Of how many pixels down and across one is enough to tell how wide errors spread."""
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


class Judged(NamedTuple):
    """How the candidates did on a lesson."""

    errors: Errors
    copied: Errors
    """Of copying alone."""
    sample: Sample


class Lesson(NamedTuple):
    """A pair of looks, a and b, and how much it counts for the map of t2."""

    a: Look
    b: Look
    weight: float
    """0 to 1."""


class Proof(NamedTuple):
    """What the mixture scored on the place's own past, each lesson left out of what it is scored by."""

    days: tuple[int, ...]
    """Second days of the lessons."""
    rmse: Numbers
    """By band, as are the others; in reflectance."""
    bias: Numbers
    copy_rmse: Numbers
    """Of copying the nearest clear look."""
    copy_bias: Numbers


class Believed(NamedTuple):
    """What a place's past says of it."""

    mixture: Mixture
    """Of all bands of the generator."""
    evidence: Tensor
    """To lend to every window, ``(evidence_size,)``: of the lessons, where the generator does better with it, and of
    looks near t2; empty for none."""
    near: float
    """Pixels seen near t2 that it counts for; they stand for pixels of t2."""
    proof: Proof | None
    """Of the bands that were seen; None without a lesson."""
    ratios: NDArray[np.float32]
    """Errors of the mixture on the same lessons in units of the deviation that the generator states, alike left out,
    of some pixels, ``(band, pixel)``; empty where it states none."""


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
        for at in np.ndindex(total.shape[:2]):
            weights[at][some] = _best(total[at][np.ix_(some, some)])
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
    """Return the weights, not negative and of sum 1, of the least ``w · moments · w``: every support is tried."""
    size = len(moments)
    values, vectors = np.linalg.eigh((moments + moments.T) / 2)
    moments = (vectors * values.clip(1e-6 * values.max())) @ vectors.T  # parts of several lessons may contradict
    best: Numbers = np.eye(size)[0]
    least = np.inf
    for count in range(1, size + 1):
        for some in combinations(range(size), count):
            part = np.linalg.solve(moments[np.ix_(some, some)], np.ones(count))
            if (part >= 0).all() and (value := 1 / part.sum()) < least:
                best, least = np.zeros(size), value
                best[list(some)] = part / part.sum()
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
    errors = (candidates - truth[:, None]).double().movedim(0, 2).flatten(3)  # candidate, band, batch, pixels
    errors = errors.flatten(2)
    exist = torch.isfinite(errors).any(2).any(1)
    usable = clear[:, 0].flatten() & torch.isfinite(errors[exist]).all(0).all(0)
    second, first, count = [], [], []
    for of_class in (~changed, changed):
        some = errors[:, :, usable & of_class[:, 0].flatten()]
        count.append(some.shape[2])
        known = torch.where(exist[:, None, None], some, 0.0)
        missing = torch.where(exist, 0.0, torch.nan).double()
        second.append(torch.einsum("cbp,dbp->bcd", known, known) + missing[:, None] + missing)
        first.append(known.sum(2).T + missing)
    return Errors(torch.stack(second).numpy(), torch.stack(first).numpy(), np.array(count, float))


def lessons_for(looks: Sequence[Look], t1: int, t2: int) -> list[Lesson]:
    """Return what a place's looks teach of a map of t2: each later one with an earlier one about as far from it as t1.

    Args:
        looks: t1's and others, in any order.
        t1: day of the earlier images.
        t2: day to map.
    """
    found = []
    heard = [look for look in looks if torch.isfinite(look.s1[:, 0]).any()]
    for b in sorted(heard, key=lambda look: look.day):
        before = [a for a in heard if a.day < b.day and a.day <= t1]
        share = float(b.clear.float().mean())
        if not before or b.day == t2 or not share:
            continue
        a = min(before, key=lambda look: (abs(b.day - look.day - (t2 - t1)), -look.day))
        off = season_apart(b.day, t2) / past_learned.LEARNED.season + abs(t2 - b.day) / past_learned.LEARNED.apart
        off += abs(np.log((b.day - a.day) / (t2 - t1))) / past_learned.LEARNED.gap
        found.append(Lesson(a, b, share * float(np.exp(-off))))
    return found


def learn(
    looks: Sequence[Look],
    t1: int,
    t2: int,
    *,
    generate: Callable[[Look, Look, Tensor | None], Prediction],
    evidence: Callable[[Look, Look], Tensor],
) -> Believed:
    """Return what to believe of a place at t2.

    Args:
        looks: t1's and others, in any order, of the same windows.
        t1: day of the earlier images.
        t2: day to map.
        generate: returns what the generator makes of a pair of looks, of which it sees nothing of the second's optical
            image, lent some evidence.
        evidence: returns the sum of the evidence of all windows of a pair, ``(evidence_size,)``.
    """
    bands = looks[0].s2.shape[1]
    looks = [look for look in looks if torch.isfinite(look.s2).any()]
    held = held_by(looks)
    if not held.any():
        return Believed(Mixture.alone(bands), torch.zeros(0), 0.0, None, np.zeros((0, 0), np.float32))
    lessons = lessons_for(looks, t1, t2)
    shared = [_shared(lesson, evidence) for lesson in lessons] if past_learned.LEARNED.margin else []
    days, judged = [], []
    for at, lesson in enumerate(lessons):
        if not any(look.clear.any() for look in shown_by(looks, lesson.a.day, lesson.b.day)):
            continue  # nothing to compare the generator with
        others = _lent([one for i, one in enumerate(shared) if i != at])
        found = _judge(lesson, looks, held, generate, others)
        if found.errors.pixels.sum() >= ENOUGH:
            days.append(lesson.b.day)
            judged.append((lesson.weight, found))
    mixture = Mixture.alone(len(held))
    mixture.weights[:, held.numpy()] = believe([(w, one.errors) for w, one in judged], int(held.sum())).weights
    lent = [_lent(shared)] if mixture.generator == TAUGHT else []
    near, pixels = near_evidence(looks, t1, t2, evidence)
    told = [one for one in (*lent, near) if one.numel()]
    together = torch.stack(told).sum(0) if told else torch.zeros(0)
    return Believed(mixture, together, pixels, *_proof(days, judged, int(held.sum())))


def held_by(looks: Sequence[Look]) -> Tensor:
    """Return which bands all looks have that show anything, ``(band,)`` bool."""
    some = [torch.isfinite(look.s2).any(3).any(2).any(0) for look in looks]
    return torch.stack([one for one in some if one.any()] or [torch.zeros(0, dtype=torch.bool)]).all(0)


def near_evidence(
    looks: Sequence[Look], t1: int, t2: int, evidence: Callable[[Look, Look], Tensor]
) -> tuple[Tensor, float]:
    """Return what looks after t1 tell of the light of t2, and for how many pixels of t2 it counts.

    From t1 to such a look the ground changed about as it did from t1 to t2, so its pixels are evidence of t2 itself,
    the less the more days lie between; however many, they count for a limited number of pixels, as the past does.

    Args:
        looks: t1's and others, in any order.
        t1: day of the earlier images.
        t2: day to map.
        evidence: see :func:`learn`.
    """
    first = [look for look in looks if look.day == t1]
    later = [look for look in looks if look.day > t1 and look.day != t2]
    told, pixels = [], 0.0
    for look in later if first else ():
        clear = float(look.clear.sum())
        if clear and torch.isfinite(look.s1[:, 0]).any():
            weight = float(np.exp(-abs(look.day - t2) / past_learned.LEARNED.near))
            told.append(weight * evidence(first[0], look).double())
            pixels += weight * clear
    if not told:
        return torch.zeros(0), 0.0
    share = min(1.0, past_learned.LEARNED.counts / pixels)
    return (share * torch.stack(told).sum(0)).float(), share * pixels


def _shared(lesson: Lesson, evidence: Callable[[Look, Look], Tensor]) -> tuple[float, Tensor]:
    """Return a lesson's weight and what each of its pixels tells on average."""
    told = evidence(lesson.a, lesson.b).double()
    return lesson.weight, told / lesson.b.clear.sum().clamp(min=1)


def _lent(shared: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Return the evidence of lessons, counting as a limited number of pixels in all."""
    total = sum(weight for weight, _ in shared)
    if not total:
        return torch.zeros(0)
    mean = torch.stack([weight * told for weight, told in shared]).sum(0) / total
    return (mean * past_learned.LEARNED.counts).float()


def _judge(
    lesson: Lesson,
    looks: Sequence[Look],
    held: Tensor,
    generate: Callable[[Look, Look, Tensor | None], Prediction],
    evidence: Tensor,
) -> Judged:
    """Return how the candidates did on a lesson.

    Args:
        lesson: the lesson.
        looks: all looks at the place.
        held: which bands all of them have, ``(band,)`` bool.
        generate: see :func:`learn`.
        evidence: of the other lessons, to lend.
    """
    a, b = lesson.a, lesson.b
    seen = as_they_are_now(candidates_of(shown_by(looks, a.day, b.day), b.day))
    alone = generate(a, b, None)
    land = dry(alone)[:, None]
    guarded = land * seen + (1 - land) * alone.reflectance[:, None]
    taught = alone._replace(reflectance=torch.full_like(alone.reflectance, torch.nan))
    if evidence.numel() and past_learned.LEARNED.margin:
        taught = generate(a, b, evidence)
    every = torch.cat([guarded, alone.reflectance[:, None], taught.reflectance[:, None]], 1)[:, :, held]
    changed = radar_changed(a.s1, b.s1)
    clear = b.clear & torch.isfinite(b.s2[:, held]).all(1, keepdim=True)
    plain = torch.full_like(every, torch.nan)
    plain[:, COPY] = seen[:, COPY, held]
    truth = b.s2[:, held]
    stated = [torch.full_like(truth, torch.nan) if v is None else v[:, held] for v in (alone.variance, taught.variance)]
    sample = _sampled(every - truth[:, None], changed, clear, torch.stack(stated, 1).sqrt())
    return Judged(moments(every, truth, changed, clear), moments(plain, truth, changed, clear), sample)


def _sampled(errors: Tensor, changed: Tensor, clear: Tensor, deviation: Tensor) -> Sample:
    """Return some of the pixels where the truth counts and all candidates are there that exist at all."""
    some = [x[..., ::EVERY, ::EVERY] for x in (errors, changed, clear, deviation)]
    errors, changed, clear, deviation = (x.movedim(0, -3).flatten(-3) for x in some)  # windows beside each other
    exist = torch.isfinite(errors).any(2).any(1)
    usable = clear[0] & torch.isfinite(errors[exist]).all(0).all(0)
    return Sample(errors[..., usable].numpy(), changed[0, usable].numpy(), deviation[..., usable].numpy())


def _proof(
    days: Sequence[int], judged: Sequence[tuple[float, Judged]], bands: int
) -> tuple[Proof | None, NDArray[np.float32]]:
    """Score the mixture on each lesson, by what the others say of it; None if there is none.

    Returns:
        The scores, and :attr:`Believed.ratios`.
    """
    scores, ratios = [], []
    for at, (_, (errors, copy, sample)) in enumerate(judged):
        others = [(weight, one.errors) for i, (weight, one) in enumerate(judged) if i != at] or [(1e-9, errors)]
        mixture = believe(others, bands)
        plain = copy.second[..., COPY, COPY].sum(0), copy.first[..., COPY].sum(0)
        scores.append((*mixture.score(errors), *(moment / copy.pixels.sum() for moment in plain)))
        ratios.append(mixture.ratios(sample))
    if not scores:
        return None, np.zeros((bands, 0), np.float32)
    squared, bias, copy_squared, copy_bias = zip(*scores, strict=True)
    mean = [np.mean(values, 0) for values in (squared, bias, copy_squared, copy_bias)]
    every = np.concatenate(ratios, 1)
    return (
        Proof(tuple(days), np.sqrt(mean[0]), mean[1], np.sqrt(mean[2]), mean[3]),
        every[:, np.isfinite(every).all(0)],
    )
