"""Position, not tiling, decides a pixel; what is missing stays missing; nothing is computed twice."""

import datetime
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from scipy import ndimage
from shapely.geometry import Polygon, box

from crgen.errors import StackError
from crgen.model.config import CORE
from crgen.model.generator import Generator, Prediction
from crgen.model.weights import LoadedModel, load_model
from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.run.plan import measure
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.stack import build_stack
from crgen.pipeline.tiling.ahead import look
from crgen.pipeline.tiling.chunk import Computed, Run
from crgen.pipeline.tiling.composite import Composite
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.predict import Predictor
from crgen.pipeline.tiling.quality import GENERATED_CLASSES, Quality
from crgen.pipeline.tiling.reader import StackReader
from crgen.pipeline.tiling.windows import Chunk, ChunkGrid, Lattice

PLACE = GeoBox((150, 140), Affine(10, 0, 736_600, 0, -10, 3_843_450), "EPSG:32649")
"""Of its lower part much was seen at t2, of its upper nothing."""
DAYS = (datetime.date(2021, 7, 10), datetime.date(2021, 7, 22))
MARGIN = 80
MADE = ("B4", "B11", "B3")
"""Bands of the result; B8 is read beside them, as the generator makes others from it."""
OPENED = ("B3", "B4", "B8", "B11")


@pytest.fixture(scope="module")
def model(tiny_weights: Path) -> LoadedModel:
    return load_model(str(tiny_weights))


@pytest.fixture(scope="module")
def scene() -> xr.Dataset:
    """A demo scene held in memory, wide enough for windows that reach beyond any area within PLACE."""
    return open_demo(PLACE.pad(MARGIN), *DAYS, pols=("VV", "VH"), bands=OPENED).compute()


def within(stack: xr.Dataset, area: GeoBox, margin: int) -> xr.Dataset:
    rows, cols = lattice_box(area).grow(margin).slices(lattice_box(stack.odc.geobox))
    return stack.isel(y=rows, x=cols)


def predictor_of(model: LoadedModel, **more: Any) -> Predictor:
    return Predictor(model, "cpu", OPENED, MADE, 4, **more)


def run_of(
    model: LoadedModel,
    stack: xr.Dataset,
    area: GeoBox = PLACE,
    *,
    chunk: int = 128,
    polygon: Polygon | None = None,
    generate_all: bool = False,
    predictor: Predictor | None = None,
    **more: Any,
) -> Run:
    predictor = predictor or predictor_of(model)
    return Run(
        reader=StackReader(stack, tuple(map(str, stack.pol.values)), OPENED),
        output=area,
        polygon=polygon,
        predictor=predictor,
        grid=ChunkGrid(lattice_box(area), predictor.lattice, chunk),
        made=[OPENED.index(band) for band in MADE],
        needed_pols=1,
        needed_bands=[OPENED.index(band) for band in CORE],
        generate_all=generate_all,
        clear_threshold=0.6,
        **more,
    )


def run(
    model: LoadedModel,
    stack: xr.Dataset,
    area: GeoBox,
    *,
    chunk: int = 128,
    workers: int = 2,
    polygon: Polygon | None = None,
    generate_all: bool = False,
) -> tuple[Composite, Tally]:
    """Run and put the chunks together."""
    work = run_of(model, stack, area, chunk=chunk, polygon=polygon, generate_all=generate_all)
    grid = work.grid
    image = Composite(
        np.full((len(MADE), *area.shape), -1.0),
        np.full(area.shape, 255, np.uint8),
        np.full((2, *area.shape), 254, np.uint8),
        np.full((len(MADE), *area.shape), -1.0),
    )
    tally = Tally()

    def keep(piece: Chunk, computed: Computed, incoming: list[np.ndarray | None]) -> None:
        result, counted = work.compose(computed, incoming)
        at = piece.box.slices(grid.output)
        for array, piece_of_it in zip(image, result, strict=True):
            array[..., *at] = piece_of_it
        with lock:
            tally.add(counted)

    lock = threading.Lock()
    work.fill(keep, workers)
    return image, tally


