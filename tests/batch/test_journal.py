"""The journal beside a jobs file: what is in it holds, whatever comes between; an old state is taken over."""

import contextlib
import datetime
import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest

from crgen.batch.jobs.jobs_file import read_jobs
from crgen.batch.schedule import ledger
from crgen.batch.schedule.journal import Journal, journal_of
from crgen.batch.schedule.ledger import Begun, GivenUp, begin, due
from crgen.batch.schedule.messages import Done, Found, Nothing
from crgen.errors import OutputError
from tests.batch.old_state import old_state
from tests.batch.schedulers import in_process, state_of

ONE = '[[job]]\nname = "a"\n'


def test_what_0_1_0_knew_of_every_job_is_taken_over(write, tmp_path):
    path = write(
        "\n".join(f'[[job]]\nname = "{name}"' for name in ("made", "bad", "unlucky", "waits", "stopped", "died"))
    )
    old_state(path)
    before = {name: dict(row) for name, row in state_of(path).jobs().items()}
    assert "owner" in before["died"], "who only looks takes nothing over"
    runs = state_of(path).runs()
    assert (len(before), len(runs)) == (6, 4)

    with Journal(journal_of(path)) as journal:
        for name, row in journal.jobs().items():
            assert row.items() <= before[name].items()
        assert {name: row["status"] for name, row in journal.jobs().items()} == {
            "made": "done", "bad": "failed", "unlucky": "retry", "waits": "waiting", "stopped": "stopped",
            "died": "running",
        }  # fmt: skip
        assert "nowhere.geojson" in journal.jobs()["bad"]["reason"]
        assert journal.runs() == runs
        assert journal.untold() == []
        assert {row["name"] for row in journal.rows("PRAGMA table_info(crgen_job)")}.isdisjoint({"owner", "beat"})
    assert not path.with_suffix(".sqlite-wal").exists()
    with Journal(journal_of(path)) as journal:
        assert journal.runs() == runs, "once"


def test_unfinished_jobs_of_an_old_state_are_resumed_and_settled_ones_stay_settled(write, start, tmp_path):
    path = write('[[job]]\nname = "made"\n[[job]]\nname = "stopped"\n[[job]]\nname = "died"\n')
    rows = []
    for job in read_jobs(path).job:
        status = {"made": "done", "stopped": "stopped", "died": "running"}[job.name]
        rows.append({"name": job.name, "definition": job.definition, "status": status, "settled": status == "done"})
    old_state(path, jobs=rows)
    assert in_process(path).counts == {"done": 2}
    assert sorted(item.parent.name for item in tmp_path.glob("products/*/*.json")) == ["died", "stopped"]


