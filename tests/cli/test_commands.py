"""What the commands print when all goes well, and how train, evaluate and models refuse."""

import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from crgen.cli.console import console, duration, progress
from tests.cli.conftest import COMMAND, files_in


def test_the_version(crgen):
    assert crgen("--version")[:2] == (0, f"crgen {version('crgen')}\n")


def test_help_without_words(crgen):
    assert "Exit codes" in crgen("-h").out
    for command in ("fill", "train", "evaluate", "models"):
        assert crgen(command, "--help").code == 0


def test_a_dry_run_counts_the_work_and_writes_nothing(crgen, fill, here):
    outcome = crgen(*fill, "--dry-run", "--chunk", "64", "--out", "new/map.tif")
    assert (outcome.code, outcome.err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert list(rows) == ["area", "pixels", "chunks", "windows", "memory", "disk", "time", "output"]
    assert rows["pixels"] == "29 × 34 = 986"
    assert re.match(r"\d+ of up to 64 × 64 px", rows["chunks"])
    assert re.match(r"\d+ of 64 × 64 px", rows["windows"])
    assert "windows/s, measured now" in rows["time"]
    assert re.match(r"about [1-9][\d.]* MB", rows["memory"])
    assert re.match(r"at most [1-9][\d.]* kB", rows["disk"])
    assert rows["output"] == "new/map.tif"
    assert files_in(here) == {}


def test_models_lists_what_is_cached_and_says_what_is_damaged(crgen, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setenv("CRGEN_WEIGHTS", str(tmp_path))
    (tmp_path / "mine.safetensors").write_bytes(tiny_weights.read_bytes())
    (tmp_path / "half.safetensors").write_bytes(tiny_weights.read_bytes()[:1000])
    outcome = crgen("models")
    rows = {line.split()[0]: line for line in outcome.out.splitlines()}
    assert outcome.code == 0
    size = f"{tiny_weights.stat().st_size / 1e6:.1f}"
    assert re.search(rf"cached +{re.escape(size)} MB +VV/VH \+ B2/B3/B4/.*/B12 +nothing", rows["mine"])
    assert "cannot be used" in rows["half"]
    assert json.loads(crgen("models", "show", "mine").out) == json.loads(crgen("models", "show", tiny_weights).out)


def test_models_show_refuses_what_is_no_weights_file(refused, here):
    assert "no weights 'better'" in refused(5, "models", "show", "better")
    (here / "cut.safetensors").write_bytes(b"\x00" * 20)
    assert "cut.safetensors" in refused(5, "models", "show", "cut.safetensors")


@pytest.mark.parametrize(
    ("code", "options", "words"),
    [
        (8, [], "no OMBRIA patches"),
        (2, ["--data", "ombria:nowhere,part=train"], "option 'part'"),
        (2, ["--data", "ombria:nowhere,split"], "no option=value"),
        (8, ["--data", "elsewhere"], "no data set that crgen knows by its layout"),
        (2, ["--crop", "100"], "multiple of 32"),
        (2, ["--steps", "0"], "at least 1"),
        (2, ["--preset", "huge"], "no preset 'huge'"),
        (2, ["--device", "abacus"], "no device 'abacus'"),
        (2, ["--precision", "float8"], "--precision"),
        (2, ["--learning-rate", "nan"], "learning_rate"),
        (2, ["--learning-rate", "0"], "learning rate"),
        (2, ["--batch", "many"], "--batch"),
        (2, ["--seed", "-1"], "the seed"),
        (2, ["--config", "none.toml"], "cannot read configuration none.toml"),
        (6, ["--checkpoint", "/"], "a folder of that name is in the way"),
        (6, ["--out", "weights.pt"], ".safetensors"),
        (6, ["--out", "/dev/null/w.safetensors"], "cannot write into /dev/null"),
    ],
)
def test_a_training_run_that_cannot_start(refused, code, options, words):
    given = () if "--data" in options else ("--data", "ombria:nowhere")
    assert words in refused(code, "train", *given, "--out", "w.safetensors", *options)


def test_training_and_scoring_need_data(refused, tiny_weights):
    assert "data" in refused(2, "train", "--out", "w.safetensors")
    assert "no OMBRIA patches" in refused(8, "evaluate", "--data", "ombria:nowhere", "--weights", tiny_weights)
    assert "no weights 'better'" in refused(5, "evaluate", "--data", "ombria:nowhere", "--weights", "better")


def test_a_bug_is_one_line_too_and_debug_shows_where(crgen, fill, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("nobody\nsaw this coming")

    monkeypatch.setattr("crgen.pipeline.run.plan.open_scene", broken)
    plain = crgen(*fill)
    assert plain.code == 1
    assert plain.err.count("\n") == 1
    assert "unexpected ZeroDivisionError: nobody saw this coming; this is a bug in crgen" in plain.err
    traced = crgen("--debug", *fill)
    assert traced.code == 1
    assert "Traceback" in traced.err
    assert traced.err.splitlines()[-1] == plain.err.strip()


def test_progress_in_a_pipe_is_a_line_at_once_then_few(capfd):
    with progress("filling", "windows") as report:
        for done in range(101):
            report(done, 100)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "filling: 0/100 windows"
    assert re.fullmatch(r"filling: 100/100 windows, [\d.]+ windows/s", lines[-1])
    assert len(lines) == 2


def test_a_name_is_printed_as_it_is(capfd):
    console.print("maps/:fire:/[bold]1.tif")
    assert capfd.readouterr().out == "maps/:fire:/[bold]1.tif\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (7190, "2 h 0 min")]
)
def test_durations_for_people(seconds, text):
    assert duration(seconds) == text


PROGRESS = """
from crgen.cli.console import progress
with progress("filling", "windows") as report:
    report(0, 8)
    report(3, 8)
"""


def test_progress_on_a_terminal_is_a_bar():
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    subprocess.run([sys.executable, "-c", PROGRESS], stdin=theirs, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "3/8" in drawn
    assert "━" in drawn
    assert "filling: " not in drawn


@pytest.mark.parametrize("reader", ["head -c 0", "head -n 1"])
def test_a_reader_that_leaves_early_causes_no_noise(fill, here, reader, tmp_path):
    """The shell's `crgen … | head`; python -c stands for an installed crgen."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" 2>{tmp_path}/err | {reader}; exit ${{PIPESTATUS[0]}}', "-", *COMMAND, "models"],
        timeout=60,
    )
    assert (tmp_path / "err").read_text() == ""
    assert done.returncode in (0, 1)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_output_to_a_full_device_is_one_line(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run([*COMMAND, "models"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: No space left on device")


@pytest.mark.parametrize(
    "command", ["fill", "verify", "scenes", "pull", "doctor", "train", "evaluate", "models", "models show"]
)
def test_every_command_explains_itself(crgen, command):
    outcome = crgen(*command.split(), "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"crgen {command} " in " ".join(outcome.out.split())


def test_defaults_in_brackets_are_no_markup(crgen):
    assert "[KIND:]PATH" in crgen("train", "--help").out
    assert "BUCKET" in crgen("pull", "--help").out
