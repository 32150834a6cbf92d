"""A stopped run goes on with the scenes it began with, whatever the catalogue holds by then."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from crgen.errors import OutputError
from crgen.pipeline.earthengine import EarthEngine
from crgen.pipeline.fill import run
from crgen.pipeline.plan import lay_out
from crgen.pipeline.request import FillRequest, parse_date
from crgen.pipeline.stack import manifest_of
from crgen.pipeline.workshop import Workshop
from tests.earthengine import catalogue
from tests.earthengine.server import EarthEngineServer
from tests.pipeline.test_resume import product_in


def request_for(folder: Path, weights: Path, **more) -> FillRequest:
    folder.mkdir(exist_ok=True)
    days = {name: parse_date(day, name) for name, day in (("t1", "2021-07-10"), ("t2", "2021-07-22"))}
    asked = {"aoi": "113.50,34.70,113.508,34.707", "weights": str(weights), "chunk": 64, "workers": 1}
    return FillRequest(**days, **asked, out=folder / "map.tif", **more)


def scenes_of(request: FillRequest) -> set[str]:
    held = manifest_of(lay_out(request).scene.stack)["scenes"]
    return {scene["id"] for scenes in held.values() for scene in scenes}


def stop_after_a_part(request: FillRequest) -> None:
    finish, first = Workshop.finish, threading.Lock()

    def finish_one(self, *chunk):
        if not first.acquire(blocking=False):
            raise KeyboardInterrupt
        finish(self, *chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "finish", finish_one)
        with pytest.raises(KeyboardInterrupt):
            run(request)


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
        stop_after_a_part(stopped)

    assert late in scenes_of(request_for(tmp_path / "today", tiny_weights)), "a run that begins now takes it"
    asked = len(service.requests)
    result = run(stopped)
    assert result.resumed == 1
    assert "value:compute" not in {request.endpoint for request in service.requests[asked:]}
    assert product_in(tmp_path / "stopped") == product_in(tmp_path / "undisturbed")


@pytest.mark.usefixtures("service")
def test_other_rules_choose_anew_and_so_does_a_restart(tiny_weights: Path, tmp_path: Path) -> None:
    request = request_for(tmp_path, tiny_weights)
    stop_after_a_part(request)
    with pytest.raises(OutputError, match="with other inputs"):
        run(replace(request, earth_engine=EarthEngine(observed_days=1)))
    record = tmp_path / ".map.tif.scratch" / "run.json"
    record.write_text(record.read_text().replace('"platform": "S1', '"platform": "marked S1'))
    assert "marked" in lay_out(request).scene.stack.attrs["manifest"]
    assert "marked" not in lay_out(replace(request, restart=True)).scene.stack.attrs["manifest"]
