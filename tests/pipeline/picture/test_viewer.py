"""The page shows a map in one file: to swipe, to switch layers, by keyboard and in print, whatever names there are."""

import json
import re

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import crgen.pipeline.picture.viewer as viewer
from crgen.files import publish
from crgen.pipeline.flood.polygons import write_polygons
from crgen.pipeline.picture.viewer import LARGEST, Layer, write_page
from tests.pipeline.flood.test_polygons import write_water
from tests.pipeline.picture.browser import chromium  # noqa: F401

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\"'& Ü"
GRID = GeoBox((300, 400), Affine(10, 0, 709_280, 0, -10, 3_850_000), "EPSG:32649")


def colour(value: int, alpha: int = 255, shape: tuple[int, int] = (150, 200)) -> np.ndarray:
    return np.full((*shape, 4), (value, 255 - value, 90, alpha), np.uint8)


def page_at(folder, name: str = "map", layers: list[Layer] | None = None, outlines=None, grid: GeoBox = GRID):
    path = folder / "map.html"
    layers = layers or [
        Layer("t1", f"t1 {name}", f"t1 of {name}", colour(0)),
        Layer("t2", f"t2 {name}", f"t2 of {name}", colour(250)),
        Layer("radar", f"radar {name}", "radar", colour(120)),
        Layer("water", "Probability of water", "water", colour(30, 100), "overlay", [("100 %", "#08306b")]),
    ]
    written = write_page(
        path,
        title=name,
        geobox=grid,
        layers=layers,
        outlines=outlines,
        first={"Flooded": "1.2 km²", name: name},
        notes=["this place is unlike the training", name],
        facts={name: name},
        scenes=[{"what": "radar t1", "day": "2021-07-10", "platform": "S1A", "orbit": "40", "id": name}],
        repeat=f"crgen fill --manifest {name}",
        cite=name,
        licence="Contains modified Copernicus Sentinel data 2021",
    )
    publish([(written, path)])
    return path


@pytest.fixture
def outlines(tmp_path):
    t2 = np.zeros((300, 400))
    t2[100:200, 50:350] = 100
    t2[140:160, 100:300] = 0
    path = tmp_path / "map_flood.gpkg"
    publish([(write_polygons(path, write_water(tmp_path, t2, np.zeros_like(t2)), "2021-07-24", "2021-07-22"), path)])
    return path


@pytest.fixture
def opened(chromium, tmp_path, outlines):  # noqa: F811
    """The page in a browser, and everything it asked for or complained of."""
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    page.asked, page.complained = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda said: page.complained.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.complained.append(str(error)))
    page.goto(page_at(tmp_path, outlines=outlines).as_uri())
    yield page
    page.close()


def at(page, x: float, y: float) -> tuple[int, int, int]:
    """The colour at a share of the map's width and height."""
    import io

    from PIL import Image

    box = page.locator("#view").bounding_box()
    clip = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"], "width": 1, "height": 1}
    with Image.open(io.BytesIO(page.screenshot(clip=clip))) as image:
        return image.convert("RGB").getpixel((0, 0))


def near(found: tuple[int, int, int], red: int) -> bool:
    return abs(found[0] - red) < 12


def test_names_are_text_wherever_they_stand(tmp_path) -> None:
    content = page_at(tmp_path, HOSTILE).read_text()
    assert "<script>window.hacked" not in content
    assert "<img src=x" not in content
    assert content.count("&lt;script&gt;window.hacked=1") >= 5


def test_hostile_names_run_nothing(chromium, tmp_path) -> None:  # noqa: F811
    page = chromium.new_page()
    page.goto(page_at(tmp_path, HOSTILE).as_uri())
    assert page.title() == HOSTILE
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").inner_text() == HOSTILE
    page.close()


def test_it_asks_for_nothing_else_and_has_no_error(opened) -> None:
    assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in opened.asked if url.startswith("file:")]) == 1
    assert opened.complained == []


def test_the_swipe_moves_where_the_two_images_meet(opened) -> None:
    assert near(at(opened, 0.25, 0.9), 0)
    assert near(at(opened, 0.75, 0.9), 250)
    opened.locator("#swipe").fill("900")
    assert near(at(opened, 0.75, 0.9), 0)
    opened.locator("#view").focus()
    for _ in range(45):
        opened.keyboard.press("ArrowLeft")
    assert near(at(opened, 0.25, 0.9), 250)


def test_another_image_can_be_chosen_and_layers_laid_over(opened) -> None:
    opened.get_by_label("Right", exact=True).select_option("radar")
    assert near(at(opened, 0.75, 0.9), 120)
    opened.get_by_label("Probability of water").check()
    assert not near(at(opened, 0.75, 0.9), 120)
    assert opened.locator("#outlines").is_visible()
    opened.get_by_role("checkbox", name="Outlines of water").uncheck()
    assert not opened.locator("#outlines").is_visible()


