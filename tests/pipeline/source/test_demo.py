"""The demo scene: place alone decides its pixels, and they look like the Sentinels'."""

import datetime
import json

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from crgen.errors import RequestError, StackError
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.demo.noise import lattice_hash, normal
from crgen.pipeline.source.demo.radar import LOOKS, speckle
from crgen.pipeline.source.stack import S2_BANDS, manifest_of
from tests.demo import open_demo as drawn_once

T1, T2 = datetime.date(2021, 7, 10), datetime.date(2021, 7, 22)
BANDS = ("B11", "B8", "B4", "B3")
WEST, NORTH = 730_000, 3_850_240
VARIABLES = {"s1_t1", "s1_t2", "s2_t1", "s2_t2", "clear_t1", "clear_t2", "truth_t2"}


def grid(left=0, top=0, width=96, height=96, *, metres=10.0, crs="EPSG:32649"):
    """Pixels of the README's area near Zhengzhou, ``left`` and ``top`` pixels from its corner."""
    origin = WEST + left * metres, NORTH - top * metres
    return GeoBox((height, width), Affine(metres, 0, origin[0], 0, -metres, origin[1]), crs)


def demo(geobox, t1=T1, t2=T2, pols=("VV", "VH"), bands=BANDS, chunk=512):
    return open_demo(geobox, t1, t2, pols=pols, bands=bands, chunk=chunk)


@pytest.fixture(scope="module")
def plain():
    """The README's area, about 10 km wide, every second pixel's worth: 512 × 512 at 20 m."""
    return demo(grid(width=512, height=512, metres=20.0)).load()


def test_it_is_a_lazy_stack_without_missing_pixels():
    stack = demo(grid(width=70, height=50), chunk=32)
    assert set(stack.data_vars) == VARIABLES
    assert all(stack[name].chunks is not None for name in VARIABLES)
    assert stack["s1_t1"].shape == (2, 50, 70)
    assert stack["truth_t2"].shape == (4, 50, 70)
    manifest = manifest_of(stack)
    assert manifest.pop("scene")
    assert manifest == {"source": "demo", "t1": "2021-07-10", "t2": "2021-07-22"}
    assert json.dumps(manifest)
    loaded = stack.compute()
    for name in VARIABLES:
        assert loaded[name].dtype == np.float32
        assert np.isfinite(loaded[name]).all()


@settings(max_examples=8, deadline=None)
@given(
    left=st.integers(-40, 40),
    top=st.integers(-40, 40),
    chunk=st.integers(30, 90),
    crs=st.sampled_from(["EPSG:32649", "EPSG:32733", "EPSG:3857"]),
)
def test_overlapping_areas_agree_bit_for_bit_whatever_the_chunks(left, top, chunk, crs):
    # Around (500, 500): river, town, fields and hills all lie near.
    one = demo(grid(300, 560, crs=crs)).compute(scheduler="sync")
    other = demo(grid(300 + left, 560 + top, 80, 88, crs=crs), chunk=chunk).compute(scheduler="sync")
    a, b = xr.align(one, other, join="inner")
    assert a.sizes["x"] >= 40
    for name in VARIABLES:
        assert a[name].values.tobytes() == b[name].values.tobytes(), name


def test_drawn_once_for_other_tests_it_is_the_same_scene():
    asked = {"pols": ["VV"], "bands": ["B3", "B8"], "chunk": 32}
    once, anew = (draw(grid(width=70, height=50), T1, T2, **asked) for draw in (drawn_once, open_demo))
    assert all(once[name].chunks == anew[name].chunks for name in VARIABLES)
    xr.testing.assert_identical(once.isel(x=slice(9, 40)).compute(), anew.isel(x=slice(9, 40)).compute())
    xr.testing.assert_identical(once.compute(), anew.compute())


def test_a_band_is_the_same_whichever_others_are_asked_for():
    geobox = grid(300, 560, 40, 40)
    alone = demo(geobox, pols=["VH"], bands=["B8"]).compute()
    all_of_them = demo(geobox, bands=S2_BANDS).compute()
    for name in ("s2_t1", "s2_t2", "truth_t2"):
        assert np.array_equal(alone[name].sel(band="B8"), all_of_them[name].sel(band="B8"))
    assert np.array_equal(alone["s1_t2"].sel(pol="VH"), all_of_them["s1_t2"].sel(pol="VH"))


def test_a_corner_of_a_country_costs_no_more_than_the_corner():
    stack = demo(grid(width=30_000, height=30_000))
    corner = stack["s1_t2"].isel(x=slice(-20, None), y=slice(-20, None))
    assert np.isfinite(corner.compute()).all()


