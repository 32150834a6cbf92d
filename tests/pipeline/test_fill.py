"""`crgen.fill` leaves a whole, valid, georeferenced product, or nothing."""

import datetime
import json
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from PIL import Image
from rio_cogeo.cogeo import cog_validate

import crgen
from crgen.errors import OutputError, RequestError, StackError
from crgen.model.device import MAX_DRIFT
from crgen.model.weights import load_model, save_weights
from crgen.pipeline.product.result import Result
from crgen.pipeline.request import FillRequest
from crgen.pipeline.run.plan import plan
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.tiling.quality import Quality

AOI = "113.545,34.705,113.565,34.720"
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
DAYS = {"t1": "2021-07-10", "t2": "2021-07-22"}


@pytest.fixture(scope="module")
def product(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("product") / "zhengzhou.tif"
    return crgen.fill(aoi=AOI, **DAYS, source="demo", out=out, weights=str(tiny_weights))


def test_the_product_is_four_files_and_nothing_else(product: Result) -> None:
    assert {path.name for path in product.paths.folder.iterdir()} == {
        "zhengzhou.tif",
        "zhengzhou_quality.tif",
        "zhengzhou.png",
        "zhengzhou.json",
    }


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
    assert result.notes[0].startswith("this place is unlike the training: VV at t2 is above -60 to -50 dB at 100 % ")
    unlike = json.loads(result.paths.item.read_text())["properties"]["crgen:unlike_training"]
    assert unlike == {"VV above": 1.0}


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


def test_the_picture_shows_every_panel(product: Result) -> None:
    with Image.open(product.paths.quicklook) as image:
        assert min(image.size) > 600
        assert np.asarray(image.convert("L")).std() > 20


def test_float32_keeps_what_uint16_rounds(product: Result, tiny_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "float.tif"
    exact = crgen.fill(aoi=AOI, **DAYS, source="demo", out=out, weights=str(tiny_weights), dtype="float32")
    with rasterio.open(out) as cog:
        assert cog.dtypes[0] == "float32"
        assert np.isnan(cog.nodata)
    difference = np.abs(exact.reflectance - product.reflectance).max()
    assert 0 < float(difference) <= 0.51e-4


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
    assert set(np.unique(result.quality)) == {Quality.GENERATED}
    assert any("clear_t2" in note for note in result.notes)


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
    assert work.windows_per_second > 0
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
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wrong, says, tiny_weights: Path, tmp_path: Path) -> None:
    request = {"aoi": AOI, **DAYS, "source": "demo", "out": tmp_path / "a.tif", "weights": str(tiny_weights), **wrong}
    with pytest.raises(RequestError, match=says):
        crgen.fill(**request)
