"""Options of a fill have one home; the command line, jobs files and Python have the same ones, and mean the same."""

import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

import crgen
import crgen.pipeline.fill
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.cli.main import app
from crgen.pipeline.pull import PullRequest
from crgen.pipeline.request import EarthEngine, FillRequest, options_of

JOB = """
[[job]]
name = "map"
source = "stack.zarr"
bands = ["B4", "B3"]
s1_calibrated = false
precision = "float32"
credentials = "key.json"
search_days = 3
no_cache = true
"""


def test_python_spells_every_option_out_with_its_default_and_a_line() -> None:
    earth_engine = {f.name: f.default for f, _ in options_of(EarthEngine)} | {"manifest": None}
    options = {f.name: f.default for f, _ in options_of(FillRequest)} | earth_engine
    of_pull = {f.name: f.default for f in fields(PullRequest) if f.name != "earth_engine"} | earth_engine
    for function, spelled in ((crgen.fill, options), (crgen.pull, of_pull)):
        parameters = inspect.signature(function).parameters.values()
        assert {p.kind for p in parameters} == {inspect.Parameter.KEYWORD_ONLY}
        given = {p.name: MISSING if p.default is p.empty else p.default for p in parameters}
        assert list(given.items()) == list(spelled.items())
        assert re.findall(r"^    (\w+): ", inspect.getdoc(function) or "", re.MULTILINE)[: len(given)] == [*given]


def test_options_mean_the_same_wherever_they_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(request: FillRequest, *_: object) -> None:
        raise RuntimeError(request)

    monkeypatch.setattr(crgen.pipeline.fill, "run", run)
    monkeypatch.chdir(tmp_path)
    Path("jobs.toml").write_text(JOB)
    source, key = str(tmp_path / "stack.zarr"), tmp_path / "key.json"
    flags = f"--source {source} --bands B4,B3 --s1-uncalibrated --precision float32 --credentials {key} --search-days 3"
    with pytest.raises(RuntimeError) as by_command:
        app(["fill", *flags.split(), "--no-cache"], standalone_mode=False)
    with pytest.raises(RuntimeError) as by_python:
        crgen.fill(
            source=source,
            bands="B4,B3",
            s1_calibrated=False,
            precision="float32",
            credentials=str(key),
            search_days=3,
            keep_tiles=False,
        )
    earth_engine = EarthEngine(credentials=key, search_days=3, keep_tiles=False)
    wanted = FillRequest(
        source=source, bands=("B4", "B3"), s1_calibrated=False, precision="float32", earth_engine=earth_engine
    )
    assert by_command.value.args == by_python.value.args == (wanted,)
    assert read_jobs(Path("jobs.toml")).job[0].request(None, None, None) == wanted
