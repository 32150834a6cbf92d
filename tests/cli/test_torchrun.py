"""`crgen train` as README says to start it on several GPUs, here in two processes on the CPU."""

import subprocess
import sys

import pytest
import torch.distributed as dist

from tests.cli.conftest import COMMAND
from tests.training.noise import write_ombria

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", "2", "--")


@pytest.mark.slow
def test_two_processes_make_one_weights_file_and_one_of_them_talks(here):
    """Nothing is held out, so nothing is scored."""
    write_ombria(here / "data", ("0342", "0343"))
    words = ("train", "--data", "data,split=validation", "--out", "mine.safetensors", "--picture-every", "9")
    tiny = ("--preset", "tiny", "--batch", "4", "--crop", "32", "--steps", "2", "--device", "cpu")
    done = subprocess.run([*TORCHRUN, *COMMAND, *words, *tiny], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in here.rglob("*.safetensors")] == ["mine.safetensors"]
    assert done.stderr.count("training: 2/2 steps") == 1
    assert done.stdout.count("mine.safetensors") == 1
    assert [row.split(",")[0] for row in (here / "mine.log/train.csv").read_text().split()] == ["step", "1", "2"]


@pytest.mark.parametrize(("checkpoint", "code"), [(None, 0), ("torn", 8)])
def test_a_training_leaves_the_processes_it_joined_whether_it_ends_well_or_not(crgen, here, checkpoint, code):
    """Threads that still listened to the others when the interpreter ends could abort it."""
    write_ombria(here / "data", ("0342", "0343"))
    if checkpoint:
        (here / "mine.checkpoint.pt").write_text(checkpoint)
    dist.init_process_group("gloo", init_method=f"file://{here}/store", rank=0, world_size=1)
    words = ("train", "--data", "data,split=validation", "--out", "mine.safetensors", "--preset", "tiny")
    outcome = crgen(*words, "--batch", "2", "--crop", "32", "--steps", "1", "--device", "cpu")
    left = not dist.is_initialized()
    if not left:
        dist.destroy_process_group()
    assert left
    assert outcome.code == code, outcome.err