def test_the_pointer_reads_real_coordinates_zoomed_or_not(opened) -> None:
    box = opened.locator("#view").bounding_box()

    def told(x: float, y: float) -> tuple[float, float]:
        opened.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        lat, lon = re.match(r"([\d.]+)° N, ([\d.]+)° E", opened.locator("#where").inner_text()).groups()
        return float(lon), float(lat)

    to_lonlat = Transformer.from_crs("EPSG:32649", "EPSG:4326", always_xy=True)
    assert told(0.25, 0.5) == pytest.approx(to_lonlat.transform(709_280 + 1000, 3_850_000 - 1500), abs=1e-4)
    opened.locator("#view").focus()
    opened.keyboard.press("+")
    assert told(0.5, 0.5) == pytest.approx(to_lonlat.transform(709_280 + 2000, 3_850_000 - 1500), abs=1e-4)


def test_the_answers_and_what_to_know_first_stand_above_the_map(opened) -> None:
    top = opened.locator("#view").bounding_box()["y"]
    for said in ("1.2 km²", "this place is unlike the training"):
        assert opened.get_by_text(said, exact=True).bounding_box()["y"] < top


def test_the_scale_says_how_long_its_line_is(opened) -> None:
    def said() -> tuple[float, float]:
        bar = opened.locator("#scale")
        number, unit = bar.inner_text().split()
        return float(number) * {"m": 1, "km": 1000}[unit], bar.bounding_box()["width"]

    width = opened.locator("#view").bounding_box()["width"]
    length, shown = said()
    assert shown / width == pytest.approx(length / 4000, rel=0.02)
    opened.locator("#view").focus()
    opened.keyboard.press("+")
    nearer, shown = said()
    assert nearer <= length
    assert shown / width == pytest.approx(1.5 * nearer / 4000, rel=0.02)


def test_a_touch_reads_a_place_and_leaves_the_page_to_scroll(chromium, tmp_path) -> None:  # noqa: F811
    context = chromium.new_context(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(page_at(tmp_path).as_uri())
    box = page.locator("#view").bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert re.match(r"[\d.]+° N, [\d.]+° E · row 1[45]\d, column (9|10)\d", page.locator("#where").inner_text())

    def action() -> str:
        return page.locator("#view").evaluate("view => getComputedStyle(view).touchAction")

    assert action() == "pan-y"
    page.get_by_role("button", name="Zoom in").click()
    assert action() == "none"
    context.close()


def test_a_narrow_screen_and_print_hold_everything(opened) -> None:
    opened.set_viewport_size({"width": 360, "height": 700})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 360
    assert opened.locator("#view").bounding_box()["width"] > 250
    opened.emulate_media(media="print")
    assert not opened.locator("#view").is_visible()
    printed = opened.locator(".print img")
    assert printed.count() == 4, "overlays too"
    assert all(printed.nth(i).evaluate("image => image.naturalWidth") == 200 for i in range(3))


def test_axe_finds_nothing(opened) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # axe runs as a script of the page's own, which the page's policy allows
    for width in (1200, 360):
        opened.set_viewport_size({"width": width, "height": 800})
        results = axe.run(opened)
        assert results.violations_count == 0, results.generate_report()


def test_outlines_are_drawn_where_they_lie(tmp_path, outlines) -> None:
    content = page_at(tmp_path, outlines=outlines).read_text()
    path = re.search(r'<path d="(M[^"]+)"', content)[1]
    points = np.array([[float(v) for v in point.split()] for point in re.findall(r"[\d.]+ [\d.]+", path)])
    assert points.min(0).tolist() == [50, 100]
    assert points.max(0).tolist() == [350, 200]
    assert path.count("M") == 2, "the hole too"


def test_a_page_of_noise_stays_small(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(viewer, "LARGEST", 400_000)
    rng = np.random.default_rng(0)
    layers = [Layer(f"n{i}", "noise", "noise", rng.integers(0, 256, (400, 400, 4), np.uint8)) for i in range(3)]
    assert page_at(tmp_path, layers=layers).stat().st_size <= 400_000 < LARGEST


def test_a_page_of_countless_outlines_and_holes_stays_small(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(viewer, "LARGEST", 100_000)
    t2 = np.full((300, 400), 100)
    t2[1:-1:4, 1:-1:4] = t2[2:-1:4, 1:-1:4] = t2[1:-1:4, 2:-1:4] = t2[2:-1:4, 2:-1:4] = 0
    path = tmp_path / "map_flood.gpkg"
    publish([(write_polygons(path, write_water(tmp_path, t2, np.zeros_like(t2)), "2021-07-24", "2021-07-22"), path)])
    content = page_at(tmp_path, outlines=path).read_text()
    assert len(content.encode()) <= 100_000
    assert '<path d="M' in content, "the outline without its holes"


def test_coordinates_go_on_across_180_degrees(tmp_path) -> None:
    grid = GeoBox((300, 400), Affine(10, 0, 816_000, 0, -10, 8_000_000), "EPSG:32760")
    place = json.loads(re.search(r'id="place">(.*)</script>', page_at(tmp_path, grid=grid).read_text())[1])
    lon = np.array(place["grid"])[..., 0]
    assert lon.min() < 180 < lon.max()
    assert np.abs(np.diff(lon)).max() < 0.01


def test_one_pixel_has_a_page(tmp_path) -> None:
    one = GeoBox((1, 1), Affine(10, 0, 709_280, 0, -10, 3_850_000), "EPSG:32649")
    layers = [Layer(f"i{i}", "one", "one", colour(9, shape=(1, 1))) for i in range(2)]
    assert len(page_at(tmp_path, layers=layers, grid=one).read_bytes()) < 50_000