@pytest.fixture(scope="module")
def whole(model: LoadedModel, scene: xr.Dataset) -> Composite:
    return run(model, scene, PLACE, chunk=512, workers=1)[0]


@settings(max_examples=5, deadline=None)
@given(
    row=st.integers(0, 70),
    col=st.integers(0, 70),
    height=st.integers(1, 80),
    width=st.integers(1, 70),
    chunk=st.sampled_from([64, 96, 160, 1000]),
    workers=st.integers(1, 4),
)
def test_the_same_place_has_the_same_bytes_whatever_the_area_chunks_and_workers(
    model, scene, whole, row, col, height, width, chunk, workers
) -> None:
    area = PLACE.translate_pix(col, row).expand((height, width))
    part, _ = run(model, within(scene, area, MARGIN), area, chunk=chunk, workers=workers)
    at = (slice(row, row + height), slice(col, col + width))
    assert part.reflectance.tobytes() == whole.reflectance[..., *at].tobytes()
    assert part.quality.tobytes() == whole.quality[at].tobytes()
    assert part.water.tobytes() == whole.water[:, *at].tobytes()
    assert part.error.tobytes() == whole.error[:, *at].tobytes()


@pytest.mark.parametrize("cores", [2, 3])
def test_the_number_of_cores_does_not_change_a_byte(model, scene, whole, cores) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        image, _ = run(model, scene, PLACE, chunk=128)
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    assert image.reflectance.tobytes() == whole.reflectance.tobytes()
    assert image.water.tobytes() == whole.water.tobytes()


def test_each_window_is_computed_once_and_none_where_nothing_is_wanted(model, scene) -> None:
    _, tally = run(model, scene, PLACE, chunk=96, generate_all=True)
    grid = ChunkGrid(lattice_box(PLACE), Lattice(64), 96)
    assert tally.windows == grid.window_count
    blind = scene.assign(s1_t2=scene["s1_t2"].where(scene.x < scene.x.values[MARGIN + 42]))
    _, fewer = run(model, blind, PLACE, generate_all=True)
    assert 0 < fewer.windows < 0.6 * tally.windows


