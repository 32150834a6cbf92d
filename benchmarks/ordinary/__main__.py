"""Score generators on ordinary ground, where nothing is flooded: pairs of clear dates 8 to 70 days apart.

    python -m benchmarks.ordinary DATA OUT [--weights NAME,PATH] [--series NAME,NAME] [--targets]

DATA holds the sets that :mod:`crgen.training.data.series` reads; OUT takes `ordinary.csv`, a line a target, and
`ordinary.md`. Each clear date that has a clear one 8 to 70 days before it is a target once, from the latest such date,
nothing of it seen and nothing of the place's past: RMSE over the bands made, of pixels clear at both dates, as mean
over targets, beside copying t1 and the mean of the last three clear dates. `--targets` prints every target.

"Changed" are pixels where a band that was made differs between the dates by more than .05. "False water": share called
water, by `Prediction.water` (at least .5) where there is one and else by the image's own rule, of ground that is dry at
both dates; "snow" of that where t2 has snow or low sun, beside what the rule calls water in the true image: shade and
snow in shade. "No snow or low sun": at neither date. "Held out" are the
targets on days of `crgen.training.data.series.HELD_OUT`, which trainings are to leave out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.made import Array, Channels, generate
from benchmarks.ordinary.pairs import clear_enough, days_between, nearest_pairs
from benchmarks.water import FIRM, of_image
from crgen.model.generator import Generator
from crgen.model.water import mndwi
from crgen.model.weights import load_model
from crgen.training.augment import paint_clouds
from crgen.training.data.series import BANDS, GROUND, POLS, held_out, low_sun, series, water_labels
from crgen.training.data.worldcereal import Date

CHANGED = 0.05
COPY, PAST = "copy of t1", "mean of the last three"
Mask = NDArray[np.bool_]
Line = dict[str, str | float]


def last_three(dates: list[Date], a: int) -> Array:
    """Return the mean of the last three clear dates up to t1, pixel by pixel where they are clear, else t1."""
    latest = [date for date in dates[: a + 1] if clear_enough(date)][-3:]
    weight = sum(date.clear.astype(np.float32) for date in latest)
    total = sum(np.where(date.clear, date.s2, 0.0) for date in latest)
    return np.where(weight > 0, total / np.maximum(weight, 1), dates[a].s2).astype(np.float32)


def rmse(x: Array, y: Array, where: Mask) -> float:
    """Return the root mean squared error over some pixels ``(y, x)`` and all bands; NaN where there are none."""
    return float(np.sqrt(((x - y)[:, where] ** 2).mean())) if where.any() else float("nan")


def score(place: str, name: str, generator: Generator, root: Path) -> Iterator[Line]:
    """Yield a line for each target of a place."""
    dates = series(place, root)
    labels = water_labels(place, dates)
    for a, b in nearest_pairs(dates):
        first, then = dates[a], dates[b]
        nothing = np.full_like(first.s2, np.nan)
        channels = Channels(POLS, BANDS)
        made = generate(generator, (first.s1, first.s2, then.s1, nothing), channels, calibrated=True)
        rng = torch.Generator().manual_seed(b)
        cloud = paint_clouds(torch.from_numpy(first.s2)[None], BANDS, torch.tensor([1.0]), rng)[0][0].numpy()
        clouded = generate(generator, (first.s1, cloud, then.s1, nothing), channels, calibrated=True)
        assert made.reflectance is not None
        assert clouded.reflectance is not None
        own = [at for at in range(len(BANDS)) if np.isfinite(made.reflectance[at]).any() and _known(first, then, at)]
        images = {
            COPY: first.s2,
            PAST: last_three(dates, a),
            name: made.reflectance,
            f"{name}, 100 % cloud on t1": clouded.reflectance,
        }
        scored = first.clear & then.clear & np.isfinite(first.s2[own]).all(0) & np.isfinite(then.s2[own]).all(0)
        changed = scored & (np.abs(then.s2 - first.s2)[own].max(0) > CHANGED)
        water = scored & (labels[b] == 1)
        dry = scored & (labels[a] == 0) & (labels[b] == 0) & _firm(place, first) & _firm(place, then)
        for method, image in images.items():
            line: Line = {
                "series": place, "method": method, "t1": str(first.day)[:10], "t2": str(then.day)[:10],
                "days": days_between(first, then), "held out": int(held_out(place, then)),
                "low sun": int(low_sun(place, then)), "low sun t1": int(low_sun(place, first)),
                "changed": float(changed.sum() / scored.sum()),
                "RMSE": rmse(image[own], then.s2[own], scored),
                "RMSE changed": rmse(image[own], then.s2[own], changed),
                "dry": int(dry.sum()), "dry called in truth": int((of_image(then.s2, BANDS) & dry).sum()),
            }  # fmt: skip
            for at in own:
                line[f"RMSE {BANDS[at]}"] = rmse(image[at : at + 1], then.s2[at : at + 1], scored)
                line[f"RMSE {BANDS[at]} water"] = rmse(image[at : at + 1], then.s2[at : at + 1], water)
            source = made if method == name else clouded
            if method.startswith(name) and source.water is not None:
                called = source.water[1] >= 0.5
            else:
                called = of_image(image, BANDS)
            line["dry called water"] = int((called & dry).sum())
            yield line


def _known(first: Date, then: Date, band: int) -> bool:
    return bool(np.isfinite(first.s2[band]).any() and np.isfinite(then.s2[band]).any())


def _firm(place: str, date: Date) -> Mask:
    """Return where MNDWI leaves no doubt of dry ground; under snow and low sun the place's other dates say it."""
    if low_sun(place, date):
        return np.ones(date.clear.shape, bool)
    index = mndwi(torch.from_numpy(date.s2)[None], BANDS)[0, 0].numpy()
    return np.asarray(index < FIRM)


