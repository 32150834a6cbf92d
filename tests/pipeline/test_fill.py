"""`crgen.fill` leaves a whole, valid, georeferenced product, or nothing."""

import datetime
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pystac
import pytest
import rasterio
import xarray as xr
from PIL import Image
from rio_cogeo.cogeo import cog_validate

import crgen
from crgen.batch.products.collection import write_listing
from crgen.errors import OutputError, RequestError, StackError
from crgen.model.build import build_generator
from crgen.model.card import WaterErrors
from crgen.model.config import preset
from crgen.model.device import MAX_DRIFT
from crgen.model.find import read_card
from crgen.model.weights import load_model, save_weights
from crgen.pipeline.flood.polygons import LAYERS
from crgen.pipeline.picture.page import Sheet
from crgen.pipeline.product.result import Result
from crgen.pipeline.product.selfcheck import check_line
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.plan import plan, rate_of
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.tiling.hidden import FEWEST
from crgen.pipeline.tiling.quality import GENERATED_CLASSES, Quality
from crgen.pipeline.tiling.water import told_by_image
from tests.pipeline.picture.browser import chromium  # noqa: F401
from tests.products import files_of

AOI = "113.53,34.71,113.542,34.719"
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
DAYS = {"t1": "2021-07-10", "t2": "2021-07-22"}


