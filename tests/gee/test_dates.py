"""Many dates of one area: what one pull fetched, no other asks for again, whichever of its dates it belongs to."""

from pathlib import Path

import numpy as np
import pytest

import crgen as package
from crgen.pipeline.source.stack import manifest_of
from tests.cli.conftest import crgen, here  # noqa: F401
from tests.earthengine.server import EarthEngineServer

AREA = "113.560,34.700,113.563,34.703"


@pytest.fixture
def pulled(service: EarthEngineServer, crgen, here: Path):  # noqa: F811
    """Pull two days; return the stack and how many tiles were asked for. The area is one tile of each variable."""

    def pull(t1: str, t2: str):
        before = len(service.tiles)
        outcome = crgen("pull", "--aoi", AREA, "--t1", t1, "--t2", t2, "--past", "none", "--out", f"{t1}_{t2}.zarr")
        assert outcome.code == 0, outcome.err
        return package.open_stack(f"{t1}_{t2}.zarr"), len(service.tiles) - before

    return pull


def ids(stack, variable: str) -> list[str]:
    return [scene["id"] for scene in manifest_of(stack)["stored"]["scenes"][variable]]


def test_another_t2_asks_for_nothing_of_t1_again(pulled, service: EarthEngineServer) -> None:
    first, asked = pulled("2021-07-09", "2021-07-21")
    assert asked == 4
    second, asked = pulled("2021-07-09", "2021-08-01")
    assert ids(second, "s1_t1") == ids(first, "s1_t1")
    assert ids(second, "s2_t1") == ids(first, "s2_t1")
    assert asked == 1, "the radar of the new t2 alone; of that day there is no optical image"
    assert not service.served_twice()


def test_what_was_t2_asks_for_nothing_again_as_t1(pulled, service: EarthEngineServer) -> None:
    first, _ = pulled("2021-07-09", "2021-07-21")
    moved, asked = pulled("2021-07-21", "2021-08-01")
    for sensor in ("s1", "s2"):
        assert ids(moved, f"{sensor}_t1") == ids(first, f"{sensor}_t2")
        np.testing.assert_array_equal(moved[f"{sensor}_t1"].values, first[f"{sensor}_t2"].values)
    assert asked == 1, "the radar of the new t2 alone"
    assert not service.served_twice()
