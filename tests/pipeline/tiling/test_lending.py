"""What t2 shows in one place is lent to others, by distance, whatever the chunks."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

import crgen
from crgen.model.weights import load_model
from crgen.pipeline.box import Box
from crgen.pipeline.source.stack import build_stack
from crgen.pipeline.tiling.lending import REACH, Lent, cells
from crgen.pipeline.tiling.predict import Predictor, WindowInputs
from crgen.pipeline.tiling.windows import ChunkGrid, Lattice

LATTICE = Lattice(64)
AREA = Box(-3000, 3000, 100, 6100)


@pytest.mark.parametrize("chunk", [64, 320, 1000])
def test_cells_lie_side_by_side_over_the_area_whatever_the_chunks(chunk: int) -> None:
    area = Box(-130, 201, 30, 475)
    grid = ChunkGrid(area, LATTICE, chunk)
    found = [origin for piece in grid for origin in cells(piece, 64)]
    assert len(found) == len(set(found))
    assert set(found) == {(r, c) for r in range(-192, 201, 64) for c in range(0, 475, 64)}


def test_a_window_is_lent_more_by_near_ones_and_nothing_by_far_ones() -> None:
    told = np.array([100.0, 5.0])
    lent = Lent(AREA, LATTICE, [((0, 640), told)], 2)
    near, beside, far, beyond = lent.at([(0, 640 + 64 * steps) for steps in (1, 8, 20, 40)])
    assert near == pytest.approx(told * np.exp(-((1 / REACH) ** 2) / 2), rel=1e-6)
    assert beside == pytest.approx(told * np.exp(-((8 / REACH) ** 2) / 2), rel=1e-6)
    assert 0 < far[0] < beside[0]
    assert beyond[0] == 0
    assert np.array_equal(lent.at([(0, 640 - 64 * 3)]), lent.at([(64 * 3, 640)]))
    diagonal = lent.at([(64 * 3, 640 + 64 * 4)])[0]
    assert diagonal == pytest.approx(told * np.exp(-((5 / REACH) ** 2) / 2), rel=1e-6)


def test_a_window_is_lent_nothing_of_the_cell_that_holds_its_middle() -> None:
    own = Lent(AREA, LATTICE, [((0, 640), np.array([100.0, 5.0]))], 2)
    assert not own.at([(0, 640), (-32, 640), (0, 608), (-32, 608)]).any()
    several = Lent(AREA, LATTICE, [((0, 640), np.array([1e9])), ((64, 640), np.array([8.0]))], 1)
    assert several.at([(0, 640)]) == pytest.approx(8 * np.exp(-((1 / REACH) ** 2) / 2))


def test_a_window_that_alone_saw_some_pixels_of_t2_goes_by_these_as_if_nothing_were_lent(tiny_weights: Path) -> None:
    bands = ("B3", "B8", "B11")
    predictor = Predictor(load_model(str(tiny_weights)), "cpu", bands, bands)
    rng = np.random.default_rng(0)
    radar = rng.normal(-11, 2, (2, 1, 64, 64)).astype(np.float32)
    before, after = rng.uniform(0.05, 0.3, (2, 3, 64, 64)).astype(np.float32)
    after[:, 4:] = np.nan  # 256 pixels are left
    area = Box(0, 64, 640, 704)
    score = np.ones((64, 64), np.float32)
    inputs = WindowInputs(area, radar[0], before, radar[1], after, score, score > 0)
    window = [(0, 640)]
    told = predictor.evidence(predictor.stage(inputs, window))
    assert told[0, 640][0] == 256
    alone = predictor.predict(predictor.stage(inputs, window))
    lent = Lent(area, LATTICE, told.items(), predictor.evidence_size)
    assert np.array_equal(predictor.predict(predictor.stage(inputs, window, lent)), alone)


def test_what_is_lent_adds_up_and_does_not_depend_on_the_outline() -> None:
    told = [((0, 640), np.array([100.0])), ((640, 64), np.array([7.0]))]
    both = Lent(AREA, LATTICE, told, 1).at([(192, 320)])
    single = [Lent(AREA, LATTICE, [one], 1).at([(192, 320)]) for one in told]
    assert both == pytest.approx(sum(single))
    wider = Lent(Box(-5000, 4000, -900, 9100), LATTICE, told, 1).at([(192, 320)])
    assert np.array_equal(both, wider)


def test_land_that_is_hidden_takes_the_colour_that_was_seen_elsewhere(tmp_path: Path) -> None:
    """The end of a strip is hidden at t2, a window and more from anything seen."""
    place = GeoBox((64, 768), Affine(10, 0, 2560 * 280, 0, -10, 2560 * 1500), "EPSG:32649")
    rng = np.random.default_rng(0)
    fields = rng.uniform(0.05, 0.3, (3, 2, 24)).repeat(32, 1).repeat(32, 2)
    before = (fields + rng.normal(0, 0.005, (3, 64, 768))).astype(np.float32)
    after = (0.6 * before + 0.15).astype(np.float32)
    radar = rng.normal(-11, 1, (2, 1, 64, 768)).astype(np.float32)
    clear = np.zeros((64, 768), np.float32)
    clear[:, :200] = 1
    common = {"s1_t1": radar[0], "s2_t1": before, "s1_t2": radar[1]}
    stack = build_stack(
        place, {**common, "s2_t2": after, "clear_t2": clear}, pols=("VV",), bands=("B11", "B8", "B3"), manifest={}
    )
    errors = {}
    for name, given in {"shown": stack, "hidden": stack.assign(clear_t2=stack["clear_t2"] * 0)}.items():
        crgen.write_stack(given, tmp_path / f"{name}.zarr")
        result = crgen.fill(
            source=str(tmp_path / f"{name}.zarr"), t1="2021-07-10", t2="2021-07-22", out=tmp_path / f"{name}.tif"
        )
        made = result.reflectance.values[:, :, 480:]
        errors[name] = float(np.sqrt(np.square(made - after[:, :, 480:]).mean()))
    assert errors["shown"] < 0.93 * errors["hidden"]
