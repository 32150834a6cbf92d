"""A map is scored against what was seen later, where that still tells of it."""

import csv
import json
import threading
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from filelock import FileLock

import crgen
from crgen.errors import OutputError, RequestError, StackError
from crgen.pipeline.audit import RECORD, _record, audit
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.source.area import read_area
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.stack import build_stack
from crgen.pipeline.tiling.quality import GENERATED_CLASSES
from crgen.pipeline.tiling.water import told_by_image

AOI = "113.53,34.71,113.54,34.72"
BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")


@pytest.fixture(scope="module")
def product(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    out = tmp_path_factory.mktemp("audited") / "map.tif"
    request = {"aoi": AOI, "t1": "2021-07-10", "t2": "2021-07-22", "source": "demo", "weights": str(tiny_weights)}
    return crgen.fill(**request, out=out).paths


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    days = date(2021, 7, 10), date(2021, 7, 22)
    return open_demo(read_area(AOI).geobox, *days, pols=("VV",), bands=BANDS).compute()


def later(folder: Path, truth: xr.Dataset, *, day: str = "2021-07-30", first: str = "2021-07-22", **changes) -> Path:
    """A stack that shows the truth of t2 on a later day, under a clear sky and unchanged radar."""
    radar, s2 = truth["s1_t2"].values, truth["truth_t2"].values
    variables = {"s1_t1": radar, "s1_t2": radar, "s2_t1": s2, "s2_t2": s2, "clear_t2": np.ones(s2.shape[1:], "f4")}
    stack = build_stack(
        truth.odc.geobox,
        {name: array for name, array in (variables | changes).items() if array is not None},
        pols=("VV",),
        bands=BANDS,
        manifest={"t1": first, "t2": day},
    )
    crgen.write_stack(stack, folder / "later.zarr")
    return folder / "later.zarr"


def generated(product: Paths) -> np.ndarray:
    with rasterio.open(product.quality) as quality:
        return np.isin(quality.read(1), GENERATED_CLASSES)


def test_generated_pixels_are_scored_against_the_later_image(product, truth, tmp_path) -> None:
    found = audit(product.reflectance, later(tmp_path, truth))
    made = generated(product)
    with rasterio.open(product.reflectance) as map_, rasterio.open(product.half_width) as width:
        error = (map_.read() * 1e-4 - truth["truth_t2"].values)[:, made]
        inside = np.abs(error) <= width.read()[:, made] * 1e-4
    scores = found.scores
    assert scores["pixels"] == made.sum()
    assert scores["RMSE"] == pytest.approx(np.sqrt(np.square(error).mean()), abs=1e-5)
    assert scores["bias"]["B8"] == pytest.approx(error[3].mean(), abs=1e-5)
    assert scores["interval_held"] == pytest.approx(inside.mean(), abs=1e-4)
    with rasterio.open(product.water) as water:
        p = water.read(1)
    told = told_by_image(truth["truth_t2"].values, made, BANDS)
    known = (told != 255) & (p != 255)
    hits, wrong = ((p >= 50) & (told == 100))[known].sum(), ((p >= 50) != (told == 100))[known].sum()
    assert scores["water_F1"] == pytest.approx(2 * hits / (2 * hits + wrong), abs=1e-4)
    assert found.line.startswith("against Sentinel-2 of 2021-07-30, 8 days after: RMSE ")
    assert json.loads((product.folder / "map_audit.json").read_text()) == scores


def test_digital_numbers_with_an_offset_are_scored_as_reflectance(product, truth, tmp_path) -> None:
    numbers = {name: 1e4 * (truth["truth_t2"].values + 0.1) for name in ("s2_t1", "s2_t2")}
    (tmp_path / "reflectance").mkdir()
    right = audit(product.reflectance, later(tmp_path / "reflectance", truth)).scores
    stack = later(tmp_path, truth, **numbers)
    assert audit(product.reflectance, stack, s2_scale=1e-4, s2_offset=-0.1).scores["RMSE"] == pytest.approx(
        right["RMSE"], abs=1e-5
    )


def test_a_threshold_that_would_take_clouds_as_clear_is_refused(product, tmp_path) -> None:
    with pytest.raises(RequestError, match="give a score above 0 and up to 1"):
        audit(product.reflectance, tmp_path, clear_threshold=0)


@pytest.mark.parametrize("lost", ["reflectance", "quality"])
def test_a_product_that_lost_a_raster_or_part_of_it_is_named(product, truth, tmp_path, lost) -> None:
    for path in product.all:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = {"reflectance": tmp_path / "map.tif", "quality": tmp_path / "map_quality.tif"}[lost]
    stack = later(tmp_path, truth)
    content = damaged.read_bytes()
    for held in (content[: len(content) // 2], None):
        damaged.unlink() if held is None else damaged.write_bytes(held)
        with pytest.raises(OutputError, match=f"cannot read .*{damaged.name}: .*'crgen verify'"):
            audit(tmp_path / "map.tif", stack)


def test_ground_whose_radar_changed_or_that_clouds_hide_does_not_count(product, truth, tmp_path) -> None:
    radar = truth["s1_t2"].values.copy()
    half = radar.shape[2] // 2
    radar[:, :, :half] += 6
    clear = np.ones(radar.shape[1:], np.float32)
    clear[: len(clear) // 2] = 0.1
    scores = audit(product.reflectance, later(tmp_path, truth, s1_t2=radar, clear_t2=clear)).scores
    made = generated(product)
    made[: len(clear) // 2] = False
    assert made[:, half + 3 :].sum() <= scores["pixels"] <= made[:, half - 3 :].sum()


def test_how_many_rows_are_read_at_once_changes_no_score(product, truth, tmp_path, monkeypatch) -> None:
    change = np.random.default_rng(0).normal(0, 6, truth["s1_t2"].shape).astype(np.float32)
    stack = later(tmp_path, truth, s1_t2=truth["s1_t2"].values + change)
    whole = audit(product.reflectance, stack).scores
    assert 0 < whole["share"] < 1
    monkeypatch.setattr("crgen.pipeline.audit.STRIP", 7)
    assert audit(product.reflectance, stack).scores == whole


def test_the_record_has_a_line_a_map_and_day(product, truth, tmp_path) -> None:
    for day in ("2021-07-30", "2021-08-03", "2021-07-30"):
        (tmp_path / day).mkdir(exist_ok=True)
        stack = tmp_path / day / "later.zarr"
        audit(product.item, stack if stack.exists() else later(tmp_path / day, truth, day=day))
    with (product.folder / "track_record.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted((line["product"], line["day"]) for line in lines) == [("map", "2021-07-30"), ("map", "2021-08-03")]
    assert all(0 < float(line["RMSE"]) < 1 for line in lines)


def test_a_product_of_the_version_before_is_scored_without_what_it_lacks(product, truth, tmp_path) -> None:
    for path in (product.reflectance, product.quality, product.item):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    found = audit(tmp_path / "map.tif", later(tmp_path, truth))
    assert not {"water_F1", "interval_held"} & found.scores.keys()
    assert [text.split(":")[0] for text in found.notes] == ["no water is scored", "no intervals are scored"]


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (
            {"first": "2021-07-21"},
            RequestError,
            "is 2021-07-21, but the map shows 2021-07-22: pull it with --t1 2021-07-22",
        ),
        ({"day": "2021-08-12"}, RequestError, "give one of 1 to 20 days after the map's 2021-07-22"),
        ({"clear_t2": None}, StackError, "has no clear_t2: nothing of it is known to be clear"),
    ],
)
def test_what_does_not_tell_of_the_map_is_refused(product, truth, tmp_path, changes, error, says) -> None:
    with pytest.raises(error, match=says):
        audit(product.reflectance, later(tmp_path, truth, **changes))


def test_nothing_clear_is_said_and_leaves_nothing(product, truth, tmp_path) -> None:
    for path in product.all:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    cloudy = np.zeros(truth["clear_t2"].shape, np.float32)
    with pytest.raises(StackError, match=r"nothing can be compared: of [\d,]+ generated pixels none is clear"):
        audit(tmp_path / "map.tif", later(tmp_path, truth, clear_t2=cloudy))
    assert not list(tmp_path.glob("*audit*"))


def test_what_is_no_product_is_refused(truth, tmp_path) -> None:
    with pytest.raises(OutputError, match=r"give a product by its \.tif or its \.json"):
        audit(tmp_path / "none.tif", tmp_path)


def test_who_waits_for_the_record_is_told_for_what(tmp_path, capsys):
    with FileLock(tmp_path / f".{RECORD}.lock"):
        waiting = threading.Thread(target=_record, args=(tmp_path, {"product": "map", "day": "2021-07-22"}))
        waiting.start()
        waiting.join(2.5)
    waiting.join()
    assert f"waiting for {tmp_path / f'.{RECORD}.lock'}" in capsys.readouterr().err
    assert "map" in (tmp_path / RECORD).read_text()
