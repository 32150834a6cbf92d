"""What the card says of errors: how probabilities of water and stated deviations are to be read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crgen.model.card import ErrorWidths, WaterErrors


def reading(slope: float) -> WaterErrors:
    return WaterErrors(slope=slope, near=0, reach=1, scene=0)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 3), st.integers(0, 99))
def test_what_is_called_water_stays_and_less_certain_is_never_the_other(slope, seed) -> None:
    p = torch.rand((2, 2, 64, 64), generator=torch.Generator().manual_seed(seed))
    p[..., :8, :8], p[..., 8:16, :8], p[..., 16:24, :8] = 0.5, 0, 1
    read = reading(slope).read(p)
    assert ((read >= 0.5) == (p >= 0.5)).all()
    assert ((read >= 0) & (read <= 1)).all()


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 3), st.floats(0.001, 0.999), st.sampled_from([0.0, 0.02, 0.98, 0.9999, 1.0]))
def test_nor_does_rounding_to_per_cent_turn_an_islet_in_a_lake_into_water_or_a_pond_into_ground(
    slope, own, around
) -> None:
    p = torch.full((1, 2, 64, 64), around)
    p[..., 30:32, 30:32] = own
    read = reading(slope).read(p)
    assert (((100 * read).round() >= 50) == ((100 * p).round() >= 50)).all()


def test_water_in_the_midst_of_dry_land_is_read_as_less_certain_than_in_the_midst_of_water() -> None:
    p = torch.full((1, 1, 128, 128), 0.02)
    p[..., 64:] = 0.95
    p[..., 64, 20] = 0.95
    read = reading(0.9).read(p)[0, 0]
    assert read[64, 20] < 0.6
    assert read[64, 110] > 0.9
    assert read[64, 110] > read[64, 68] > read[64, 20], "at the shore in between"


def test_deviations_are_wider_as_far_as_t1_does_not_show_the_ground() -> None:
    widths = ErrorWidths(bands={}, blocks=1, hidden=4)
    read = widths.read(torch.full((3,), 0.02), torch.tensor([0, 0.5, 1]))
    assert read.tolist() == pytest.approx([0.02, 0.04, 0.08])
    plain = ErrorWidths(bands={}, blocks=1)
    assert plain.read(torch.tensor(0.02), torch.tensor(1.0)).item() == pytest.approx(0.02)
