"""The demo scene drawn once for a small area, not anew for each rectangle that is read of it.

A fill of 64 px windows reads some forty rectangles, and each draws the whole of a block of 512 px. What a pixel shows
does not depend on that (tests/pipeline/source/test_demo.py).
"""

import functools
import threading
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from crgen.pipeline.source import demo
from crgen.pipeline.source import open as opening

LARGEST = 400 * 400
"""Pixels; what is larger is drawn as ever."""


class Drawn:
    """An array that is computed whole when some of it is first read."""

    def __init__(self, array: da.Array) -> None:
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self._array, self._lock = array, threading.Lock()
        self._values: np.ndarray | None = None

    def __getitem__(self, at: Any) -> np.ndarray:
        with self._lock:
            if self._values is None:
                self._values = self._array.compute(scheduler="synchronous")
        return self._values[at]


@functools.lru_cache(maxsize=6)
def drawn_once(*place: Any, **asked: Any) -> xr.Dataset:
    stack = demo.open_demo(*place, **asked)
    if stack.sizes["y"] * stack.sizes["x"] > LARGEST:
        return stack
    arrays = {name: da.from_array(Drawn(held.data), held.data.chunks) for name, held in stack.data_vars.items()}
    return stack.assign({name: (stack[name].dims, array, stack[name].attrs) for name, array in arrays.items()})


def open_demo(*place: Any, **asked: Any) -> xr.Dataset:
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    return drawn_once(*place, **asked).copy()


def draw_once(put: Callable[[object, str, object], None] = setattr) -> None:
    """Let fills of this process open the demo scene so."""
    put(opening, "open_demo", open_demo)


def dask_setup(worker: object) -> None:
    """Let a worker process of dask that loads this module do so too."""
    draw_once()
