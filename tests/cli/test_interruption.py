"""A run that is stopped ends soon, says so in one line, leaves nothing, and can be run again."""

import re
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import AREA, COMMAND, files_in

LARGE = "113.40,34.60,113.80,34.90"
PRODUCT = {"map.tif", "map_quality.tif", "map.png", "map.json"}


def start(*words: str) -> subprocess.Popen[str]:
    """Start `crgen fill` and return once it works on windows."""
    run = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr
    line = run.stderr.readline()
    assert line.startswith("filling: "), line
    return run


def stop(run: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str, str, float]:
    begin = time.monotonic()
    run.send_signal(number)
    time.sleep(0.1)
    run.send_signal(number)  # as impatient people and some launchers do
    out, err = run.communicate(timeout=60)
    return run.returncode, out, err, time.monotonic() - begin


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_run_that_is_stopped_leaves_nothing(crgen, fill, here, number, code, word):
    words = (*fill, "--out", "new/map.tif", "--chunk", "256")
    returned, out, err, seconds = stop(start(*words, "--aoi", LARGE), number)
    said = [line for line in err.splitlines() if not line.startswith("filling: ")]
    assert returned == code
    assert out == ""
    assert said == [f"error: {word}; nothing half-written was left behind, run the same command again"]
    assert seconds < 20
    assert files_in(here) == {}
    assert crgen(*words, "--aoi", AREA).code == 0
    assert {p.name for p in (here / "new").iterdir()} == PRODUCT


def test_a_stop_just_before_the_product_appears_leaves_nothing(refused, fill, here, monkeypatch):
    def publish(finished):
        assert len(files_in(here)) >= len(list(finished)) == len(PRODUCT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("crgen.pipeline.fill.publish", publish)
    assert refused(130, *fill, "--out", "map.tif").startswith("interrupted")


def test_a_run_that_is_killed_is_tidied_up_by_the_next(crgen, fill, here):
    words = (*fill, "--out", "map.tif", "--chunk", "256")
    assert stop(start(*words, "--aoi", LARGE), signal.SIGKILL)[0] == -signal.SIGKILL
    assert not PRODUCT & set(files_in(here))
    assert crgen(*words, "--aoi", AREA).code == 0
    assert set(files_in(here)) == PRODUCT


def test_the_help_documents_the_exit_codes(crgen):
    codes = re.sub(r"[\s│]+", " ", crgen("--help").out)
    for code in ("3 area", "4 imagery", "5 weights", "6 output", "7 source", "8 training", "130", "143"):
        assert code in codes