@pytest.fixture(scope="module")
def product(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("product") / "zhengzhou.tif"
    return crgen.fill(aoi=AOI, **DAYS, source="demo", out=out, weights=str(tiny_weights))


def test_the_product_is_its_files_and_nothing_else(product: Result) -> None:
    assert {path.name for path in product.paths.folder.iterdir()} == set(files_of("zhengzhou"))


def test_the_reflectance_is_a_strict_cog_on_the_areas_grid(product: Result) -> None:
    valid, errors, warnings = cog_validate(product.paths.reflectance, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    grid = read_area(AOI).geobox
    with rasterio.open(product.paths.reflectance) as cog:
        assert cog.transform.almost_equals(grid.affine, 1e-9)
        assert (cog.crs.to_epsg(), cog.shape) == (32649, grid.shape)
        assert cog.descriptions == BANDS
        assert (cog.dtypes[0], cog.nodata, cog.scales[0], cog.offsets[0]) == ("uint16", 0, 1e-4, 0)
        assert [c.name for c in cog.colorinterp] == ["blue", "green", "red", *["undefined"] * 3]
        assert "STATISTICS_MEAN" in cog.tags(1)
        assert cog.tags()["CRGEN_T2"] == "2021-07-22"
        assert (cog.read() >= 1).all()
    assert cog_validate(product.paths.quality, strict=True)[0]


def test_the_result_opens_as_xarray_and_observed_pixels_are_the_satellites(product: Result) -> None:
    grid = read_area(AOI).geobox
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    stack = open_demo(grid, *days, pols=("VV", "VH"), bands=BANDS).compute()
    image, quality = product.reflectance.compute(), product.quality.compute()
    assert tuple(image.band.values) == BANDS
    seen = (quality == Quality.OBSERVED).values
    assert seen.any()
    np.testing.assert_allclose(image.values[:, seen], stack["s2_t2"].values[:, seen], atol=0.51e-4)
    assert not (stack["clear_t2"].values[seen] < 0.6).any()
    assert product.error is not None


def test_a_place_unlike_the_training_is_said_so_before_all_else(tiny_weights: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_weights))
    usual = {"VV": (-60.0, -50.0), "B8": (0.0, 1.0)}
    weights = tmp_path / "elsewhere.safetensors"
    save_weights(weights, model.generator, model.card.model_copy(update={"usual": usual}))
    result = crgen.fill(aoi=AOI, **DAYS, source="demo", out=tmp_path / "map.tif", weights=str(weights))
    assert result.notes[0].startswith(
        "this place is unlike the training: VV at t2 lies above the usual -60 to -50 dB over 100 % "
    )
    unlike = json.loads(result.paths.item.read_text())["properties"]["crgen:unlike_training"]
    assert unlike == {"VV above": 1.0}


@pytest.mark.usefixtures("drawn_lightly")
def test_observed_pixels_are_the_satellites_in_every_band_and_no_band_depends_on_which_are_made_beside_it(
    product: Result, tiny_weights: Path, tmp_path: Path
) -> None:
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    request = {"aoi": AOI, **DAYS, "source": "demo", "weights": str(tiny_weights)}
    every = crgen.fill(**request, bands="all", out=tmp_path / "all.tif", chunk=96).reflectance.compute()
    bands = tuple(every.band.values)
    assert len(bands) == 10
    stack = open_demo(read_area(AOI).geobox, *days, pols=("VV",), bands=bands).compute()
    seen = (product.quality == Quality.OBSERVED).values
    np.testing.assert_allclose(every.values[:, seen], stack["s2_t2"].values[:, seen], atol=0.51e-4)
    usual = product.reflectance.compute()
    assert (every.sel(band=list(BANDS)).values == usual.values).all()
    two = crgen.fill(**request, bands=["B12", "B3"], out=tmp_path / "two.tif").reflectance.compute()
    assert (two.values == usual.sel(band=["B12", "B3"]).values).all()


def test_the_item_names_weights_inputs_settings_and_counts(product: Result) -> None:
    item = pystac.Item.from_file(str(product.paths.item))
    item.stac_extensions = []
    item.validate()
    raw = json.loads(product.paths.item.read_text())["properties"]
    assert raw["crgen:manifest"]["source"] == "demo"
    assert raw["crgen:settings"]["aoi"] == AOI
    assert raw["crgen:settings"]["bands"] == list(BANDS)
    assert raw["crgen:settings"]["s1_calibrated"] is True
    assert len(raw["crgen:model"]["sha256"]) == 64
    assert sum(raw["crgen:counts"].values()) == product.tally.inside
    assert raw["crgen:error"]["generated"]["RMSE"] == pytest.approx(product.error["generated"]["RMSE"])


def test_the_water_is_a_strict_cog_of_per_cent_at_both_dates(product: Result) -> None:
    assert cog_validate(product.paths.water, strict=True)[0]
    with rasterio.open(product.paths.water) as cog, rasterio.open(product.paths.reflectance) as image:
        assert cog.descriptions == ("water", "water_t1")
        assert (cog.dtypes[0], cog.nodata, cog.units[0]) == ("uint8", 255, "%")
        assert (cog.transform, cog.shape) == (image.transform, image.shape)
        assert cog.tags()["TITLE"] == "Probability of water on 2021-07-22, and on 2021-07-10"
    water = product.water.compute()
    assert tuple(water.band.values) == ("water", "water_t1")
    assert ((water >= 0) & (water <= 100)).sel(band="water").all()
    seen = (product.quality == Quality.OBSERVED).values
    assert (water.sel(band="water").values[seen] == 0).any(), "dry ground that was seen"
    item = json.loads(product.paths.item.read_text())
    assert item["assets"]["water"]["href"] == "./zhengzhou_water.tif"
    assert item["assets"]["water"]["roles"] == ["data", "probability"]


def test_the_flood_has_outlines_and_an_area_that_the_item_repeats(product: Result) -> None:
    assert {str(name) for name in pyogrio.list_layers(product.paths.flood)[:, 0]} == set(LAYERS)
    item = json.loads(product.paths.item.read_text())
    assert item["assets"]["flood"]["type"] == "application/geopackage+sqlite3"
    assert item["properties"]["crgen:water"] == product.areas.to_json()
    water = product.water.compute() / 100
    now, before = water.sel(band="water"), water.sel(band="water_t1")
    pixels = float(product.areas.flooded + product.areas.before + product.areas.unknown_before) / 100
    assert pixels == pytest.approx(float(now.sum()), rel=0.01)
    known = (before <= 0.1) | (before >= 0.9)
    assert product.areas.flooded / 100 == pytest.approx(float((now * (1 - before)).where(known).sum()), rel=0.02)
    assert product.areas.interval is None, "these weights do not say how far they are off"


def test_the_page_shows_inputs_result_and_overlays_and_says_what_the_item_says(product: Result) -> None:
    page = product.paths.page.read_text()
    images = re.findall(r'<option value="[^"]+"[^>]*>([^<]+)', page)
    images = images[: len(images) // 2]  # the same on either side
    assert [" ".join(name.split(",")[0].split()) for name in images[:3]] == ["t1 optical", "t2 result", "t2 observed"]
    assert {"t1 radar", "t2 radar"} <= {name.split(",")[0] for name in images}
    overlays = re.findall(r'data-over="([^"]+)"', page)
    assert overlays == ["water", "error", "quality"]
    assert 'id="outlines"' in page
    properties = json.loads(product.paths.item.read_text())["properties"]
    for said in (
        product.areas.text,
        check_line(properties["crgen:self_check"]),
        "crgen fill --manifest zhengzhou.json",
    ):
        assert html.escape(said) in page
    assert "10.1016/j.isprsjprs.2026.03.042" in page
    assert "it shows no place on Earth" in page, "of the demo; else Copernicus' line"


def test_axe_finds_nothing_on_the_page(product: Result, chromium) -> None:  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = chromium.new_page()
    page.goto(product.paths.page.as_uri())
    for box in page.locator("[data-over]").all():
        box.check()
    results = axe.run(page)
    assert results.violations_count == 0, results.generate_report()
    page.close()


def test_every_file_of_generated_pixels_says_so_and_the_item_says_how_much(product: Result) -> None:
    source = "compositeWithTrainedAlgorithmicMedia"
    for path in (product.paths.reflectance, product.paths.water, product.paths.half_width):
        with rasterio.open(path) as cog:
            packet = cog.tags(ns="xml:XMP")["xml:XMP"]
            assert source in packet
            assert "weights tiny" in packet
            assert all("generated" in cog.tags(band)["CRGEN_ORIGIN"] for band in cog.indexes)
    for path, key in ((product.paths.quicklook, "XML:com.adobe.xmp"), (product.paths.thumbnail, "xmp")):
        with Image.open(path) as image:
            assert source in str(image.info[key])
    properties = json.loads(product.paths.item.read_text())["properties"]
    observed = float((product.quality == Quality.OBSERVED).mean())
    assert properties["crgen:generated_share"] == pytest.approx(1 - observed, abs=1e-5)


def test_the_error_is_a_strict_cog_where_pixels_were_generated(product: Result) -> None:
    assert cog_validate(product.paths.half_width, strict=True)[0]
    with rasterio.open(product.paths.half_width) as cog:
        assert cog.descriptions == BANDS
        assert (cog.dtypes[0], cog.nodata, cog.scales[0]) == ("uint16", 65535, 1e-4)
    quality, width = product.quality.compute().values, product.half_width.compute().values
    made = np.isin(quality, [*GENERATED_CLASSES, Quality.BLENDED])
    assert (np.isfinite(width).all(0) == made).all()
    assert (np.isnan(width).all(0) == ~made).all()
    band = json.loads(product.paths.item.read_text())["assets"]["error"]["bands"][0]
    assert band["description"] == "Sentinel-2 B2 half-width of the 90 % interval of surface reflectance"


def test_the_map_checks_itself_where_t2_was_seen(product: Result) -> None:
    """Untrained weights cannot be right, and the intervals are as wide as that."""
    assert product.check["checked"]
    assert 0 < product.check["blocks"] <= FEWEST
    held = json.loads(product.paths.item.read_text())["properties"]["crgen:self_check"]
    assert held == product.check
    assert product.check["generated"]["RMSE"] == pytest.approx(product.error["generated"]["RMSE"], rel=0.5)
    assert held["generated"]["bias"].keys() == set(BANDS)


@pytest.mark.usefixtures("drawn_lightly")
def test_weights_that_say_how_far_they_are_off_give_the_area_an_interval(tiny_weights: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_weights))
    errors = WaterErrors(slope=0.5, near=0.5, reach=300, scene=0.1)
    weights = tmp_path / "calibrated.safetensors"
    save_weights(weights, model.generator, model.card.model_copy(update={"water": errors}))
    request = {"aoi": AOI, **DAYS, "source": "demo", "generate_all": True}
    raw = crgen.fill(**request, weights=str(tiny_weights), out=tmp_path / "raw.tif").water.compute() / 100
    result = crgen.fill(**request, weights=str(weights), out=tmp_path / "a.tif")
    low, high = result.areas.interval
    assert low < result.areas.flooded < high
    assert result.areas.to_json()["flooded_90_km2"] == pytest.approx([low / 1e6, high / 1e6], abs=1e-6)
    p, read = raw.sel(band="water").values, result.water.sel(band="water").values / 100
    # Each window is read by itself, then windows are blended: a half that two make of .2 and .8 may move a little.
    assert (np.abs(read - 0.5) <= np.abs(p - 0.5) + 0.03).all(), "less certain"
    sure = np.abs(p - 0.5) > 0.03
    assert ((read - 0.5) * (p - 0.5) >= 0)[sure].all(), "but never the other"
    assert np.abs(read - 0.5).mean() < 0.8 * np.abs(p - 0.5).mean()


def test_a_product_that_is_replaced_by_one_without_water_leaves_none(tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "a_water.tif").write_bytes(b"earlier")
    config = preset("paper", bands=("B4", "B3", "B2"))
    small = replace(config, stem=8, width=8, embed=(8, 8, 8, 8), depths=(1, 1, 1, 1), head_dim=8, decoder=(8, 8, 8, 8))
    card = read_card(tiny_weights).model_copy(update={"generator": small, "preset": "paper"})
    weights = tmp_path / "paper.safetensors"
    save_weights(weights, build_generator(small, 0), card)
    request = {"aoi": AOI, **DAYS, "source": "demo", "out": tmp_path / "a.tif", "weights": str(weights)}
    result = crgen.fill(**request, overwrite=True)
    assert result.water is None
    lacking = ("_water.tif", "_error.tif", "_flood.gpkg", "_false_colour.qml", "_water.qml", "_error.qml")
    made = {path.name for path in tmp_path.glob("a*")}
    assert made == set(files_of("a")) - {f"a{ending}" for ending in lacking}


def test_the_picture_shows_every_panel(product: Result) -> None:
    with Image.open(product.paths.quicklook) as image:
        assert min(image.size) > 600
        assert np.asarray(image.convert("L")).std() > 20


@pytest.mark.usefixtures("drawn_lightly")
def test_float32_keeps_what_uint16_rounds(product: Result, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "float.tif"
    exact = crgen.fill(aoi=AOI, **DAYS, source="demo", out=out, weights=str(tiny_weights), dtype="float32")
    with rasterio.open(out) as cog:
        assert cog.dtypes[0] == "float32"
        assert np.isnan(cog.nodata)
    difference = np.abs(exact.reflectance - product.reflectance).max()
    assert 0 < float(difference) <= 0.51e-4


@pytest.mark.usefixtures("drawn_lightly")
def test_reduced_precision_hardly_moves_the_map_and_the_item_says_by_how_much(
    tiny_weights: Path, tmp_path: Path
) -> None:
    made = {
        name: crgen.fill(
            aoi=AOI, **DAYS, source="demo", out=tmp_path / f"{name}.tif", weights=str(tiny_weights), precision=name
        )
        for name in ("float32", "bfloat16")
    }
    exact, reduced = (result.reflectance.values for result in made.values())
    assert 0 < np.nanmax(abs(exact - reduced)) < MAX_DRIFT
    settings = {
        name: json.loads(result.paths.item.read_text())["properties"]["crgen:settings"] for name, result in made.items()
    }
    assert {name: held["precision"] for name, held in settings.items()} == {n: n for n in made}
    assert "drift" not in settings["float32"]
    assert 0 < settings["bfloat16"]["drift"]["rms"] < settings["bfloat16"]["drift"]["max"] < MAX_DRIFT


@pytest.mark.usefixtures("drawn_lightly")
def test_a_product_is_not_replaced_unasked_and_the_same_bytes_come_again(
    product: Result, tiny_weights: Path, tmp_path: Path
) -> None:
    request = {"aoi": AOI, **DAYS, "source": "demo", "out": tmp_path / "a.tif", "weights": str(tiny_weights)}
    crgen.fill(**request)
    with pytest.raises(OutputError, match="exists already"):
        crgen.fill(**request)
    before = (tmp_path / "a.tif").read_bytes()
    crgen.fill(**request, overwrite=True, workers=1, chunk=64)
    assert (tmp_path / "a.tif").read_bytes() == before


@pytest.mark.usefixtures("drawn_lightly")
def test_a_stack_written_to_disk_gives_the_same_pixels_as_its_source(
    product: Result, tiny_weights: Path, tmp_path: Path
) -> None:
    grid = read_area(AOI).geobox.pad(72)
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    crgen.write_stack(open_demo(grid, *days, pols=("VV", "VH"), bands=BANDS), tmp_path / "demo.zarr")
    again = crgen.fill(aoi=AOI, source=str(tmp_path / "demo.zarr"), out=tmp_path / "b.tif", weights=str(tiny_weights))
    assert (again.reflectance == product.reflectance).all()
    assert (again.quality == product.quality).all()


def test_an_image_of_t2_without_a_clear_score_is_not_taken_as_observed(tiny_weights: Path, tmp_path: Path) -> None:
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    stack = open_demo(read_area(AOI).geobox, *days, pols=("VV",), bands=("B11", "B8", "B3")).drop_vars("clear_t2")
    crgen.write_stack(stack, tmp_path / "unscored.zarr")
    result = crgen.fill(source=str(tmp_path / "unscored.zarr"), out=tmp_path / "a.tif", weights=str(tiny_weights))
    assert set(np.unique(result.quality)) <= set(GENERATED_CLASSES)
    assert any("clear_t2" in note for note in result.notes)
    assert result.check == {"checked": False, "reason": "nothing of t2 was seen"}


def test_a_scene_that_was_seen_all_over_has_no_error_and_its_own_water(tiny_weights: Path, tmp_path: Path) -> None:
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    grid = read_area("113.53,34.71,113.538,34.716").geobox
    stack = open_demo(grid, *days, pols=("VV",), bands=("B11", "B8", "B3")).compute()
    seen = stack.assign(s2_t2=stack["truth_t2"], clear_t2=xr.ones_like(stack["clear_t2"])).drop_vars("truth_t2")
    crgen.write_stack(seen, tmp_path / "seen.zarr")
    result = crgen.fill(source=str(tmp_path / "seen.zarr"), out=tmp_path / "a.tif", weights=str(tiny_weights))
    assert set(np.unique(result.quality)) == {Quality.OBSERVED}
    assert np.isnan(result.half_width.values).all()
    told = told_by_image(stack["truth_t2"].values, np.ones(grid.shape, bool), ("B11", "B8", "B3"))
    water = result.water.sel(band="water").values
    assert (water[told != 255] == told[told != 255]).all()
    assert json.loads(result.paths.item.read_text())["properties"]["crgen:generated_share"] == 0
    assert result.check["checked"], "it can be, though nothing hangs on it"
    assert result.paths.page.exists()


def test_names_of_areas_and_files_are_names_in_everything_that_holds_them(tiny_weights: Path, tmp_path: Path) -> None:
    bad = "<img src=x onerror=alert(1)>'\"&;DROP TABLE flood;--"
    ring = "113.53,34.71 113.538,34.71 113.538,34.716 113.53,34.71"
    outline = f"<Polygon><outerBoundaryIs><LinearRing><coordinates>{ring}</coordinates></LinearRing></outerBoundaryIs>"
    kml = f"<Placemark><name>{html.escape(bad)}</name>{outline}</Polygon></Placemark>"
    folder = f"<Document><Folder><name>{html.escape(bad)}</name>{kml}</Folder></Document>"
    name = bad.replace(";", ",")  # that is refused
    aoi = tmp_path / f"{name}.kml"
    aoi.write_text(f'<kml xmlns="http://www.opengis.net/kml/2.2">{folder}</kml>')
    out = tmp_path / "out" / f"{name}.tif"
    paths = crgen.fill(aoi=str(aoi), **DAYS, source="demo", weights=str(tiny_weights), out=out).paths
    write_listing(out.parent)
    for page in (paths.page, out.parent / "index.html"):
        assert "<img src=x" not in page.read_text()
        assert "&lt;img src=x" in page.read_text()
    assert {str(name) for name in pyogrio.list_layers(paths.flood)[:, 0]} == set(LAYERS)
    for style in out.parent.glob("*.qml"):
        assert ET.parse(style).getroot().tag == "qgis"
    item = pystac.Item.from_file(str(paths.item))
    assert item.id == name
    assert all((out.parent / unquote(item.assets[key].href)).is_file() for key in paths.files)


def test_a_plan_counts_without_writing(tiny_weights: Path, tmp_path: Path) -> None:
    request = FillRequest(
        aoi=AOI,
        t1=datetime.date(2021, 7, 10),
        t2=datetime.date(2021, 7, 22),
        source="demo",
        out=tmp_path / "new" / "a.tif",
        weights=str(tiny_weights),
    )
    work = plan(request)
    assert work.pixels == np.prod(read_area(AOI).geobox.shape)
    assert rate_of(request, work)[0] > 0
    assert not list(tmp_path.iterdir())


def test_a_stack_without_any_radar_at_t2_leaves_nothing(tiny_weights: Path, tmp_path: Path) -> None:
    days = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
    grid = read_area(AOI).geobox
    stack = open_demo(grid, *days, pols=("VV",), bands=("B11", "B8", "B3")).drop_vars(["s2_t2", "clear_t2"])
    crgen.write_stack(stack.assign(s1_t2=stack["s1_t2"] * np.float32(np.nan)), tmp_path / "blind.zarr")
    (tmp_path / "out").mkdir()
    with pytest.raises(StackError, match="'s1_t2' is missing at 100 %"):
        crgen.fill(source=str(tmp_path / "blind.zarr"), out=tmp_path / "out" / "a.tif", weights=str(tiny_weights))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"t1": "2021-07-22", "t2": "2021-07-10"}, "swap them"),
        ({"t1": "2014-01-01"}, "before Sentinel-1"),
        ({"t2": "22.07.2021"}, "YYYY-MM-DD"),
        ({"dtype": "int8"}, "uint16, float32"),
        ({"out": "map.png"}, "not a .tif"),
        ({"out": "flood;2021.tif"}, "leave ; and ! out of its name"),
        ({"out": "wow!/map.tif"}, "leave ; and ! out of its name"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wrong, says, tiny_weights: Path, tmp_path: Path) -> None:
    request = {"aoi": AOI, **DAYS, "source": "demo", "out": tmp_path / "a.tif", "weights": str(tiny_weights), **wrong}
    with pytest.raises(RequestError, match=says):
        crgen.fill(**request)


def test_what_a_polygon_leaves_out_is_not_told_as_missing(tiny_weights: Path, tmp_path: Path, monkeypatch) -> None:
    drawn: list[str] = []
    draw = Sheet.draw_legend
    monkeypatch.setattr(
        Sheet,
        "draw_legend",
        lambda sheet, entries, top: (drawn.extend(entry[1][0] for entry in entries), draw(sheet, entries, top)),
    )
    corners = [[113.53, 34.71], [113.54, 34.71], [113.53, 34.72], [113.53, 34.71]]
    (tmp_path / "triangle.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [corners]}))
    request = {"aoi": str(tmp_path / "triangle.geojson"), "source": "demo", "weights": str(tiny_weights), "clip": True}
    result = crgen.fill(**request, **DAYS, out=tmp_path / "map.tif")
    assert result.tally.pixels[Quality.NODATA] > 0
    assert sum(result.tally.shares.values()) == pytest.approx(1)
    assert Quality.NODATA not in result.tally.shares
    assert "No data" not in result.paths.page.read_text()
    shares = [float(text.split()[-2]) for text in drawn if text.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.2), "of the picture's legend too"
    assert "missing, or outside the area" in drawn
