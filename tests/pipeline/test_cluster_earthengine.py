"""Processes open Earth Engine by the frozen manifest of the run they join."""

from pathlib import Path

import pytest

from crgen.pipeline.fill import run
from crgen.pipeline.request import FillRequest, parse_date
from tests.pipeline.test_resume import product_in


@pytest.mark.usefixtures("service")
def test_workers_take_the_runs_scenes_and_make_the_same_bytes(tiny_weights: Path, tmp_path: Path):
    asked = {"aoi": "113.50,34.70,113.508,34.707", "source": "gee", "weights": str(tiny_weights), "chunk": 64}
    days = {name: parse_date(day, name) for name, day in (("t1", "2021-07-10"), ("t2", "2021-07-22"))}
    for name, scheduler in (("here", "threads"), ("there", "processes")):
        (tmp_path / name).mkdir()
        run(FillRequest(**asked, **days, out=tmp_path / name / "map.tif", scheduler=scheduler, workers=1))
    assert product_in(tmp_path / "there") == product_in(tmp_path / "here")
