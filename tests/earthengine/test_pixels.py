"""The local server's pixels, through the real client, against ``truth``."""

from datetime import UTC, datetime

import ee
import numpy as np
import pytest
from affine import Affine

from tests.earthengine import catalogue, ground, sentinel1, sentinel2, truth
from tests.earthengine.client import pixels, valued
from tests.earthengine.server import EarthEngineServer

SHAPE = 150, 170
#: West and east of 114°E in either zone, and the southern hemisphere: CRS and upper left corner.
PLACES = {
    "zone 49 west of 114°E": ("EPSG:32649", 770_000, 3_832_000, "113"),
    "zone 49 east of 114°E": ("EPSG:32649", 782_000, 3_832_000, "113"),
    "zone 50 west of 114°E": ("EPSG:32650", 222_000, 3_832_000, "113"),
    "zone 50 east of 114°E": ("EPSG:32650", 232_000, 3_832_000, "113"),
    "zone 36 south": ("EPSG:32736", 691_000, 7_806_000, "6"),
}
#: Scenes of every place: radar, optical 10 m, optical 20 m.
ZHENGZHOU = sorted(truth.find(catalogue.S1_DB, "S1A_IW_GRDH_1SDV_20210720T1028"))
BEIRA = sorted(truth.find(catalogue.S1_DB, "S1B_IW_GRDH_1SDV_20210721T03"))


def place(name: str) -> tuple[str, Affine, tuple[int, int]]:
    crs, x, y, _ = PLACES[name]
    return crs, Affine(10, 0, x, 0, -10, y), SHAPE


def swath_edge(shape: tuple[int, int]) -> tuple[str, Affine, tuple[int, int]]:
    """A grid around the eastern edge of track 113, where two of its slices meet."""
    edge = sentinel1.TRACKS[113].strip(sentinel1.HALF_SWATH, 0, 60_000).exterior.coords
    lon, lat = max(edge)
    x, y = truth.project("EPSG:4326", "EPSG:32649", lon, lat)
    return "EPSG:32649", Affine(10, 0, x - 5 * shape[1], 0, -10, y + 5 * shape[0]), shape


def radar(name: str) -> str:
    return BEIRA[1] if "36" in name else ZHENGZHOU[1]


def optical(name: str) -> str:
    return truth.find(catalogue.S2, *(("20210708", "36KXD") if "36" in name else ("20210729", "50SKD")))[0]


