"""Learn what decides how much a place's past counts: writes `crgen/model/past_learned.py`.

    python -m benchmarks.ordinary.learn DATA [--weights base] [--every N]

DATA as for :mod:`benchmarks.ordinary`. Each target of the series is made from its past by :mod:`crgen.model.past`, and
settings are tried one after the other, from what stands in the file: what is kept has the least error ÷ the copy's, as
mean over the series, with few targets worse than the copy (see :func:`loss`), where each is judged by a prior of the
other grounds alone. At last the prior of all is written.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.ordinary.pairs import days_between, nearest_pairs
from benchmarks.ordinary.past import AT_LEAST, Maker, believed, day_of, look, maker, mixed, taken
from crgen.model import mixing, past, past_learned
from crgen.model.days import shown_by
from crgen.model.generator import Generator, Prediction
from crgen.model.looks import COPY, Look, candidates_of
from crgen.model.weights import load_model
from crgen.training.augment import cloud_opacity
from crgen.training.data.series import GROUND, held_out, series

OF_LESSONS = {
    "season": (20.0, 40.0, 80.0, 1000.0),
    "apart": (60.0, 120.0, 240.0, 1000.0),
    "gap": (0.25, 0.5, 1.0, 10.0),
    "lessons": (1.0, 3.0, 6.0, 12.0),
    "caution": (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4),
}
"""Settings that change no candidate. The training series count for no more lessons than a place has, so that a place
unlike them is heard."""
MARGINS = (0.95, 0.9, 0.8, 0.0, 1.0)
OF_LOOKS = {"half_life": (15.0, 30.0, 60.0, 240.0), "changed": (1.0, 1.5, 2.0, 3.0)}
NEAR = (5.0, 10.0, 20.0, 40.0, 1000.0)
WITHIN, GLIMPSE = 10, 0.05
"""Days from t2 of the looks by which :attr:`Learned.near` is learned, and the share of each that is shown."""
SEEN = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
SHARES = (0.01, 0.05, 0.3)
"""Shares of the later look that are shown when :attr:`Learned.seen` is learned."""
WORSE, AT_MOST = 1.05, 0.1
"""Error ÷ the copy's from which a target counts as worse, and the share of targets that may be."""
HOME = Path(past_learned.__file__)


class Target(NamedTuple):
    """A pair of looks as `crgen fill` would meet it."""

    place: str
    first: Look
    then: Look
    looks: list[Look]


class Judged(NamedTuple):
    """The moments of a target and of its lessons."""

    target: Target
    own: mixing.Errors
    copied: mixing.Errors
    """Of the target's plain copy, water and all."""
    lessons: list[mixing.Errors]


def targets(generator: Generator, root: Path, every: int) -> Iterator[Target]:
    """Yield the targets of the series on whose days training may look."""
    for place in GROUND:
        dates = series(place, root)
        for a, b in nearest_pairs(dates)[::every]:
            if held_out(place, dates[b]) or day_of(dates[b]) - day_of(dates[a]) < AT_LEAST:
                continue
            first, then = (look(dates[at], generator) for at in (a, b))
            yield Target(place, first, then, [first, *(look(one, generator) for one in taken(dates, a, b))])


def held(target: Target) -> Tensor:
    """Return which bands all looks of a target have."""
    every = (*target.looks, target.then)
    return torch.stack([torch.isfinite(one.s2).any(3).any(2).any(0) for one in every]).all(0)


def judge(target: Target, generator: Generator, make: Maker, *, taught: bool) -> Judged:
    """Return the moments of a target and of its lessons, with the candidate that is taught by the past or without.

    A target counts where both of its dates are clear, as everywhere in these benchmarks.
    """
    bands, t1, t2 = held(target), target.first.day, target.then.day
    lessons = past.lessons_for(target.looks, t1, t2)
    shared = []
    if taught:
        for lesson in lessons:
            shared.append(past._shared(lesson, lambda a, b: evidence(generator, a, b)))
    nothing = torch.zeros(0)
    errors = []
    for at, lesson in enumerate(lessons):
        others = past._lent([one for i, one in enumerate(shared) if i != at]) if taught else nothing
        errors.append(past._judge(lesson, target.looks, bands, make, others)[0])
    both = target.then._replace(clear=target.then.clear & target.first.clear)
    itself = past.Lesson(target.first, both, 1.0)
    own = past._judge(itself, target.looks, bands, make, past._lent(shared) if taught else nothing)
    return Judged(target, own.errors, own.copied, errors)


def evidence(generator: Generator, a: Look, b: Look) -> Tensor:
    """Return the evidence of a pair."""
    with torch.inference_mode():
        s2 = torch.where(b.clear, b.s2, torch.nan)
        return generator.evidence(a.s1, a.s2, b.s1, s2, calibrated=torch.ones(1)).sum(0)


