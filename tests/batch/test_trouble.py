"""A scheduler that stops or dies, a deadline that passes, a disk that is full: nothing is lost."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.batch.schedulers import in_process, state_of

ONE = '[[job]]\nname = "a"\n'
CHUNKS = "113.50,34.70,113.52,34.72"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_goes_on_from_its_parts_whether_its_scheduler_was_stopped_or_died(write, start, tmp_path, number):
    path = write(ONE, aoi=CHUNKS, chunk=64)
    scheduler = start(path)
    while len(parts := list(tmp_path.glob("products/a/.*.scratch/*.part"))) < 2:
        assert scheduler.is_alive()
        time.sleep(0.01)
    jobs = psutil.Process(scheduler.pid).children()
    assert jobs
    os.kill(scheduler.pid, number)
    scheduler.join()
    assert psutil.wait_procs(jobs, timeout=30)[1] == [], "jobs end with their scheduler"
    row = state_of(path).jobs()["a"]
    if number == signal.SIGTERM:
        assert (row["status"], row["attempts"]) == ("stopped", 0)
    else:
        assert row["status"] == "running"
    assert not list(tmp_path.glob("products/a/*.json"))
    assert in_process(path).counts == {"done": 1}
    row = state_of(path).jobs()["a"]
    assert (row["status"], row["attempts"], row["lost"]) == ("done", 0, 0)
    log = Path(row["log"]).read_text()
    assert "chunks were finished by a run that was stopped" in log
    [run] = state_of(path).runs()
    assert run["windows"] > 0
    assert len(parts) >= 2


def test_parts_of_a_job_that_was_changed_are_removed(write, start, tmp_path):
    path = write(ONE, aoi=CHUNKS, chunk=64)
    scheduler = start(path)
    while len(list(tmp_path.glob("products/a/.*.scratch/*.part"))) < 2:
        assert scheduler.is_alive()
        time.sleep(0.01)
    os.kill(scheduler.pid, signal.SIGTERM)
    scheduler.join()
    write(ONE)
    assert in_process(path).counts == {"done": 1}
    assert not list(tmp_path.glob("products/a/.*"))
    assert [run["status"] for run in state_of(path).runs()] == ["dropped", "done"]


def test_a_retry_does_not_wait_beyond_the_deadline(write):
    path = write(ONE, retry_wait="6h", deadline="1h")
    assert in_process(path, POISONED="a", TODAY="2021-07-22").counts == {"retry": 1}
    [run] = state_of(path).runs()
    assert state_of(path).jobs()["a"]["retry_at"] == run["found_at"] + 3600
    summary = in_process(path, TODAY="2021-07-23")
    assert (summary.counts, summary.failures) == ({"late": 1}, 1)
    row = state_of(path).jobs()["a"]
    assert (row["status"], row["reason"]) == ("late", "the deadline passed, 1:00:00 after its acquisitions were found")
    assert in_process(path, TODAY="2021-07-24").counts == {}


def test_a_full_disk_is_retried(write, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        path = write(ONE, out="small", retry_wait="1h")
        summary = in_process(path, TODAY="2021-07-23")
        assert (summary.counts, summary.failures) == ({"retry": 1}, 1)
        row = state_of(path).jobs()["a"]
        assert "full" in row["reason"] or "No space left" in row["reason"]
        subprocess.run(["mount", "-o", "remount,size=20m", str(folder)], check=True)
        assert in_process(path, TODAY="2021-07-24").counts == {"done": 1}
        assert len(list(folder.glob("a/*.json"))) == 1
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
