"""`crgen batch`: what it prints, and the codes it leaves with."""

import json

import pytest

from crgen.batch.schedule.journal import scheduling
from tests.batch.schedulers import ctx

JOBS = """
[defaults]
source = "demo"
t1 = 2021-07-10
t2 = 2021-07-22
aoi = "113.50,34.70,113.5005,34.7005"
weights = "{weights}"
[[job]]
name = "good"
[[job]]
name = "bad"
"""


@pytest.fixture
def jobs(here, tiny_weights, monkeypatch):
    """Write a jobs file; processes of jobs are started from one that has their libraries loaded."""
    monkeypatch.setattr("crgen.batch.schedule.scheduler.PROCESSES", ctx)

    def write(more: str = "") -> str:
        (here / "jobs.toml").write_text(JOBS.format(weights=tiny_weights) + more)
        return "jobs.toml"

    return write


def test_a_batch_from_check_to_status(crgen, jobs, here):
    wrong = crgen("batch", "check", jobs('aoi = "nowhere.geojson"\n'))
    assert wrong.code == 2
    assert wrong.err.startswith("error: jobs.toml: job 'bad': there is no file 'nowhere.geojson'")

    planned = crgen("batch", "plan", "jobs.toml", "--json")
    assert planned.code == 0
    good, bad = json.loads(planned.out)
    assert (good["job"], good["what"], good["t2"]) == ("good", "would run", "2021-07-22")
    assert good["windows"] > 0
    assert good["seconds"] > 0
    assert bad["what"].startswith("would fail: there is no file")
    assert f"1 of 2 jobs would run: {good['windows']} windows" in crgen("batch", "plan", "jobs.toml").out

    some = crgen("batch", "run", "jobs.toml")
    assert some.code == 9, some.err
    assert "good: done" in some.err
    assert "bad: failed; reason there is no file 'nowhere.geojson'" in some.err
    assert crgen("batch", "run", "jobs.toml").code == 0, "nothing is due"
    assert crgen("batch", "run", "jobs.toml", "--retry-failed").code == 10

    told = json.loads(crgen("batch", "status", "jobs.toml", "--json").out)
    assert [(one["job"], one["status"], one["products"]) for one in told] == [("good", "done", 1), ("bad", "failed", 0)]
    assert told[0]["product"].endswith(".tif")
    table = crgen("batch", "status", "jobs.toml").out
    assert "good" in table
    assert "failed" in table
    assert (here / "products" / "index.html").exists()
    assert (here / "products" / "collection.json").exists()

    assert crgen("batch", "check", jobs()).out == "jobs.toml: 2 jobs, all well\n"
    assert crgen("batch", "run", "jobs.toml").code == 0
    assert crgen("batch", "plan", "jobs.toml").out.endswith("0 of 2 jobs would run: 0 windows, about 0 s in all\n")


def test_a_deadline_that_passed_is_said(crgen, jobs):
    path = jobs("deadline = 2021-07-23T00:00:00Z\npriority = 9\n")
    reason = "the deadline 2021-07-23 00:00:00+00:00 passed"
    some = crgen("batch", "run", path)
    assert some.code == 9
    assert f"bad: late; reason {reason}" in some.err
    told = json.loads(crgen("batch", "status", path, "--json").out)[1]
    assert (told["status"], told["reason"], told["products"]) == ("late", reason, 0)
    assert crgen("batch", "run", path, "--retry-failed").code == 10, "still late, and nothing else was due"


def test_a_second_run_of_a_file_ends_with_its_own_code(crgen, jobs, here):
    path = jobs()
    with scheduling(here / path):
        outcome = crgen("batch", "run", path)
    assert outcome.code == 11
    assert outcome.err == (
        "error: another `crgen batch run` works on jobs.toml at this moment; wait for it, or stop it\n"
    )


def test_a_jobs_file_that_is_wrong_is_one_line(crgen, jobs):
    outcome = crgen("batch", "run", jobs("prioritty = 1\n"))
    assert outcome.code == 2
    assert outcome.err == ("error: jobs.toml:12: job 'bad': prioritty: there is no such key; did you mean priority?\n")
    assert crgen("batch", "run", "none.toml").err == "error: cannot read none.toml: No such file or directory\n"
    assert "not a time" in crgen("batch", "run", jobs(), "--watch", "often").err
