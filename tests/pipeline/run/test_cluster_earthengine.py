"""Processes open Earth Engine by the frozen manifest of the run they join, and share its limit."""

from pathlib import Path

import pytest

from crgen.pipeline.fill import run
from crgen.pipeline.request import EarthEngine, FillRequest, parse_date
from crgen.pipeline.run.cluster import setup_for
from crgen.pipeline.source.earthengine.settings import connection_settings
from tests.pipeline.run.test_resume import product_in
from tests.processes import forked_workers

pytestmark = pytest.mark.usefixtures("drawn_lightly")


def test_processes_share_what_may_be_asked_at_once(service, tiny_weights: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", "4")
    service.change(latency=0.3, concurrency=4)
    request = FillRequest(
        aoi="113.50,34.70,113.508,34.707",
        t1=parse_date("2021-07-10", "t1"),
        t2=parse_date("2021-07-22", "t2"),
        weights=str(tiny_weights),
        chunk=64,
        out=tmp_path / "map.tif",
        scheduler="processes",
        workers=2,
    )
    setups = []

    def watched(*asked):
        setups.append(setup_for(*asked))
        return setups[0]

    monkeypatch.setattr("crgen.pipeline.fill.setup_for", watched)
    with forked_workers():
        run(request)
    assert connection_settings(setups[0].request.earth_engine).concurrency == 2
    assert 1 <= service.max_concurrency["image:computePixels"] <= 4
    assert all(tile.status == 200 for tile in service.tiles), "nobody was refused"


@pytest.mark.parametrize(("most", "processes", "each"), [("32", 1, 32), ("32", 5, 6), ("32", 100, 1)])
def test_the_share_of_a_process(monkeypatch, most, processes, each):
    monkeypatch.setenv("CRGEN_EE_CONCURRENCY", most)
    assert connection_settings(EarthEngine(processes=processes)).concurrency == each


@pytest.mark.usefixtures("service")
def test_workers_take_the_runs_scenes_and_make_the_same_bytes(tiny_weights: Path, tmp_path: Path):
    asked = {"aoi": "113.50,34.70,113.508,34.707", "source": "gee", "weights": str(tiny_weights), "chunk": 64}
    days = {name: parse_date(day, name) for name, day in (("t1", "2021-07-10"), ("t2", "2021-07-22"))}
    for name, scheduler in (("here", "threads"), ("there", "processes")):
        (tmp_path / name).mkdir()
        with forked_workers():
            run(FillRequest(**asked, **days, out=tmp_path / name / "map.tif", scheduler=scheduler, workers=1))
    assert product_in(tmp_path / "there") == product_in(tmp_path / "here")
