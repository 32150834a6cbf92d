"""The label of water has three values, and knows what it does not know."""

import pytest
import torch
from torch import Tensor

from crgen.model.water import mndwi, water_label

BANDS = ("B11", "B8", "B3")
WATER = (0.02, 0.03, 0.06)
MEADOW = (0.20, 0.30, 0.08)
SNOW = (0.10, 0.75, 0.80)
CLOUD = (0.45, 0.55, 0.60)
BLACK_LAKE = (0.012, 0.010, 0.008)
MUDDY = (0.05, 0.18, 0.15)


def image(*colours: tuple[float, ...]) -> Tensor:
    """One row of pixels, ``(1, 3, 1, n)``."""
    return torch.tensor(colours).T[None, :, None]


@pytest.mark.parametrize(
    ("colour", "label"),
    [(WATER, 1.0), (MEADOW, 0.0), (SNOW, None), (CLOUD, None), (BLACK_LAKE, None), (MUDDY, None)],
)
def test_each_kind_of_ground(colour: tuple[float, ...], label: float | None) -> None:
    found = water_label(image(colour), BANDS)
    assert found.shape == (1, 1, 1, 1)
    assert found.isnan().all() if label is None else float(found) == label


def test_the_order_of_bands_and_others_between_do_not_matter() -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3
    bands = ("B3", "B4", "B8", "B11")
    shuffled = torch.stack([x[:, 2], torch.rand(2, 8, 8), x[:, 1], x[:, 0]], 1)
    torch.testing.assert_close(water_label(shuffled, bands), water_label(x, BANDS), equal_nan=True)


def test_it_holds_only_the_three_values() -> None:
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.4
    label = water_label(x, BANDS)
    assert ((label == 0) | (label == 1) | label.isnan()).all()
    assert all((label == value).any() for value in (0, 1))
    assert label.isnan().any()


def test_water_has_a_high_index_and_dry_ground_a_low_one() -> None:
    x = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 0.4
    label, index = water_label(x, BANDS), mndwi(x, BANDS)
    assert (index[label == 1] > 0).all()
    assert (index[label == 0] < 0).all()


@pytest.mark.parametrize("band", range(3))
def test_a_missing_band_of_a_pixel_leaves_it_unknown(band: int) -> None:
    x = image(WATER, MEADOW)
    x[:, band] = torch.nan
    assert water_label(x, BANDS).isnan().all()


def test_bands_that_are_not_there_leave_all_unknown() -> None:
    x = torch.full((1, 3, 2, 2), 0.05)
    assert water_label(x, ("B2", "B8", "B3")).isnan().all()
    assert water_label(x, ("B11", "B4", "B3")).isnan().all()


def test_nothing_is_known_outside_the_clear_mask() -> None:
    x = image(WATER, MEADOW, WATER)
    clear = torch.tensor([True, False, False])[None, None, None]
    label = water_label(x, BANDS, clear)
    assert label[0, 0, 0, 0] == 1
    assert label[..., 1:].isnan().all()


def test_pixels_without_light_are_unknown() -> None:
    assert water_label(torch.zeros(1, 3, 1, 1), BANDS).isnan().all()
    assert water_label(image((-0.02, 0.0, 0.01)), BANDS).isnan().all()
