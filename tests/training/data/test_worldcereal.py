"""WorldCereal's imagery: pairs of dates in physical units, with clear later dates."""

from pathlib import Path

import numpy as np
import pytest

from crgen.errors import TrainingError
from crgen.training.data.worldcereal import HAZY, WorldCereal
from tests.realdata import REAL_DATA, needs_real_data

FOLDER = REAL_DATA / "worldcereal"
pytestmark = needs_real_data


@pytest.fixture(scope="module")
def dates() -> WorldCereal:
    return WorldCereal(FOLDER, ("VV", "VH"), ("B11", "B8", "B3"))


def test_pairs_of_dates(dates: WorldCereal) -> None:
    assert len(dates.dates) == 118
    assert len(dates) > 1000
    for a, b in dates.pairs:
        assert np.timedelta64(0, "D") < b.day - a.day <= np.timedelta64(120, "D")
        assert b.clear.mean() >= 0.5
        assert str(b.day)[:10] not in HAZY


def test_samples_hold_physical_units(dates: WorldCereal) -> None:
    sample = next(dates[i] for i, (a, b) in enumerate(dates.pairs) if a.clear.mean() > 0.9 and b.clear.mean() > 0.9)
    assert sample.s1_t1.shape == (2, 64, 64)
    assert sample.target.shape == (3, 64, 64)
    assert -16 < sample.s1_t1[0].mean() < -5 < 0 < sample.s1_t1[0].mean() - sample.s1_t1[1].mean() < 12
    b11, b8, b3 = np.nanmedian(sample.target, axis=(1, 2))
    assert 0.02 < b3 < 0.12 < b8 < 0.6
    assert b3 < b11
    assert len(sample.name) == len("2017-08-24→2017-08-27")


def test_monthly_composites_and_the_months_without_any() -> None:
    data = WorldCereal(FOLDER, ("VV",), ("B4", "B3", "B2"), part="months")
    assert data[0].target.shape == (3, 100, 100)
    empty = [d for d in data.dates if np.isnan(d.s2).all()]
    assert [str(d.day)[:7] for d in empty] == ["2020-12", "2021-01"]
    assert not any(d.clear.any() for d in empty)
    spring = WorldCereal(FOLDER, ("VV",), ("B4",), part="months", between=("2021-03-01", "2021-05-31"))
    assert [d.name for d in (spring[0], spring[2])] == ["2021-03-01→2021-04-01", "2021-04-01→2021-05-01"]


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"dates in .* are missing or damaged"):
        WorldCereal(tmp_path)
    with pytest.raises(TrainingError, match="WorldCereal's months has no B8A"):
        WorldCereal(FOLDER, bands=("B8A",), part="months")
    with pytest.raises(TrainingError, match="no pair of WorldCereal's dates"):
        WorldCereal(FOLDER, max_days=1)
    (tmp_path / "worldcereal_preprocessed_inputs.nc").write_bytes(b"CDF" + bytes(100))
    with pytest.raises(TrainingError, match="missing or damaged"):
        WorldCereal(tmp_path, part="months")
