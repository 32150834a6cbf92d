"""What a client left behind, as plain arrays in crgen's units, and how two of them differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.gee.fetch.images import FLOOR, SCALE

Planes = dict[str, NDArray[np.float32]]
"""Variable of the Stack → (band, y, x), NaN where missing."""


def of_crgen(out: Path, images: dict[str, Any]) -> Planes:
    """Return the variables of a pulled stack."""
    import crgen

    stack = crgen.open_stack(out / "stack.zarr")
    return {name: stack[name].to_numpy().reshape(-1, *stack[name].shape[-2:]) for name in images}


def _of_tiff(path: Path) -> NDArray[Any]:
    import rasterio

    with rasterio.open(path) as raster:
        values = raster.read(masked=True)
        return np.where(np.ma.getmaskarray(values), np.nan, values.data).astype("f4")


def of_geedim(out: Path, images: dict[str, Any]) -> Planes:
    """Return what GeoTIFFs hold, one of all variables or one of each."""
    if (out / "all.tif").exists():
        counts = [sum(len(names) for _, names, _ in parts) for parts in images.values()]
        pieces = np.split(_of_tiff(out / "all.tif"), np.cumsum(counts)[:-1])
        return _in_units(dict(zip(images, pieces, strict=True)), images)
    return _in_units({name: _of_tiff(out / f"{name}.tif") for name in images}, images)


def of_xee(out: Path, images: dict[str, Any]) -> Planes:
    """Return what Zarr stores hold."""
    import xarray as xr

    planes, taken = {}, dict[str, int]()
    for name, parts in images.items():
        held = []
        for _, bands, _ in parts:
            store = "-".join(bands)
            data = xr.open_zarr(out / f"{store}.zarr")
            held += [data[band].to_numpy()[taken.get(store, 0)] for band in bands]
            taken[store] = taken.get(store, 0) + 1
        planes[name] = np.stack(held)
    return _in_units(planes, images)


def _in_units(planes: Planes, images: dict[str, Any]) -> Planes:
    """Power as dB above the floor that crgen raises it to, digital numbers as reflectance."""
    made = {}
    for name, values in planes.items():
        if name.startswith("s1"):
            pols = [pol for _, names, _ in images[name] for pol in names]
            floor = np.array([10 ** (FLOOR[pol] / 10) for pol in pols])[:, None, None]
            made[name] = (10 * np.log10(np.maximum(values.astype(float), floor))).astype("f4")
        else:
            made[name] = values if name.startswith("clear") else values * SCALE["u2"]
    return made


def left(out: Path) -> str:
    """Say what of the files and stores in a folder opens without complaint, and how much of that is empty."""
    import xarray as xr

    paths, opened = sorted(out.iterdir()), []
    for path in paths:
        try:
            if path.suffix == ".tif":
                opened.append(_of_tiff(path))
            else:
                opened += [data.to_numpy() for data in xr.open_zarr(path).data_vars.values()]
        except Exception:  # whatever a reader says of half a file
            continue
    if not opened:
        return f"left {len(paths)} files or stores, none of which opens"
    empty = sum(int(np.isnan(values).sum()) for values in opened) / sum(values.size for values in opened)
    return f"left {len(paths)} files or stores; what opens is {empty:.0%} empty"


def different(one: Planes, other: Planes) -> str:
    """Say in which variables two results differ, and in how many pixels; empty if they are equal.

    Radar counts as equal to .001 dB, which rounding to float32 before or after the logarithm explains.
    """
    told = []
    for name, values in one.items():
        tolerance = 1e-3 if name.startswith("s1") else 0.0
        missing = np.isnan(values) != np.isnan(other[name])
        off = np.abs(np.nan_to_num(values) - np.nan_to_num(other[name])) > tolerance
        if missing.any():
            told.append(f"{name}: {missing.mean():.2%} of values missing in one alone")
        if (off := off & ~missing).any():
            most = np.abs(values - other[name])[off].max()
            told.append(f"{name}: {off.mean():.2%} of values differ, by up to {most:.3g}")
    return "; ".join(told)
