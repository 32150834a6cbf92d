"""What a person gets who installs the built package: it holds all it needs, and makes the demo's map."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.nightly
def test_a_wheel_makes_the_demo_in_a_new_environment(tmp_path: Path) -> None:
    """With the libraries that it names, and no others, away from the checkout; a gigabyte of disk."""

    def run(*command: object) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        words = [str(word) for word in command]
        return subprocess.run(
            words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("crgen-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    files = (path for path in (ROOT / "crgen").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert {str(path.relative_to(ROOT)) for path in files} <= held
    assert all(name.startswith(("crgen/", "crgen-")) for name in held)

    run(sys.executable, "-m", "venv", "venv")
    bin_ = tmp_path / "venv" / "bin"
    run(bin_ / "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    days = ("--t1", "2021-07-10", "--t2", "2021-07-22")
    run(bin_ / "crgen", "fill", "--source", "demo", "--aoi", "113.50,34.70,113.51,34.708", *days, "--out", "demo.tif")
    run(bin_ / "crgen", "verify", "demo.tif")
    where = run(bin_ / "python", "-c", "import crgen; print(crgen.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path / "venv")
