"""Reading rectangles of a Stack, beyond its edge too."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.source.stack import OCCURRENCE, stack_geobox, without_past

Array = NDArray[np.float32]


class StackReader:
    """Reads rectangles of a Stack; beyond the Stack's edge it is reflected there, whatever rectangle is read.

    Args:
        stack: a validated Stack.
        pols: polarisations, in the order the generator takes.
        bands: bands, alike.
    """

    def __init__(self, stack: xr.Dataset, pols: tuple[str, ...], bands: tuple[str, ...]) -> None:
        labels = {"pol": list(pols), "band": list(bands)}
        self._stack = stack.sel({dim: names for dim, names in labels.items() if dim in stack.dims})
        self.bands = bands
        self.box = lattice_box(stack_geobox(stack))
        self.stopped = threading.Event()
        """Set when nobody waits for what is being read: then reading ends before the next block."""

    def __contains__(self, name: str) -> bool:
        return name in self._stack

    def read(
        self, box: Box, names: Sequence[str] | None = None, times: Sequence[int] | None = None
    ) -> dict[str, Array]:
        """Return variables over ``box`` as ``(channel, y, x)`` or ``(y, x)`` float32.

        Args:
            box: may reach beyond the Stack.
            names: which variables; None for what a map is made of, without the place's past.
            times: which dates of the past's variables, ``(time, channel, y, x)``; None for all.

        Raises:
            CancelledError: if :attr:`stopped` was set.
        """
        if box.intersect(self.box) is None:
            raise ValueError(f"{box} lies outside the stack {self.box}")
        rows = _reflected(box.r0 - self.box.r0, box.r1 - self.box.r0, self.box.shape[0])
        cols = _reflected(box.c0 - self.box.c0, box.c1 - self.box.c0, self.box.shape[1])
        now = without_past(self._stack).drop_vars([OCCURRENCE, "truth_t2"], errors="ignore")
        stack = now if names is None else self._stack[list(names)]
        if times is not None:
            stack = stack.isel(time=list(times))
        first, left = rows.min(), cols.min()
        data = stack.isel(y=slice(first, rows.max() + 1), x=slice(left, cols.max() + 1)).compute(
            scheduler="synchronous", callbacks=[(None, None, self._go_on, None, None)]
        )

        def reflected(array: Array) -> Array:
            if box.intersect(self.box) == box:
                return array
            taken: Array = array.take(rows - first, axis=-2).take(cols - left, axis=-1)
            return taken

        return {str(name): reflected(array.values) for name, array in data.data_vars.items()}

    def _go_on(self, *_: object) -> None:
        if self.stopped.is_set():
            raise CancelledError


def _reflected(low: int, high: int, size: int) -> NDArray[np.intp]:
    """Return which of ``size`` pixels stand at ``low … high-1``: beyond the edge as ``np.pad(…, mode="reflect")``."""
    period = max(2 * (size - 1), 1)
    place = np.arange(low, high) % period
    return np.minimum(place, period - place) if size > 1 else place
