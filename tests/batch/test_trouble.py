"""A scheduler that stops or dies, clocks that are set, a state that is busy, a disk that is full: nothing is lost."""

import os
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import leases
from crgen.batch.schedule.leases import Observer
from crgen.batch.schedule.ledger import Ledger, due
from crgen.batch.schedule.state import State, beat
from crgen.errors import OutputError
from tests.batch.schedulers import in_process, state_of

ONE = '[[job]]\nname = "a"\n'
CHUNKS = "113.50,34.70,113.52,34.72"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_goes_on_from_its_parts_whether_its_scheduler_was_stopped_or_died(write, start, tmp_path, number):
    path = write("[state]\nlease = '2s'\n" + ONE, aoi=CHUNKS, chunk=64)
    scheduler = start(path)
    while len(parts := list(tmp_path.glob("products/a/.*.scratch/*.part"))) < 2:
        assert scheduler.is_alive()
        time.sleep(0.01)
    os.kill(scheduler.pid, number)
    scheduler.join()
    row = state_of(path).jobs()["a"]
    if number == signal.SIGTERM:
        assert (row["status"], row["owner"], row["attempts"]) == ("stopped", None, 0)
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


def test_what_was_left_of_a_job_that_was_changed_goes(write, start, tmp_path):
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


def ledger_of(state: State, owner: str, lease: float) -> Ledger:
    return Ledger(state, owner, "machine", Observer(lease))


def test_setting_the_clock_neither_ends_a_lease_nor_prolongs_it(write, monkeypatch):
    file = read_jobs(write(ONE))
    jobs = {job.name: job for job in file.job}
    asked = (jobs, {"a": "definition"}, set(), file.limits)
    state = State(file.state.url)
    lease = 0.3
    first, second = ledger_of(state, "first", lease), ledger_of(state, "second", lease)
    assert first.claim(*asked) is not None
    for jump in (10e9, -10e9, 0.0):
        monkeypatch.setattr(leases, "utc", lambda jump=jump: time.time() + jump)
        assert second.claim(*asked) is None, "a clock that is set ends no lease"
    end = time.monotonic() + 2 * lease
    while time.monotonic() < end:
        assert beat(state, "first", ["a"]) == set()
        assert second.claim(*asked) is None, "nor does time, while its owner lives"
    monkeypatch.setattr(leases, "utc", lambda: 0.0)
    since = time.monotonic()
    while second.claim(*asked) is None:
        assert time.monotonic() - since < 60
    assert time.monotonic() - since >= lease * 0.9
    assert state.jobs()["a"]["owner"] == "second"
    assert beat(state, "first", ["a"]) == {"a"}, "who was taken for dead hears of it"


def test_a_clock_that_was_set_back_does_not_make_a_retry_wait_for_ever(monkeypatch):
    row = {"definition": "d", "status": "retry", "failed_at": 1000.0, "retry_at": 1060.0, "settled": False}
    for now, is_due in ((1001.0, False), (1059.0, False), (1060.0, True), (5.0, True)):
        monkeypatch.setattr(leases, "utc", lambda now=now: now)
        assert due(row, "d", False) is is_due


def test_a_busy_state_is_waited_for(write):
    path = write(ONE)
    state = state_of(path)
    holder = sqlite3.connect(path.with_suffix(".sqlite"), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(OutputError, match=r"cannot use the state .*jobs.sqlite: database is locked") as caught:
        State(str(state.engine.url), patience=0.2)
    assert caught.value.transient
    release = threading.Timer(1.0, lambda: holder.execute("COMMIT"))
    release.start()
    assert in_process(path).counts == {"done": 1}
    release.join()
    holder.close()


def test_a_full_disk_passes(write, tmp_path):
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


def test_a_state_of_another_version_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path / 'state.sqlite'}"
    State(url).close()
    with sqlite3.connect(tmp_path / "state.sqlite") as connection:
        connection.execute("UPDATE crgen_batch SET version = 99")
    with pytest.raises(OutputError, match="is of version 99, this crgen keeps version 1"):
        State(url)
