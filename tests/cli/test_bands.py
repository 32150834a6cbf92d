"""Which bands a map has: the usual ones, those that are named, those that a stack can give."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from crgen.model.config import preset
from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.stack import build_stack
from tests.cli.test_bad_input import GRID, write

USUAL = ("B2", "B3", "B4", "B8", "B11", "B12")


def bands_of(path: Path) -> tuple[str, ...]:
    with rasterio.open(path) as file:
        return file.descriptions


def settings_of(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())["properties"]["crgen:settings"]


@pytest.mark.parametrize(
    ("named", "made"), [("B12,b4, B3", ("B12", "B4", "B3")), ("B5", ("B5",)), ("all", preset("tiny").bands)]
)
def test_the_bands_that_are_named_are_made_in_that_order(crgen, fill, here, tiny_weights, named, made):
    outcome = crgen(*fill, "--bands", named, "--out", "map.tif")
    assert outcome.code == 0, outcome.err
    assert bands_of(here / "map.tif") == made
    assert settings_of(here / "map.json")["bands"] == list(made)
    repeated = crgen("fill", "--manifest", "map.json", "--weights", tiny_weights, "--out", "again.tif")
    assert repeated.code == 0, repeated.err
    assert (here / "again.tif").read_bytes() == (here / "map.tif").read_bytes()


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("B4,B99", "the weights do not make B99; they make B2, B3, B4"),
        ("B1", "the weights do not make B1"),
        ("B4,B4", "each once"),
        ("", "at least one band"),
        ("all,B4", "the weights do not make ALL"),
    ],
)
def test_bands_that_make_no_sense(refused, fill, named, words):
    assert words in refused(2, *fill, "--bands", named)


@pytest.mark.parametrize("held", [("B11", "B8", "B3"), ("B8", "B12", "B3", "B5", "B11")])
def test_a_stack_with_few_bands_gets_a_map_of_the_usual_ones_it_holds(crgen, refused, here, tiny_weights, held):
    write(here / "stack", bands=held)
    words = ("fill", "--weights", tiny_weights, "--source", "stack", "--out", "map.tif")
    assert "'s2_t1' lacks B4: it holds" in refused(4, *words, "--bands", "B4,B3")
    outcome = crgen(*words)
    assert outcome.code == 0, outcome.err
    assert bands_of(here / "map.tif") == tuple(band for band in USUAL if band in held)


@pytest.fixture
def changed(here: Path) -> Path:
    """A stack whose radar has a level that says something: it lies lower at t2."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (2, 2, *GRID.shape)).astype(np.float32)
    optical = rng.uniform(0.05, 0.3, (3, *GRID.shape)).astype(np.float32)
    arrays = {"s1_t1": noise[0] - 10, "s1_t2": noise[1] - 20, "s2_t1": optical}
    manifest = {"t1": "2021-07-10", "t2": "2021-07-22"}
    stack = build_stack(GRID, arrays, pols=("VV", "VH"), bands=("B3", "B8", "B11"), manifest=manifest)
    return write_stack(stack, here / "stack")


def test_radar_without_a_level_makes_another_map_whoever_says_so(crgen, here, changed, tiny_weights):
    words = ("fill", "--weights", tiny_weights, "--source", "stack")
    assert crgen(*words, "--out", "level.tif").code == 0
    assert crgen(*words, "--s1-uncalibrated", "--out", "option.tif").code == 0
    manifest = json.loads((changed / "manifest.json").read_text())
    (changed / "manifest.json").write_text(json.dumps({**manifest, "s1_calibrated": False}))
    assert crgen(*words, "--out", "stack.tif").code == 0
    assert crgen("fill", "--manifest", "option.json", "--weights", tiny_weights, "--out", "again.tif").code == 0
    level, option, stack, again = (
        rasterio.open(here / f"{name}.tif").read() for name in ("level", "option", "stack", "again")
    )
    assert (level != option).any()
    assert (option == stack).all()
    assert (option == again).all()
    said = {name: settings_of(here / f"{name}.json")["s1_calibrated"] for name in ("level", "option", "stack", "again")}
    assert said == {"level": True, "option": False, "stack": False, "again": False}


def test_a_stack_without_vh_gets_a_map(crgen, here, tiny_weights):
    write(here / "vv", pols=("VV",))
    write(here / "both", pols=("VH", "VV"))
    for name in ("vv", "both"):
        outcome = crgen("fill", "--weights", tiny_weights, "--source", name, "--out", f"{name}.tif")
        assert outcome.code == 0, outcome.err
        assert "missing" not in outcome.err
