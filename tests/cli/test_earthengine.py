"""`crgen fill` and `crgen pull` over HTTP to files: through faults, refusals and kill -9."""

import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import crgen as package
from crgen.gee.connection.session import disconnect
from crgen.pipeline.source.stack import manifest_of, stack_geobox
from tests.cli.conftest import COMMAND, files_in
from tests.earthengine import faults, truth
from tests.earthengine.faults import Fault
from tests.earthengine.server import EarthEngineServer

AREA = "113.560,34.700,113.563,34.703"
DATES = ("--t1", "2021-07-10", "--t2", "2021-07-22")
#: 18 km long and a few pixels high: two tiles of every variable.
STRIP = "113.400,34.7000,113.600,34.7005"


@pytest.fixture
def words(tiny_weights: Path) -> tuple[str, ...]:
    return ("fill", "--aoi", AREA, *DATES, "--weights", str(tiny_weights), "--out", "map.tif")


@pytest.fixture(scope="module")
def right(
    _earth_engine_process: EarthEngineServer, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The map of ``words`` where nothing is in the way."""
    folder = tmp_path_factory.mktemp("right")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("CRGEN_EE_URL", _earth_engine_process.url)
        patched.setenv("EE_PROJECT_ID", "test-project")
        patched.setenv("CRGEN_CACHE", str(folder / "cache"))
        disconnect()
        days = dict(zip(("t1", "t2"), DATES[1::2], strict=True))
        package.fill(aoi=AREA, **days, weights=str(tiny_weights), out=folder / "map.tif")
        disconnect()
    return {name: (folder / name).read_bytes() for name in ("map.tif", "map_quality.tif")}


@pytest.mark.parametrize(
    "fault",
    [
        faults.storm(6, retry_after=0.05),
        faults.error(503, "The service is currently unavailable.", every=2),
        faults.cut(every=2),
        faults.truncate(every=2),
        faults.memory_limit(above_pixels=10_000),
    ],
    ids=["429 storm", "503", "cut", "half a tile", "memory limit"],
)
def test_a_map_made_through_faults_has_the_same_bytes(right, service, crgen, here, words, fault):
    service.add(struck := Fault.from_json(fault.to_json()))
    outcome = crgen(*words)
    assert outcome.code == 0, outcome.err
    assert struck.struck > 0
    assert {name: Path(name).read_bytes() for name in right} == right
    assert not service.served_twice()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (faults.error(429, faults.DAILY), "the daily limit of compute that is set for project test-project"),
        (faults.error(403, faults.NO_PERMISSION.format(project="test-project")), "no permission to use Earth Engine"),
        (faults.error(403, faults.NOT_REGISTERED), "register it at"),
        (faults.error(400, "Image.load: Image asset 'x' not found"), "Earth Engine has no x (any more)"),
    ],
    ids=["daily limit", "permission", "registration", "withdrawn"],
)
def test_a_refusal_in_the_middle_is_one_line_and_the_run_goes_on_later(
    service, refused, crgen, words, fault, message, monkeypatch
):
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", "1")
    service.add(Fault.from_json({**fault.to_json(), "after": 2}))
    assert message in refused(7, *words)
    assert [tile.status for tile in service.tiles] == [200, 200, fault.status]
    service.faults.clear()
    assert crgen(*words).code == 0
    assert not service.served_twice()


@pytest.mark.parametrize("command", ["fill", "pull", "scenes"])
def test_an_area_across_180_degrees_is_refused_before_anything_is_asked(service, refused, words, command, here):
    """A local stack may lie there (tests/cli/test_inputs.py); Earth Engine is searched on one side."""
    ring = [[179.9, -17], [-179.9, -17], [-179.9, -16.9], [179.9, -16.9], [179.9, -17]]
    (here / "fiji.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    options = {"fill": (*words[1:], "--source", "gee"), "pull": ("--out", "stack.zarr"), "scenes": ()}[command]
    for aoi in ("179.9,-17,-179.9,-16.9", "179.9,-17,180.1,-16.9", "fiji.geojson"):
        line = refused(3, command, *DATES, *options, "--aoi", aoi)
        assert f"'{aoi}' lies on both sides of 180°" in line
        assert "give each side by itself" in line
    assert not service.requests


def test_nobody_there_is_one_line(refused, words, monkeypatch, tmp_path):
    monkeypatch.setenv("CRGEN_EE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("CRGEN_EE_PATIENCE", "0.5")
    monkeypatch.setenv("EE_PROJECT_ID", "test-project")
    disconnect()
    assert "did not deliver" in refused(7, *words)


def kept_in(cache: Path) -> set[str]:
    return {path.stem for path in cache.rglob("*.tile")}


def killed_in_the_middle(service: EarthEngineServer, cache: Path, *words: str) -> set[str]:
    """Start `crgen`, kill it once some tiles are on disk, and return which."""
    service.change(latency=0.5)
    environment = {**os.environ, "CRGEN_EE_CONCURRENCY": "1"}
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, env=environment) as run:
        give_up = time.monotonic() + 120
        while len(kept_in(cache)) < 2:
            assert run.poll() is None, run.stderr and run.stderr.read().decode()
            assert time.monotonic() < give_up
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
    service.wait_until_idle()
    service.change(latency=0.0)
    return kept_in(cache)


@pytest.mark.slow
def test_a_pull_that_was_killed_asks_only_for_what_it_had_not_kept(service, crgen, here, tmp_path, tiny_weights):
    words = ("pull", "--aoi", STRIP, *DATES, "--weights", str(tiny_weights), "--out", "stack.zarr")
    kept = killed_in_the_middle(service, tmp_path / "cache", *words)
    assert not Path("stack.zarr").exists()
    before = len(service.tiles)
    outcome = crgen(*words)
    assert outcome.code == 0, outcome.err
    every = kept_in(tmp_path / "cache")
    assert kept < every
    assert len(service.tiles) - before == len(every - kept), "nothing that was kept was asked for again"
    assert not any(path.suffix == ".partial" for path in here.rglob("*"))
    stack = package.open_stack("stack.zarr")
    geobox = stack_geobox(stack)
    for variable in ("s1_t1", "s1_t2"):
        (day,) = {scene["time"][:10] for scene in manifest_of(stack)["stored"]["scenes"][variable]}
        seen = datetime.fromisoformat(day).replace(tzinfo=UTC)
        ideal = truth.backscatter(str(geobox.crs), geobox.affine, tuple(geobox.shape), "VV", seen)
        assert float(np.abs(stack[variable].sel(pol="VV").values - ideal).max()) < 0.5


@pytest.mark.slow
def test_a_fill_that_was_killed_ends_with_the_same_bytes(service, crgen, here, tmp_path, tiny_weights):
    words = ("fill", "--aoi", STRIP, *DATES, "--weights", str(tiny_weights), "--out", "map.tif")
    kept = killed_in_the_middle(service, tmp_path / "cache", *words)
    assert "map.tif" not in files_in(here)
    before = len(service.tiles)
    outcome = crgen(*words)
    assert outcome.code == 0, outcome.err
    assert len(service.tiles) - before == len(kept_in(tmp_path / "cache") - kept)
    first = Path("map.tif").read_bytes()
    assert crgen(*words, "--no-cache", "--overwrite").code == 0
    assert Path("map.tif").read_bytes() == first
