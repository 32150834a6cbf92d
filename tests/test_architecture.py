"""The rooms of the package import in one direction only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "crgen"

FORBIDDEN = {
    "model": (
        "crgen.pipeline",
        "crgen.gee",
        "crgen.batch",
        "crgen.cli",
        "ee",
        "geemap",
        "rasterio",
        "rioxarray",
        "xarray",
    ),
    "gee": ("crgen.pipeline", "crgen.model", "crgen.batch", "crgen.cli"),
    "pipeline": ("crgen.batch", "crgen.cli", "ee", "geemap", "typer"),
    "batch": ("crgen.cli", "crgen.gee", "crgen.model", "ee", "geemap", "typer"),
    "cli": ("ee", "geemap"),
}


def imported(path: Path) -> set[str]:
    """Every module a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may_know(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            for banned in FORBIDDEN[room]:
                assert not (name + ".").startswith(banned + "."), f"{path.relative_to(PACKAGE)} imports {name}"


def test_every_room_is_covered() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(FORBIDDEN)


def test_starting_up_loads_neither_torch_nor_earth_engine() -> None:
    code = (
        "import crgen, crgen.cli, sys; "
        "print([m for m in ('torch', 'torchvision', 'ee', 'geemap', 'rasterio', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