def test_missing_radar_at_t2_becomes_nodata_exactly_there_and_moves_nothing_far_away(model, scene, whole) -> None:
    hole = np.zeros(scene["s1_t2"].shape[1:], bool)
    hole[MARGIN + 100 : MARGIN + 130, MARGIN + 50 : MARGIN + 90] = True
    image, tally = run(model, scene.assign(s1_t2=scene["s1_t2"].where(~hole)), PLACE, generate_all=True)
    inside = hole[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert (np.isnan(image.reflectance).all(0) == inside).all()
    assert ((image.quality == Quality.NODATA) == inside).all()
    assert tally.missing["s1_t2"] == tally.pixels[Quality.NODATA] == inside.sum()


def test_where_optical_t1_is_missing_the_result_says_so(model, scene) -> None:
    stack = scene.assign(s2_t1=scene["s2_t1"].where(scene.y > scene.y.values[MARGIN + 75]))
    image, tally = run(model, stack, PLACE, generate_all=True)
    assert np.isin(image.quality[:75], [Quality.GENERATED, Quality.GENERATED_CLOUDY_T1]).all()
    assert (image.quality[75:] == Quality.GENERATED_RADAR_ONLY).all()
    assert np.isfinite(image.reflectance).all()
    assert tally.missing["s2_t1"] == 75 * 140


def test_what_the_generator_finds_hidden_at_t1_says_so(model, scene, monkeypatch) -> None:
    generate = type(model.generator).generate

    def told(generator: Generator, s1_t1: torch.Tensor, s2_t1: torch.Tensor, *more: Any, **named: Any) -> Prediction:
        made = generate(generator, s1_t1, s2_t1, *more, **named)
        return made._replace(reliability=(s2_t1.nan_to_num().amax(1, keepdim=True) < 2).float())

    monkeypatch.setattr(type(model.generator), "generate", told)
    cloud = np.zeros(scene["s2_t1"].shape[1:], bool)
    cloud[MARGIN + 50 : MARGIN + 120, MARGIN + 33 : MARGIN + 110] = True
    stack = scene.assign(s2_t1=scene["s2_t1"].where(~cloud, 3.0))
    image, _ = run(model, stack, PLACE, generate_all=True)
    inside = cloud[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert ((image.quality == Quality.GENERATED_CLOUDY_T1) == inside).all()
    assert ((image.quality == Quality.GENERATED) == ~inside).all()


def test_windows_unlike_the_training_say_so_however_the_area_is_cut(model, scene) -> None:
    usual = {"VV": (-30.0, 0.0)}
    strange = LoadedModel(model.generator, model.card.model_copy(update={"usual": usual}), model.path)
    flooded = scene["s1_t2"].where(scene.x < scene.x.values[MARGIN + 70], -50.0)
    image, _ = run(strange, scene.assign(s1_t2=flooded), PLACE, generate_all=True, chunk=512)
    unlike = image.quality == Quality.GENERATED_UNLIKE
    assert not unlike[:, : 70 - 64].any()
    assert unlike[:, 70 + 64 :].all()
    part, _ = run(strange, scene.assign(s1_t2=flooded), PLACE, generate_all=True, chunk=96, workers=3)
    assert (part.quality == image.quality).all()


def test_radar_without_a_level_is_like_the_training(model, scene) -> None:
    strange = LoadedModel(model.generator, model.card.model_copy(update={"usual": {"VV": (5.0, 6.0)}}), model.path)
    for calibrated in (True, False):
        work = run_of(strange, scene, predictor=predictor_of(strange, calibrated=calibrated), generate_all=True)
        image, _ = work.compose(*(work.compute(c := work.grid[0, 0], work.prepare(c)), [None]))
        assert (image.quality == Quality.GENERATED_UNLIKE).all() == calibrated


def test_a_gap_of_t1_in_a_band_that_follows_from_others_is_no_gap_of_t1(model, scene) -> None:
    without, _ = run(model, scene, PLACE)
    scene = scene.copy(deep=True)
    scene["s2_t1"].loc[{"band": "B4", "y": slice(None, None, 3)}] = np.nan
    result, _ = run(model, scene, PLACE)
    np.testing.assert_array_equal(result.quality, without.quality)
    assert np.isfinite(result.reflectance).all()


def test_an_observation_without_radar_is_kept(model, scene) -> None:
    image, _ = run(model, scene.assign(s1_t2=scene["s1_t2"] * np.nan), PLACE)
    clear = (within(scene, PLACE, 0)["clear_t2"].values >= 0.6) & np.isfinite(within(scene, PLACE, 0)["s2_t2"]).all(
        "band"
    )
    assert clear.any()
    assert set(np.unique(image.quality)) == {Quality.NODATA, Quality.OBSERVED}
    assert ((image.quality == Quality.OBSERVED) == clear).all()


def test_observed_pixels_pass_unchanged_and_generate_all_leaves_them_out(model, scene, whole) -> None:
    seen = whole.quality == Quality.OBSERVED
    assert 0.01 < seen.mean() < 0.9
    observed = within(scene, PLACE, 0)["s2_t2"].sel(band=list(MADE)).values
    assert (whole.reflectance[:, seen] == observed[:, seen]).all()
    alone, tally = run(model, scene, PLACE, generate_all=True)
    assert set(np.unique(alone.quality)) <= {Quality.GENERATED, Quality.GENERATED_CLOUDY_T1}
    assert sum(tally.pixels[quality] for quality in GENERATED_CLASSES) == alone.quality.size


def test_clipping_leaves_nothing_outside_the_polygon_and_changes_nothing_inside(model, scene, whole) -> None:
    left, bottom, right, top = PLACE.extent.boundingbox.bbox
    triangle = Polygon([(left, bottom), (right, bottom), (left, top)])
    image, tally = run(model, scene, PLACE, polygon=triangle)
    inside = image.quality != Quality.NODATA
    assert 0.45 < inside.mean() < 0.55
    assert (image.reflectance[:, inside] == whole.reflectance[:, inside]).all()
    assert tally.inside == inside.sum()
    assert tally.windows < run(model, scene, PLACE, polygon=box(left, bottom, right, top))[1].windows


def test_beyond_the_stack_pixels_are_reflected_even_if_it_is_smaller_than_a_window(model) -> None:
    grid = GeoBox((5, 7), Affine(10, 0, 735_000, 0, -10, 3_846_000), "EPSG:32649")
    rng = np.random.default_rng(1)
    radar, optical = (rng.random((n, 5, 7), np.float32) for n in (1, 4))
    stack = build_stack(
        grid,
        {"s1_t1": radar * 10 - 20, "s2_t1": optical, "s1_t2": radar * 9 - 20},
        pols=("VV",),
        bands=OPENED[::-1],
        manifest={},
    )
    reader = StackReader(stack, ("VV",), OPENED)
    read = reader.read(Box(*reader.box).grow(20))["s2_t1"]
    assert (read == np.pad(optical[::-1], ((0, 0), (20, 20), (20, 20)), mode="reflect")).all()
    image, _ = run(model, stack, grid)
    assert np.isfinite(image.reflectance).all()


def test_only_the_chunks_at_work_are_held_in_memory(model, scene) -> None:
    held, most, lock = 0, 0, threading.Lock()

    def start(*_: object) -> None:
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)

    def end(*_: object) -> None:
        nonlocal held
        with lock:
            held -= 1

    blind = scene.assign(s1_t2=scene["s1_t2"] * np.float32(np.nan))
    work = run_of(model, blind, PLACE.pad(MARGIN), chunk=64, generate_all=True, on_inputs=start)
    work.fill(end, 2)
    assert work.grid.count >= 25
    assert most <= 4


def test_chunks_that_are_done_are_left_out_and_what_they_spilled_is_used(model, scene, whole) -> None:
    """Whichever chunks a stopped run had finished, in whatever order."""
    work = run_of(model, scene, chunk=64)
    spills, parts = {}, {}

    def keep(chunk: Chunk, computed: Computed, incoming: list[np.ndarray | None]) -> None:
        spills[chunk.at] = [None if s is None else s.copy() for s in computed.spills]
        parts[chunk.at] = work.compose(computed, incoming)[0]

    work.fill(keep, 2)
    everything = {chunk.at: chunk for chunk in work.grid}
    first = dict(parts)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(sorted(everything))
        done = frozenset((int(r), int(c)) for r, c in order[: len(order) * 2 // 3])
        parts.clear()
        asked = []

        def spilled(at: tuple[int, int], which: int, asked: list = asked) -> np.ndarray | None:
            asked.append(at)
            return spills[at][which]

        work.fill(keep, 3, done, spilled)
        assert set(parts) == set(everything) - done
        assert set(asked) <= done
        for at, part in parts.items():
            assert part.reflectance.tobytes() == first[at].reflectance.tobytes()


@pytest.mark.parametrize("stage", ["read", "compute", "finish"])
def test_an_error_in_any_stage_ends_the_run_soon(model, scene, stage) -> None:
    begun = []

    def fail(at: str) -> None:
        begun.append(at)
        if at == stage:
            raise StackError(f"broken in {stage}")

    predictor = predictor_of(model, on_windows=lambda count: fail("compute"))
    run_ = run_of(model, scene, chunk=64, generate_all=True, predictor=predictor, on_inputs=lambda *_: fail("read"))
    with pytest.raises(StackError, match=f"broken in {stage}"):
        run_.fill(lambda *_: fail("finish"), 2)
    assert begun.count("read") <= 4 < run_.grid.count


class Spy:
    """Stands for a generator: keeps what it is given."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.given = generator, []
        self.evidence_size = generator.evidence_size

    def __call__(self, *windows: torch.Tensor, **more: torch.Tensor) -> Prediction:
        self.given.append((windows, more))
        return self.generator(*windows, **more)

    def evidence(self, *windows: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        self.given.append((windows, more))
        return self.generator.evidence(*windows, **more)


def given_to_the_generator(
    model: LoadedModel, stack: xr.Dataset, *, calibrated: bool = True
) -> list[tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]]:
    """What the generator is given in both passes over a small area at whose middle t2 was seen."""
    spy = Spy(model.generator)
    inside = (slice(MARGIN + 20, -MARGIN - 20), slice(MARGIN + 25, -MARGIN - 25))
    depth = ndimage.distance_transform_edt(stack["clear_t2"].values >= 0.6)[inside]
    row, col = np.unravel_index(depth.argmax(), depth.shape)
    assert depth[row, col] > 8
    area = PLACE.translate_pix(int(col), int(row)).expand((40, 50))
    work = run_of(model, stack, area, predictor=predictor_of(model._replace(generator=spy), calibrated=calibrated))
    looked: list[object] = []
    look(work, work.grid, lambda *told: looked.append(told), 1)
    assert looked
    seen = len(spy.given)
    assert seen
    work.fill(lambda *_: None, 1)
    assert len(spy.given) > seen
    return spy.given


@pytest.mark.parametrize("calibrated", [True, False])
def test_the_generator_is_told_whether_radar_is_calibrated_and_how_clear_t1_is(model, scene, calibrated) -> None:
    for (_, s2_t1, *_), more in given_to_the_generator(model, scene, calibrated=calibrated):
        assert more["calibrated"].tolist() == [calibrated] * 4
        assert more["clear_t1"].shape == (4, 1, 64, 64)
        assert s2_t1.shape == (4, 10, 64, 64)
        clear = more["clear_t1"].flatten()
        assert clear.min() >= 0
        assert clear.max() <= 1
        assert clear.unique().numel() > 100
    places = {tuple(more["clear_t1"][0, 0, 0, :3].tolist()) for _, more in given_to_the_generator(model, scene)}
    everywhere = scene["clear_t1"].values
    for first in places:
        assert (everywhere == np.float32(first[0])).any(), "it is the Stack's own score"


def test_without_a_score_of_t1_the_generator_is_given_none(model, scene) -> None:
    for _, more in given_to_the_generator(model, scene.drop_vars("clear_t1")):
        assert more["clear_t1"].isnan().all()


def test_bands_that_are_not_read_and_a_polarisation_that_is_not_there_are_missing(model, scene) -> None:
    bands = model.card.config.bands
    for (s1_t1, s2_t1, s1_t2, s2_t2), _ in given_to_the_generator(model, scene.sel(pol=["VV"])):
        for radar in (s1_t1, s1_t2):
            assert radar[:, 0].isfinite().all()
            assert radar[:, 1].isnan().all()
        for optical in (s2_t1, s2_t2):
            there = {band for i, band in enumerate(bands) if optical[:, i].isfinite().any()}
            assert there <= set(OPENED)
        assert {band for i, band in enumerate(bands) if s2_t1[:, i].isfinite().any()} == set(OPENED)


def test_a_map_of_vv_alone_has_no_hole_and_differs_from_one_with_vh(model, scene, whole) -> None:
    image, tally = run(model, scene.sel(pol=["VV"]), PLACE)
    assert np.isfinite(image.reflectance).all()
    assert ((image.quality == Quality.OBSERVED) == (whole.quality == Quality.OBSERVED)).all()
    assert not tally.missing["s1_t2"]
    assert (image.reflectance != whole.reflectance).any()


def test_where_vh_alone_is_missing_there_is_a_map(model, scene) -> None:
    hole = np.zeros(scene["s1_t2"].shape, bool)
    hole[1, MARGIN + 100 : MARGIN + 130, MARGIN + 50 : MARGIN + 90] = True
    image, tally = run(model, scene.assign(s1_t2=scene["s1_t2"].where(~hole)), PLACE, generate_all=True)
    assert np.isin(image.quality, GENERATED_CLASSES).all()
    assert tally.missing["s1_t2"] == 0


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_measured_rate_is_of_windows_that_were_computed(model: LoadedModel, rounds: int) -> None:
    counted: list[int] = []
    predictor = predictor_of(model, on_windows=counted.append)
    start = time.perf_counter()
    rate = measure(predictor, rounds)
    seconds = time.perf_counter() - start
    lanes = torch.get_num_threads()
    assert sum(counted) == (1 + rounds) * 4 * lanes
    assert rate >= rounds * 4 * lanes / seconds
