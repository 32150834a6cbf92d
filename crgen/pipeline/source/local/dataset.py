"""Variables of a Zarr store or NetCDF file as layers, whatever their order, names and encoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr

from crgen.errors import StackError
from crgen.pipeline.source.local.coding import codings_of
from crgen.pipeline.source.local.grid import grid_of
from crgen.pipeline.source.local.lazy_raster import READ_ERRORS, LazyRaster, north_up, stacked, variable_layer
from crgen.pipeline.source.local.names import by_variable, channel, dim_of, listed
from crgen.pipeline.source.stack import PAST

SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf", ".h5")
X_NAMES = ("x", "lon", "long", "longitude", "easting", "projection_x_coordinate")
Y_NAMES = ("y", "lat", "latitude", "northing", "projection_y_coordinate")
CRS_ATTRIBUTES = {"crs_wkt", "spatial_ref", "wkt", "grid_mapping_name"}
CHANNELS = ("pol", "polarization", "polarisation", "band", "bands", "channel", "variable")


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr store."""
    return any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata"))


def open_dataset(path: Path) -> xr.Dataset:
    """Open a Zarr store or NetCDF file; nothing is read or decoded, dimensions of space are called ``y`` and ``x``.

    Raises:
        StackError: if it cannot be opened.
    """
    engine = "zarr" if path.is_dir() else "netcdf4"
    try:
        # Without chunks: the layers read windows straight from the store.
        dataset = xr.open_dataset(
            path,
            engine=engine,
            decode_coords="all",
            decode_times=False,
            mask_and_scale=False,
            chunks=None,
            cache=False,
        )
    except (*READ_ERRORS, KeyError, TypeError) as exc:
        reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        raise StackError(f"'{path}' cannot be opened ({reason}); is it complete? copy it again") from None
    renamed = {}
    for names, ours in ((X_NAMES, "x"), (Y_NAMES, "y")):
        found = [str(dim) for dim in dataset.dims if str(dim).lower() in names]
        if len(found) > 1:
            raise StackError(f"'{path}' has the dimensions {' and '.join(found)}, which could both be {ours}; keep one")
        if found and found[0] != ours:
            if ours in dataset.variables:
                raise StackError(f"'{path}' has a dimension {found[0]} and a variable {ours}; keep one of them")
            renamed[found[0]] = ours
    dataset = dataset.rename(renamed)
    # A description of the CRS that no variable refers to, as SNAP writes it, is one all the same.
    described = [n for n in dataset if not dataset[n].dims and dataset[n].attrs.keys() & CRS_ATTRIBUTES]
    return dataset.set_coords(described)


def layers_in(dataset: xr.Dataset, path: Path) -> dict[str, LazyRaster]:
    """Return what a dataset holds of the Stack, by variable; each variable whole, or each channel one of its own.

    Of the past every day is a layer of its own, ``s2_past_2021-06-20``.

    Raises:
        StackError: naming what does not fit.
    """
    holders = by_variable({str(name): dataset[name] for name in dataset}, str(path))
    layers = {}
    for name, parts in holders.items():
        if name not in PAST:
            layers[name] = _layer(dataset, path, name, parts)
            continue
        for at, day in enumerate(_days(dataset, path)):
            looks = {part: _look(variable, at, day, path) for part, variable in parts.items()}
            layers[f"{name}_{day}"] = _layer(dataset, path, name, looks)
    return layers


def _days(dataset: xr.Dataset, path: Path) -> list[date]:
    """Return the days of the past."""
    try:
        times = xr.decode_cf(dataset[["time"]])["time"].values
    except (KeyError, ValueError):
        times = np.zeros(0)
    if times.dtype.kind != "M" or times.ndim != 1 or np.isnat(times).any():
        raise StackError(f"'{path}' has a past whose coordinate 'time' does not hold dates")
    days = [date.fromisoformat(str(moment)[:10]) for moment in times]
    if twice := [day for day, count in Counter(days).items() if count > 1]:
        raise StackError(f"'{path}' has {twice[0]} twice in its past ('time'); keep one of the two")
    return days


def _look(variable: xr.DataArray, at: int, day: date, path: Path) -> xr.DataArray:
    """Return one day of a variable of the past."""
    if "time" not in variable.dims:
        raise StackError(f"'{path.name}/{variable.name}' has no dimension 'time', so its days are unknown")
    return variable.isel(time=at, drop=True).rename(f"{variable.name} of {day}")