def test_clouds_are_some_at_t1_and_many_at_t2_and_hide_the_truth(plain):
    clear_t1, clear_t2 = ((plain[v] > 0.6).mean().item() for v in ("clear_t1", "clear_t2"))
    assert 0.6 < clear_t1 < 0.9
    assert 0.05 < clear_t2 < 0.35
    seen = (plain.s2_t2 == plain.truth_t2).all("band")
    assert 0.05 < seen.mean() < clear_t2 + 0.1
    assert plain.clear_t2.where(seen).min() > 0.85
    thick = plain.clear_t2 < 0.02
    assert plain.s2_t2.sel(band="B4").where(thick).median() > 0.4
    assert not (seen & thick).any()


def test_shadows_darken_the_ground_beside_clouds(plain):
    darker = plain.s2_t2.sel(band="B8") < 0.7 * plain.truth_t2.sel(band="B8")
    assert darker.mean() > 0.01
    assert plain.clear_t2.where(darker).max() < 0.75


def test_rain_floods_low_ground_between_the_dates(plain):
    dry = demo(grid(width=512, height=512, metres=20.0), t1=T2, bands=["B11"], pols=["VV"]).compute()
    change = (plain.s1_t2 - plain.s1_t1).sel(pol="VV")
    wet = plain.truth_t2.sel(band="B11") < 0.07
    was_wet = dry.truth_t2.sel(band="B11") < 0.07
    assert 0.05 < (wet & ~was_wet).mean() < 0.20
    assert change.where(wet & ~was_wet).median() < -5
    assert abs(change.where(~wet).median()) < 1
    assert was_wet.where(~wet).sum() < 0.05 * was_wet.sum()


def test_crops_grow_and_are_harvested_with_the_seasons_of_the_hemisphere():
    def greenness(date, crs="EPSG:32649"):
        truth = demo(grid(700, 100, 128, 128, crs=crs), t1=date, t2=date, pols=["VV"]).truth_t2.compute()
        red, near_infrared = truth.sel(band="B4"), truth.sel(band="B8")
        return float(((near_infrared - red) / (near_infrared + red)).median())

    spring, harvest, summer = (datetime.date(2021, month, 20) for month in (4, 6, 8))
    assert greenness(spring) > 0.55
    assert greenness(harvest) < 0.4
    assert greenness(summer) > 0.65
    assert greenness(datetime.date(2021, 2, 19), "EPSG:32749") > 0.65


def test_reflectance_and_backscatter_look_like_the_sentinels(plain):
    truth = plain.truth_t2
    red, green, nir, swir = (truth.sel(band=b) for b in ("B4", "B3", "B8", "B11"))
    vegetation = (nir - red) / (nir + red) > 0.75
    assert vegetation.mean() > 0.2
    for band, low, high in ((green, 0.04, 0.10), (red, 0.02, 0.06), (nir, 0.25, 0.48), (swir, 0.12, 0.25)):
        assert low < band.where(vegetation).median() < high
    assert truth.min() > 0
    assert truth.quantile(0.999) < 0.6
    vv, vh = (plain.s1_t1.sel(pol=p) for p in ("VV", "VH"))
    assert -13 < vv.median() < -9
    assert 5 < (vv - vh).median() < 8
    assert plain.s1_t2.sel(pol="VV").where(swir < 0.05).median() < vv.median() - 6


def test_speckle_is_gamma_of_grd_looks_and_differs_by_date(plain):
    lattice = np.arange(400)
    power = 10 ** (speckle(normal(lattice_hash(lattice, lattice, 7)))[1:-1, 1:-1] / 10)
    assert power.mean() == pytest.approx(1, abs=0.02)
    assert (power.mean() / power.std()) ** 2 == pytest.approx(LOOKS, rel=0.08)
    neighbours = np.corrcoef(power[:, 1:].ravel(), power[:, :-1].ravel())[0, 1]
    assert 0.35 < neighbours < 0.65
    calm = ((plain.s1_t1 - plain.s1_t2).sel(pol="VV").where(plain.truth_t2.sel(band="B8") > 0.3)).std()
    assert 2.5 < calm < 5


def test_any_grid_will_do_but_not_any_request():
    degrees = GeoBox((24, 24), Affine(1e-4, 0, 113.5, 0, -1e-4, 34.7), "EPSG:4326")
    assert np.isfinite(demo(degrees).truth_t2.compute()).all()
    with pytest.raises(RequestError, match="no band 'B10'; it has B1, "):
        demo(grid(), bands=["B10"])
    with pytest.raises(RequestError, match="no polarisation 'HH'"):
        demo(grid(), pols=["HH"])
    with pytest.raises(RequestError, match="chunk is 0"):
        demo(grid(), chunk=0)
    with pytest.raises(StackError, match="not north-up"):
        demo(GeoBox((8, 8), Affine(10, 1, 730_000, 1, -10, 3_850_240), "EPSG:32649"))
