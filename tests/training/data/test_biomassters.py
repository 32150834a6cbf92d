"""BioMassters chips: months as dates, clouds by their probability, damaged files named."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio

from crgen.errors import RequestError, TrainingError
from crgen.training.data.biomassters import BANDS, BioMassters
from crgen.training.data.dataset import DamagedPatch
from crgen.training.data.kinds import open_data, parse_table, table_spec
from tests.realdata import REAL_DATA, needs_real_data


def write(path: Path, pixels: np.ndarray) -> None:
    profile = {"driver": "GTiff", "count": len(pixels), "height": 32, "width": 32, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Chip aa with months 0, 3 and 7; month 3 is overcast."""
    for month in (0, 3, 7):
        s1 = np.full((4, 32, 32), [[[-8.0]], [[-14.0]], [[-9.0]], [[-15.0]]], np.float32)
        s1[:2, :4] = -9999
        s2 = np.full((11, 32, 32), month * 100 + 500, np.uint16)
        s2[10] = 100 if month == 3 else 5
        s2[10, :, :8] = 255
        s2[:10, 20:24] = 0
        write(tmp_path / f"aa_S1_{month:02d}.tif", s1)
        write(tmp_path / f"aa_S2_{month:02d}.tif", s2)
    return tmp_path


def test_pairs_end_in_clear_months(folder: Path) -> None:
    assert BioMassters(folder).pairs == [("aa", 0, 7), ("aa", 3, 7)]
    assert BioMassters(folder, max_gap=4).pairs == [("aa", 3, 7)]
    assert BioMassters(folder, max_cloud=1.0).pairs == [("aa", 0, 3), ("aa", 0, 7), ("aa", 3, 7)]
    assert BioMassters(folder, months=(0, 7)).pairs == [("aa", 0, 7)]


def test_missing_stays_missing_and_clouds_are_not_clear(folder: Path) -> None:
    sample = BioMassters(folder, ("VH",), ("B11", "B2"))[0]
    assert sample.name == "aa 00→07"
    assert np.isnan(sample.s1_t2[0, :4]).all()
    assert (sample.s1_t2[0, 4:] == -14).all()
    assert sample.target[0, 0, 0] == pytest.approx(0.12)
    assert np.isnan(sample.target[:, 20:24]).all()
    expected = np.ones((32, 32), bool)
    expected[20:24] = expected[:, :8] = False
    assert (sample.clear[0] == expected).all()
    descending = BioMassters(folder, ("VH",), ("B2",), orbit="descending")[0]
    assert (descending.s1_t1 == -15).all()


def test_what_is_damaged_or_alone_is_named(folder: Path) -> None:
    (folder / "aa_S1_00.tif").unlink()
    path = folder / "aa_S2_03.tif"
    data = BioMassters(folder, max_cloud=1.0)
    assert data.pairs == [("aa", 3, 7)]
    assert data.skipped == [f"{folder / 'aa_S2_00.tif'} has no Sentinel-1 beside it"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DamagedPatch, match=r"aa_S2_03\.tif is missing or damaged.*fetch it again"):
        data[0]
    with pytest.raises(TrainingError, match="no BioMassters chips"):
        BioMassters(folder, chips=("bb",))
    with pytest.raises(TrainingError, match="no pair of months"):
        BioMassters(folder, months=(7,))
    with pytest.raises(TrainingError, match="BioMassters has no B9"):
        BioMassters(folder, bands=("B9",))


def test_a_flag_gives_chips_and_months_with_plus_between_them(folder: Path) -> None:
    def pairs(options: str) -> list[tuple[str, int, int]]:
        data = open_data(table_spec(parse_table(f"biomassters:{folder},{options}")), ("VV",), ("B4",))
        assert isinstance(data, BioMassters)
        return data.pairs

    assert pairs("chips=aa+bb,months=00+7") == [("aa", 0, 7)]
    assert pairs("chips=aa") == [("aa", 0, 7), ("aa", 3, 7)]
    with pytest.raises(RequestError, match=r"^data 'biomassters': option 'months', item 2: .* valid integer") as caught:
        pairs("months=3+July")
    assert "\n" not in str(caught.value)


@needs_real_data
def test_real_chips_hold_physical_units() -> None:
    data = BioMassters(REAL_DATA / "biomassters", ("VV",), BANDS, chips=("288afc34",), months=(7, 8, 9, 11))
    assert [p[1:] for p in data.pairs] == [(7, 8), (7, 9), (7, 11), (8, 9), (8, 11), (9, 11)]
    sample = data[2]
    assert sample.target.shape == (10, 256, 256)
    assert -25 < np.nanmedian(sample.s1_t1) < 0
    medians = np.nanmedian(sample.target, axis=(1, 2))
    assert medians[6] > 0.1 > medians[2], "a forest in August: B8 above red"
    assert sample.clear.mean() > 0.9
    assert all(a < b for a, b in pairwise(medians[2:6]))
