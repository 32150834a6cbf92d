"""OMBRIA as it is on disk, and what happens where it is not whole."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crgen.errors import TrainingError
from crgen.model.config import preset
from crgen.training.data.dataset import DamagedPatch
from crgen.training.data.ombria import EVENTS, HELD_OUT, SIDE, VALIDATION, Ombria, cloud_mask, event_of
from tests.realdata import REAL_DATA

FOLDER = REAL_DATA / "ombria"
needs_ombria = pytest.mark.skipif(
    not (FOLDER / "OmbriaS1").is_dir(), reason="OMBRIA (../shared/data/ombria) is not on this machine"
)


@pytest.fixture(scope="module")
def everything() -> Ombria:
    return Ombria(FOLDER, split="all")


def picture(when: str, number: str) -> np.ndarray:
    found = (FOLDER / "OmbriaS2").glob(f"*/{when.upper()}/S2_{when}_{number}.png")
    return np.asarray(Image.open(next(found)))


@needs_ombria
def test_splits_share_no_patch_and_no_event() -> None:
    splits = {name: Ombria(FOLDER, split=name) for name in ("train", "validation", "test")}
    assert {name: len(data) for name, data in splits.items()} == {"train": 467, "validation": 82, "test": 145}
    events = {name: {event_of(int(number)) for number in data.ids} for name, data in splits.items()}
    assert events["validation"] == set(VALIDATION)
    assert events["test"] == set(HELD_OUT)
    assert not events["train"] & (events["validation"] | events["test"])
    assert set(Ombria(FOLDER, split="not test").ids) == {*splits["train"].ids, *splits["validation"].ids}
    assert sorted(number for data in splits.values() for number in data.ids) == Ombria(FOLDER, split="all").ids


def test_every_number_belongs_to_one_event_at_most() -> None:
    runs = sorted(run for event in EVENTS.values() for run in event)
    assert all(first <= last for first, last in runs)
    assert all(last < following for (_, last), (following, _) in pairwise(runs))


@needs_ombria
def test_flood_masks_lie_on_open_water() -> None:
    """Under the mask the flood is darker in the near infrared than the same land was before."""
    data = Ombria(FOLDER, split="test")
    for number in ("0054", "0323", "0411", "0770"):
        sample = data[data.ids.index(number)]
        assert sample.flooded is not None
        assert sample.event in HELD_OUT
        mask = sample.flooded[0] & sample.clear[0]
        assert mask.mean() > 0.01
        assert np.median(sample.target[1][mask]) < np.median(sample.s2_t1[1][mask])


@needs_ombria
def test_samples_hold_physical_units_and_miss_the_same_pixels(everything: Ombria) -> None:
    for index in range(0, 694, 23):
        sample = everything[index]
        assert sample.s1_t1.shape == sample.s1_t2.shape == sample.clear.shape == (1, SIDE, SIDE)
        assert sample.s2_t1.shape == sample.target.shape == (3, SIDE, SIDE)
        missing = np.isnan(sample.s1_t1)[0]
        for name, low, high in (("s1_t1", -25, 0), ("s1_t2", -25, 0), ("s2_t1", 0, 1), ("target", 0, 1)):
            array = getattr(sample, name)
            assert array.dtype == np.float32
            assert (np.isnan(array) == missing).all(), name
            assert low <= np.nanmin(array) < np.nanmax(array) <= high, name
        assert not (sample.clear & missing).any()
    vegetation = everything[everything.ids.index("0381")].s2_t1
    b11, b8, b3 = np.nanmedian(vegetation, axis=(1, 2))
    assert b8 > b11 > b3, "bands in the order B11, B8, B3"


@needs_ombria
@pytest.mark.parametrize(("number", "share"), [("0400", 0.17), ("0723", 0.08), ("0018", 0.045), ("0046", 0.0)])
def test_nodata_at_the_borders_is_missing_and_dark_water_is_not(everything: Ombria, number: str, share: float) -> None:
    sample = everything[everything.ids.index(number)]
    assert np.isnan(sample.target).mean() == pytest.approx(share, abs=0.01)


@needs_ombria
@pytest.mark.parametrize(
    ("number", "when", "low", "high"),
    [
        ("0172", "after", 0.8, 1.0),  # overcast
        ("0731", "after", 0.75, 0.95),
        ("0680", "after", 0.3, 0.45),  # three white clouds
        ("0212", "before", 0.08, 0.16),
        ("0019", "before", 0.0, 0.005),  # desert, airfield
        ("0658", "before", 0.0, 0.005),  # bright dry lake
        ("0013", "before", 0.0, 0.005),
        ("0670", "after", 0.0, 0.01),  # turbid flood
        ("0349", "after", 0.0, 0.005),  # dark flood
        ("0750", "before", 0.0, 0.005),  # fields
    ],
)
def test_the_cloud_mask_finds_white_clouds_and_leaves_desert_and_flood(
    number: str, when: str, low: float, high: float
) -> None:
    assert low <= cloud_mask(picture(when, number)).mean() <= high


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder like OMBRIA, with three patches of noise; the second has no data in its first row."""
    rng = np.random.default_rng(0)
    for number in ("0001", "0002", "0007"):
        for sensor, shape in (("S1", (SIDE, SIDE)), ("S2", (SIDE, SIDE, 3))):
            for when in ("BEFORE", "AFTER"):
                pixels = rng.integers(20, 120, shape, np.uint8)
                if number == "0002" and sensor == "S2":
                    pixels[0] = 0
                    pixels[100, 50] = 0
                path = tmp_path / f"Ombria{sensor}" / "train" / when / f"{sensor}_{when.lower()}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
        path = tmp_path / "OmbriaS1" / "train" / "MASK" / f"S1_mask_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (SIDE, SIDE)).save(path)
    return tmp_path


