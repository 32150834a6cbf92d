"""Processes on dask.distributed make the same bytes as threads, also when one of them is killed."""

import logging
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from crgen.errors import OutputError, RequestError, WeightsError
from crgen.pipeline.fill import run
from crgen.pipeline.run.cluster import setup_for
from crgen.pipeline.run.fingerprint import fingerprint_of
from tests.pipeline.run.test_resume import looked_at, product_in, request_for, undisturbed, windows_of
from tests.processes import forked_workers

__all__ = ["undisturbed"]

pytestmark = pytest.mark.usefixtures("drawn_lightly")


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes, started once."""
    with (
        forked_workers(),
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as two,
    ):
        yield two


def test_workers_make_the_same_bytes_as_one_process(cluster, undisturbed, tiny_weights, tmp_path):
    counted = []
    request = request_for(tmp_path, tiny_weights, scheduler=cluster.scheduler_address)
    result = run(request, lambda done, total: counted.append((done, total)))
    assert product_in(tmp_path) == undisturbed
    sizes = windows_of(request)
    assert len(counted) == 2 * len(sizes) >= 18, "each chunk is looked at, then computed"
    assert sum(done for done, _ in counted) == counted[0][1] == sum(sizes.values()) + sum(looked_at(request).values())
    assert result.resumed == 0


def test_a_worker_killed_on_the_way_costs_only_what_it_was_busy_with(cluster, undisturbed, tiny_weights, tmp_path):
    request = request_for(tmp_path, tiny_weights, scheduler=cluster.scheduler_address)
    with Client(cluster, set_as_default=False) as client:
        victim = next(iter(client.run(os.getpid).values()))
    before: dict[str, int] = {}

    def kill_one() -> None:
        parts = tmp_path / ".map.tif.scratch"
        while not (parts.is_dir() and len(list(parts.glob("*.part"))) >= 2):
            time.sleep(0.01)
        before.update({path.name: path.stat().st_ino for path in parts.glob("*.part")})
        os.kill(victim, signal.SIGKILL)

    kept: dict[str, int] = {}

    def watch(done: int, total: int) -> None:
        kept.update({path.name: path.stat().st_ino for path in (tmp_path / ".map.tif.scratch").glob("*.part")})

    killer = threading.Thread(target=kill_one)
    killer.start()
    run(request, watch)
    killer.join()
    assert len(before) < len(windows_of(request))
    assert {name: kept[name] for name in before} == before  # finished parts were not written again
    assert product_in(tmp_path) == undisturbed


def test_workers_go_on_where_threads_were_stopped(cluster, undisturbed, tiny_weights, tmp_path):
    request = request_for(tmp_path, tiny_weights)

    def stop_after_some(done: int, total: int) -> None:
        if len(list(tmp_path.glob(".map.tif.scratch/*.part"))) >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(request, stop_after_some)
    result = run(request_for(tmp_path, tiny_weights, scheduler=cluster.scheduler_address))
    assert result.resumed >= 3
    assert product_in(tmp_path) == undisturbed


def test_an_error_on_a_worker_arrives_as_the_same_line(cluster, tiny_weights, tmp_path, monkeypatch):
    weights = Path(shutil.copy(tiny_weights, tmp_path / "mine.safetensors"))
    (tmp_path / "out").mkdir()

    def lost_on_the_way(*setup):
        made = setup_for(*setup)
        weights.unlink()
        return made

    monkeypatch.setattr("crgen.pipeline.fill.setup_for", lost_on_the_way)
    with pytest.raises(WeightsError, match=r"there are no weights '.*mine.safetensors'") as caught:
        run(request_for(tmp_path / "out", weights, scheduler=cluster.scheduler_address))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_worker_that_would_make_other_pixels_does_not_join(cluster, tiny_weights, tmp_path, monkeypatch):
    def other(request, work, device=None):
        return fingerprint_of(request, work, device) | {"software": {"crgen": "0.0.1"}}

    monkeypatch.setattr("crgen.pipeline.fill.fingerprint_of", other)
    with pytest.raises(OutputError, match="with other software: crgen was 0"):
        run(request_for(tmp_path, tiny_weights, scheduler=cluster.scheduler_address))
    assert not list(tmp_path.iterdir())


def test_a_scheduler_that_is_not_there_is_one_line(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("crgen.pipeline.run.cluster.PATIENCE", 0.5)
    with pytest.raises(RequestError, match=r"no dask scheduler answers at tcp://127.0.0.1:9") as caught:
        run(request_for(tmp_path, tiny_weights, scheduler="tcp://127.0.0.1:9"))
    assert "\n" not in str(caught.value)
    with pytest.raises(RequestError, match="not one of threads, processes"):
        request_for(tmp_path, tiny_weights, scheduler="slurm")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_processes_of_this_machine_are_started_and_ended(undisturbed, tiny_weights, tmp_path):
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):  # as where nobody says how
        run(request_for(tmp_path, tiny_weights, scheduler="processes", workers=1))
    assert product_in(tmp_path) == undisturbed
