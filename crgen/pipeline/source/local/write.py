"""Write a Stack to disk: a Zarr store, a NetCDF file, or a folder of GeoTIFFs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import dask
import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from crgen.errors import OutputError, RequestError
from crgen.files import discard, free_space, replacing, size_text
from crgen.pipeline.source.local.read import MANIFEST
from crgen.pipeline.source.stack import (
    CALIBRATED,
    CHANNEL_DIM,
    PAST,
    channel_of,
    is_calibrated,
    manifest_of,
    stack_geobox,
    validate,
)

BLOCK = 512
CHUNK = 2 * BLOCK

Stored = Literal["float32", "uint16"]
"""How reflectance is stored."""
SCALE, NOTHING = 1e-4, 65535
"""Reflectance of a digital number, and the one that stands for no data."""


def write_stack(stack: xr.Dataset, path: str | Path, *, dtype: Stored = "float32") -> Path:
    """Write a Stack so that ``open_stack`` returns the same pixels, grid and manifest.

    Pixels flow chunk by chunk, so memory is bounded. The result is written beside its place under a
    temporary name and renamed when complete.

    Args:
        stack: a Stack, lazy or not.
        path: ends in ``.zarr`` or ``.nc``, or else names the folder to fill with GeoTIFFs; must not exist.
        dtype: reflectance as it is, or × 10,000 as ``"uint16"``, rounded and from 0 to 6.5534, with the scale and the
            value for "none" that all readers know. What came from Earth Engine loses nothing by it. Backscatter and
            scores stay float32.

    Returns:
        The path written.

    Raises:
        OutputError: if something is in the way or the disk does not take it.
        RequestError: if there is no such ``dtype``.
        StackError: if ``stack`` is not a Stack.
    """
    path = Path(path)
    check_stored(dtype)
    if path.exists():
        raise OutputError(f"'{path}' exists already; remove it or choose another name")
    write = {".zarr": _write_zarr, ".nc": _write_netcdf}.get(path.suffix.lower(), _write_folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        discard([path])
        with replacing(path) as part:
            write(_stored_as(_plain(stack), dtype), part)
    except (OSError, RasterioError) as exc:
        reason = getattr(exc, "strerror", None) or "the write failed"
        free = size_text(free_space(path.parent))
        raise OutputError(
            f"cannot write '{path}': {reason} ({free} free there); free some space or choose another place"
        ) from exc
    return path


def _plain(stack: xr.Dataset) -> xr.Dataset:
    """Return the Stack in even chunks, without encodings left over from where it was read."""
    chunks = {dim: CHUNK if dim in ("y", "x") else 1 if dim == "time" else -1 for dim in stack.dims}
    return validate(stack).drop_encoding().chunk(chunks)


def check_stored(dtype: str) -> None:
    """Refuse a type in which reflectance is not stored.

    Raises:
        RequestError: naming those that there are.
    """
    if dtype not in get_args(Stored):
        raise RequestError(f"reflectance is not stored as '{dtype}'; choose from {', '.join(get_args(Stored))}")


def _stored_as(stack: xr.Dataset, dtype: Stored) -> xr.Dataset:
    """Return the Stack with how reflectance is to be stored in its encoding, and with values that fit."""
    if dtype == "float32":
        return stack
    fitting = {}
    for name in (str(name) for name in stack.data_vars if channel_of(str(name)) == "band"):
        fitting[name] = stack[name].clip(0, (NOTHING - 1) * np.float32(SCALE), keep_attrs=True)
        fitting[name].encoding = {"dtype": "uint16", "scale_factor": SCALE, "_FillValue": NOTHING}
    return stack.assign(fitting)


@contextmanager
def _own_threads() -> Iterator[None]:
    """Run dask on threads that have all come to rest when the block is left.

    After an error dask's shared threads go on with their blocks, into files closed or removed by then.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool, dask.config.set(scheduler="threads", pool=pool):
        yield


