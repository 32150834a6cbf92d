"""Cloud-free optical maps from Sentinel-1 radar and cloudy Sentinel-2, with the evidence to trust them.

>>> import crgen
>>> result = crgen.fill(aoi="zhengzhou.geojson", t1="2021-07-10", t2="2021-07-22", source="demo")
>>> result.reflectance, result.quality        # xarray, opened lazily
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crgen.model.weights import load_model
    from crgen.pipeline.fill import fill
    from crgen.pipeline.past import past
    from crgen.pipeline.pull import pull
    from crgen.pipeline.source.local.read import open_stack
    from crgen.pipeline.source.local.write import write_stack

__all__ = ["fill", "load_model", "open_stack", "past", "pull", "write_stack"]

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
"""MKL, which solves PyTorch's linear systems on a CPU, otherwise rounds by where in memory a matrix happens to lie: on
some processors a pixel would then depend on its window's place in a batch. Read when MKL is first used."""

_HOMES = {
    "fill": "crgen.pipeline.fill",
    "load_model": "crgen.model.weights",
    "open_stack": "crgen.pipeline.source.local.read",
    "past": "crgen.pipeline.past",
    "pull": "crgen.pipeline.pull",
    "write_stack": "crgen.pipeline.source.local.write",
}


def __getattr__(name: str) -> Any:
    """Import the public functions when they are first used: PyTorch and GDAL take seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'crgen' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
