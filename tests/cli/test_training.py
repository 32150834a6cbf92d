"""`crgen train` and `crgen evaluate` from the command line: what they say, leave, and survive."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.cli.conftest import COMMAND, files_in
from tests.training.noise import write_ombria

TINY = ("--preset", "tiny", "--batch", "2", "--crop", "32")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Patches of a training event and of a validation event."""
    write_ombria(tmp_path / "data", ("0001", "0002", "0003", "0342"))
    return tmp_path / "data"


def test_a_training_run_says_what_it_does_and_leaves_weights_and_a_log(crgen, here, small_images, data):
    outcome = crgen("train", "--data", data, "--out", "mine.safetensors", *TINY, "--steps", "3")
    assert outcome.code == 0
    assert "training: 3/3 steps" in outcome.err
    assert "| condition |" in outcome.out
    assert re.search(r"mine\.safetensors [0-9a-f]{64}$", outcome.out.strip())
    assert sorted(files_in(here)) == [
        "mine.checkpoint.pt", "mine.log", "mine.log/step-000002.png", "mine.log/step-000003.png", "mine.log/train.csv",
        "mine.safetensors",
    ]  # fmt: skip
    card = json.loads(crgen("models", "show", "mine.safetensors").out)
    assert card["training"]["steps"] == 3
    assert card["held_out"]["as it is"]["generator"]["samples"] == 1
    again = crgen("train", "--data", data, "--out", "mine.safetensors", *TINY, "--steps", "3")
    assert "note: resuming mine.checkpoint.pt at step 3" in again.err
    assert again.out == outcome.out

    scored = crgen("evaluate", "--data", data, "--weights", "mine.safetensors", "--seen", "0.5", "--out", "scores")
    assert scored.code == 0
    assert "50% of t2 seen" in scored.out
    assert "windows/s" in scored.out
    assert {"scores/scores.csv", "scores/scores.md", "scores/samples.png"} <= set(files_in(here))


def test_damaged_patches_are_named_once_and_counted(crgen, here, small_images, data):
    (data / "OmbriaS2/train/AFTER/S2_after_0002.png").write_bytes(b"404: Not Found")
    outcome = crgen("train", "--data", data, "--out", "mine.safetensors", *TINY, "--steps", "4")
    assert outcome.code == 0
    lines = [line for line in outcome.err.splitlines() if line.startswith("note:")]
    assert len(lines) == 2
    assert re.match(r"note: skipped: OMBRIA image .*S2_after_0002\.png is damaged", lines[0])
    assert lines[1] == "note: skipped as missing or damaged: 1"


def begin(words: tuple[object, ...]) -> subprocess.Popen[str]:
    """Start a training by itself, in a group of processes of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words), "--out", "mine.safetensors"], stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def workers_of(run: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that prepare batches: forks of the run."""
    with contextlib.suppress(psutil.Error):
        return [process for process in psutil.Process(run.pid).children() if process.cmdline()[-1:] == run.args[-1:]]
    return []


def test_a_run_stopped_by_a_signal_says_so_and_goes_on_where_it_was(crgen, here, data):
    """With a process that prepares batches: the signal reaches that one too. Nothing is held out and scored."""
    write_ombria(data, ("0343",))
    (here / "config.toml").write_text("checkpoint_every = 1\n")
    words = ("train", "--data", f"{data},split=validation", *TINY, "--steps", "12", "--workers", "1")
    words += ("--picture-every", "12", "--config", here / "config.toml")
    run = begin(words)
    deadline = time.monotonic() + 120
    while not (here / "mine.checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in told
    last = told.splitlines()[-1]
    assert last == "error: interrupted; nothing half-written was left behind, run the same command again"
    assert not list(here.glob("*.part"))

    assert "note: resuming mine.checkpoint.pt at step " in crgen(*words, "--out", "mine.safetensors").err
    assert "resuming" not in crgen(*words, "--out", "whole.safetensors").err
    resumed, whole = (json.loads(crgen("models", "show", f"{name}.safetensors").out) for name in ("mine", "whole"))
    assert resumed["tensors_sha256"] == whole["tensors_sha256"]
    curve = (here / "whole.log/train.csv").read_text().splitlines()
    assert len(curve) == 13
    assert (here / "mine.log/train.csv").read_text().splitlines() == curve


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signum", "how", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
@pytest.mark.parametrize("busy", [False, True], ids=["as its processes start", "while they work"])
def test_a_signal_to_all_processes_of_a_run_ends_them_with_one_line(here, data, signum, how, code, busy):
    """As a terminal's Ctrl-C or an operator's service manager sends it."""
    words = ("train", "--data", f"{data},split=train", *TINY, "--steps", "500", "--workers", "2")
    run = begin((*words, "--picture-every", "500"))
    while run.poll() is None and not ((here / "mine.log/train.csv").exists() if busy else workers_of(run)):
        time.sleep(0.005)
    started = workers_of(run)
    os.killpg(run.pid, signum)
    _, told = run.communicate(timeout=60)
    assert run.returncode == code
    assert told.splitlines()[-1] == f"error: {how}; nothing half-written was left behind, run the same command again"
    assert "Traceback" not in told
    assert started
    _, left = psutil.wait_procs(started, timeout=20)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)
    assert not list(here.glob("*.part"))


def test_two_data_sets_and_a_configuration(crgen, here, small_images, data):
    (here / "run.toml").write_text(f'''
preset = "tiny"
out = "mixed.safetensors"
[[data]]
path = "{data}"
weight = 3
[[data]]
kind = "ombria"
path = "{data}"
split = "train"
[recipe]
epochs = 1
batch = 2
crop = 32
losses = {{ charbonnier = 1.0, ssim = 0.2 }}
''')
    outcome = crgen("train", "--config", "run.toml", "--steps", "1")
    assert outcome.code == 0
    card = json.loads(crgen("models", "show", "mixed.safetensors").out)
    assert card["training"]["losses"] == {"charbonnier": 1.0, "ssim": 0.2}
    assert (card["training"]["steps"], card["training"]["epochs"]) == (1, None)
    assert card["trained_on"].count("OMBRIA") == 2
    scored = crgen("evaluate", "--config", "run.toml", "--weights", "mixed.safetensors")
    assert scored.code == 0
    assert re.search(r"\| as it is \| generator \|.* 1 \|", scored.out), "one validation patch, named by both"


def test_scoring_needs_one_kind_of_data(refused, here, tiny_weights):
    assert "give either --data or --config" in refused(2, "evaluate", "--weights", tiny_weights)


def test_the_papers_preset_refuses_to_train_without_vgg_unless_told_to(refused, data):
    line = refused(2, "train", "--data", data, "--out", "w.safetensors", "--preset", "paper", "--perceptual", "no.pth")
    assert "no VGG-19 weights" in line
    assert "--perceptual none" in line
