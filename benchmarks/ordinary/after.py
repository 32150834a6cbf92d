"""Score what a glimpse of a day after t2 brings to a map of t2, of which nothing is seen.

    python -m benchmarks.ordinary.after DATA [--weights base] [--series belgium_dates]

The targets of `python -m benchmarks.ordinary` that have a clear date within 10 days after t2. Each is mapped with its
past as `crgen fill` would: with nothing else, with 5 % of that later date seen (`--after 10`), and with 5 % of t2
itself, in the same places. RMSE pooled over the pixels of t2 that are clear and were not shown. "Share of the drop": of
what 5 % of t2 take off the error, how much 5 % of the later date do.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.ordinary.pairs import clear_enough, days_between, nearest_pairs
from benchmarks.ordinary.past import look, map_of, taken
from crgen.model.weights import load_model
from crgen.training.augment import cloud_opacity
from crgen.training.data.series import series

WITHIN = 10
"""Days after t2 of the later date."""
SHARE = 0.05
"""Share of a date that is shown."""
SHOWN = ("nothing", "a later date", "t2")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="base")
    parser.add_argument("--series", default="belgium_dates")
    given = parser.parse_args()
    generator = load_model(given.weights).generator
    squares: dict[str, list[float]] = {name: [] for name in ("copy", *SHOWN)}
    pixels = []
    for place in given.series.split(","):
        dates = series(place, given.data)
        for a, b in nearest_pairs(dates):
            later = [c for c in dates[b + 1 :] if days_between(dates[b], c) <= WITHIN and clear_enough(c)]
            if not later:
                continue
            first, then, after = (look(date, generator) for date in (dates[a], dates[b], later[0]))
            rng = torch.Generator().manual_seed(b)
            shown = cloud_opacity(torch.tensor([1 - SHARE]), *then.clear.shape[-2:], rng) <= 0.5
            glimpse = after._replace(clear=after.clear & shown)
            scored = (then.clear & ~shown & torch.isfinite(then.s2).all(1, keepdim=True) & first.clear)[0, 0]
            if not scored.any() or not glimpse.clear.any() or not (then.clear & shown).any():
                continue
            looks = [first, *(look(one, generator) for one in taken(dates, a, b))]
            seen = torch.where(then.clear & shown, then.s2, torch.nan)
            images = {
                "copy": first.s2,
                "nothing": map_of(generator, looks, first, then)[0].reflectance,
                "a later date": map_of(generator, [*looks, glimpse], first, then)[0].reflectance,
                "t2": map_of(generator, looks, first, then, seen)[0].reflectance,
            }
            pixels.append(int(scored.sum()))
            for name, image in images.items():
                squares[name].append(float((image - then.s2)[0][:, scored].double().square().mean()))
    errors = {name: float(np.sqrt(np.average(values, weights=pixels))) for name, values in squares.items()}
    print(f"{len(pixels)} targets of {given.series}, {SHARE:.0%} shown\n\n| shown | RMSE |\n| --- | --- |")
    for name, value in errors.items():
        print(f"| {name} | {value:.4f} |")
    drop = [errors["nothing"] - errors[name] for name in SHOWN[1:]]
    print(f"\nshare of the drop: {drop[0] / drop[1]:.0%}")


if __name__ == "__main__":
    main()
