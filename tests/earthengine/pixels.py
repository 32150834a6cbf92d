"""``image:computePixels`` and downloads: the grid asked for, Google's limits, and the NPY or GeoTIFF of the answer."""

import functools
import io
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from tests.earthengine.images import EarthEngineError, Grid, Image, Projection, memo, union
from tests.earthengine.interpreter import evaluate

MAX_BYTES = 50_331_648
MAX_SIDE = 32_768
MAX_BANDS = 1024
MAX_DOWNLOAD_BYTES = 33_554_432
MAX_DOWNLOAD_SIDE = 10_000

_processors = threading.BoundedSemaphore(os.cpu_count() or 1)
"""More tiles at a time than processors would only take more memory."""


def compute(body: Mapping[str, Any], flat: bool = False) -> bytes:
    """The NPY of a computePixels request; ``flat`` fills the tile with its middle pixel, which costs little."""
    if body.get("fileFormat") != "NPY":
        raise EarthEngineError(f"The local Earth Engine does not implement fileFormat '{body.get('fileFormat')}'.")
    image = _image(body, {"grid", "workloadTag"})
    grid = grid_of(body.get("grid"))
    check_limits(image, grid)
    with _processors, memo.request():
        if flat:
            middle = npy(image, grid.window(grid.width // 2, grid.height // 2, 1, 1))
            return _saved(np.broadcast_to(np.load(io.BytesIO(middle)), (grid.height, grid.width)))
        return npy(image, grid)


def _image(body: Mapping[str, Any], further: set[str]) -> Image:
    unknown = body.keys() - {"expression", "fileFormat", "bandIds"} - further
    if unknown:
        raise EarthEngineError(f'Invalid JSON payload received. Unknown name "{sorted(unknown)[0]}".')
    image = evaluate(body["expression"])
    if not isinstance(image, Image):
        raise EarthEngineError("Expression does not evaluate to an image.")
    if body.get("bandIds"):
        image = replace(image, bands=tuple(image.band(name) for name in body["bandIds"]))
    if not image.bands:
        raise EarthEngineError("Image has no bands.")
    return image


def download_grid(body: Mapping[str, Any]) -> dict[str, Any]:
    """The grid of a download, which is the image's own, as ``computePixels`` takes it, once its limits are checked."""
    image = _image(body, {"filenamePrefix", "workloadTag"})
    grids = {(band.projection, band.dimensions) for band in image.bands}
    projection, size = next(iter(grids))
    if len(grids) > 1 or size is None:
        raise EarthEngineError("The local Earth Engine implements downloads of images with one bounded grid alone.")
    check_limits(image, Grid(projection, *size), MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_SIDE)
    names = ("scaleX", "shearX", "translateX", "shearY", "scaleY", "translateY")
    return {
        "dimensions": dict(zip(("width", "height"), size, strict=True)),
        "affineTransform": dict(zip(names, projection.transform, strict=True)),
        "crsCode": projection.crs,
    }


def download(body: Mapping[str, Any]) -> bytes:
    """The pixels of a download that :func:`download_grid` gave the ``grid`` of."""
    image, grid = _image(body, {"filenamePrefix", "grid", "workloadTag"}), grid_of(body["grid"])
    with _processors, memo.request():
        match body.get("fileFormat"):
            case "NPY":
                return npy(image, grid)
            case "GEO_TIFF":
                return geotiff(image, grid)
    raise EarthEngineError(f"The local Earth Engine does not implement downloads as '{body.get('fileFormat')}'.")


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


def check_limits(image: Image, grid: Grid, max_bytes: int = MAX_BYTES, max_side: int = MAX_SIDE) -> None:
    if max(grid.width, grid.height) > max_side:
        raise EarthEngineError(
            f"Pixel grid dimensions ({grid.width}x{grid.height}) must be less than or equal to {max_side}."
        )
    if len(image.bands) > MAX_BANDS:
        raise EarthEngineError(f"Number of bands ({len(image.bands)}) must be less than or equal to {MAX_BANDS}.")
    # One byte of mask for every value.
    size = grid.width * grid.height * sum(band.type.dtype.itemsize + 1 for band in image.bands)
    if size > max_bytes:
        raise EarthEngineError(f"Total request size ({size} bytes) must be less than or equal to {max_bytes} bytes.")


def npy(image: Image, grid: Grid) -> bytes:
    """A structured array, one field per band; masked pixels are 0, as NPY carries no mask."""
    out = np.zeros((grid.height, grid.width), np.dtype([(band.name, band.type.dtype) for band in image.bands]))
    for band in image.bands:
        values, mask = band.read(grid)
        out[band.name] = np.where(mask > 0, values, 0)
    return _saved(out)


def geotiff(image: Image, grid: Grid) -> bytes:
    """All bands in the smallest type that holds them; masked pixels are its nodata, the lowest number or -inf.

    Compressed with LZW in blocks of 256 pixels: how the service compresses is not documented.
    """
    dtype = functools.reduce(union, (band.type for band in image.bands)).dtype
    lowest = -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
    profile = {
        "driver": "GTiff", "width": grid.width, "height": grid.height, "count": len(image.bands), "dtype": dtype,
        "crs": grid.projection.crs, "transform": Affine(*grid.projection.transform), "nodata": lowest,
        "compress": "lzw", "tiled": True, "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    with rasterio.MemoryFile() as file:
        with file.open(**profile) as out:
            for number, band in enumerate(image.bands, start=1):
                values, mask = band.read(grid)
                out.write(np.where(mask > 0, values, lowest).astype(dtype), number)
                out.set_band_description(number, band.name)
        return bytes(file.read())


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
