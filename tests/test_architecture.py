"""The rooms of the package import in one direction only."""

import ast
import graphlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "crgen"

KNOWS = {
    "cli": {"batch", "pipeline", "training", "model", "gee"},
    "batch": {"pipeline"},
    "pipeline": {"model", "gee"},
    "training": {"model"},
    "model": set(),
    "gee": set(),
}
"""What each room may import of the package, beside itself, ``crgen.errors`` and ``crgen.files``."""

WITHOUT = {
    "cli": ("ee", "geemap"),
    "batch": ("ee", "geemap", "typer"),
    "pipeline": ("ee", "geemap", "typer"),
    "training": ("ee", "geemap", "typer"),
    "model": ("ee", "geemap", "typer", "rasterio", "rioxarray", "xarray"),
    "gee": ("typer",),
}
"""Libraries that a room leaves to others."""

KNOWS_EARTH_ENGINE = {"pipeline/source/earthengine", "pipeline/pull.py"}
"""The room and the file of ``pipeline`` that may import ``crgen.gee``."""

ORDER = {
    "batch": ("jobs", "tell", "products", "schedule"),
    "gee": ("connection", "choose", "fetch"),
    "model": ("paper", "adaptive"),
    "pipeline": ("source", "tiling", "cog", "flood", "picture", "product", "run"),
    "training": ("data", "score"),
}
"""The rooms inside a room: each imports only from those before it."""


@cache
def imported(path: Path) -> frozenset[str]:
    """Every module a file imports, and every name it imports from one, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def files_of(*room: str) -> list[Path]:
    found = sorted(PACKAGE.joinpath(*room).rglob("*.py"))
    assert found, f"there is nothing in {'/'.join(room)}"
    return found


def within(name: str, module: str) -> bool:
    return (name + ".").startswith(module + ".")


@pytest.mark.parametrize("room", KNOWS)
def test_a_room_imports_only_what_it_may_know(room: str) -> None:
    allowed = [f"crgen.{known}" for known in (room, "errors", "files", *KNOWS[room])]
    for path in files_of(room):
        for name in imported(path):
            where = f"{path.relative_to(PACKAGE)} imports {name}"
            if within(name, "crgen"):
                assert any(within(name, known) for known in allowed), where
            assert not any(within(name, library) for library in WITHOUT[room]), where


def test_errors_and_files_know_no_room() -> None:
    assert not any(within(name, "crgen") for name in imported(PACKAGE / "errors.py"))
    for name in imported(PACKAGE / "files.py"):
        assert within(name, "crgen.errors") or not within(name, "crgen"), f"files.py imports {name}"


def test_one_room_and_one_file_of_the_pipeline_know_earth_engine() -> None:
    knowing = [path for path in files_of("pipeline") if any(within(name, "crgen.gee") for name in imported(path))]
    for path in knowing:
        where = path.relative_to(PACKAGE)
        assert {where.as_posix(), where.parent.as_posix()} & KNOWS_EARTH_ENGINE, where


def test_one_file_renames_and_brings_to_the_disk() -> None:
    """Whatever else is written goes by it, so that nothing half-written is ever found under its name."""
    for path in sorted(PACKAGE.rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        found = {
            ast.unparse(call)
            for call in calls
            if isinstance(call.func, ast.Attribute)
            and (
                call.func.attr in {"fsync", "NamedTemporaryFile", "mkstemp", "move"}
                or (call.func.attr == "replace" and len(call.args) == 1 and not call.keywords)  # of a path, not a text
                or ast.unparse(call.func) in {"os.replace", "os.rename"}
            )
        }
        if path != PACKAGE / "files.py":
            assert not found, f"{path.relative_to(PACKAGE)}: {found}"


@pytest.mark.parametrize("room", ORDER)
def test_rooms_inside_a_room_stand_in_one_order(room: str) -> None:
    order = ORDER[room]
    assert {path.parent.name for path in (PACKAGE / room).glob("*/__init__.py")} == set(order)
    for i, inner in enumerate(order):
        for path in files_of(room, inner):
            for name in imported(path):
                for later in order[i + 1 :]:
                    assert not within(name, f"crgen.{room}.{later}"), f"{path.relative_to(PACKAGE)} imports {name}"


def test_no_file_imports_itself_by_way_of_others() -> None:
    modules = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph = {
        module: {name if name in modules else name.rpartition(".")[0] for name in imported(path)} & modules.keys()
        for module, path in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


PRIVATE = {"rasterio._err.CPLE_BaseError"}
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
    for path in sorted(path for room in KNOWS if room != "gee" for path in (PACKAGE / room).rglob("*.py")):
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
        "from crgen.pipeline.cog.splice import WRITE_ERRORS; print(len(set(WRITE_ERRORS)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


def test_every_room_is_covered() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(KNOWS) == set(WITHOUT)


def test_starting_up_loads_neither_torch_nor_earth_engine() -> None:
    code = (
        "import crgen, crgen.cli, sys; "
        "print([m for m in ('torch', 'torchvision', 'ee', 'geemap', 'rasterio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