def prior(judged: list[Judged]) -> mixing.Numbers:
    """Return the mean products of errors, each series that has them and each of its targets alike.

    A candidate that none has is as bad as copying, and errs alike: it is not believed beside the copy.
    """
    places = defaultdict(list)
    for one in judged:
        copied = np.nansum(one.own.second[:, :, COPY, COPY], 0).mean() / one.own.pixels.sum()
        mean = one.own.second / np.maximum(one.own.pixels, 1)[:, None, None, None] / copied
        mean[one.own.pixels < mixing.ENOUGH] = np.nan
        places[one.target.place].append(mean)
    mean = _mean(np.stack([_mean(np.stack(found), (0, 2)) for found in places.values()]), 0)
    return np.where(np.isfinite(mean), mean, mean[:, COPY, COPY][:, None, None])


def _mean(values: mixing.Numbers, axis: int | tuple[int, int]) -> mixing.Numbers:
    there = np.isfinite(values)
    count = there.sum(axis)
    return np.asarray(np.where(count > 0, np.where(there, values, 0).sum(axis) / np.maximum(count, 1), np.nan))


def loss(judged: list[Judged], priors: dict[str, mixing.Numbers]) -> float:
    """Return what is to be little, each target judged by what the other grounds teach.

    That is the error ÷ the copy's as mean over series; and as far as more than a tenth of the targets are worse than
    the copy by more than 5 %, by how much.
    """
    scores = defaultdict(list)
    for one in judged:
        target = one.target
        set_to(prior=priors[GROUND[target.place]])
        lessons = past.lessons_for(target.looks, target.first.day, target.then.day)
        weighed = [(lesson.weight, errors) for lesson, errors in zip(lessons, one.lessons, strict=True)]
        mixture = mixing.believe(weighed, one.own.first.shape[1])
        copy = one.copied.second[:, :, COPY, COPY].sum(0).mean() / one.copied.pixels.sum()
        scores[target.place].append((np.sqrt(mixture.score(one.own)[0].mean()), np.sqrt(copy)))
    ratio = np.mean([np.divide(*np.mean(pairs, 0)) for pairs in scores.values()])
    worst = np.quantile([mine / copy for pairs in scores.values() for mine, copy in pairs], 1 - AT_MOST)
    return float(ratio + max(worst - WORSE, 0))


def priors_of(judged: list[Judged]) -> dict[str, mixing.Numbers]:
    """Return for each ground the prior of all others."""
    grounds = {GROUND[one.target.place] for one in judged}
    return {
        ground: prior([one for one in judged if GROUND[one.target.place] != ground] if len(grounds) > 1 else judged)
        for ground in grounds
    }


def set_to(**settings: object) -> None:
    """Change what :mod:`crgen.model.past` goes by."""
    past_learned.LEARNED = past_learned.LEARNED._replace(**settings)  # type: ignore[arg-type]


def try_out(name: str, values: tuple[float, ...], judged: list[Judged]) -> None:
    """Keep the value of a setting that changes no candidate with the least loss."""
    priors = priors_of(judged)
    found = {}
    for value in values:
        set_to(**{name: value})
        found[value] = loss(judged, priors)
    set_to(**{name: min(found, key=lambda value: found[value])})
    print(name, {value: round(lost, 4) for value, lost in found.items()}, flush=True)


def settle(judged: list[Judged]) -> None:
    """Try the settings that change no candidate one after the other, until none changes."""
    settings = None
    while settings != [getattr(past_learned.LEARNED, name) for name in OF_LESSONS]:
        settings = [getattr(past_learned.LEARNED, name) for name in OF_LESSONS]
        for name, values in OF_LESSONS.items():
            try_out(name, values, judged)


def learn_seen(judged: list[Judged], generator: Generator) -> None:
    """Learn how looks fade while more of t2 is seen, from targets of which some is shown."""
    squared: dict[float, list[float]] = defaultdict(list)
    priors = priors_of(judged)
    for at, one in enumerate(judged):
        target, bands = one.target, held(one.target)
        set_to(prior=priors[GROUND[target.place]])
        lessons = past.lessons_for(target.looks, target.first.day, target.then.day)
        weighed = [(lesson.weight, errors) for lesson, errors in zip(lessons, one.lessons, strict=True)]
        weights = mixing.believe(weighed, int(bands.sum())).weights
        weights[..., mixing.ALONE] += weights[..., mixing.TAUGHT]
        seen = candidates_of(shown_by(target.looks, target.first.day, target.then.day), target.then.day)
        rng = torch.Generator().manual_seed(at)
        for share in SHARES:
            cloud = cloud_opacity(torch.tensor([1 - share]), *target.then.clear.shape[-2:], rng) > 0.5
            shown = target.then.clear & ~cloud
            scored = (target.then.clear & cloud & torch.isfinite(target.then.s2[:, bands]).all(1, keepdim=True))[0, 0]
            if not shown.any() or not scored.any():
                continue
            with torch.inference_mode():
                visible = torch.where(shown, target.then.s2, torch.nan)
                made = generator(target.first.s1, target.first.s2, target.then.s1, visible, calibrated=torch.ones(1))
            made = made._replace(reflectance=made.reflectance.float().clamp(0, 1)[:, bands])
            changed = mixing.radar_changed(target.first.s1, target.then.s1)
            copied = float(np.sqrt(one.own.second[:, :, COPY, COPY].sum() / one.own.pixels.sum()))
            for value in SEEN:
                set_to(seen=value)
                image = mixing.mix(
                    made, seen[:, :, bands], changed, shown.flatten(1).sum(1), torch.from_numpy(weights).float()
                )
                error = (image - target.then.s2[:, bands])[0][:, scored].square().mean().sqrt()
                squared[value].append(float(error) / copied)
    found = {value: float(np.mean(errors)) for value, errors in squared.items()}
    set_to(seen=min(found, key=lambda value: found[value]))
    print("seen", found, flush=True)


