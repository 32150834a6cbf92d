"""Paired patches in folders and in a Zarr store: whole ones are read as told, the others are named."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from PIL import Image

from crgen.errors import CrgenError, RequestError, TrainingError
from crgen.training.data.dataset import DamagedPatch
from crgen.training.data.kinds import open_data, parse_table, table_spec
from crgen.training.data.patches import PairedPatches

OPTIONS = {
    "s1_t1": "S1/before", "s2_t1": "S2/before", "s1_t2": "S1/after", "target": "S2/after", "file_pols": ("VV", "VH"),
    "file_bands": ("B2", "B3", "B4"), "s1_scale": (1.0, 0.0), "s2_scale": (1e-4, 0.0),
}  # fmt: skip
NAMES = ("a_01", "a_02", "b_07")


def write_tif(path: Path, pixels: np.ndarray, nodata: float | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(path, "w", nodata=nodata, **profile) as file:
        file.write(pixels)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in NAMES:
        for when in ("before", "after"):
            write_tif(tmp_path / "S1" / when / f"{name}.tif", rng.uniform(-25, 0, (2, 40, 48)).astype(np.float32))
            optical = rng.integers(1, 9000, (3, 40, 48)).astype(np.uint16)
            optical[:, 0] = 0
            write_tif(tmp_path / "S2" / when / f"{name}.tif", optical, nodata=0)
    return tmp_path


def opened(folder: Path, **changes: object) -> PairedPatches:
    return PairedPatches(folder, ("VH",), ("B4", "B2"), **{**OPTIONS, **changes})


def test_channels_are_chosen_and_scaled_and_nodata_is_missing(folder: Path) -> None:
    data = opened(folder)
    assert data.names == list(NAMES)
    sample = data[1]
    assert sample.name == "a_02"
    with rasterio.open(folder / "S1/after/a_02.tif") as s1, rasterio.open(folder / "S2/after/a_02.tif") as s2:
        np.testing.assert_array_equal(sample.s1_t2[0], s1.read(2))
        np.testing.assert_allclose(sample.target[:, 1:], s2.read([3, 1])[:, 1:] * 1e-4, rtol=1e-6)
    assert np.isnan(sample.target[:, 0]).all()
    assert not sample.clear[0, 0].any()
    assert sample.clear[0, 1:].all()
    assert sample.s2_t1.dtype == np.float32


def test_channels_that_the_files_lack_are_missing_in_whole_planes(folder: Path) -> None:
    held = opened(folder)[1]
    sample = PairedPatches(folder, ("VH", "HV"), ("B4", "B11", "B2"), **OPTIONS)[1]
    np.testing.assert_array_equal(sample.target[[0, 2]], held.target)
    np.testing.assert_array_equal(sample.s1_t2[:1], held.s1_t2)
    assert np.isnan(sample.target[1]).all()
    assert np.isnan(sample.s1_t1[1]).all()
    np.testing.assert_array_equal(sample.clear, held.clear)


def test_masks_say_what_is_clear(folder: Path) -> None:
    mask = np.zeros((1, 40, 48), np.uint8)
    mask[0, :20] = 1
    for name in NAMES:
        write_tif(folder / "clear" / f"{name}.tif", mask)
    clear = opened(folder, clear="clear")[0].clear[0]
    assert clear[1:20].all()
    assert not clear[20:].any()
    assert not clear[0].any(), "a target without data is not clear"


def test_names_may_differ_around_a_shared_part(tmp_path: Path) -> None:
    for place, prefix, count in (("i", "radar", 1), ("j", "rgb", 3), ("k", "radar2", 1), ("l", "truth", 3)):
        (tmp_path / place).mkdir()
        shape = (16, 16, 3) if count == 3 else (16, 16)
        Image.fromarray(np.full(shape, 51, np.uint8)).save(tmp_path / place / f"{prefix}_0042.png")
    options = {"s1_t1": "i", "s2_t1": "j", "s1_t2": "k", "target": "l", "file_pols": ("VV",)}
    scales = {"s1_scale": (25 / 255, -25.0), "s2_scale": (1 / 255, 0.0), "file_bands": ("B4", "B3", "B2")}
    data = PairedPatches(tmp_path, ("VV",), ("B4",), **options, **scales, key=r"_(\d+)$")
    assert data.names == ["0042"]
    assert data[0].s1_t1[0, 0, 0] == pytest.approx(-20)
    assert data[0].target[0, 0, 0] == pytest.approx(0.2)


def test_a_zarr_store_of_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    group = zarr.open_group(tmp_path / "set.zarr", mode="w")
    arrays = {}
    for name, channels in (("s1_t1", 2), ("s2_t1", 3), ("s1_t2", 2), ("s2_t2", 3)):
        arrays[name] = rng.random((5, channels, 32, 32), np.float32)
        group.create_array(name, data=arrays[name])
    places = {"s1_t1": "s1_t1", "s2_t1": "s2_t1", "s1_t2": "s1_t2", "target": "s2_t2", "s2_scale": (1.0, 0.0)}
    data = opened(tmp_path / "set.zarr", **places)
    assert len(data) == 5
    np.testing.assert_array_equal(data[3].s1_t2[0], arrays["s1_t2"][3, 1])
    np.testing.assert_array_equal(data[3].target, arrays["s2_t2"][3, [2, 0]])
    with pytest.raises(TrainingError, match="has no array 's2_t3'"):
        opened(tmp_path / "set.zarr", **{**places, "target": "s2_t3"})


def test_a_sample_without_its_pair_is_skipped_and_named(folder: Path) -> None:
    (folder / "S1/after/a_02.tif").unlink()
    data = opened(folder)
    assert data.names == ["a_01", "b_07"]
    assert data.skipped == [f"{folder}: 'a_02' has no s1_t2"]


def test_only_listed_names_are_used(folder: Path) -> None:
    (folder / "train.txt").write_text("b_07\n\nz_99\n")
    data = opened(folder, only=folder / "train.txt")
    assert data.names == ["b_07"]
    assert data.skipped == [f"{folder}: 'z_99' has no s1_t1, s2_t1, s1_t2, target"]


@pytest.mark.parametrize("damage", ["truncated", "text", "narrow", "fewer"])
def test_a_damaged_patch_is_named(folder: Path, damage: str) -> None:
    path = folder / "S2/after/a_01.tif"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    elif damage == "text":
        path.write_text("404: Not Found")
    else:
        write_tif(path, np.ones((3, 40, 30) if damage == "narrow" else (2, 40, 48), np.uint16))
    words = {"narrow": "differ in size (s1_t1 40 × 48", "fewer": "target has 2 channels, expected 3"}
    with pytest.raises(DamagedPatch, match="patch 'a_01'") as caught:
        opened(folder)[0]
    assert words.get(damage, "target cannot be read") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert opened(folder)[1].name == "a_02"


@pytest.mark.parametrize(
    ("changes", "error", "problem"),
    [
        ({"target": "S2/later"}, TrainingError, "no folder .*S2/later"),
        ({"target": "S1"}, TrainingError, "two images named 'a_01'"),
        ({"key": "("}, RequestError, "no regular expression"),
        ({"key": "a"}, RequestError, "no group"),
        ({"key": "x(.)"}, TrainingError, "holds no sample"),
        ({"file_bands": ("B5", "B6", "B7")}, TrainingError, "holds B5, B6, B7, and none of B4, B2"),
        ({"only": Path("missing.txt")}, TrainingError, "list of names"),
    ],
)
def test_what_cannot_be_opened(folder: Path, changes: dict, error: type[CrgenError], problem: str) -> None:
    with pytest.raises(error, match=problem):
        opened(folder, **changes)


def test_a_configuration_opens_them_and_names_options_that_do_not_fit(folder: Path) -> None:
    table = {"kind": "patches", "path": str(folder), **OPTIONS}
    assert len(open_data(table_spec(table), ("VV",), ("B4",))) == 3
    for option, value in (("s1_scale", "loud"), ("colour", "red"), ("s2_scale", [1.0])):
        with pytest.raises(RequestError, match=f"data 'patches': option '{option}"):
            open_data(table_spec({**table, option: value}), ("VV",), ("B4",))
    del table["s2_scale"]
    with pytest.raises(RequestError, match="option 's2_scale'"):
        open_data(table_spec(table), ("VV",), ("B4",))


FLAG = (
    "patches:{folder},s1_t1=S1/before,s2_t1=S2/before,s1_t2=S1/after,target=S2/after,"
    "file_pols=VV+VH,file_bands=B2+B3+B4,s1_scale=2+-25,s2_scale=1e-4+0,key=(.+)"
)


def test_a_flag_gives_several_items_with_plus_between_them(folder: Path) -> None:
    data = open_data(table_spec(parse_table(FLAG.format(folder=folder))), ("VH",), ("B4", "B2"))
    same = opened(folder, s1_scale=(2.0, -25.0))
    assert len(data) == 3, "the plus of a regular expression stays"
    for place in ("s1_t1", "s2_t1", "s1_t2", "target"):
        np.testing.assert_array_equal(getattr(data[0], place), getattr(same[0], place))


@pytest.mark.parametrize(
    ("given", "instead", "problem"),
    [
        ("s1_scale=2+-25", "s1_scale=2+loud", "option 's1_scale', item 2: Input should be a valid number"),
        ("s2_scale=1e-4+0", "s2_scale=1e-4", "option 's2_scale', item 2: Field required"),
        ("s2_scale=1e-4+0", "s2_scale=1+2+3", "option 's2_scale': Tuple should have at most 2 items"),
    ],
)
def test_a_flag_that_does_not_fit_is_named_in_one_line(folder: Path, given: str, instead: str, problem: str) -> None:
    spec = table_spec(parse_table(FLAG.format(folder=folder).replace(given, instead)))
    with pytest.raises(RequestError, match=f"^data 'patches': {problem}") as caught:
        open_data(spec, ("VV",), ("B4",))
    assert "\n" not in str(caught.value)
