"""A run that is stopped ends soon, says so in one line, leaves nothing half-written, and goes on when run again."""

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import AREA, COMMAND, files_in
from tests.processes import Command
from tests.products import files_of

LARGE = "113.40,34.60,113.50,34.70"
"""A thousand windows: seconds of work."""
MIDDLE = "113.40,34.60,113.44,34.64"
"""Two hundred windows."""
SMALL = "113.50,34.70,113.52,34.72"
PRODUCT = set(files_of("map"))


def start(*words: str) -> Command:
    """Start `crgen fill` and return once it works on windows."""
    run = Command(*words)
    run.until("filling: ")
    return run


def stop(run: Command, number: signal.Signals) -> tuple[int, str, str, float]:
    begin = time.monotonic()
    os.kill(run.process.pid, number)
    time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):  # it has ended
        os.kill(run.process.pid, number)  # as impatient people and some launchers do
    return *run.ended(), time.monotonic() - begin


STOPS = [
    (signal.SIGINT, 130, "interrupted"),
    pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("number", "code", "word"), STOPS)
def test_a_run_that_is_stopped_before_its_first_chunk_is_done_leaves_nothing(crgen, fill, here, number, code, word):
    """A real process from beginning to end."""
    words = (*fill, "--out", "new/map.tif", "--chunk", "1024")
    with subprocess.Popen(
        [*COMMAND, *words, "--aoi", MIDDLE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr.readline().startswith("filling: ")
        begin = time.monotonic()
        run.send_signal(number)
        time.sleep(0.1)
        run.send_signal(number)
        out, err = run.communicate(timeout=60)
    returned, seconds = run.returncode, time.monotonic() - begin
    said = [line for line in err.splitlines() if not line.startswith("filling: ")]
    assert returned == code
    assert out == ""
    assert said == [f"error: {word}; nothing half-written was left behind, run the same command again"]
    assert seconds < 20
    assert files_in(here) == {}
    assert crgen(*words, "--aoi", AREA).code == 0
    assert {p.name for p in (here / "new").iterdir()} == PRODUCT


@pytest.mark.parametrize(("number", "code", "word"), STOPS)
def test_a_run_that_is_stopped_keeps_its_finished_chunks_and_says_so(crgen, fill, here, number, code, word):
    words = (*fill, "--out", "new/map.tif", "--chunk", "64", "--aoi", SMALL)
    run = start(*words)
    scratch = here / "new" / ".map.tif.scratch"
    while len(list(scratch.glob("*.part"))) < 2:
        time.sleep(0.02)
    returned, out, err, seconds = stop(run, number)
    said = [line for line in err.splitlines() if not line.startswith("filling: ")]
    kept = len(list(scratch.glob("*.part")))
    assert returned == code
    assert out == ""
    assert said == [
        f"error: {word}; {kept} finished chunks kept in new/.map.tif.scratch: run the same command again to go on, "
        "or with --restart to begin anew"
    ]
    assert seconds < 20
    assert [p.name for p in (here / "new").iterdir()] == [".map.tif.scratch"]
    outcome = crgen(*words)
    assert outcome.code == 0
    assert re.search(rf"note: {kept} of \d+ chunks were finished by a run that was stopped", outcome.err)
    assert {p.name for p in (here / "new").iterdir()} == PRODUCT


def test_a_stop_just_before_the_product_appears_leaves_no_product_and_loses_no_chunk(crgen, fill, here, monkeypatch):
    def publish(finished):
        assert len(files_in(here)) >= len(list(finished)) == len(PRODUCT)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("crgen.pipeline.fill.publish", publish)
        stopped = crgen(*fill, "--out", "map.tif")
    assert stopped.code == 130
    assert "1 finished chunk kept in .map.tif.scratch" in stopped.err
    assert [p.name for p in here.iterdir()] == [".map.tif.scratch"]
    assert crgen(*fill, "--out", "map.tif").code == 0
    assert set(files_in(here)) == PRODUCT


@pytest.mark.slow
def test_a_killed_run_of_another_area_is_in_the_way_until_it_is_thrown_away(crgen, refused, fill, here):
    words = (*fill, "--out", "map.tif", "--chunk", "256")
    assert stop(start(*words, "--aoi", LARGE), signal.SIGKILL)[0] == -signal.SIGKILL
    assert not PRODUCT & set(files_in(here))
    said = refused(6, *words, "--aoi", AREA)
    assert "holds an unfinished run of map.tif with another area" in said
    assert "--restart" in said
    assert crgen(*words, "--aoi", AREA, "--restart").code == 0
    assert set(files_in(here)) == PRODUCT


def test_a_second_run_on_the_same_output_says_so_and_leaves_the_first_alone(crgen, fill, here):
    words = (*fill, "--out", "map.tif", "--chunk", "256")
    first = start(*words, "--aoi", LARGE)
    second = crgen(*words, "--aoi", LARGE)
    assert second.code == 6
    assert second.err == ("error: another run is making map.tif at this moment; wait for it, or give another --out\n")
    assert first.process.is_alive()
    assert stop(first, signal.SIGTERM)[0] == 143


def test_the_help_documents_the_exit_codes(crgen):
    codes = re.sub(r"[\s│]+", " ", crgen("--help").out)
    for code in ("3 area", "4 imagery", "5 weights", "6 output", "7 source", "8 training", "130", "143"):
        assert code in codes