def test_a_folder_in_the_published_layout_is_read(folder: Path) -> None:
    data = Ombria(folder, split="train")
    assert data.ids == ["0001", "0002", "0007"]
    assert data[2].name == "0007"
    dn = np.asarray(Image.open(folder / "OmbriaS1" / "train" / "AFTER" / "S1_after_0007.png"))
    np.testing.assert_allclose(data[2].s1_t2[0], dn / 255 * 25 - 25, atol=1e-5)


def test_polarisations_and_bands_that_it_lacks_are_missing_in_whole_planes(folder: Path) -> None:
    """So that floods in three bands and one polarisation are trained on beside places in all of them."""
    bands = preset("base").bands
    native, all_channels = Ombria(folder), Ombria(folder, pols=preset("base").pols, bands=bands)
    assert (all_channels.pols, all_channels.bands) == (("VV", "VH"), bands)
    few, many = native[1], all_channels[1]
    for name in ("s1_t1", "s1_t2"):
        np.testing.assert_array_equal(getattr(many, name)[0], getattr(few, name)[0])
        assert np.isnan(getattr(many, name)[1]).all()
    for name in ("s2_t1", "target"):
        for at, band in enumerate(native.bands):
            np.testing.assert_array_equal(getattr(many, name)[bands.index(band)], getattr(few, name)[at])
        others = [i for i, band in enumerate(bands) if band not in native.bands]
        assert np.isnan(getattr(many, name)[others]).all()
    np.testing.assert_array_equal(many.clear, few.clear)
    assert many.clear.any(), "a band that is not there is no cloud"
    assert not many.s1_calibrated, "each patch is stretched by itself"
    assert many.water is None, "its masks say where a flood is, not where it is dry"


def test_a_single_line_without_data_is_missing_and_a_black_pixel_is_not(folder: Path) -> None:
    sample = Ombria(folder, split="train")[1]
    missing = np.isnan(sample.target[0])
    assert missing[0].all()
    assert missing.sum() == SIDE
    assert (sample.target[:, 100, 50] == 0).all()


@needs_ombria
@pytest.mark.parametrize("evenness", [0.0, 0.5, 1.0])
def test_events_are_drawn_as_alike_as_asked(evenness: float) -> None:
    data = Ombria(FOLDER, split="train", evenness=evenness)
    assert len(data.weights) == len(data)
    share: dict[str, float] = {}
    for number, weight in zip(data.ids, data.weights.tolist(), strict=True):
        share[event_of(int(number))] = share.get(event_of(int(number)), 0.0) + weight
    patches = {event: sum(event_of(int(number)) == event for number in data.ids) for event in share}
    relation = {patches[event] ** (1 - evenness) / share[event] for event in share}
    assert max(relation) == pytest.approx(min(relation))


def test_an_empty_folder_says_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no OMBRIA patches: .* holds no S1_before_\*\.png; give the folder"):
        Ombria(tmp_path, split="all")


def test_a_split_without_patches_says_so(folder: Path) -> None:
    with pytest.raises(TrainingError, match="holds no OMBRIA patch of the split 'test'"):
        Ombria(folder, split="test")


def test_a_missing_image_is_named(folder: Path) -> None:
    path = folder / "OmbriaS2" / "train" / "AFTER" / "S2_after_0007.png"
    path.unlink()
    with pytest.raises(DamagedPatch, match=f"incomplete: {path} is missing"):
        Ombria(folder, split="train")[2]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "header", "grey", "small", "deep"])
def test_a_damaged_image_is_named(folder: Path, damage: str) -> None:
    path = folder / "OmbriaS2" / "train" / "AFTER" / "S2_after_0001.png"
    content = path.read_bytes()
    if damage == "grey":
        Image.new("L", (SIDE, SIDE)).save(path)
    elif damage == "small":
        Image.new("RGB", (128, 128)).save(path)
    elif damage == "deep":
        Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(path)
    else:
        broken = {
            "truncated": content[:9000],
            "empty": b"",
            "text": b"404: Not Found",
            "header": content[:20] + content[24:],
        }
        path.write_bytes(broken[damage])
    with pytest.raises(DamagedPatch, match=r"OMBRIA image .* (is damaged .*fetch it again|expected uint8)") as caught:
        Ombria(folder, split="train")[0]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
