"""Score what is believed of ordinary places with their past beside copying and the generator alone.

    python -m benchmarks.ordinary.believing DATA OUT [--weights base] [--series NAME,NAME]

The same targets as `python -m benchmarks.ordinary`, each with what `--past 1y` takes of the dates at least 8 days
before it. OUT takes `believing.md`. "Shipped" goes by `crgen/model/past_learned.py` as it is; "other grounds" by a
prior of the other grounds alone, so that nothing of the place but its own past is known. "Held out": targets on days of
which the generator was trained on no image, whose lessons mostly are of days that it knows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.ordinary.__main__ import last_three, rmse
from benchmarks.ordinary.learn import Judged, Target, held, judge, priors_of, set_to
from benchmarks.ordinary.pairs import nearest_pairs
from benchmarks.ordinary.past import Maker, look, maker, taken
from crgen.model import mixing, past
from crgen.model.generator import Prediction
from crgen.model.looks import Look
from crgen.model.past_learned import LEARNED
from crgen.model.weights import load_model
from crgen.training.data.series import BANDS, GROUND, held_out, series

COLUMNS = ("copy", "mean of three", "alone", "shipped", "other grounds")
HEAD = (
    *("series", "targets", "copy, RMSE", "÷ copy: mean of three", "÷ copy: alone", "÷ copy: shipped"),
    *("÷ copy: other grounds", "÷ better of copy and mean: shipped", "other grounds"),
    *("worse than copy by > 5 %: shipped", "other grounds"),
    *("held out: targets", "held out, ÷ copy: alone", "shipped", "other grounds"),
)


def remembered(make: Maker) -> Maker:
    """Return the same function of two looks of one place, which makes no pair twice without evidence."""
    known: dict[tuple[int, int], Prediction] = {}

    def once(a: Look, b: Look, lent: Tensor | None) -> Prediction:
        if lent is not None:
            return make(a, b, lent)
        if (a.day, b.day) not in known:
            known[a.day, b.day] = make(a, b, None)
        return known[a.day, b.day]

    return once


def mixture_of(one: Judged) -> mixing.Mixture:
    """Return what a target's lessons say is to be believed."""
    target = one.target
    lessons = past.lessons_for(target.looks, target.first.day, target.then.day)
    weighed = [(lesson.weight, errors) for lesson, errors in zip(lessons, one.lessons, strict=True)]
    return mixing.believe(weighed, one.own.first.shape[1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="base")
    parser.add_argument("--series", default=",".join(GROUND))
    given = parser.parse_args()
    generator = load_model(given.weights).generator
    plain = maker(generator)
    judged: dict[str, list[Judged]] = {}
    scores: dict[str, list[list[float]]] = {}
    late: dict[str, list[bool]] = {}
    for place in given.series.split(","):
        dates = series(place, given.data)
        judged[place], scores[place], late[place] = [], [], []
        make = remembered(plain)
        for a, b in nearest_pairs(dates):
            first, then = look(dates[a], generator), look(dates[b], generator)
            target = Target(place, first, then, [first, *(look(one, generator) for one in taken(dates, a, b))])
            one = judge(target, generator, make, taught=True)
            bands = [BANDS[at] for at in range(len(BANDS)) if BANDS[at] in generator.config.bands]
            own = [BANDS.index(band) for band in bands if held(target)[generator.config.bands.index(band)]]
            where = dates[a].clear & dates[b].clear & np.isfinite(dates[b].s2[own]).all(0)
            scores[place].append(
                [
                    rmse(image[own], dates[b].s2[own], where & np.isfinite(image[own]).all(0))
                    for image in (dates[a].s2, last_three(dates, a))
                ]
            )
            judged[place].append(one)
            late[place].append(held_out(place, dates[b]))
    everything = [one for found in judged.values() for one in found]
    priors = priors_of(everything)
    for place, found in judged.items():
        for one, line in zip(found, scores[place], strict=True):
            own = one.own
            line.append(
                float(np.sqrt(np.nansum(own.second[:, :, mixing.ALONE, mixing.ALONE], 0).mean() / own.pixels.sum()))
            )
            for prior in (LEARNED.prior, priors[GROUND[place]]):
                set_to(prior=prior)
                line.append(float(np.sqrt(mixture_of(one).score(own)[0].mean())))
    text = table(scores, late)
    print(text)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "believing.md").write_text(text + "\n")


def table(scores: dict[str, list[list[float]]], late: dict[str, list[bool]]) -> str:
    """Return the table of the targets' errors by :data:`COLUMNS`, and of those that are held out."""
    rows, cells = [], []
    for place, found in scores.items():
        values, out = np.array(found), np.array(late[place])
        mean, unknown = values.mean(0), values[out].mean(0)
        worse = [(values[:, at] > 1.05 * values[:, 0]).mean() for at in (3, 4)]
        best = mean[:2].min()
        numbers, held = [*(mean[1:] / mean[0]), *(mean[3:] / best)], [*(unknown[2:] / unknown[0])]
        cells.append([mean[0], *numbers, *held])
        held_cells = [str(out.sum()), *(f"{v:.3f}" for v in held)]
        text = [f"{mean[0]:.4f}", *(f"{v:.3f}" for v in numbers), *(f"{w:.0%}" for w in worse)]
        rows.append([place, str(len(found)), *text, *held_cells])
    average = np.mean(cells, 0)
    pooled = np.concatenate([np.array(found) for found in scores.values()])
    worse = [f"{(pooled[:, at] > 1.05 * pooled[:, 0]).mean():.0%}" for at in (3, 4)]
    text = [f"{average[0]:.4f}", *(f"{v:.3f}" for v in average[1:-3]), *worse]
    held_cells = [str(sum(map(sum, late.values()))), *(f"{v:.3f}" for v in average[-3:])]
    rows.append(["mean of the series", str(len(pooled)), *text, *held_cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *rows))


if __name__ == "__main__":
    main()
