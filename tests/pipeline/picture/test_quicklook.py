"""The quicklook shows inputs and result so that they can be compared, and nothing missing as if it were dark."""

import io
import time
from datetime import date

import matplotlib.image
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.files import publish
from crgen.pipeline.cog.profile import RasterProfile, display_bands
from crgen.pipeline.picture.quicklook import Panel, arrange, draw_quicklook, metres_across, product_panels, stretch_of
from crgen.pipeline.picture.thumbnail import InputThumbnails
from crgen.pipeline.tiling.quality import COLOURS, Quality
from tests.pipeline.cog.rasters import write_cog

BANDS = ("B2", "B3", "B4", "B8")


def grid(shape, pixel=10.0, left=500_000, top=4_000_000, crs="EPSG:32631"):
    return GeoBox(shape, Affine(pixel, 0, left, 0, -pixel, top), crs)


def panels_of(shape, *, truth=True):
    rng = np.random.default_rng(0)
    image = rng.uniform(0.02, 0.3, (*shape, 3)).astype("float32")
    radar = rng.uniform(-20, -5, shape).astype("float32")
    quality = rng.integers(1, 4, shape).astype("float32")
    panels = [
        Panel("t1 optical, 10 Jul 2021", image + 0.5, "optical", "Sentinel-2 · B4 B3 B2 true colour"),
        Panel("t1 radar, 10 Jul 2021", radar, "radar", "Sentinel-1 VV"),
        Panel("t2 radar, 22 Jul 2021", radar - 3, "radar", "Sentinel-1 VV"),
        Panel("t2 result, 22 Jul 2021", image, "optical", "origin: see quality · B4 B3 B2 true colour"),
        Panel("t2 quality, 22 Jul 2021", quality, "quality", "where each pixel comes from"),
    ]
    return panels + [Panel("t2 truth, 22 Jul 2021", image, "optical", "cloud-free")] * truth, [image]


def draw(path, panels, like, geobox):
    shares = {Quality.OBSERVED: 0.5, Quality.GENERATED: 0.5}
    drawn = draw_quicklook(path, panels=panels, title="A place", geobox=geobox, stretch_like=like, shares=shares)
    publish([(drawn, path)])
    return matplotlib.image.imread(io.BytesIO(path.read_bytes()), format="png")


def share_of(picture, colour, tolerance=1.5 / 255):
    return float((np.abs(picture[..., :3] - np.array(colour)) < tolerance).all(axis=-1).mean())


@pytest.mark.parametrize("shape", [(300, 300), (60, 700), (700, 60), (3, 4), (1, 1)])
@pytest.mark.parametrize("truth", [True, False])
def test_any_shape_is_drawn_at_a_size_one_can_look_at(tmp_path, shape, truth):
    panels, like = panels_of(shape, truth=truth)
    start = time.perf_counter()
    picture = draw(tmp_path / "a.png", panels, like, grid(shape))
    assert time.perf_counter() - start < 10  # alone: below 1
    height, width = picture.shape[:2]
    assert 300 < width <= 2600
    assert 300 < height <= 1700
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    panels, like = panels_of((80, 90))
    draw(tmp_path / "a.png", panels, like, grid((80, 90)))
    draw(tmp_path / "b.png", panels, like, grid((80, 90)))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_missing_pixels_are_hatched_not_black(tmp_path):
    image = np.full((50, 50, 3), np.nan, "float32")
    like = [np.random.default_rng(0).random((50, 50, 3), dtype="float32")]
    picture = draw(tmp_path / "a.png", [Panel("t1 optical", image, "optical")], like, grid((50, 50)))
    assert share_of(picture, (0, 0, 0), 0.05) < 0.01
    assert share_of(picture, (237 / 255,) * 3) > 0.4
    assert share_of(picture, (184 / 255,) * 3, 0.1) > 0.03


def test_a_cloud_is_white_under_the_stretch_of_the_result(tmp_path):
    like = [np.random.default_rng(0).uniform(0.02, 0.3, (50, 50, 3)).astype("float32")]
    cloud = Panel("t1 optical", np.full((50, 50, 3), 0.8, "float32"), "optical")
    dark = Panel("t1 optical", np.full((50, 50, 3), 0.02, "float32"), "optical")
    assert share_of(draw(tmp_path / "a.png", [cloud], like, grid((50, 50))), (1, 1, 1)) > 0.95
    assert share_of(draw(tmp_path / "b.png", [dark], like, grid((50, 50))), (0, 0, 0), 0.02) > 0.6


def test_quality_is_drawn_in_the_colours_of_its_classes(tmp_path):
    classes = np.full((40, 40), Quality.OBSERVED, "float32")
    classes[:20] = Quality.GENERATED_RADAR_ONLY
    picture = draw(tmp_path / "a.png", [Panel("t2 quality", classes, "quality")], [], grid((40, 40)))
    for quality in (Quality.OBSERVED, Quality.GENERATED_RADAR_ONLY):
        assert share_of(picture, np.array(COLOURS[quality][:3]) / 255) > 0.3


def test_stretch_ignores_what_is_missing_and_does_not_amplify_noise():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (200, 200, 3)).astype("float32")
    image[:100] = np.nan
    np.testing.assert_allclose(stretch_of([image], 0.05), [[0.02, 0.98]] * 3, atol=0.01)
    flat = np.full((20, 20), 0.1, "float32")
    np.testing.assert_allclose(stretch_of([flat], 0.05), [[0.075, 0.125]], atol=1e-6)
    assert np.isfinite(stretch_of([np.full((5, 5, 3), np.nan, "float32")], 0.05)).all()


