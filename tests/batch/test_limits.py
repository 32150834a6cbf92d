"""How many jobs run at once, which go first, and that a file has one scheduler."""

import multiprocessing
import time
from pathlib import Path

import pytest

from crgen.batch.schedule import scheduler, worker
from crgen.batch.schedule.due import NothingYet
from crgen.batch.schedule.journal import is_scheduled, scheduling
from crgen.batch.schedule.scheduler import Scheduler
from crgen.errors import BusyError, OutputError
from tests.batch.schedulers import say


@pytest.fixture
def spans(tmp_path, monkeypatch):
    """Run a scheduler whose jobs only take time; return when each of them ran, by name, in the order of beginning."""

    def pass_time(order, tell) -> None:
        begin = time.monotonic()
        time.sleep(0.5)
        with (tmp_path / "spans").open("a") as file:
            file.write(f"{order.job.name} {begin} {time.monotonic()}\n")
        raise NothingYet("nothing yet")

    monkeypatch.setattr(worker, "_do", pass_time)
    monkeypatch.setattr(scheduler, "PROCESSES", multiprocessing.get_context("fork"))

    def run(path: Path) -> dict[str, tuple[float, float]]:
        assert set(Scheduler(path, tell=say).run().counts) == {"waiting"}
        lines = [line.split() for line in (tmp_path / "spans").read_text().splitlines()]
        return {name: (float(begin), float(end)) for name, begin, end in sorted(lines, key=lambda line: line[1])}

    return run


def most_at_once(spans: list[tuple[float, float]]) -> int:
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


@pytest.mark.parametrize(
    ("limits", "options", "most"),
    [
        ("total = 2\nper_device = 9", [""] * 4, 2),
        ("total = 9\nper_device = 2", [""] * 4, 2),
        ("total = 9\nper_device = 9", ["source = 'gee'\nproject = 'one'"] * 2 + ["source = 'gee'\nproject = 'two'"], 2),
        ("total = 9\nper_device = 9\nper_project = 2", ["source = 'gee'\nproject = 'one'"] * 4, 2),
        (
            "total = 9\nper_device = 1",
            ["device = 'cpu'", "device = 'auto'"],
            1,
        ),  # auto is the CPU, if there is no other
    ],
)
def test_no_more_jobs_run_at_once_than_the_limits_say(write, spans, limits, options, most, monkeypatch):
    monkeypatch.setattr("crgen.pipeline.run.plan.usual_device", lambda: "cpu")
    jobs = "\n".join(f"[[job]]\nname = 'a{i}'\n{more}" for i, more in enumerate(options))
    ran = spans(write(f"[limits]\n{limits}\n{jobs}"))
    assert len(ran) == len(options)
    assert most_at_once(list(ran.values())) == most


def test_the_more_urgent_goes_first(write, spans):
    jobs = ("name = 'later'", "name = 'soon'\ndeadline = 2999-01-01T00:00:00Z", "name = 'first'\npriority = 1")
    assert list(spans(write("\n".join(f"[[job]]\n{job}" for job in jobs)))) == ["first", "soon", "later"]


def test_a_second_scheduler_of_a_file_is_told_so(write):
    path = write("[[job]]\nname = 'a'\n")
    assert not is_scheduled(path)
    with scheduling(path):
        assert is_scheduled(path)
        with pytest.raises(BusyError, match=r"another `crgen batch run` works on .*jobs\.toml") as busy:
            Scheduler(path, tell=say).run()
    assert busy.value.exit_code == 11
    assert not is_scheduled(path)


def test_a_folder_without_locks_is_refused(write, monkeypatch):
    def no_locks(lock) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.UnixFileLock._acquire", no_locks)
    with pytest.raises(OutputError, match=r"cannot lock .*jobs\.lock: its disk has no locks; keep the jobs file"):
        Scheduler(write("[[job]]\nname = 'a'\n"), tell=say).run()
