"""What `gee` does holds with the oldest client that crgen says it runs with, not only with the pinned one."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.nightly
def test_all_of_this_holds_with_the_oldest_client(tmp_path: Path) -> None:
    """The tests beside this one, and those of the local service, run with the lowest earthengine-api allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (floor,) = (r.split(">=")[1] for r in project["dependencies"] if r.startswith("earthengine-api>="))
    client = tmp_path / "client"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", client]
    subprocess.run([*pip, f"earthengine-api=={floor}"], check=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (client, ROOT)))}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    assert run("-c", "import ee; print(ee.__version__)").stdout.strip() == floor
    tests = run("-m", "pytest", "-p", "no:cacheprovider", "tests/gee", "tests/earthengine")
    assert tests.returncode == 0, tests.stdout[-4000:]