def mean(lines: list[Line], key: str) -> float:
    """Return the mean of a column over the lines that know it."""
    values = np.array([float(line[key]) for line in lines if key in line])
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def called_share(lines: list[Line], column: str = "dry called water") -> str:
    """Return the share of dry ground called water, pooled."""
    dry = sum(int(line["dry"]) for line in lines)
    return f"{sum(int(line[column]) for line in lines) / dry:.1%}" if dry else ""


def ratio(lines: list[Line], method: str, key: str) -> str:
    """Return a method's mean error ÷ the copy's over the same targets."""
    mine, copy = ([line for line in lines if line["method"] == which] for which in (method, COPY))
    return shown(mean(mine, key) / mean(copy, key), 2)


def shown(value: float, digits: int) -> str:
    """Return a number for a table, empty for none."""
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def main_table(lines: list[Line], name: str) -> str:
    """Return one generator's table by series, with means over series."""
    head = (
        "series", "targets (held out)", "pixels changed", "copy", "÷ copy: mean of last three", f"÷ copy: {name}",
        "worse than the copy", "held out", "no snow or low sun", "pixels changed > .05", "100 % cloud on t1",
        "false water", "snow", "snow: rule on the true image", "false water, 100 % cloud",
    )  # fmt: skip
    rows, places = [], list(dict.fromkeys(str(line["series"]) for line in lines))
    for place in places:
        rows.append([place, *_cells([line for line in lines if line["series"] == place], name)])
    averages = [_average([row[at] for row in rows]) for at in range(3, len(head))]
    rows.append(["mean of the series", "", "", *averages])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _cells(some: list[Line], name: str) -> list[str]:
    mine, copy = ([line for line in some if line["method"] == which] for which in (name, COPY))
    cloud = [line for line in some if line["method"] == f"{name}, 100 % cloud on t1"]
    later = [line for line in some if line["held out"]]
    snow = [line for line in mine if line["low sun"]]
    worse = sum(float(m["RMSE"]) > float(c["RMSE"]) for m, c in zip(mine, copy, strict=True))
    return [
        f"{len(mine)} ({sum(int(line['held out']) for line in mine)})",
        f"{mean(mine, 'changed'):.0%}",
        shown(mean(copy, "RMSE"), 4),
        ratio(some, PAST, "RMSE"),
        ratio(some, name, "RMSE"),
        f"{worse} of {len(mine)}",
        ratio(later, name, "RMSE"),
        ratio([line for line in some if not line["low sun"] and not line["low sun t1"]], name, "RMSE"),
        ratio(some, name, "RMSE changed"),
        ratio(some, f"{name}, 100 % cloud on t1", "RMSE"),
        called_share(mine),
        called_share(snow),
        called_share(snow, "dry called in truth"),
        called_share(cloud),
    ]


