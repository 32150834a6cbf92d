"""Functions on the surroundings of each pixel, in pixels of whatever grid is asked for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tests.earthengine.images import Band, EarthEngineError, Grid, Image, Pixels
from tests.earthengine.interpreter import function


def _focal(name: str, operation: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """A filter over the pixels of a square that are not masked; what has none is masked."""

    def apply(
        image: Image, radius: float = 1.5, kernelType: str = "circle", units: str = "pixels", iterations: float = 1.0
    ) -> Image:
        if kernelType != "square" or units != "pixels" or radius != int(radius) or iterations != 1:
            raise EarthEngineError(f"The local Earth Engine implements {name} with a square of whole pixels alone.")
        reach = int(radius)

        def filtered(band: Band) -> Band:
            def read(grid: Grid) -> Pixels:
                values, mask = band.read(grid.window(-reach, -reach, grid.width + 2 * reach, grid.height + 2 * reach))
                around = sliding_window_view(np.where(mask > 0, values, np.nan), (2 * reach + 1, 2 * reach + 1))
                squares = around.reshape(grid.height, grid.width, -1)
                some = np.isfinite(squares).any(-1)
                out = np.zeros(some.shape)
                out[some] = operation(squares[some])
                return out, some.astype(float)

            return replace(band, compute=read, dimensions=None)

        return replace(image.map_bands(filtered), id=None)

    function(name)(apply)


_focal("Image.focalMin", lambda squares: np.nanmin(squares, -1))
_focal("Image.focalMax", lambda squares: np.nanmax(squares, -1))
_focal("Image.focalMean", lambda squares: np.nanmean(squares, -1))
