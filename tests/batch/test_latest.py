"""An area that is watched: nothing new, nothing runs; a new acquisition, one new product."""

import csv
import datetime
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crgen.batch.dry_run import plan_jobs
from crgen.batch.jobs.jobs_file import read_jobs
from crgen.cli.batch import app
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.run.plan import lay_out
from tests.batch.schedulers import in_process, state_of
from tests.earthengine import catalogue, faults
from tests.gee.fetch.test_compute import PROFILE, kept

runner = CliRunner()

WATCHED = '[[job]]\nname = "zhengzhou"\nt1 = "-12d"\nt2 = "latest"\n'
AREA = "113.560,34.700,113.563,34.703"


@pytest.fixture
def acquired_until(service, monkeypatch):
    """Let the catalogue hold only what was acquired before a day."""
    everything = catalogue.collections()

    def until(day: str) -> dict[str, str]:
        end = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp() * 1000
        held = {
            name: tuple(image for image in images if image.properties["system:time_start"] < end)
            for name, images in everything.items()
        }
        monkeypatch.setattr(catalogue, "collections", lambda: held)
        catalogue.images.forget()
        return {"TODAY": day}

    yield until
    catalogue.images.forget()


@pytest.fixture
def environment(service, tmp_path) -> dict[str, str]:
    return {"CRGEN_EE_URL": service.url, "EE_PROJECT_ID": "test-project", "CRGEN_CACHE": str(tmp_path / "cache")}


def days(path: Path) -> list[tuple[str, str]]:
    return [(run["t1"], run["t2"]) for run in state_of(path).runs() if run["status"] == "done"]


def test_a_new_acquisition_makes_one_new_product(write, acquired_until, environment, service, tmp_path):
    path = write(WATCHED, source="gee", aoi=AREA)
    today = acquired_until("2021-06-20")
    assert in_process(path, **environment, **today).counts == {"waiting": 1}
    row = state_of(path).jobs()["zhengzhou"]
    assert row["reason"] == "no Sentinel-1 acquisition covers the area in the 45 days up to 2021-06-20"
    today = acquired_until("2021-07-19")
    assert in_process(path, **environment, **today).counts == {"done": 1}
    assert days(path) == [("2021-07-03", "2021-07-15")]
    asked = len(service.tiles)
    assert asked
    assert in_process(path, **environment, **today).counts == {"nothing": 1}
    assert len(service.tiles) == asked
    today = acquired_until("2021-07-22")
    assert in_process(path, **environment, **today).counts == {"done": 1}
    assert days(path) == [("2021-07-03", "2021-07-15"), ("2021-07-08", "2021-07-20")]
    assert in_process(path, **environment, **today).counts == {"nothing": 1}
    assert len(list(tmp_path.glob("products/zhengzhou/*.html"))) == 2


def test_what_was_begun_is_finished_with_its_scenes_before_a_newer_acquisition_has_its_turn(
    write, acquired_until, environment, service
):
    path = write(WATCHED, source="gee", aoi=AREA)
    service.add(faults.error(503, "The service is currently unavailable.", endpoint="image:computePixels"))
    today = acquired_until("2021-07-19")
    assert in_process(path, **environment, **today, CRGEN_EE_PATIENCE="0.1").counts == {"retry": 1}
    [begun] = state_of(path).runs()
    service.faults.clear()
    assert in_process(path, **environment, **acquired_until("2021-07-22")).counts == {"done": 1}
    assert days(path) == [("2021-07-03", "2021-07-15"), ("2021-07-08", "2021-07-20")]
    finished = state_of(path).runs()[0]
    assert (finished["identity"], finished["manifest"]) == (begun["identity"], begun["manifest"])


def test_an_outage_of_earth_engine_is_retried(write, acquired_until, environment, service):
    path = write(WATCHED, source="gee", aoi=AREA, retry_wait="1h")
    today = acquired_until("2021-07-22")
    service.add(faults.error(503, "The service is currently unavailable."))
    summary = in_process(path, **environment, **today, CRGEN_EE_PATIENCE="0.1")
    assert (summary.counts, summary.failures) == ({"retry": 1}, 1)
    assert "Earth Engine did not deliver" in state_of(path).jobs()["zhengzhou"]["reason"]
    service.faults.clear()
    assert in_process(path, **environment, TODAY="2021-07-23").counts == {"done": 1}
    assert not service.served_twice()


