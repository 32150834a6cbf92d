"""The real command line: in this process for speed, in its own where signals, limits or terminals matter."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from crgen.cli import main
from crgen.gee.connection.retry import INTERRUPTED
from crgen.training.score.cost import windows_per_second
from tests.demo import draw_once

AREA = "113.50,34.70,113.503,34.703"
DATES = ("--t1", "2021-07-10", "--t2", "2021-07-22")
COMMAND = (sys.executable, "-c", "from crgen.cli import main; main()")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Crgen = Callable[..., Outcome]


def files_in(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden or not, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def crgen(monkeypatch, capfd):
    """Run `crgen` with the given words."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("CPL_LOG", "")
    monkeypatch.delenv("CPL_LOG")

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["crgen", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return Outcome(left.value.code, *capfd.readouterr())

    yield run
    INTERRUPTED.clear()  # main ends the process; here it goes on
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def soon_measured(monkeypatch):
    """Let `crgen evaluate` take one batch for the generator's speed, not five seconds of them."""
    monkeypatch.setattr(windows_per_second, "__defaults__", (64, 1, 0.0))


@pytest.fixture
def small_images(monkeypatch):
    """Let images of OMBRIA be a quarter of their size, in this process."""
    monkeypatch.setattr("crgen.training.data.ombria.SIDE", 128)


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """Draw the demo scene of a small area once."""
    draw_once(monkeypatch.setattr)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, where products would land."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(crgen, here):
    """Run `crgen`, which must end in one line on standard error and leave its folder as it was; return that line."""

    def run(code: int, *words: object) -> str:
        before = files_in(here)
        outcome = crgen(*words)
        # libtiff prints "_tiffWriteProc: …" by itself, past GDAL and Python.
        lines = [line for line in outcome.err.splitlines() if not line.startswith(("filling: ", "_tiff"))]
        assert len(lines) == 1, outcome.err
        assert lines[-1].startswith("error: ")
        assert outcome.code == code, lines[-1]
        assert "bug in crgen" not in lines[-1]
        assert outcome.out == ""
        assert files_in(here) == before
        return lines[-1].removeprefix("error: ")

    return run


@pytest.fixture
def fill(tiny_weights) -> tuple[str, ...]:
    """The words of a `crgen fill` that works, but for --out; later words replace earlier ones."""
    return ("fill", "--source", "demo", "--aoi", AREA, *DATES, "--weights", str(tiny_weights))
