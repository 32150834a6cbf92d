"""What the self-check tells a person and a machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.hidden import Hidden

LEAST = 0.05
"""Share of the area that must have been seen at t2 for the check to speak for the rest of it."""


def self_check(found: Hidden, tally: Tally, bands: Sequence[str]) -> dict[str, Any]:
    """Return the scores on hidden blocks of what was seen at t2, or why there are none.

    Returns:
        ``checked``; if true ``blocks``, ``RMSE``, ``PSNR`` and ``bias`` by band, of what was ``generated`` and of the
        ``copy of t1``, and ``water_F1`` where there is water; if false the ``reason``.
    """
    seen = tally.seen / max(tally.inside, 1)
    if not found.pixels or seen < LEAST:
        reason = f"only {100 * seen:.1f} % of t2 was seen" if tally.seen else "nothing of t2 was seen"
        if seen >= LEAST:
            reason = "no block of t2 was seen that has an optical image of t1 to compare with"
        return {"checked": False, "reason": reason}
    scores: dict[str, Any] = {"checked": True, "blocks": found.blocks}
    for i, name in enumerate(("generated", "copy of t1")):
        rmse = math.sqrt(float(found.squares[i].mean()) / found.pixels)
        bias = found.errors[i] / found.pixels
        scores[name] = {
            "RMSE": rmse,
            "PSNR": -20 * math.log10(max(rmse, 1e-6)),
            "bias": {band: float(value) for band, value in zip(bands, np.round(bias, 6), strict=True)},
        }
    right, wrong = 2 * found.water["hits"], found.water["false"] + found.water["missed"]
    if found.water["hits"] + found.water["missed"]:
        scores["water_F1"] = right / (right + wrong)
    return scores


def worse_than_copying(scores: Mapping[str, Any]) -> bool:
    """Return whether copying t1 would have been nearer to the hidden blocks."""
    return bool(scores["checked"] and scores["generated"]["RMSE"] > scores["copy of t1"]["RMSE"])


def check_line(scores: Mapping[str, Any]) -> str:
    """Return the self-check as one line; first that the map is worse than copying t1, where it is."""
    if not scores["checked"]:
        return f"not checked: {scores['reason']}"
    made, copied = scores["generated"], scores["copy of t1"]
    bias = max(made["bias"].items(), key=lambda band: abs(band[1]))
    warning = "WORSE THAN COPYING t1: " if worse_than_copying(scores) else ""
    water = f", water F1 {scores['water_F1']:.2f}" if "water_F1" in scores else ""
    return (
        f"{warning}{scores['blocks']} hidden blocks of t2: RMSE {made['RMSE']:.3f} (copy of t1 {copied['RMSE']:.3f}), "
        f"PSNR {made['PSNR']:.1f} dB ({copied['PSNR']:.1f}), largest bias {bias[1]:+.3f} in {bias[0]}{water}"
    )
