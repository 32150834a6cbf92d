"""What is due is made once; what failed is tried again, or stops with its reason, and holds nobody up."""

from pathlib import Path

from crgen.batch.schedule.failures import wait_after
from tests.batch.schedulers import in_process, state_of

TWO = '[[job]]\nname = "a"\n[[job]]\nname = "b"\nclear_threshold = 0.5\n'


def products(folder: Path) -> list[str]:
    return sorted(path.name.rsplit("_", 1)[0] for path in (folder / "products").glob("*/*.json"))


def test_what_is_due_is_made_once(write, tmp_path):
    path = write("[limits]\ntotal = 2\nper_device = 2\n" + TWO)
    assert in_process(path).counts == {"done": 2}
    assert products(tmp_path) == ["a_2021-07-10_2021-07-22", "b_2021-07-10_2021-07-22"]
    assert in_process(path).counts == {}
    write("[limits]\ntotal = 2\nper_device = 2\n" + TWO.replace("0.5", "0.4"))
    assert in_process(path).counts == {"done": 1}
    assert products(tmp_path).count("b_2021-07-10_2021-07-22") == 2
    write(TWO + "priority = 3\n")
    assert in_process(path).counts == {"nothing": 1}, "another priority is no other product"


def test_a_permanent_failure_stops_a_job_with_its_reason_until_the_job_is_changed(write, tmp_path):
    path = write(TWO + 'aoi = "nowhere.geojson"\n')
    summary = in_process(path)
    assert summary.counts == {"done": 1, "failed": 1}
    assert summary.failures == 1
    row = state_of(path).jobs()["b"]
    assert "there is no file 'nowhere.geojson'" in row["reason"]
    assert "nowhere.geojson" in Path(row["log"]).read_text()
    assert in_process(path).counts == {}
    write(TWO)
    assert in_process(path).counts == {"done": 1}


def test_a_job_that_kills_its_process_is_given_up_and_blocks_nobody(write, tmp_path):
    path = write(TWO.replace('"b"', '"b"\npriority = 9'), retries=2, retry_wait="0.001s")
    summary = in_process(path, POISONED="b")
    assert summary.counts["done"] == 1
    while state_of(path).jobs()["b"]["status"] == "retry":
        in_process(path, POISONED="b")
    row = state_of(path).jobs()["b"]
    assert row["status"] == "failed"
    assert row["reason"] == "its process was killed by SIGKILL, perhaps for lack of memory (given up after 3 attempts)"
    assert in_process(path).counts == {}
    assert products(tmp_path) == ["a_2021-07-10_2021-07-22"]


def test_a_product_that_the_journal_does_not_know_is_made_again_only_if_it_does_not_verify(write, tmp_path):
    path = write('[[job]]\nname = "a"\n')
    published = {"PUBLISHED": str(tmp_path / "published")}
    in_process(path, **published)
    item = next((tmp_path / "products").glob("*/*.json")).read_bytes()
    path.with_suffix(".sqlite").unlink()
    assert in_process(path, **published).counts == {"done": 1}
    assert len((tmp_path / "published").read_text().splitlines()) == 1
    assert next((tmp_path / "products").glob("*/*.json")).read_bytes() == item
    [run] = state_of(path).runs()
    assert (run["status"], run["windows"]) == ("done", 0)

    path.with_suffix(".sqlite").unlink()
    next((tmp_path / "products").glob("*/*_quality.tif")).write_bytes(b"damaged")
    assert in_process(path, **published).counts == {"done": 1}
    assert state_of(path).runs()[0]["windows"] > 0, "it stands, but does not verify"


def test_waits_double_up_to_a_bound_with_jitter():
    for attempts, longest in ((1, 60), (2, 120), (3, 240), (50, 6 * 3600)):
        waits = {wait_after(attempts, 60.0) for _ in range(100)}
        assert len(waits) == 100
        assert 0.5 * longest <= min(waits) < 0.6 * longest
        assert 0.9 * longest < max(waits) <= longest
