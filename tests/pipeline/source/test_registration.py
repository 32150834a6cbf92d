"""How far the radar of two dates lies apart: found to a fraction of a pixel, and told."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage

from crgen.pipeline.source.registration import Shift, radar_shift, shift_between
from crgen.pipeline.source.stack import build_stack
from tests.earthengine.server import EarthEngineServer
from tests.gee.test_acquire import open_area
from tests.realdata import REAL_DATA, needs_real_data


def speckled(ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Backscatter in dB of 4.4 looks, as it would be measured of some ground."""
    return ground + 10 * np.log10(rng.gamma(4.4, 1 / 4.4, ground.shape))


@settings(max_examples=15, deadline=None)
@given(right=st.floats(-6, 6), down=st.floats(-6, 6), seed=st.integers(0, 1000))
def test_a_shift_is_found_under_the_speckle_of_both_dates(right: float, down: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(0, 25, (220, 240)), 2)
    moved = ndimage.shift(ground, (down, right), order=3, mode="reflect")
    found = shift_between(*(speckled(image, rng)[10:-10, 10:-10] for image in (ground, moved)))
    assert found is not None
    assert (found.right, found.down) == pytest.approx((right, down), abs=0.2)


@given(seed=st.integers(0, 1000))
def test_of_noise_and_of_holes_nothing_is_told(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, (2, 100, 100))
    assert shift_between(*noise) is None
    noise[0, :60] = np.nan
    assert shift_between(noise[0], noise[0]) is None


def test_it_is_warned_of_from_half_a_pixel() -> None:
    assert not Shift(0.3, -0.3).warnings
    (text,) = Shift(1.2, -0.5).warnings
    assert "1.3 px from that of t1 (+1.2 right, -0.5 down)" in text


@needs_real_data
@pytest.mark.parametrize("place", ["0060c0a5", "288afc34"])
def test_real_radar_months_apart_lies_on_itself_and_is_found_where_it_is_moved(place: str) -> None:
    first, second = (
        rasterio.open(Path(REAL_DATA) / "biomassters" / f"{place}_S1_{month}.tif").read(1) for month in ("00", "06")
    )
    still = shift_between(first, second)
    assert still is not None
    assert still.length < 0.3
    moved = shift_between(first[:-3, :-2], second[3:, 2:])
    assert moved is not None
    assert (moved.right - still.right, moved.down - still.down) == pytest.approx((-2, -3), abs=0.1)


@pytest.mark.parametrize("off", [0, 4])
def test_what_the_scenes_own_lattices_shift_is_not_counted(off: int) -> None:
    """Each date has the nearest pixels of another lattice: t2's lies 3 m west, of ground known to the metre."""
    rng = np.random.default_rng(off)
    ground = ndimage.gaussian_filter(rng.normal(0, 120, (240, 2600)), (2, 20))
    side, west, north = 200, 500_000, 4_000_000

    def nearest(corner: int, moved: int) -> np.ndarray:
        """Pixels of 10 m beside each other from ``corner`` on, read at the centres of a grid that starts at 0."""
        stored = ground[20:-20, 200 + corner + 5 - 10 * moved :: 10]
        return speckled(stored[:, np.floor((np.arange(side) * 10 + 5 - corner) / 10).astype(int)], rng)

    radar = np.stack([nearest(0, 0), nearest(-7, off)])[:, None]
    geobox = GeoBox((side, side), Affine(10, 0, west, 0, -10, north), "EPSG:32649")
    scenes = {f"s1_t{n}": [{"lattice": ["EPSG:32649", west + corner, north]}] for n, corner in ((1, 0), (2, -7))}
    variables = {f"s1_t{n}": radar[n - 1].astype("f4") for n in (1, 2)}
    variables |= {"s2_t1": np.zeros((1, side, side), "f4")}
    stack = build_stack(geobox, variables, pols=("VV",), bands=("B3",), manifest={"source": "gee", "scenes": scenes})
    found = radar_shift(stack)
    assert found is not None
    assert (found.right, found.down) == pytest.approx((off, 0), abs=0.15)


def test_where_ground_tells_too_little_nothing_is_told(service: EarthEngineServer) -> None:
    assert radar_shift(open_area(aoi="113.56,34.70,113.60,34.74").stack) is None


def test_ground_without_any_contrast_tells_no_shift() -> None:
    flat = np.full((64, 64), -12.0)
    assert shift_between(flat, flat) is None
