"""Reading rectangles of a Stack, beyond its edge too."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from crgen.pipeline.box import Box, lattice_box
from crgen.pipeline.source.stack import stack_geobox

Array = NDArray[np.float32]


class StackReader:
    """Reads rectangles of a Stack; beyond the Stack's edge pixels are reflected.

    Args:
        stack: a validated Stack.
        pols: polarisations, in the order the generator takes.
        bands: bands, alike.
    """

    def __init__(self, stack: xr.Dataset, pols: tuple[str, ...], bands: tuple[str, ...]) -> None:
        labels = {"pol": list(pols), "band": list(bands)}
        self._stack = stack.sel({dim: names for dim, names in labels.items() if dim in stack.dims})
        self.box = lattice_box(stack_geobox(stack))
        self.stopped = threading.Event()
        """Set when nobody waits for what is being read: then reading ends before the next block."""

    def __contains__(self, name: str) -> bool:
        return name in self._stack

    def read(self, box: Box, names: Sequence[str] | None = None) -> dict[str, Array]:
        """Return every variable, or those named, over ``box`` as ``(channel, y, x)`` or ``(y, x)`` float32.

        Raises:
            CancelledError: if :attr:`stopped` was set.
        """
        here = box.intersect(self.box)
        if here is None:
            raise ValueError(f"{box} lies outside the stack {self.box}")
        rows, cols = here.slices(self.box)
        stack = self._stack if names is None else self._stack[list(names)]
        data = stack.isel(y=rows, x=cols).compute(
            scheduler="synchronous", callbacks=[(None, None, self._go_on, None, None)]
        )
        margin = ((here.r0 - box.r0, box.r1 - here.r1), (here.c0 - box.c0, box.c1 - here.c1))

        def reflected(array: Array) -> Array:
            if not any(map(any, margin)):
                return array
            return np.pad(array, ((0, 0),) * (array.ndim - 2) + margin, mode="reflect")

        return {str(name): reflected(array.values) for name, array in data.data_vars.items()}

    def _go_on(self, *_: object) -> None:
        if self.stopped.is_set():
            raise CancelledError