def test_once_the_month_of_compute_is_used_no_product_is_begun_until_it_is_over(
    write, acquired_until, environment, service, tmp_path, monkeypatch
):
    """The one that was begun before is still finished."""
    limited = WATCHED + "[limits]\neecu_hours = 150\n"
    path = write(limited, source="gee", aoi=AREA)
    service.change(used=150 * 3600.0)
    today = acquired_until("2021-07-22")
    summary = in_process(path, **environment, **today)
    assert (summary.counts, summary.failures) == ({"retry": 1}, 1)
    reason = state_of(path).jobs()["zhengzhou"]["reason"]
    assert reason.startswith("project test-project has used 150.0 EECU-hours since 2021-07-01, and [limits] eecu_hours")
    monkeypatch.setattr("crgen.batch.dry_run.today", lambda: datetime.date(2021, 7, 22))
    (planned,) = plan_jobs(path)
    assert planned.what.startswith("would not be begun: ")
    assert "150.0 EECU-hours" in planned.what
    assert not service.tiles
    assert not list(tmp_path.glob("products/zhengzhou/*"))
    service.change(used=149 * 3600.0)
    service.add(faults.error(503, "The service is currently unavailable.", endpoint="image:computePixels"))
    later = {"TODAY": "2021-07-23"}
    assert in_process(path, **environment, **later, CRGEN_EE_PATIENCE="0.1").counts == {"retry": 1}
    service.faults.clear()
    service.change(used=151 * 3600.0)
    assert in_process(path, **environment, TODAY="2021-07-24").counts == {"done": 1}


def test_a_limit_that_cannot_be_held_is_told_and_nothing_is_begun(write, acquired_until, environment, service):
    path = write(WATCHED + "[limits]\neecu_hours = 150\n", source="gee", aoi=AREA)
    service.change(used=None)
    assert in_process(path, **environment, **acquired_until("2021-07-22")).counts == {"failed": 1}
    assert "Monitoring Viewer" in state_of(path).jobs()["zhengzhou"]["reason"]
    assert not service.tiles


def test_before_the_event_nothing_of_it_is_seen(write, acquired_until, environment):
    rules = WATCHED.replace('"-12d"', '"before event"\nevent = 2021-07-20')
    path = write(rules, source="gee", aoi=AREA)
    today = acquired_until("2021-07-19")
    assert in_process(path, **environment, **today).counts == {"waiting": 1}
    reason = "no Sentinel-1 acquisition since the event (2021-07-20): the latest is of 2021-07-15"
    assert state_of(path).jobs()["zhengzhou"]["reason"] == reason
    today = acquired_until("2021-07-22")
    assert in_process(path, **environment, **today).counts == {"done": 1}
    assert days(path) == [("2021-07-13", "2021-07-20")]
    [run] = state_of(path).runs()
    scenes = run["manifest"]["scenes"]
    assert all(scene["time"] < "2021-07-20" for scene in scenes["s1_t1"] + scenes["s2_t1"])
    assert all(scene["time"] > "2021-07-20" for scene in scenes["s1_t2"])


def test_a_watched_area_learns_from_its_past_and_a_later_look_makes_no_map_due_again(
    write, acquired_until, environment, service, tmp_path
):
    path = write(WATCHED, source="gee", aoi=AREA)
    today = acquired_until("2021-07-22")
    assert in_process(path, **environment, **today).counts == {"done": 1}
    (item,) = tmp_path.glob("products/zhengzhou/*.json")
    properties = json.loads(item.read_text())["properties"]
    assert len([name for name in properties["crgen:manifest"]["past"] if name.startswith("s2_")]) >= 3
    assert properties["crgen:past"]["pairs"] > 0
    alone = write(WATCHED + '\npast = "none"\n', source="gee", aoi=AREA)
    assert in_process(alone, **environment, **today).counts == {"nothing": 1}


IMPROVED = '[deliver]\nto = "there"\n' + WATCHED + 'improve_after = "3d"\n'


