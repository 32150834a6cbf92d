"""TerraMind's examples: places of one date, whose ground does not change."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from crgen.errors import TrainingError
from crgen.training.data.dataset import DamagedPatch
from crgen.training.data.kinds import open_data, parse_table, table_spec
from crgen.training.data.terramind import BANDS, TerraMind
from tests.realdata import REAL_DATA

FOLDER = REAL_DATA / "terramind"
needs_terramind = pytest.mark.skipif(
    not (FOLDER / "S2L2A").is_dir(), reason="TerraMind's examples (../shared/data/terramind) are not on this machine"
)

LAKE, MEADOW, SNOW = {"B3": 500, "B8": 200, "B11": 100}, {"B3": 800, "B8": 3000, "B11": 2000}, {"B2": 8000}


def write(folder: Path, name: str, *stripes: dict[str, int]) -> None:
    """A place of 32 px in stripes of colours."""
    s2 = np.full((12, 32, 32), 400, np.uint16)
    for at, colour in enumerate(stripes):
        for band, value in colour.items():
            s2[BANDS.index(band), :, at :: len(stripes)] = value
    s1 = np.full((2, 32, 32), [[[-9.0]], [[-15.0]]], np.float32)
    for kind, pixels in (("S1RTC", s1), ("S2L2A", s2)):
        (folder / kind).mkdir(exist_ok=True)
        profile = {"driver": "GTiff", "count": len(pixels), "height": 32, "width": 32, "dtype": pixels.dtype}
        with rasterio.open(folder / kind / f"{name}.tif", "w", **profile) as file:
            file.write(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "lake", LAKE, MEADOW)
    write(tmp_path, "snow", SNOW, SNOW, LAKE)
    return tmp_path


def test_both_dates_are_the_same(folder: Path) -> None:
    data = TerraMind(folder, ("VH",), ("B11", "B3", "B10"))
    assert len(data) == 2
    sample = data[0]
    assert (sample.name, sample.event) == ("lake", "lake")
    np.testing.assert_array_equal(sample.s1_t1, sample.s1_t2)
    np.testing.assert_array_equal(sample.s2_t1, sample.target)
    assert (sample.s1_t1 == -15).all()
    assert np.allclose(sample.target[:2, 0, :2], [[0.01, 0.2], [0.05, 0.08]])
    assert np.isnan(sample.target[2]).all(), "a band that it lacks"
    assert sample.clear.all()
    assert sample.clear_t1 is not None
    assert sample.clear_t1.all()
    assert sample.s1_calibrated


def test_water_is_known_but_not_under_snow_whose_shadows_look_like_it(folder: Path) -> None:
    lake, snow = (TerraMind(folder)[i] for i in (0, 1))
    assert lake.water is not None
    assert snow.water is not None
    for label in lake.water:
        assert (label[..., 0::2] == 1).all()
        assert (label[..., 1::2] == 0).all()
    for label in snow.water:
        assert not (label == 1).any()
        assert np.isnan(label[..., 2::3]).all()


def test_it_is_a_kind_of_data(folder: Path) -> None:
    data = open_data(table_spec(parse_table(f"terramind:{folder}")), ("VV", "VH"), ("B3", "B8", "B11"))
    assert data[0].target.shape == (3, 32, 32)


def test_what_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "S1RTC" / "lake.tif"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(DamagedPatch, match=r"lake\.tif is missing or damaged .*fetch it again"):
        TerraMind(folder)[0]
    (folder / "S2L2A" / "snow.tif").unlink()
    assert TerraMind(folder).names == ["lake"]
    with pytest.raises(TrainingError, match="holds no place; give the folder with S1RTC and S2L2A"):
        TerraMind(tmp_path / "S1RTC")
    with pytest.raises(TrainingError, match="TerraMind has no HH"):
        TerraMind(folder, ("HH",))


@needs_terramind
def test_the_real_places_hold_physical_units() -> None:
    data = TerraMind(FOLDER)
    assert len(data) == 5
    water = []
    for sample in (data[i] for i in range(5)):
        assert sample.s1_t1.shape == (2, 224, 224)
        assert sample.target.shape == (12, 224, 224)
        assert -32 < np.nanmedian(sample.s1_t1[1]) < np.nanmedian(sample.s1_t1[0]) < 0
        assert 0 < np.nanmedian(sample.target) < 1
        assert sample.water is not None
        water.append(float((sample.water[0] == 1).mean()))
    assert max(water) > 0.1, "a coast"
    assert min(water) < 0.01
