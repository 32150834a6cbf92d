"""A place is unlike the training where the level of its radar or the colour of its ground was never met there."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from crgen.model.usual import unlike, unlike_text, usual_of, window_means

POLS, BANDS = ("VV", "VH"), ("B3", "B4", "B8", "B11")


def place(
    height: int = 256, width: int = 256, *, db: float = -12.0, green: float = 0.08
) -> tuple[np.ndarray, np.ndarray]:
    optical = np.stack([np.full((height, width), v, np.float32) for v in (green, 0.07, 0.25, 0.2)])
    return np.full((2, height, width), db, np.float32), optical


def means(
    radar: np.ndarray, optical: np.ndarray, clear: np.ndarray | None = None
) -> list[tuple[int, dict[str, float]]]:
    everywhere = np.ones(optical.shape[1:], bool)
    return list(window_means(radar, optical, POLS, BANDS, everywhere, everywhere if clear is None else clear))


USUAL = usual_of(by_name for db in (-14.0, -12, -10) for _, by_name in means(*place(db=db, green=0.05 - db / 400)))


def test_what_was_met_in_training_is_not_spoken_of() -> None:
    outside = unlike(USUAL, means(*place(600, 300)))
    assert not outside
    assert unlike_text(USUAL, outside, 600 * 300) == ""


@pytest.mark.parametrize(
    ("strange", "what"),
    [
        ({"db": -19.0}, "VV at t2 lies below the usual -14 to -10 dB over 100 % of the area"),
        ({"green": 0.6}, "B3 at t1 lies above the usual"),
        ({"db": -2.0}, "dB over 100 %"),
    ],
)
def test_sea_snow_and_other_calibrations_are_named_with_what_is_usual(strange: dict[str, float], what: str) -> None:
    outside = unlike(USUAL, means(*place(300, 300, **strange)))
    line = unlike_text(USUAL, outside, 300 * 300)
    assert line.startswith("this place is unlike the training: ")
    assert what in line


def test_clouds_at_t1_are_not_taken_for_snow_and_gaps_for_nothing() -> None:
    radar, optical = place()
    optical[:, :100] = 0.9
    clear = np.ones((256, 256), bool)
    clear[:100] = False
    radar[1] = np.nan
    outside = unlike(USUAL, means(radar, optical, clear))
    assert not outside
    nothing = means(np.full_like(radar, np.nan), np.full_like(optical, np.nan))
    assert nothing == [(256 * 256, {})]


def test_radar_without_level_is_not_judged() -> None:
    radar, optical = place(db=-30.0)
    assert not unlike(USUAL, means(radar[:0], optical))


def test_a_corner_of_another_kind_is_counted_but_not_the_place() -> None:
    radar, optical = place(2560, 2560)
    optical[0, :256, :256] = 0.7
    outside = unlike(USUAL, means(radar, optical))
    assert outside == Counter({"B3 above": 256 * 256})
    assert unlike_text(USUAL, outside, 2560 * 2560) == ""