def learn_near(data: Path, generator: Generator, every: int) -> None:
    """Learn how far from t2 what is seen tells of its light, from parts of dates near each target."""
    found: dict[float, list[float]] = defaultdict(list)
    for place in GROUND:
        dates = series(place, data)
        for a, b in nearest_pairs(dates)[::every]:
            near = [c for c in dates[a + 1 :] if c is not dates[b] and abs(days_between(dates[b], c)) <= WITHIN]
            if held_out(place, dates[b]) or not near:
                continue
            first, then = (look(dates[at], generator) for at in (a, b))
            looks = [first, *(look(one, generator) for one in taken(dates, a, b))]
            rng = torch.Generator().manual_seed(b)
            shown = cloud_opacity(torch.tensor([1 - GLIMPSE]), *then.clear.shape[-2:], rng) <= 0.5
            belief = believed(generator, looks, first.day, then.day, maker(generator))
            scored = (then.clear & first.clear & ~shown & torch.isfinite(then.s2).all(1, keepdim=True))[0, 0]
            for glimpse in (one._replace(clear=one.clear & shown) for one in (look(c, generator) for c in near)):
                if not scored.any() or not glimpse.clear.any():
                    continue
                for value in NEAR:
                    set_to(near=value)
                    told, pixels = past.near_evidence(
                        [first, glimpse], first.day, then.day, lambda a, b: evidence(generator, a, b)
                    )
                    lent = told + belief.evidence if belief.evidence.numel() else told
                    image = mixed(generator, looks, first, then, belief._replace(evidence=lent, near=pixels))
                    error = (image - then.s2)[0][:, scored].square().mean().sqrt()
                    found[value].append(float(error / (first.s2 - then.s2)[0][:, scored].square().mean().sqrt()))
    mean = {value: float(np.nanmean(errors)) for value, errors in found.items()}
    set_to(near=min(mean, key=lambda value: mean[value]))
    print("near", mean, flush=True)


def written(learned: object) -> str:
    """Return the file's text with other numbers."""
    values = "\n".join(
        f"    {name}={_array(value) if isinstance(value, np.ndarray) else repr(value)},"
        for name, value in learned._asdict().items()  # type: ignore[attr-defined]
    )
    return re.sub(r"LEARNED = Learned\(.*\)\n", f"LEARNED = Learned(\n{values}\n)\n", HOME.read_text(), flags=re.DOTALL)


def _array(values: mixing.Numbers) -> str:
    classes = (",\n            ".join(str(row) for row in rows) for rows in np.round(values, 4).tolist())
    return (
        "np.array([\n        [\n            "
        + ",\n        ],\n        [\n            ".join(classes)
        + ",\n        ],\n    ])"
    )


def main() -> None:
    """Learn and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="base")
    parser.add_argument("--every", type=int, default=1, help="learn from every Nth target of a series")
    given = parser.parse_args()
    generator = load_model(given.weights).generator
    plain = maker(generator)

    @lru_cache(None)
    def cached(a: int, b: int, place: str) -> Prediction:
        first, then = known[place, a], known[place, b]
        return plain(first, then, None)

    known: dict[tuple[str, int], Look] = {}
    found = list(targets(generator, given.data, given.every))
    for target in found:
        known |= {(target.place, one.day): one for one in (*target.looks, target.then)}

    def make_in(place: str) -> Maker:
        return lambda a, b, lent: cached(a.day, b.day, place) if lent is None else plain(a, b, lent)

    def judge_all(*, taught: bool) -> list[Judged]:
        return [judge(target, generator, make_in(target.place), taught=taught) for target in found]

    judged = judge_all(taught=False)
    settle(judged)
    for name, values in OF_LOOKS.items():
        losses = {}
        for value in values:
            set_to(**{name: value})
            again = judge_all(taught=False)
            losses[value] = loss(again, priors_of(again))
        set_to(**{name: min(losses, key=lambda value: losses[value])})
        print(name, {value: round(lost, 4) for value, lost in losses.items()}, flush=True)
    set_to(margin=1.0)
    judged = judge_all(taught=True)
    try_out("margin", MARGINS, judged)
    settle(judged)
    learn_seen(judged, generator)
    learn_near(given.data, generator, given.every)
    print("loss", loss(judged, priors_of(judged)))
    set_to(prior=prior(judged))
    HOME.write_text(written(past_learned.LEARNED))


if __name__ == "__main__":
    main()