def _write_zarr(stack: xr.Dataset, part: Path) -> None:
    # One stored chunk per block, so that no write outlives its block; format 2, because version 3 has no
    # settled data type yet for the coordinates' short strings.
    encoding = {str(n): {**a.encoding, "chunks": a.data.chunksize} for n, a in stack.data_vars.items()}
    stack.to_zarr(part, mode="w-", zarr_format=2, consolidated=True, encoding=encoding, compute=False)
    pixels = stack.drop_vars(name for name, variable in stack.variables.items() if variable.dims[-2:] != ("y", "x"))
    with _own_threads():
        for rows in _bands(stack.sizes["y"]):
            pixels.isel(y=rows).to_zarr(part, region={"y": rows})


def _bands(height: int) -> Iterator[slice]:
    """Yield the rows of one line of chunks after the other.

    Left to itself, dask takes one variable after the other over the whole area: the last would wait, read and ready,
    for the first to be written.
    """
    for first in range(0, height, CHUNK):
        yield slice(first, min(first + CHUNK, height))


def _write_netcdf(stack: xr.Dataset, part: Path) -> None:
    encoding = {
        str(n): {**a.encoding, "chunksizes": a.data.chunksize, "zlib": True, "complevel": 1}
        for n, a in stack.data_vars.items()
    }
    try:
        with _own_threads():
            stack.to_netcdf(part, engine="netcdf4", encoding=encoding)
    except RuntimeError as exc:
        if str(exc).startswith("NetCDF:"):
            raise OSError(str(exc)) from exc
        raise


def _write_folder(stack: xr.Dataset, part: Path) -> None:
    part.mkdir()
    arrays = [stack[name] for name in CHANNEL_DIM if name in stack]
    arrays += [
        stack[name].isel(time=at, drop=True).rename(f"{name}_{str(day)[:10]}")
        for name in PAST
        if name in stack
        for at, day in enumerate(stack["time"].values)
    ]
    sources = [array.data if array.ndim == 3 else array.data[None] for array in arrays]
    with ExitStack() as files:
        targets: list[Any] = [_TiffTarget(files.enter_context(_create(part, array))) for array in arrays]
        with _own_threads():
            for rows in _bands(stack.sizes["y"]):
                regions = [(slice(0, len(source)), rows, slice(0, source.shape[2])) for source in sources]
                # One lock, because open GeoTIFFs share GDAL's block cache.
                da.store([source[:, rows] for source in sources], targets, regions=regions, lock=True)
    for array in arrays:
        _check_complete(part / f"{array.name}.tif")
    said = {} if is_calibrated(stack.attrs) else {CALIBRATED: False}
    (part / MANIFEST).write_text(json.dumps(manifest_of(stack) | said, sort_keys=True) + "\n")


def _create(folder: Path, array: xr.DataArray) -> Any:
    geobox = stack_geobox(array.to_dataset())
    labels = [str(v) for v in array[array.dims[0]].values] if array.ndim == 3 else [str(array.name)]
    dtype = array.encoding.get("dtype", "float32")
    file = rasterio.open(
        folder / f"{array.name}.tif",
        "w",
        driver="GTiff",
        dtype=dtype,
        count=len(labels),
        height=geobox.shape.y,
        width=geobox.shape.x,
        crs=str(geobox.crs),
        transform=geobox.affine,
        nodata=array.encoding.get("_FillValue", np.nan),
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        interleave="band",
        compress="deflate",
        predictor=3 if dtype == "float32" else 2,
        bigtiff="if_safer",
    )
    file.descriptions = labels
    if "scale_factor" in array.encoding:
        file.scales = [array.encoding["scale_factor"]] * len(labels)
    return file


class _TiffTarget:
    """What ``dask.array.store`` writes blocks into."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __setitem__(self, key: tuple[slice, slice, slice], block: NDArray[Any]) -> None:
        if self._file.dtypes[0] == "uint16":
            block = np.nan_to_num(np.rint(block / np.float32(SCALE)), nan=NOTHING).astype(np.uint16)
        _, rows, columns = key
        window = Window(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)
        self._file.write(block, window=window)


def _check_complete(path: Path) -> None:
    """Refuse a GeoTIFF with blocks beyond its end: GDAL may not say that the disk filled while it closed."""
    with rasterio.open(path) as file:
        size = path.stat().st_size
        for band in file.indexes:
            for (row, column), _ in file.block_windows(band):
                offset, length = (
                    int(file.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band) or 0)
                    for what in ("OFFSET", "SIZE")
                )
                if not offset or offset + length > size:
                    raise OSError(f"{path.name} is incomplete")
