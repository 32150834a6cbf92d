"""The rooms of the package import in one direction only."""

import ast
import re
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


PRIVATE = {"rasterio._err.CPLE_BaseError", "torch._subclasses.FakeTensorMode"}
"""What is used though its library keeps it private; imported in one place, which does without where it is gone."""


def private_names(tree: ast.AST) -> set[str]:
    """Names of other libraries that start with an underscore, imported or taken from what was imported."""
    names, modules = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not str(node.module).startswith("crgen"):
            modules |= {alias.asname or alias.name for alias in node.names}
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            names |= {alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in modules:
                names.add(ast.unparse(node))
    private = {name for name in names if any(re.match("_[^_]", part) for part in name.split("."))}
    return private - {"os._exit"}  # documented


def test_private_names_of_other_libraries_are_imported_in_one_guarded_place_each() -> None:
    """But for ``gee``, where Earth Engine's client leaves no other way."""
    found = []
    for path in sorted(path for room in FORBIDDEN if room != "gee" for path in (PACKAGE / room).rglob("*.py")):
        tree = ast.parse(path.read_text())
        guarded = {
            name
            for block in ast.walk(tree)
            if isinstance(block, ast.Try)
            and any(isinstance(h.type, ast.Name) and h.type.id == "ImportError" for h in block.handlers)
            for name in private_names(block)
        }
        assert private_names(tree) <= guarded, path.relative_to(PACKAGE)
        found += guarded
    assert sorted(found) == sorted(PRIVATE)


def test_cogs_are_written_without_the_private_error_of_rasterio() -> None:
    code = (
        "import rasterio, sys; sys.modules['rasterio._err'] = None; "
        "from crgen.pipeline.splice import WRITE_ERRORS; print(len(set(WRITE_ERRORS)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


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
