"""A run that was killed asks for no tile that it kept, and goes on with the scenes it began with, whatever the
catalogue holds by then."""

import math
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from crgen.errors import OutputError
from crgen.gee.fetch.arrays import open_pull
from crgen.gee.fetch.fetcher import SPARE
from crgen.pipeline.fill import run
from crgen.pipeline.request import EarthEngine, FillRequest, parse_date
from crgen.pipeline.run.plan import lay_out
from crgen.pipeline.source.stack import manifest_of
from tests.earthengine import catalogue
from tests.earthengine.server import EarthEngineServer
from tests.light import draw_lightly
from tests.pipeline.run.test_resume import product_in
from tests.processes import ctx

pytestmark = pytest.mark.usefixtures("drawn_lightly")

#: Six chunks wide: the first is finished while tiles of the last are still to be asked for.
STRIP = "113.50,34.70,113.54,34.702"


def request_for(folder: Path, weights: Path, **more) -> FillRequest:
    folder.mkdir(exist_ok=True)
    days = {name: parse_date(day, name) for name, day in (("t1", "2021-07-10"), ("t2", "2021-07-22"))}
    asked = {"aoi": "113.50,34.70,113.508,34.707", "weights": str(weights), "chunk": 64, "workers": 1, **more}
    return FillRequest(**days, **asked, out=folder / "map.tif")


def scenes_of(request: FillRequest) -> set[str]:
    held = manifest_of(lay_out(request).scene.stack)["scenes"]
    return {scene["id"] for scenes in held.values() for scene in scenes}


def run_and_die(request: FillRequest, kind: str, count: int, environment: Mapping[str, str], tiles: object) -> None:
    """Fill in this process, and be killed once the ``count``-th file whose name ends in ``kind`` stands."""
    os.environ.update(environment)
    draw_lightly()
    open_pull.__kwdefaults__ = tiles
    put, standing = os.replace, 0

    def put_and_die(source, target, **more):
        nonlocal standing
        put(source, target, **more)
        standing += str(target).endswith(kind)
        if standing == count:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = put_and_die
    run(request)


def kill(request: FillRequest, kind: str, count: int = 1) -> None:
    """Fill in a process of its own that is killed at that moment."""
    child = ctx.Process(target=run_and_die, args=(request, kind, count, dict(os.environ), open_pull.__kwdefaults__))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


def kept_in(cache: Path) -> set[str]:
    return {path.stem for path in cache.rglob("*.tile")}


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bytes_and_asks_for_no_tile_that_was_kept(
    service: EarthEngineServer, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, threads = 2, 2 + math.ceil(2 * SPARE)
    monkeypatch.setattr("crgen.gee.fetch.arrays.open_pull.__kwdefaults__", {"largest": 64})
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", str(at_once))
    with monkeypatch.context() as apart:
        apart.setenv("CRGEN_CACHE", str(tmp_path / "apart"))
        run(request_for(tmp_path / "undisturbed", tiny_weights, aoi=STRIP))
    every = kept_in(tmp_path / "apart")

    request, cache = request_for(tmp_path / "killed", tiny_weights, aoi=STRIP), tmp_path / "cache"
    service.change(latency=0.1)
    kept: set[str] = set()
    for kind, count in ((".tile", 10), (".tile", 30), (".part", 1)):
        before, asked = kept, len(service.tiles)
        kill(request, kind, count)
        service.wait_until_idle()
        kept = kept_in(cache)
        assert before < kept < every, "in the middle of fetching"
        assert len(service.tiles) - asked <= len(kept - before) + threads, "but for what was under way"
    service.change(latency=0.0)
    asked = len(service.tiles)
    assert run(request).resumed == 1
    assert len(service.tiles) - asked == len(every - kept)
    assert kept_in(cache) == every
    assert product_in(tmp_path / "killed") == product_in(tmp_path / "undisturbed")


def test_a_scene_that_came_meanwhile_is_left_to_other_runs(
    service: EarthEngineServer, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = request_for(tmp_path / "stopped", tiny_weights)
    whole, late = catalogue.collections(), min(i for i in scenes_of(stopped) if i.startswith(catalogue.S2))
    catalogue.images()  # found while all are there
    hidden = {name: tuple(image for image in images if image.id != late) for name, images in whole.items()}
    with monkeypatch.context() as yesterday:
        yesterday.setattr(catalogue, "collections", lambda: hidden)
        run(request_for(tmp_path / "undisturbed", tiny_weights))
        kill(stopped, ".part")

    assert late in scenes_of(request_for(tmp_path / "today", tiny_weights)), "a run that begins now takes it"
    asked = len(service.requests)
    result = run(stopped)
    assert result.resumed == 1
    assert "value:compute" not in {request.endpoint for request in service.requests[asked:]}
    assert product_in(tmp_path / "stopped") == product_in(tmp_path / "undisturbed")


@pytest.mark.usefixtures("service")
def test_other_rules_choose_anew_and_so_does_a_restart(tiny_weights: Path, tmp_path: Path) -> None:
    request = request_for(tmp_path, tiny_weights)
    kill(request, ".part")
    with pytest.raises(OutputError, match="with other inputs"):
        run(replace(request, earth_engine=EarthEngine(observed_days=1)))
    record = tmp_path / ".map.tif.scratch" / "run.json"
    record.write_text(record.read_text().replace('"platform": "S1', '"platform": "marked S1'))
    assert "marked" in lay_out(request).scene.stack.attrs["manifest"]
    assert "marked" not in lay_out(replace(request, restart=True)).scene.stack.attrs["manifest"]
