"""What a place's past teaches is the same whatever the chunks, is said, and mixes no water away."""

import json
import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import crgen
from crgen.model.weights import load_model, save_weights
from crgen.pipeline.box import Box
from crgen.pipeline.product.result import Result
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.past import BLOCK, block_of
from crgen.pipeline.source.stack import build_stack
from tests.processes import forked_workers

pytestmark = pytest.mark.usefixtures("drawn_lightly")

T1, T2 = date(2021, 7, 10), date(2021, 7, 22)
BANDS = ("B3", "B8", "B11")
SIDE = 64
PLACE = GeoBox((2 * SIDE, 3 * SIDE), Affine(10, 0, SIDE * 2800, 0, -10, SIDE * 15000), "EPSG:32649")
DAYS = tuple(T1 - timedelta(step) for step in (372, 360, 48, 36, 24, 12))


def place(days: tuple[date, ...] = DAYS, **changed: object) -> xr.Dataset:
    """Return a Stack of fields that hardly change, with nothing of t2 seen."""
    rng = np.random.default_rng(0)
    fields = np.repeat(np.repeat(rng.uniform(0.1, 0.3, (3, 8, 12)), 16, 1), 16, 2).astype(np.float32)

    def optical(seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, 0.004, fields.shape)
        return (fields + noise).astype(np.float32)

    def radar(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(-12, 1, (1, *PLACE.shape)).astype(np.float32)

    clear = np.ones(PLACE.shape, np.float32)
    variables = {"s1_t1": radar(1), "s2_t1": optical(2), "s1_t2": radar(3), "clear_t1": clear, "truth_t2": optical(4)}
    if days:
        variables |= {
            "s1_past": np.stack([radar(10 + i) for i in range(len(days))]),
            "s2_past": np.stack([optical(30 + i) for i in range(len(days))]),
            "clear_past": np.stack([clear] * len(days)),
        }
    variables |= changed
    variables = {name: array for name, array in variables.items() if array is not None}
    manifest = {"t1": T1.isoformat(), "t2": T2.isoformat()}
    return build_stack(PLACE, variables, pols=("VV",), bands=BANDS, manifest=manifest, times=sorted(days))


def fill(stack: xr.Dataset, folder: Path, weights: Path, **options: object) -> Result:
    source = folder / "stack.zarr"
    if not source.exists():
        write_stack(stack, source)
    name = "_".join(f"{k}{v}" for k, v in options.items()) or "map"
    return crgen.fill(source=str(source), weights=str(weights), out=folder / f"{name}.tif", **options)


def test_the_block_lies_on_the_lattice_and_holds_the_middle() -> None:
    for shift in range(0, 400, 37):
        output = Box(-1000 + shift, 600 + shift, 90 + shift, 2000 + shift)
        block, origins = block_of(output, SIDE)
        assert block.r0 % (BLOCK * SIDE) == block.c0 % (BLOCK * SIDE) == 0
        middle = (output.r0 + output.r1) // 2, (output.c0 + output.c1) // 2
        assert block.r0 <= middle[0] < block.r1
        assert block.c0 <= middle[1] < block.c1
        assert len(origins) == BLOCK**2


@pytest.fixture(scope="module")
def dry_weights(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights that call nothing water: otherwise half of the ground is, which nothing mixes away."""
    model = load_model(str(tiny_weights))
    with torch.no_grad():
        model.generator.get_parameter("head_water.bias")[0] = -10
        model.generator.get_parameter("leave_t1.bias")[1] = -10
    path = tmp_path_factory.mktemp("weights") / "dry.safetensors"
    save_weights(path, model.generator, model.card)
    return path


@pytest.fixture(scope="module")
def learned(dry_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("learned")
    return folder, fill(place(), folder, dry_weights)


@pytest.fixture(scope="module")
def alone(learned: tuple[Path, Result], dry_weights: Path) -> Result:
    """The same made without the place's past."""
    return fill(place(), learned[0], dry_weights, past="none")


def test_what_was_seen_is_mixed_in_where_an_untrained_generator_fails(
    learned: tuple[Path, Result], alone: Result
) -> None:
    _, result = learned
    assert result.error is not None
    assert alone.error is not None
    assert alone.past is None
    assert result.error["generated"]["RMSE"] < 0.8 * alone.error["generated"]["RMSE"]


def test_hidden_blocks_are_predicted_as_the_map_is_made_with_the_past(tmp_path: Path, dry_weights: Path) -> None:
    seen = {"s2_t2": place().truth_t2.values, "clear_t2": np.ones(PLACE.shape, np.float32)}
    checks = [fill(place(**seen), tmp_path, dry_weights, **options).check for options in ({}, {"past": "none"})]
    mixed, alone = (check["generated"]["RMSE"] for check in checks)
    assert mixed < alone


def test_the_proof_is_printed_and_stands_in_the_item(learned: tuple[Path, Result]) -> None:
    _, result = learned
    assert result.past is not None
    assert "over 6 earlier pairs" in result.past.line
    said = json.loads(result.paths.item.read_text())["properties"]["crgen:past"]
    assert said["pairs"] == 6
    assert said["days"] == [day.isoformat() for day in sorted((*DAYS, T1))[1:]]
    assert said["bands"] == list(BANDS)
    assert all(len(said[name]) == 3 for name in ("rmse", "bias", "copy_rmse", "copy_bias"))
    for shares in said["believed"].values():
        assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert result.past.worse == (np.square(said["rmse"]).sum() > np.square(said["copy_rmse"]).sum())
    assert ("copying was better" in result.past.line) is result.past.worse


def test_the_error_map_is_as_wide_as_the_places_past_was_off(learned: tuple[Path, Result], alone: Result) -> None:
    _, result = learned

    def stated(product: Result) -> tuple[float, float]:
        """Return how wide the intervals are on average, and the share of pixels that they hold."""
        with rasterio.open(product.paths.rasters["error"]) as file:
            width = file.read(masked=True) * file.scales[0]
        off = np.abs(product.reflectance.values - place().truth_t2.values)
        return float(width.mean()), float((off <= width).mean())

    (width, held), (wide, _) = stated(result), stated(alone)
    assert width < 0.6 * wide
    assert held >= 0.9


def test_chunks_decide_no_byte(learned: tuple[Path, Result], dry_weights: Path) -> None:
    folder, result = learned
    other = fill(place(), folder, dry_weights, chunk=64, workers=3)
    assert other.paths.reflectance.read_bytes() == result.paths.reflectance.read_bytes()


def test_the_past_that_is_asked_for_is_part_of_what_is_repeated(
    learned: tuple[Path, Result], dry_weights: Path
) -> None:
    folder, _ = learned
    fill(place(), folder, dry_weights, past="60d")
    once = folder / "past60d.tif"
    again = crgen.fill(manifest=once.with_suffix(".json"), weights=str(dry_weights), out=folder / "again.tif")
    assert again.paths.reflectance.read_bytes() == once.read_bytes()
    assert again.past is not None
    assert "over 4 earlier pairs" in again.past.line


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, dry_weights: Path) -> Result:
    """A map of the place without any past."""
    return fill(place(()), tmp_path_factory.mktemp("plain"), dry_weights)


def test_a_past_that_teaches_nothing_is_said_and_leaves_the_generator_alone(
    tmp_path: Path, dry_weights: Path, plain: Result
) -> None:
    shape = (len(DAYS), *PLACE.shape)
    radar = np.full((len(DAYS), 1, *PLACE.shape), np.nan, np.float32)
    for name, stack, said in (
        ("cloudy", place(clear_past=np.zeros(shape, np.float32)), "none of it is clear over the middle of the area"),
        ("orbit", place(s1_past=radar), "no radar of the orbits of t1 and t2 goes with it"),
        ("unscored", place(clear_past=None), r"no clear-sky score \(clear_past\)"),
        ("deaf", place(s1_past=None), r"no radar \(s1_past\)"),
    ):
        result = fill(stack, _new(tmp_path / name), dry_weights)
        assert any(re.search(said, note) for note in result.notes), (name, result.notes)
        assert (result.reflectance.values == plain.reflectance.values).all(), name


def test_a_look_of_another_processing_baseline_is_left_out_and_said(tmp_path: Path, dry_weights: Path) -> None:
    stack = place()
    optical = stack.s2_past.values.copy()
    optical[-1] += np.float32(0.1)
    result = fill(place(s2_past=optical), _new(tmp_path / "offset"), dry_weights)
    assert sum("another processing baseline" in note and str(max(DAYS)) in note for note in result.notes) == 1
    assert result.past is not None
    assert "over 5 earlier pairs" in result.past.line


def test_looks_after_t2_are_left_out_and_said_unless_they_are_asked_for(tmp_path: Path, dry_weights: Path) -> None:
    days = (*DAYS, T2 + timedelta(5))
    result = fill(place(days), tmp_path, dry_weights)
    assert any(f"after t2 ({T2}), from {days[-1]}" in note for note in result.notes)
    asked = fill(place(days), tmp_path, dry_weights, past="2y", after=10)
    assert asked.past is not None
    assert "over 7 earlier pairs" in asked.past.line
    assert not any("after t2" in note for note in asked.notes)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_processes_learn_the_same(learned: tuple[Path, Result], dry_weights: Path) -> None:
    folder, result = learned
    with forked_workers():
        other = fill(place(), folder, dry_weights, scheduler="processes", workers=1, chunk=128)
    assert other.paths.reflectance.read_bytes() == result.paths.reflectance.read_bytes()
    assert other.past is not None
    assert result.past is not None
    assert other.past.described() == result.past.described()


def test_water_of_the_nearest_clear_look_is_not_new_where_t1_is_hidden(tmp_path: Path, tiny_weights: Path) -> None:
    """The left half is a lake in the last look before t1's clouds, and dry land in the others."""
    looks = place().s2_past.values.copy()
    half = PLACE.shape[1] // 2
    looks[:, :, :, :] = np.array([0.08, 0.3, 0.2], np.float32)[:, None, None]
    before = [at for at, day in enumerate(sorted(DAYS)) if day < T1]
    looks[before[-1], :, :, :half] = np.array([0.06, 0.02, 0.01], np.float32)[:, None, None]
    hidden = {"clear_t1": np.zeros(PLACE.shape, np.float32)}
    stack = place(s2_past=looks, **hidden)
    told, alone = (fill(stack, tmp_path, tiny_weights, **options).paths.water for options in ({}, {"past": "none"}))
    with rasterio.open(told) as water, rasterio.open(alone) as without:
        p, q = water.read(2), without.read(2)
    assert (p[:, :half] == 100).all()
    np.testing.assert_array_equal(p[:, half:], q[:, half:])
    assert not (q == 100).all()


def folder_of(stack: xr.Dataset, folder: Path, bands: dict[date, tuple[str, ...]]) -> Path:
    """Write a Stack as a folder of GeoTIFFs in which some looks of the past hold these bands alone."""
    write_stack(stack, folder)
    for day, names in bands.items():
        path = folder / f"s2_past_{day}.tif"
        with rasterio.open(path) as file:
            pixels, profile = file.read()[: len(names)], file.profile | {"count": len(names)}
        with rasterio.open(path, "w", **profile) as file:
            file.write(pixels)
            file.descriptions = names
    return folder


def test_a_look_of_other_bands_is_left_out_and_said(tmp_path: Path, dry_weights: Path) -> None:
    last, clear_t1 = max(DAYS), np.ones(PLACE.shape, np.float32)
    clear_t1[:, : PLACE.shape[1] // 2] = 0  # there the last look would be copied
    source = folder_of(place(clear_t1=clear_t1), tmp_path / "one", {last: ("B3", "B8")})
    result = crgen.fill(source=str(source), weights=str(dry_weights), out=tmp_path / "one.tif")
    assert [note for note in result.notes if "lacks" in note] == [
        f"the look of {last} lacks B11: it is left out of the past"
    ]
    assert result.past is not None
    assert "over 5 earlier pairs" in result.past.line
    # Its pixels are nowhere in the map.
    stack = place(clear_t1=clear_t1)
    stack.s2_past.values[-1] += 0.02
    other = folder_of(stack, tmp_path / "other", {last: ("B3", "B8")})
    again = crgen.fill(source=str(other), weights=str(dry_weights), out=tmp_path / "other.tif")
    assert (again.reflectance.values == result.reflectance.values).all()


def test_a_past_of_other_bands_serves_for_those_it_has(tmp_path: Path, dry_weights: Path, plain: Result) -> None:
    for name, bands, said in (
        ("some", ("B3", "B8"), "the place's past lacks B11: made without it"),
        (
            "none",
            ("B2", "B4"),
            "the place's past teaches nothing: none of its looks shows the middle of the area in the bands",
        ),
    ):
        source = folder_of(place(), tmp_path / name, dict.fromkeys(DAYS, bands))
        result = crgen.fill(source=str(source), weights=str(dry_weights), out=tmp_path / f"{name}.tif")
        assert any(said in note for note in result.notes), (name, result.notes)
        lacking = [band for band in BANDS if band not in bands]
        made, alone = (one.reflectance.sel(band=lacking).values for one in (result, plain))
        assert (made == alone).all(), name


def test_a_past_out_of_order_teaches_the_same(learned: tuple[Path, Result], tmp_path: Path, dry_weights: Path) -> None:
    _, result = learned
    source = tmp_path / "turned.zarr"
    place().isel(time=[3, 0, 5, 1, 4, 2]).to_zarr(source, zarr_format=2)
    turned = crgen.fill(source=str(source), weights=str(dry_weights), out=tmp_path / "turned.tif")
    assert (turned.reflectance.values == result.reflectance.values).all()


def test_a_look_that_misses_the_middle_of_the_area_takes_nothing_from_the_others(
    learned: tuple[Path, Result], tmp_path: Path, dry_weights: Path
) -> None:
    optical = place().s2_past.values.copy()
    optical[0] = np.nan
    result = fill(place(s2_past=optical), tmp_path, dry_weights)
    assert result.past is not None
    assert "over 5 earlier pairs" in result.past.line


@pytest.mark.parametrize(("what", "level"), [("quarry", 0.45), ("reservoir", 0.03)])
def test_what_changed_for_good_since_is_not_shown_as_it_was_and_said(
    learned: tuple[Path, Result], tmp_path: Path, dry_weights: Path, what: str, level: float
) -> None:
    """t1 shows a quarry, or a reservoir, where all earlier looks show fields."""
    changed = place().s2_t1.values.copy()
    changed[:, 40:80, 60:120] = level
    result = fill(place(s2_t1=changed), tmp_path, dry_weights)
    assert result.past is not None
    share = 40 * 60 / (PLACE.shape[0] * PLACE.shape[1])
    assert share <= json.loads(result.paths.item.read_text())["properties"]["crgen:past"]["outdated"] < 2 * share
    assert re.search(r"; 1\d % changed since", result.past.line.replace("%", " %")), what
    there = (slice(None), slice(45, 75), slice(65, 115))
    made, before = (one.reflectance.values[there].mean() for one in (result, learned[1]))
    assert (made - before) * (level - 0.2) > 0