def test_scale_is_that_of_the_ground():
    assert metres_across(grid((100, 200))) == pytest.approx(2000, rel=1e-3)
    degrees = grid((100, 200), pixel=0.001, left=10, top=60.05, crs="EPSG:4326")
    assert metres_across(degrees) == pytest.approx(0.2 * 111_320 * np.cos(np.radians(60)), rel=5e-3)


@pytest.mark.parametrize(
    ("bands", "named"),
    [(BANDS, "B4 B3 B2 true colour"), (("B11", "B8", "B3"), "B11 B8 B3 false colour"), (("B8",), "B8")],
)
def test_panels_of_a_product_say_day_sensor_and_bands(tmp_path, bands, named):
    shape, count = (40, 60), len(bands)
    rng = np.random.default_rng(0)
    radar = rng.uniform(-20, -5, (2, *shape)).astype("float32")
    optical = rng.random((count, *shape), dtype="float32")
    inputs = InputThumbnails(shape, bands, bands, "VV")
    inputs.put(0, 0, inputs.reduce(0, 0, {"s1_t1": radar, "s1_t2": radar, "s2_t1": optical}))
    dn = (optical * 9999 + 1).astype("uint16")
    write_cog(tmp_path / "a.tif", RasterProfile(grid(shape), bands, "uint16", 0, scale=1e-4), dn)
    quality = np.full((1, *shape), Quality.GENERATED, "uint8")
    write_cog(tmp_path / "q.tif", RasterProfile(grid(shape), ("quality",), "uint8", 0, colours=COLOURS), quality)

    panels, like = product_panels(
        inputs,
        result=tmp_path / "a.tif",
        quality=tmp_path / "q.tif",
        t1=date(2021, 7, 1),
        t2=date(2021, 7, 22),
        days={"s2_t1": [date(2021, 7, 1)], "s1_t1": [date(2021, 6, 28), date(2021, 6, 29), date(2021, 7, 3)]},
        truth=inputs.optical("s2_t1", display_bands(bands)),
    )
    assert [p.title for p in panels] == [
        "t1 optical, 1 Jul 2021",
        "t1 radar, 28 Jun 2021 to 3 Jul 2021 for 1 Jul 2021",
        "t2 radar, 22 Jul 2021",
        "t2 result, 22 Jul 2021",
        "t2 quality, 22 Jul 2021",
        "t2 truth, 22 Jul 2021",
    ]
    assert all(named in p.caption for p in panels if p.kind == "optical")
    np.testing.assert_allclose(like[0], panels[-1].image, atol=2e-4)
    np.testing.assert_allclose(panels[1].image, radar[0], rtol=1e-5)
    draw(tmp_path / "a.png", panels, like, grid(shape))


def test_false_colour_stands_beside_true_colour_each_under_a_stretch_of_its_own(tmp_path):
    shape, opened, made = (40, 60), ("B2", "B3", "B4", "B8", "B11", "B12"), ("B11", "B2", "B8", "B3", "B4")
    rng = np.random.default_rng(0)
    optical = rng.uniform(0.02, 0.1, (len(opened), *shape)).astype("float32")
    optical[3:] *= 5
    radar = rng.uniform(-20, -5, (2, *shape)).astype("float32")
    inputs = InputThumbnails(shape, opened, made, "VV")
    inputs.put(0, 0, inputs.reduce(0, 0, {"s1_t1": radar, "s1_t2": radar, "s2_t1": optical}))
    dn = np.stack([optical[opened.index(band)] for band in made]) * 1e4
    write_cog(tmp_path / "a.tif", RasterProfile(grid(shape), made, "uint16", 0, scale=1e-4), dn.astype("uint16"))
    quality = np.full((1, *shape), Quality.GENERATED, "uint8")
    write_cog(tmp_path / "q.tif", RasterProfile(grid(shape), ("quality",), "uint8", 0, colours=COLOURS), quality)
    days = {"t1": date(2021, 7, 1), "t2": date(2021, 7, 22), "days": {}, "truth": np.moveaxis(optical[2::-1], 0, -1)}
    panels, like = product_panels(inputs, result=tmp_path / "a.tif", quality=tmp_path / "q.tif", **days)
    shown = [(panel.title.split(",")[0], panel.caption, panel.composite) for panel in panels]
    true, false = "B4 B3 B2 true colour", "B11 B8 B3 false colour"
    assert shown == [
        ("t1 optical", f"Sentinel-2 · {true}", 0),
        ("t1 optical", f"Sentinel-2 · {false}", 1),
        ("t1 radar", "Sentinel-1 VV", 0),
        ("t2 radar", "Sentinel-1 VV", 0),
        ("t2 result", f"origin: see quality · {true}", 0),
        ("t2 result", f"origin: see quality · {false}", 1),
        ("t2 quality", "where each pixel comes from", 0),
        ("t2 truth", f"cloud-free · {true}", 0),
    ]
    for panel, bands in ((panels[0], ("B4", "B3", "B2")), (panels[1], ("B11", "B8", "B3"))):
        expected = np.stack([optical[opened.index(band)] for band in bands], -1)
        np.testing.assert_allclose(panel.image, expected, rtol=1e-5)
    assert like[1].max() > 4 * like[0].max()
    dark = [panel for panel in panels if panel.title.startswith("t2 result")]
    picture = draw(tmp_path / "a.png", dark, like, grid(shape))
    assert share_of(picture, (0, 0, 0), 0.02) < 0.05, "no panel is black under the stretch of another"


@pytest.mark.parametrize("aspect", [0.1, 0.3, 0.6, 1.0, 1.7, 4.0, 10.0])
@pytest.mark.parametrize("count", [7, 8])
def test_no_row_ends_between_the_two_composites_of_an_image(aspect, count):
    columns, width, height = arrange(count, aspect, beside=(0, 4))
    assert 1 % columns
    assert 5 % columns
    assert min(width, height) > 0