def test_a_busy_journal_is_waited_for(write, monkeypatch):
    path = write(ONE)
    Journal(journal_of(path)).__exit__()
    holder = sqlite3.connect(journal_of(path), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("crgen.batch.schedule.journal.BUSY", 0.2)
    with pytest.raises(OutputError, match=r"cannot use the journal .*jobs.sqlite: database is locked") as caught:
        Journal(journal_of(path))
    assert caught.value.transient
    monkeypatch.undo()
    release = threading.Timer(1.0, lambda: holder.execute("COMMIT"))
    release.start()
    assert in_process(path).counts == {"done": 1}
    release.join()
    holder.close()


def test_a_change_is_made_whole_or_not_at_all(write):
    path = journal_of(write(ONE))
    with Journal(path) as journal:
        with contextlib.suppress(KeyboardInterrupt), journal.change():
            journal.put("job", {"name": "a"}, {"definition": "d", "status": "done"})
            raise KeyboardInterrupt
        assert journal.jobs() == {}
    code = (
        "import os, sys; from pathlib import Path; from crgen.batch.schedule.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "with journal.change():\n"
        "    journal.put('job', {'name': 'b'}, {'definition': 'd', 'status': 'done'})\n"
        "    os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code, path]).returncode == 1
    assert Journal(path, look_only=True).jobs() == {}


def test_a_reader_creates_no_journal(write):
    path = journal_of(write(ONE))
    with Journal(path, look_only=True) as journal:
        assert (journal.jobs(), journal.runs()) == ({}, [])
    path.touch()
    assert Journal(path, look_only=True).jobs() == {}
    assert path.stat().st_size == 0


@pytest.mark.parametrize("look_only", [True, False])
def test_what_is_no_journal_is_refused(tmp_path, look_only):
    (tmp_path / "newer.sqlite").write_bytes(b"")
    with Journal(tmp_path / "newer.sqlite") as journal, journal.change():
        journal.do("UPDATE crgen_batch SET version = 99")
    with pytest.raises(OutputError, match="is of version 99, this crgen keeps version 2"):
        Journal(tmp_path / "newer.sqlite", look_only=look_only)
    (tmp_path / "other.sqlite").write_bytes(b"something else" * 99)
    with pytest.raises(OutputError, match="file is not a database; move it away: maps that stand are not made again"):
        Journal(tmp_path / "other.sqlite", look_only=look_only)


def test_a_full_disk_is_a_transient_error(write, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        shutil.copy(write(ONE), folder / "jobs.toml")
        with pytest.raises(OutputError, match=r"cannot use the journal .*full") as full:
            Journal(folder / "jobs.sqlite")
        assert full.value.transient
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_clock_that_was_set_back_does_not_make_a_retry_wait_for_ever(monkeypatch):
    row = {"definition": "d", "status": "retry", "failed_at": 1000.0, "retry_at": 1060.0, "settled": False}
    for now, is_due in ((1001.0, False), (1059.0, False), (1060.0, True), (5.0, True)):
        monkeypatch.setattr(ledger, "utc", lambda now=now: now)
        assert due(row, "d", False) is is_due


def test_a_map_is_not_improved_that_was_pruned_or_is_of_what_the_job_asked_before(write, tmp_path, monkeypatch):
    text = "[[job]]\nname = 'a'\nt2 = 'latest'\nimprove_after = '10d'"
    [job] = read_jobs(write(text, source="gee")).job
    now = [datetime.datetime(2021, 7, 22, 12, tzinfo=datetime.UTC).timestamp()]
    monkeypatch.setattr(ledger, "utc", lambda: now[0])
    item = tmp_path / "a.json"
    item.touch()
    with Journal(journal_of(tmp_path / "jobs.toml")) as journal, journal.change():
        begin(journal, job, None, "d")
        ledger.found(journal, job, Found("identity", ledger.today(), ledger.today(), str(tmp_path / "a.tif"), {}))
        ledger.over(journal, job, Done(1.0, 1), "log")

        def next_improved(definition: str = "d") -> object:
            step = ledger.next_step(job, journal.jobs()["a"], journal.runs("a"), definition)
            return step.improve and step.improve["identity"]

        now[0] += 10.4 * 86400
        assert next_improved() is None
        now[0] += 0.2 * 86400
        assert next_improved() == "identity"
        assert next_improved("other") is None
        item.unlink()
        assert next_improved() is None
        item.touch()
        begin(journal, job, journal.jobs()["a"], "other")
        assert next_improved("other") is None
        ledger.over(journal, job, Nothing("identity"), "log")
        assert next_improved("other") == "identity", "the job asks for it still"


def test_a_product_made_in_time_is_not_late_afterwards(write, monkeypatch):
    [job] = read_jobs(write("[[job]]\nname = 'a'\ndeadline = 2021-07-22T13:00:00Z", source="gee")).job
    noon = job.deadline.timestamp() - 3600
    monkeypatch.setattr(ledger, "utc", lambda: noon)
    with Journal(journal_of(write(ONE))) as journal, journal.change():
        assert begin(journal, job, None, "d") == Begun(None, frozenset())
        ledger.found(journal, job, Found("identity", ledger.today(), ledger.today(), "a.tif", None))
        assert ledger.over(journal, job, Done(1.0, 1), "log")["status"] == "done"
        row = journal.jobs()["a"]
        assert due(row, "d", False), "another acquisition may still join the catalogue"
        monkeypatch.setattr(ledger, "utc", lambda: noon + 3600)
        late = begin(journal, job, row, "d")
        assert late == GivenUp("nothing", "the deadline 2021-07-22 13:00:00+00:00 passed")
        assert journal.jobs()["a"]["status"] == "done"
        assert not due(journal.jobs()["a"], "d", False)
