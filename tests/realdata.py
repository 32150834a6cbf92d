"""The real Sentinel imagery kept beside the checkout, and the Stacks made from it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]
REAL_DATA = REPOSITORY.parent / "shared" / "data"

needs_real_data = pytest.mark.skipif(
    not (REAL_DATA / "worldcereal").is_dir() or not (REAL_DATA / "biomassters").is_dir(),
    reason="the real Sentinel imagery (../shared/data) is not on this machine",
)


def _load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


real_stacks = _load_example("real_stacks")
