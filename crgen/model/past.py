"""What a place's own past teaches: evidence for the generator, and what to believe of it.

Each pair of earlier looks (a → b) is a lesson with a known answer. Its evidence (:meth:`Generator.evidence`) is lent to
the scene's regression, and on its answer the candidates for the land of b are compared, the generator lent the evidence
of all *other* lessons among them. What would have been best on the lessons is believed of t2
(:mod:`crgen.model.mixing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crgen.model import past_learned
from crgen.model.days import season_apart, shown_by
from crgen.model.generator import Prediction
from crgen.model.looks import COPY, Look, as_they_are_now, candidates_of
from crgen.model.mixing import ENOUGH, TAUGHT, Errors, Mixture, Numbers, Sample, believe, dry, moments, radar_changed

EVERY = 4
"""Of how many pixels down and across one is enough to tell how wide errors spread."""


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
    copied = seen[:, COPY : COPY + 1, held]
    truth = b.s2[:, held]
    stated = [torch.full_like(truth, torch.nan) if v is None else v[:, held] for v in (alone.variance, taught.variance)]
    sample = _sampled(every - truth[:, None], changed, clear, torch.stack(stated, 1).sqrt())
    return Judged(moments(every, truth, changed, clear), moments(copied, truth, changed, clear), sample)


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