def test_a_map_is_improved_once_when_the_days_after_it_are_over_though_its_processes_die(
    write, acquired_until, environment, service, tmp_path, monkeypatch
):
    path, folder = write(IMPROVED, source="gee", aoi=AREA), tmp_path / "products" / "zhengzhou"
    published = tmp_path / "published"
    environment |= {"PUBLISHED": str(published)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def planned(day: int) -> str:
        noon = datetime.datetime(2021, 7, day, 12, tzinfo=datetime.UTC).timestamp()
        monkeypatch.setattr("crgen.batch.schedule.ledger.utc", lambda: noon)
        (one,) = plan_jobs(path)
        return one.what

    acquired_until("2021-07-24")
    assert in_process(path, **environment, TODAY="2021-07-22").counts == {"done": 1}
    (item,) = folder.glob("*_????????.json")
    first = item.read_bytes()
    assert planned(23) == "nothing new: done, once more from 2021-07-24 00:00 UTC on"
    assert in_process(path, **environment, TODAY="2021-07-23").counts == {"nothing": 1}

    assert planned(24) == "would improve"
    service.add(faults.error(503, "The service is currently unavailable.", endpoint="image:computePixels"))
    stopped = {**environment, "CRGEN_EE_PATIENCE": "0.1"}
    assert in_process(path, **stopped, TODAY="2021-07-24").counts == {"retry": 1}
    service.faults.clear()
    assert item.read_bytes() == first, "it stands until the better one is whole"
    Paths(item).audit.write_text('{"day": "2021-07-21"}')
    assert planned(25) == "would resume"
    assert in_process(path, **environment, TODAY="2021-07-25", UNTIDY="zhengzhou").counts == {"retry": 1}
    assert in_process(path, **environment, TODAY="2021-07-26").counts == {"done": 1}
    assert not Paths(item).audit.exists(), "it is of the map before"
    assert planned(27) == "nothing new: done"
    assert in_process(path, **environment, TODAY="2021-07-27").counts == {"nothing": 1}

    assert published.read_text().splitlines() == [str(item)] * 2
    before, now = (json.loads(text)["properties"]["crgen:manifest"] for text in (first, item.read_bytes()))
    assert (now["scenes"], now["rules"]["past_after"]) == (before["scenes"], 3)
    assert not [name for name in before["past"] if name > "s2_2021-07-20"]
    assert [name for name in now["past"] if name > "s2_2021-07-20"] == ["s2_2021-07-21"]
    assert (tmp_path / "there" / "zhengzhou" / item.name).read_bytes() == item.read_bytes()
    [state] = json.loads(runner.invoke(app, ["status", str(path), "--json"]).output)
    assert (state["status"], state["products"], state["product"]) == ("done", 1, str(item.with_suffix(".tif")))


def test_a_new_acquisition_goes_before_an_improvement_and_a_place_s_past_is_fetched_once(
    write, acquired_until, environment, service, tmp_path
):
    path = write(IMPROVED.replace("3d", "4d"), source="gee", aoi=AREA)
    published = tmp_path / "published"
    environment |= {"PUBLISHED": str(published)}
    assert in_process(path, **environment, **acquired_until("2021-07-19")).counts == {"done": 1}
    assert in_process(path, **environment, **acquired_until("2021-07-22")).counts == {"done": 1}
    assert [line.split("_")[-2] for line in published.read_text().splitlines()] == [
        "2021-07-15", "2021-07-20", "2021-07-15",
    ]  # fmt: skip
    assert not service.served_twice(), "what is known of a place only grows"


def test_a_map_that_is_first_made_when_the_days_are_over_is_made_with_their_images_at_once(
    write, acquired_until, environment
):
    path = write(IMPROVED, source="gee", aoi=AREA)
    assert in_process(path, **environment, **acquired_until("2021-07-19")).counts == {"done": 1}
    [run] = state_of(path).runs()
    assert run["manifest"]["rules"]["past_after"] == 3
    assert in_process(path, **environment, TODAY="2021-07-20").counts == {"nothing": 1}


def test_a_map_is_scored_by_itself_once_a_clear_image_and_radar_have_come(
    write, acquired_until, environment, service, tmp_path
):
    folder = tmp_path / "products" / "zhengzhou"
    path = write(WATCHED.replace('"latest"', "2021-07-20").replace('"-12d"', "2021-07-08"), source="gee", aoi=AREA)

    def audited(today: str) -> list[str]:
        in_process(path, **environment, **acquired_until(today))
        return [json.loads(result.read_text())["day"] for result in folder.glob("*_audit.json")]

    assert audited("2021-07-25") == [], "no radar has come since that tells what stayed"
    assert audited("2021-07-28") == ["2021-07-21"]
    with (folder / "track_record.csv").open(newline="") as file:
        assert [line["day"] for line in csv.DictReader(file)] == ["2021-07-21"]
    fetched = len(service.tiles)
    assert audited("2021-07-29") == ["2021-07-21"]
    assert len(service.tiles) == fetched, "nothing clearer has come"


def test_a_plan_tells_what_earth_engine_would_compute_once_it_has_told_of_other_tiles(
    write, acquired_until, environment, service, monkeypatch
):
    path = write(WATCHED, source="gee", aoi=AREA)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("crgen.batch.dry_run.today", lambda: datetime.date(2021, 7, 19))
    acquired_until("2021-07-19")
    (planned,) = plan_jobs(path)
    assert (planned.what, planned.eecu_hours) == ("would run", None)
    assert "not known yet" in runner.invoke(app, ["plan", str(path)]).output
    service.change(profile=PROFILE)
    work = lay_out(read_jobs(path).job[0].request(datetime.date(2021, 7, 3), datetime.date(2021, 7, 15), None))
    for pull in work.scene.pulls:
        for job in pull.jobs(range(len(pull))):
            pull.fetcher.get(job)
    kept(work.scene.pulls[0].fetcher.meter, 2)
    monkeypatch.setattr("crgen.batch.dry_run.today", lambda: datetime.date(2021, 7, 22))
    acquired_until("2021-07-22")
    (planned,) = plan_jobs(path)
    assert planned.requests
    assert planned.eecu_hours > 0
    assert f" {planned.eecu_hours:.2g} " in runner.invoke(app, ["plan", str(path)]).output
