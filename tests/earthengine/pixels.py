"""``image:computePixels``: the grid asked for, Google's limits, and the NPY of the answer."""

import io
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.earthengine.images import EarthEngineError, Grid, Image, Projection, memo
from tests.earthengine.interpreter import evaluate

MAX_BYTES = 50_331_648
MAX_SIDE = 32_768
MAX_BANDS = 1024

_processors = threading.BoundedSemaphore(os.cpu_count() or 1)
"""More tiles at a time than processors would only take more memory."""


def compute(body: Mapping[str, Any], flat: bool = False) -> bytes:
    """The NPY of a computePixels request; ``flat`` fills the tile with its middle pixel, which costs little."""
    if body.get("fileFormat") != "NPY":
        raise EarthEngineError(f"The local Earth Engine does not implement fileFormat '{body.get('fileFormat')}'.")
    unknown = body.keys() - {"expression", "fileFormat", "grid", "bandIds", "workloadTag"}
    if unknown:
        raise EarthEngineError(f'Invalid JSON payload received. Unknown name "{sorted(unknown)[0]}".')
    image = evaluate(body["expression"])
    if not isinstance(image, Image):
        raise EarthEngineError("Expression does not evaluate to an image.")
    if "bandIds" in body:
        image = replace(image, bands=tuple(image.band(name) for name in body["bandIds"]))
    if not image.bands:
        raise EarthEngineError("Image has no bands.")
    grid = grid_of(body.get("grid"))
    check_limits(image, grid)
    with _processors, memo.request():
        if flat:
            middle = npy(image, grid.window(grid.width // 2, grid.height // 2, 1, 1))
            return _saved(np.broadcast_to(np.load(io.BytesIO(middle)), (grid.height, grid.width)))
        return npy(image, grid)


def grid_of(grid: Mapping[str, Any] | None) -> Grid:
    """The pixel grid of a request; without one Earth Engine would choose the image's own, which is not implemented."""
    if not grid:
        raise EarthEngineError("The local Earth Engine needs a grid.")
    unknown = grid.keys() - {"dimensions", "affineTransform", "crsCode", "crsWkt"}
    if unknown:
        raise EarthEngineError(f"Invalid JSON payload received. Unknown name \"{sorted(unknown)[0]}\" at 'grid'.")
    affine = grid.get("affineTransform", {})
    if affine.get("shearX") or affine.get("shearY"):
        raise EarthEngineError("The local Earth Engine implements no sheared grids.")
    size = grid.get("dimensions", {})
    width, height = int(size.get("width", 0)), int(size.get("height", 0))
    if width < 1 or height < 1:
        raise EarthEngineError("Pixel grid dimensions must be positive.")
    crs = grid.get("crsCode") or grid.get("crsWkt")
    if not crs:
        raise EarthEngineError("Pixel grid must specify a CRS.")
    corner = tuple(
        float(affine.get(name, 0.0)) for name in ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    )
    if not corner[0] or not corner[4]:
        raise EarthEngineError("Pixel grid scale must not be zero.")
    return Grid(Projection(crs, corner), width, height)  # type: ignore[arg-type]


def check_limits(image: Image, grid: Grid) -> None:
    if max(grid.width, grid.height) > MAX_SIDE:
        raise EarthEngineError(
            f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {MAX_SIDE}."
        )
    if len(image.bands) > MAX_BANDS:
        raise EarthEngineError(f"Number of bands ({len(image.bands)}) must be less than or equal to {MAX_BANDS}.")
    # One byte of mask for every value.
    size = grid.width * grid.height * sum(band.type.dtype.itemsize + 1 for band in image.bands)
    if size > MAX_BYTES:
        raise EarthEngineError(f"Total request size ({size} bytes) must be less than or equal to {MAX_BYTES} bytes.")


def npy(image: Image, grid: Grid) -> bytes:
    """A structured array, one field per band; masked pixels are 0, as NPY carries no mask."""
    out = np.zeros((grid.height, grid.width), np.dtype([(band.name, band.type.dtype) for band in image.bands]))
    for band in image.bands:
        values, mask = band.read(grid)
        out[band.name] = np.where(mask > 0, values, 0)
    return _saved(out)


def _saved(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def damaged(action: str, body: bytes) -> bytes:
    """The NPY ``body`` as a fault leaves it."""
    if action not in ("truncate", "resize", "retype"):
        return body
    if action == "truncate":
        return body[: len(body) // 2]
    array = np.load(io.BytesIO(body))
    if action == "resize":
        return _saved(array[:-1])
    return _saved(
        array.astype([(name, "<f8" if array.dtype[name] != np.float64 else "<i4") for name in array.dtype.names])
    )