def _average(cells: list[str]) -> str:
    """Return the mean of a column's numbers, written as they are; empty for other cells."""
    known = [cell for cell in cells if cell and "of" not in cell]
    if not known:
        return ""
    value = sum(float(cell.strip("%")) for cell in known) / len(known)
    return f"{value:.1f}%" if known[0].endswith("%") else f"{value:.{len(known[0].partition('.')[2])}f}"


def band_table(lines: list[Line], name: str) -> str:
    """Return the error ÷ copy's by band, means over the targets of all series."""
    bands = [band for band in BANDS if any(f"RMSE {band}" in line for line in lines)]
    rows = [
        ("copy, RMSE", [shown(mean([x for x in lines if x["method"] == COPY], f"RMSE {band}"), 4) for band in bands]),
        (f"÷ copy: {PAST}", [ratio(lines, PAST, f"RMSE {band}") for band in bands]),
        (f"÷ copy: {name}", [ratio(lines, name, f"RMSE {band}") for band in bands]),
        ("on water", [ratio(lines, name, f"RMSE {band} water") for band in bands]),
        ("100 % cloud on t1", [ratio(lines, f"{name}, 100 % cloud on t1", f"RMSE {band}") for band in bands]),
    ]
    head = f"| by band | {' | '.join(bands)} |\n{'|---' * (len(bands) + 1)}|"
    return "\n".join([head, *(f"| {title} | {' | '.join(cells)} |" for title, cells in rows)])


def target_table(lines: list[Line], name: str) -> str:
    """Return every target: its dates, the copy's error and what the others have of it."""
    text = ["| series | t1 → t2 | days | held out | copy | mean of last three | " + name + " |", "|---" * 7 + "|"]
    by_target: dict[tuple[str, str], dict[str, Line]] = {}
    for line in lines:
        by_target.setdefault((str(line["series"]), str(line["t2"])), {})[str(line["method"])] = line
    for (place, _), methods in by_target.items():
        one = methods[COPY]
        errors = " | ".join(shown(float(methods[method]["RMSE"]), 4) for method in (COPY, PAST, name))
        late = "yes" if one["held out"] else ""
        text.append(f"| {place} | {one['t1']} → {one['t2']} | {one['days']} | {late} | {errors} |")
    return "\n".join(text)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", default="base", help="names or paths, comma between")
    parser.add_argument("--series", default=",".join(GROUND), help="names, comma between")
    parser.add_argument("--targets", action="store_true", help="print every target too")
    given = parser.parse_args()
    everything, tables = [], []
    for weights in given.weights.split(","):
        name, generator = f"`{Path(weights).stem}`", load_model(weights).generator
        lines = [line for place in given.series.split(",") for line in score(place, name, generator, given.data)]
        tables += [main_table(lines, name), band_table(lines, name)]
        tables += [target_table(lines, name)] if given.targets else []
        everything += lines
    print("\n\n".join(tables))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "ordinary.md").write_text("\n\n".join(tables) + "\n")
    with (given.out / "ordinary.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for line in everything for key in line)))
        writer.writeheader()
        writer.writerows(everything)


if __name__ == "__main__":
    main()