def agree(got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """The same pixels missing and the same values, but for 1 in 1000 on a rounding edge."""
    assert np.isfinite(expected).any()
    assert (np.isnan(got) != np.isnan(expected)).mean() < 1e-3
    off = np.abs(got - expected)
    assert np.nanmean(off > tolerance) < 1e-3, np.nanmax(off)


@pytest.mark.parametrize("name", PLACES)
def test_nearest_is_the_pixel_under_the_centre(ee_client: EarthEngineServer, name: str) -> None:
    where = place(name)
    agree(valued(ee.Image(radar(name)), "VV", *where), truth.nearest(radar(name), "VV", *where), 0.02)
    agree(valued(ee.Image(optical(name)), "B4", *where), truth.nearest(optical(name), "B4", *where), 1)
    agree(valued(ee.Image(optical(name)), "B11", *where), truth.nearest(optical(name), "B11", *where), 1)


@pytest.mark.parametrize("name", PLACES)
def test_bilinear_agrees_with_gdal(ee_client: EarthEngineServer, name: str) -> None:
    where = place(name)
    smooth = ee.Image(radar(name)).resample("bilinear")
    agree(valued(smooth, "VH", *where), truth.bilinear(radar(name), "VH", *where), 0.001)
    smooth = ee.Image(optical(name)).resample("bilinear")
    agree(valued(smooth, "B4", *where), truth.bilinear(optical(name), "B4", *where), 1)
    agree(valued(smooth, "B11", *where), truth.bilinear(optical(name), "B11", *where), 1)


@pytest.mark.parametrize("name", PLACES)
def test_half_a_pixel_would_show(ee_client: EarthEngineServer, name: str) -> None:
    """Against the ground itself, which knows no pixels: a shift by half a pixel would be many times the error."""
    crs, transform, shape = place(name)
    time = datetime(2021, 7, 21 if "36" in name else 20, tzinfo=UTC)
    got = valued(ee.Image(radar(name)).resample("bilinear"), "VV", crs, transform, shape)
    error = np.abs(got - truth.backscatter(crs, transform, shape, "VV", time)).max()
    for shift in (Affine.translation(0.5, 0), Affine.translation(0, 0.5)):
        moved = np.abs(got - truth.backscatter(crs, transform * shift, shape, "VV", time)).max()
        assert moved > 5 * error
    assert error < 0.03


def test_swath_edge_border_noise_and_gap(ee_client: EarthEngineServer) -> None:
    edge = swath_edge((100, 400))
    for day, noisy in (("20170717", True), ("20210708", False)):
        scene = truth.find(catalogue.S1_DB, f"S1A_IW_GRDH_1SDV_{day}T102830")[0]
        got = valued(ee.Image(scene), "VV", *edge)
        agree(got, truth.nearest(scene, "VV", *edge), 0.02)
        assert np.isnan(got).any()
        assert (got == -40).any() == noisy
    west, _, _, north = sentinel1.GAP.bounds
    hole = "EPSG:4326", Affine(0.0002, 0, west - 0.01, 0, -0.0002, north + 0.01), (200, 200)
    got = valued(ee.Image(scene), "VH", *hole)
    assert np.isnan(got).mean() == pytest.approx(0.25, abs=0.01)
    assert np.isnan(got[60:140, 60:140]).all()


def test_calm_water_has_the_noise_of_real_radar(ee_client: EarthEngineServer) -> None:
    """Single pixels of water fall far below what is usable, and each has its value whichever window it is read in."""
    x, y = truth.project("EPSG:4326", "EPSG:32649", *ground.LAKE[:2])
    where = "EPSG:32649", Affine(10, 0, round(x, -1) - 1000, 0, -10, round(y, -1) + 1000), (200, 200)
    water = ground.on_lake(*truth.centres(*where, "EPSG:4326"))
    for polarisation in ("VV", "VH"):
        got = valued(ee.Image(ZHENGZHOU[2]), polarisation, *where)
        agree(got, truth.nearest(ZHENGZHOU[2], polarisation, *where), 0.02)
        part = where[0], where[1] * Affine.translation(67, 31), (50, 60)
        np.testing.assert_array_equal(valued(ee.Image(ZHENGZHOU[2]), polarisation, *part), got[31:81, 67:127])
        if polarisation == "VV":
            assert 0.03 < (got[water] < -30).mean() < 0.36
            assert got[water].min() == ground.NEGATIVE
    # Where speckle outweighs noise, the mean power is the ground's and its spread that of 4.4 looks.
    land = "EPSG:32649", where[1] * Affine.translation(-80, -80), (60, 60)
    got = valued(ee.Image(ZHENGZHOU[2]), "VV", *land)
    ideal = truth.backscatter(*land, "VV", datetime(2021, 7, 20, tzinfo=UTC))
    ratio = 10 ** ((got - ideal) / 10)
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert 1 / ratio.var() == pytest.approx(ground.LOOKS, rel=0.2)


def test_slices_of_a_pass_leave_about_one_pixel_open(ee_client: EarthEngineServer) -> None:
    where = "EPSG:32649", Affine(10, 0, 730_000, 0, -10, 3_846_000), (300, 300)
    slices = ZHENGZHOU[1:3]
    parts = [truth.nearest(scene, "VV", *where) for scene in slices]
    assert all(0.1 < np.isnan(part).mean() < 0.9 for part in parts)
    whole = ee.ImageCollection([ee.Image(scene).select("VV") for scene in slices]).mosaic()
    agree(valued(whole, "VV", *where), truth.mosaic(slices, "VV", *where, truth.nearest), 0.02)
    gap = np.isnan(valued(whole, "VV", *where))
    assert set(gap.sum(0)) <= {1, 2}


def test_mosaic_puts_the_last_on_top(ee_client: EarthEngineServer) -> None:
    where = place("zone 49 west of 114°E")
    scenes = [*truth.find(catalogue.S2, "20210724", "49SGU"), *truth.find(catalogue.S2, "20210729", "49SGU")]
    for order in (scenes, scenes[::-1]):
        stacked = ee.ImageCollection([ee.Image(scene).select("B8") for scene in order]).mosaic()
        agree(valued(stacked, "B8", *where), truth.nearest(order[-1], "B8", *where), 1)


def test_a_masked_pixel_of_the_top_image_lets_the_one_below_through(ee_client: EarthEngineServer) -> None:
    where = place("zone 49 west of 114°E")
    below, top = (ee.Image.constant(value).toFloat().rename("v") for value in (1, 2))
    holed = top.updateMask(ee.Image(ZHENGZHOU[1]).select("VV").gt(-11))
    got = pixels(ee.ImageCollection([below, holed]).mosaic(), *where)["v"]
    assert np.array_equal(got == 2, truth.nearest(ZHENGZHOU[1], "VV", *where) > -11)
    assert set(np.unique(got)) == {1.0, 2.0}


def test_masked_pixels_come_as_zero_and_masks_as_shares(ee_client: EarthEngineServer) -> None:
    edge = swath_edge((60, 600))
    scene = ZHENGZHOU[2]
    smooth = ee.Image(scene).select("VV").resample("bilinear")
    got = pixels(smooth.addBands(smooth.mask().rename("share")), *edge)
    share = got["share"]
    assert share.dtype == np.float32
    assert ((share > 0) & (share < 1)).any()
    assert (got["VV"][share == 0] == 0).all()
    assert (got["VV"][share > 0] < -5).all()


def test_unmask_with_and_without_the_footprint(ee_client: EarthEngineServer) -> None:
    edge = swath_edge((60, 600))
    scene = ee.Image(ZHENGZHOU[2]).select("VV")
    outside = np.isnan(truth.nearest(ZHENGZHOU[2], "VV", *edge))
    kept = valued(scene.unmask(7), "VV", *edge)
    filled = valued(scene.unmask(7, False), "VV", *edge)
    assert (np.isnan(kept) == outside).mean() > 0.98
    assert (filled[outside] == 7).all()
    assert np.isfinite(filled).all()


def test_a_composite_has_no_grid_to_resample_from(ee_client: EarthEngineServer) -> None:
    """resample after mosaic reads degrees, as in Earth Engine: the pattern is gone."""
    where = place("zone 49 west of 114°E")
    scene = ee.Image(ZHENGZHOU[1]).select("VV")
    right = valued(ee.ImageCollection([scene.resample("bilinear")]).mosaic(), "VV", *where)
    wrong = pixels(ee.ImageCollection([scene]).mosaic().resample("bilinear"), *where)["VV"]
    assert np.nanstd(right) > 1
    assert np.std(wrong) < 0.2


def test_linked_scores_and_the_missing_match(ee_client: EarthEngineServer) -> None:
    where = place("zone 49 west of 114°E")
    linked = ee.ImageCollection(catalogue.S2).linkCollection(ee.ImageCollection(catalogue.CLOUD_SCORE), ["cs_cdf"])
    scene = truth.find(catalogue.S2, "20210724", "49SGU")[0]
    one = linked.filter(ee.Filter.eq("system:index", scene.rsplit("/", 1)[1])).first()
    score = scene.replace(catalogue.S2, catalogue.CLOUD_SCORE)
    agree(valued(ee.Image(one), "cs_cdf", *where), truth.nearest(score, "cs_cdf", *where), 0.001)
    none = linked.filter(ee.Filter.eq("system:index", sentinel2.WITHOUT_SCORE)).first()
    assert np.isnan(valued(ee.Image(none), "cs_cdf", *where)).all()
    assert np.isfinite(valued(ee.Image(none), "B3", *where)).all()


def test_coarse_grids_read_the_means_of_the_pyramid(ee_client: EarthEngineServer) -> None:
    scene = truth.find(catalogue.S2, "20210729", "49SGU")[0]
    coarse = "EPSG:32649", Affine(20, 0, 719_960, 0, -20, 3_860_000), (64, 64)
    fine = truth.nearest(scene, "B4", "EPSG:32649", Affine(10, 0, 719_960, 0, -10, 3_860_000), (128, 128))
    agree(valued(ee.Image(scene), "B4", *coarse), fine.reshape(64, 2, 64, 2).mean((1, 3)), 1)


def test_qa60_is_masked_while_esa_left_it_empty(ee_client: EarthEngineServer) -> None:
    where = place("zone 49 west of 114°E")
    for date, masked in (("20210729", False), ("20220709", True), ("20250708", False)):
        scene = truth.find(catalogue.S2, f"/{date}", "50SKD")[0]
        assert np.isnan(valued(ee.Image(scene), "QA60", *where)).all() == masked


def test_the_older_generation_of_a_duplicate_is_brighter(ee_client: EarthEngineServer) -> None:
    where = place("zone 49 west of 114°E")
    twins = truth.find(catalogue.S2, "20210709", "49SGU")
    found = [ee.Image(scene) for scene in twins]
    made = [image.get("PROCESSING_BASELINE").getInfo() for image in found]
    old, new = (valued(found[i], "B3", *where) for i in np.argsort(made))
    assert np.median(old - new) == pytest.approx(300, abs=1)


def test_dtypes_are_the_smallest_that_hold_the_range(ee_client: EarthEngineServer) -> None:
    where = place("zone 49 west of 114°E")
    radar, optical = ee.Image(ZHENGZHOU[1]), ee.Image(truth.find(catalogue.S2, "20210729", "49SGU")[0])
    cases = {
        "<f8": radar.select("VV"),
        "<f4": radar.select("VV").toFloat(),
        "<u2": optical.select("B3"),
        "|u1": optical.select("B3").gt(1000),
        "<i4": optical.select("B3").subtract(1000),
        "|i1": ee.Image.constant(-1),
    }
    for dtype, image in cases.items():
        assert pixels(image, *where).dtype[0] == np.dtype(dtype), dtype
