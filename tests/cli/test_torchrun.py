"""`crgen train` as README says to start it on several GPUs, here in two processes on the CPU."""

import subprocess
import sys

from tests.cli.conftest import COMMAND
from tests.training.noise import write_ombria

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", "2", "--")


def test_two_processes_make_one_weights_file_and_one_of_them_talks(here):
    """Nothing is held out, so nothing is scored."""
    write_ombria(here / "data", ("0342", "0343"))
    words = ("train", "--data", "data,split=validation", "--out", "mine.safetensors", "--picture-every", "9")
    tiny = ("--preset", "tiny", "--batch", "2", "--crop", "32", "--steps", "2", "--device", "cpu")
    done = subprocess.run([*TORCHRUN, *COMMAND, *words, *tiny], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in here.rglob("*.safetensors")] == ["mine.safetensors"]
    assert done.stderr.count("training: 2/2 steps") == 1
    assert done.stdout.count("mine.safetensors") == 1
    assert [row.split(",")[0] for row in (here / "mine.log/train.csv").read_text().split()] == ["step", "1", "2"]