def layer_of(path: Path, name: str, part: str = "") -> LazyRaster:
    """Open a Zarr store or NetCDF file that holds one variable of the Stack: under its name, or its channels alone.

    Args:
        path: the store or file.
        name: the variable of the Stack, or one look of the past.
        part: the channel that it holds, where each has a file of its own.

    Raises:
        StackError: naming what does not fit.
    """
    dataset = open_dataset(path)
    arrays = {str(n): dataset[n] for n in dataset if {"y", "x"} <= set(dataset[n].dims)}
    if not arrays:
        raise StackError(f"'{path}' holds no variable with the dimensions y and x")
    if part and len(arrays) != 1:
        raise StackError(f"'{path}' holds {listed(arrays)}; by its name it should hold {part} alone")
    if part:
        return _layer(dataset, path, name, {part: next(iter(arrays.values()))})
    if name in arrays:
        return _layer(dataset, path, name, {"": arrays[name]})
    if len(arrays) == 1 and _channel_dim(next(iter(arrays.values()))) is not None:
        return _layer(dataset, path, name, {"": next(iter(arrays.values()))})
    if dim_of(name) is None:
        if len(arrays) > 1:
            raise StackError(f"'{path}' holds {listed(arrays)}; a clear-sky score is one variable")
        return _layer(dataset, path, name, {"": next(iter(arrays.values()))})
    parts: dict[str, xr.DataArray] = {}
    for own, array in arrays.items():
        if (part := channel(own)) in parts:
            raise StackError(f"'{path}' holds {part} twice, in {parts[part].name} and {own}; remove one")
        parts[part] = array
    return _layer(dataset, path, name, parts)


def _layer(dataset: xr.Dataset, path: Path, name: str, parts: Mapping[str, xr.DataArray]) -> LazyRaster:
    layers = [north_up(_variable(dataset, path, name, part, variable)) for part, variable in parts.items()]
    return layers[0] if len(layers) == 1 else stacked(layers, f"{path.name}/{name}")


def _variable(dataset: xr.Dataset, path: Path, name: str, part: str, variable: xr.DataArray) -> LazyRaster:
    label = f"{path.name}/{variable.name}"
    dim = _channel_dim(variable)
    if not {"y", "x"} <= set(variable.dims):
        raise StackError(f"'{label}' has dimensions {variable.dims}, expected {(dim_of(name), 'y', 'x')}")
    for other in variable.dims:
        if other in ("y", "x", dim):
            continue
        if variable.sizes[other] != 1:
            raise StackError(f"'{label}' has {variable.sizes[other]} steps along {other}; select one of them")
        variable = variable.isel({other: 0})
    if part or dim_of(name) is None:
        if dim is not None and variable.sizes[dim] != 1:
            raise StackError(f"'{label}' has {variable.sizes[dim]} steps along {dim}, expected one")
        if dim is not None:
            variable, dim = variable.isel({dim: 0}), None
    if variable.dtype.kind == "c":
        raise StackError(f"'{label}' holds complex numbers, as of a single-look product; give backscatter, e.g. in dB")
    if variable.dtype.kind not in "fiu":
        raise StackError(f"'{label}' is {variable.dtype}, expected numbers")
    if part or dim_of(name) is None:
        channels: tuple[str, ...] = (part,) if part else ()
    else:
        channels = _channels(variable, dim, label)
    geobox = grid_of(variable.transpose(..., "y", "x"), dataset.attrs, label)
    attributes = dict(variable.attrs)
    if path.is_file() and "_FillValue" not in attributes:
        # What was never written to a NetCDF file reads as its default fill value; of bytes there is none.
        default = netCDF4.default_fillvals.get(variable.dtype.str[1:])
        if default is not None and variable.dtype.itemsize > 1:
            attributes["_FillValue"] = default
    codings = codings_of(attributes, variable.dtype, max(len(channels), 1), label)
    return variable_layer(variable, codings, label, channels, geobox)


def _channel_dim(variable: xr.DataArray) -> str | None:
    named = [str(dim) for dim in variable.dims if str(dim).lower() in CHANNELS]
    return named[0] if named else None


def _channels(variable: xr.DataArray, dim: str | None, label: str) -> tuple[str, ...]:
    """Return the names of the channels: the coordinate's, or where that counts only, those of ``long_name``."""
    if dim is None:
        name = channel(variable.name)
        raise StackError(
            f"'{label}' does not say which channel it is ({name}); name it s2_t1_B3, or give it a dimension"
        )
    said = variable.attrs.get("long_name")
    names = [said] if isinstance(said, str) else list(said) if said is not None else []
    if dim in variable.coords and (variable[dim].dtype.kind not in "iuf" or len(names) != variable.sizes[dim]):
        names = list(variable[dim].values)
    if len(names) != variable.sizes[dim] or all(isinstance(n, int | float | np.number) for n in names):
        raise StackError(f"'{label}' has no coordinate '{dim}' naming the channels")
    return tuple(map(channel, names))
