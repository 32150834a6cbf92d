"""The self-check says how wrong a map is, first of all where copying t1 would have been better."""

from collections import Counter

import numpy as np
import pytest

from crgen.pipeline.product.selfcheck import check_line, self_check
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.hidden import Hidden

BANDS = ("B4", "B11")


def found(made: float, copied: float, bias: float = 0.0, **water: int) -> Hidden:
    hidden = Hidden(2, blocks=9, pixels=1000, water=Counter(water))
    hidden.squares = 1000 * np.array([[made**2] * 2, [copied**2] * 2])
    hidden.errors = 1000 * np.array([[bias, -bias / 2], [0, 0]])
    return hidden


@pytest.mark.parametrize(
    ("hidden", "seen", "says"),
    [
        (
            found(0.03, 0.06, 0.01, hits=80, false=20, missed=20),
            300,
            "9 hidden blocks of t2: RMSE 0.030 (copy of t1 0.060), PSNR 30.5 dB (24.4), largest bias +0.010 in B4, "
            "water F1 0.80",
        ),
        (found(0.05, 0.02), 300, "WORSE THAN COPYING t1: 9 hidden blocks of t2: RMSE 0.050 (copy of t1 0.020)"),
        (found(0.05, 0.02), 49, "not checked: only 4.9 % of t2 was seen"),
        (Hidden(2, blocks=9), 600, "not checked: no block of t2 was seen that has an optical image of t1"),
        (Hidden(2), 0, "not checked: nothing of t2 was seen"),
    ],
)
def test_one_line_says_it(hidden, seen, says) -> None:
    line = check_line(self_check(hidden, Tally(inside=1000, seen=seen), BANDS))
    assert line.startswith(says)
    assert "\n" not in line


def test_scores_are_named_by_band_and_of_the_copy_too() -> None:
    scores = self_check(found(0.03, 0.06, 0.01), Tally(inside=1000, seen=1000), BANDS)
    assert scores["generated"]["RMSE"] == pytest.approx(0.03)
    assert scores["generated"]["PSNR"] == pytest.approx(30.458, abs=1e-3)
    assert scores["generated"]["bias"] == {"B4": 0.01, "B11": -0.005}
    assert scores["copy of t1"]["RMSE"] == pytest.approx(0.06)
    assert "water_F1" not in scores, "there was no water"
