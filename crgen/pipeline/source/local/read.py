"""The local source: a Stack from a Zarr store, a NetCDF file, or a folder of files, one or more a variable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from crgen.errors import StackError
from crgen.pipeline.source.ground import meets
from crgen.pipeline.source.local import dataset, tiff
from crgen.pipeline.source.local.grid import difference
from crgen.pipeline.source.local.lazy_raster import LazyRaster, in_order, placed, stacked, to_dask
from crgen.pipeline.source.local.names import by_variable, dim_of, listed, of_day
from crgen.pipeline.source.local.units import in_stack_units
from crgen.pipeline.source.stack import CALIBRATED, CHANNEL_DIM, PAST, build_stack, is_calibrated, lacking

MANIFEST = "manifest.json"


def open_stack(
    path: str | Path,
    *,
    t1: date | str | None = None,
    t2: date | str | None = None,
    s1_units: Literal["dB", "linear"] = "dB",
    s2_scale: float = 1.0,
    s2_offset: float = 0.0,
    geobox: GeoBox | None = None,
    chunk: int = 1024,
) -> xr.Dataset:
    """Open imagery on disk as a Stack, reading only a few small blocks to check its units.

    A folder holds ``s1_t1.tif``, ``s2_t1.tif``, ``s1_t2.tif`` and, where there are, ``s2_t2.tif``, ``clear_t1.tif``,
    ``clear_t2.tif``, ``truth_t2.tif``, all on one grid, or NetCDF files and Zarr stores named so; or a file for each
    channel (``s2_t1_B03.tif``). Band descriptions name the channels: ``VV``, ``B3``, or as SNAP, odc-stac, Copernicus
    and STAC catalogues call them (``Sigma0_VV_db``, ``B03``, ``red``). A Zarr store or NetCDF file holds the variables
    of the Stack, each with its channels along a dimension, or ``s2_t1_B3``, … with dimensions in any order, and others
    of one step. Where the level of the backscatter means nothing, ``"s1_calibrated": false`` in the folder's
    ``manifest.json`` says so, or the attribute ``s1_calibrated`` = 0 of the Zarr store or NetCDF file.

    Stored numbers are read as the files state: scale, offset, values for "none", valid range, mask and alpha band. What
    cannot be a measurement is missing (NaN) though nobody says so: infinities, the ends of integer types, optical
    pixels of 0 in every band, regions of radar of exactly 0 dB, values that no measurement reaches.

    Other looks at the place, if there are any, are ``s2_past_YYYY-MM-DD.tif`` and ``clear_past_YYYY-MM-DD.tif``, and
    ``s1_past_YYYY-MM-DD.tif`` of the same or other days: each Sentinel-2 goes with the Sentinel-1 nearest to it. Zarr
    and NetCDF hold them as ``s2_past``, … with a dimension ``time``.

    Of one date alone, ``s1_t2`` is enough: no map can be made of it.

    The grid is the files' own. Whether to leave it is the caller's decision, made by passing ``geobox``: on
    the same lattice the stack is cropped or padded with NaN, pixels untouched; otherwise it is resampled
    bilinearly.

    Args:
        path: the Zarr store, NetCDF file or folder.
        t1: date of the first pair of images; must agree with the stored manifest where that names one.
        t2: date of the second.
        s1_units: unit of the stored backscatter; ``"linear"`` power is turned into dB.
        s2_scale: factor from the values, as the files state them, to reflectance, e.g. 1e-4.
        s2_offset: added after that, e.g. -0.1 for digital numbers of processing baseline 04.00 and later.
        geobox: the grid to bring the stack onto.
        chunk: edge of the dask chunks in pixels.

    Returns:
        A validated Stack. Its manifest holds ``source``, ``path``, the dates where known, and what was
        stored with the files as ``stored``.

    Raises:
        StackError: if the files are missing, damaged, not on one grid, or in other units than named.
            Damage beyond the sampled blocks is raised by the computation that meets it.
    """
    path = Path(path)
    if not path.exists():
        raise StackError(f"there is no stack at '{path}'")
    if dataset.is_zarr(path) or path.suffix.lower() in dataset.SUFFIXES:
        layers, stored, calibrated = _open_dataset(path)
    elif path.is_dir():
        layers, stored = _open_folder(path), _stored_manifest(path)
        calibrated = is_calibrated(stored)
        stored.pop(CALIBRATED, None)
    else:
        raise StackError(f"'{path}' is not a stack: give a Zarr store, a NetCDF file or a folder of GeoTIFFs")
    layers = _of_one_kind(layers, path)
    manifest: dict[str, Any] = {"source": "local", "path": path.resolve().name}
    for name, asked in (("t1", t1), ("t2", t2)):
        if value := _date(path, name, asked, stored):
            manifest[name] = value
    if stored:
        manifest["stored"] = stored
    for name, layer in layers.items():
        layers[name] = in_stack_units(
            layer,
            name,
            path,
            s1_units=s1_units,
            s2_scale=s2_scale,
            s2_offset=s2_offset,
            undeclared=stored.get("source") != "gee",  # what was pulled says all that is missing
        )
    if geobox is not None:
        own = _of_dim(layers, "pol")[0].geobox
        if not meets(own, geobox):
            raise StackError(f"'{path}' lies elsewhere: it covers {_bounds(own)}, the area is {_bounds(geobox)}")
        layers = {name: placed(layer, geobox) for name, layer in layers.items()}
    past, days = _past(layers, chunk)
    radar, optical = (_of_dim(layers, dim) for dim in ("pol", "band"))
    return build_stack(
        radar[0].geobox,
        {name: to_dask(layers[name], chunk) for name in CHANNEL_DIM if name in layers} | past,
        pols=radar[0].channels,
        bands=optical[0].channels if optical else (),
        manifest=manifest,
        calibrated=calibrated,
        times=days,
    )


def _past(layers: Mapping[str, LazyRaster], chunk: int) -> tuple[dict[str, da.Array], list[date]]:
    """Return the variables of the past, each day of Sentinel-2 with the Sentinel-1 nearest to it, and these days."""
    held: dict[str, dict[date, da.Array]] = {name: {} for name in PAST}
    for name, layer in layers.items():
        variable, day = of_day(name)
        if day is not None:
            held[variable][day] = to_dask(layer, chunk)
    days, radar = sorted(held["s2_past"]), sorted(held["s1_past"])
    missing: da.Array = da.full(  # type: ignore[no-untyped-call]
        tuple(_of_dim(layers, "pol")[0].geobox.shape), np.nan, dtype=np.float32, chunks=(chunk, chunk)
    )
    looks: dict[str, list[da.Array]] = {"s2_past": [held["s2_past"][day] for day in days]}
    if radar:
        looks["s1_past"] = [held["s1_past"][min(radar, key=lambda other: abs(other - day))] for day in days]
    if held["clear_past"]:
        looks["clear_past"] = [held["clear_past"].get(day, missing) for day in days]
    return {name: da.stack(one) for name, one in looks.items() if one}, days  # type: ignore[no-untyped-call]


def _open_folder(path: Path) -> dict[str, LazyRaster]:
    suffixes = (*tiff.SUFFIXES, *dataset.SUFFIXES)
    files = {p.name: p for p in sorted(path.iterdir()) if p.suffix.lower() in suffixes or dataset.is_zarr(p)}
    held = by_variable({name: files[name] for name in files}, str(path), stem=True)
    if missing := lacking(held):
        holds = listed(files) or "no GeoTIFF"
        raise StackError(f"folder '{path}' lacks {', '.join(f'{name}.tif' for name in missing)}; it holds {holds}")
    layers = {}
    for name in held:
        variable, day = of_day(name)
        if variable in PAST and day is None:
            file = next(iter(held[name].values()))
            raise StackError(f"'{file}' does not say its day: name it {variable}_YYYY-MM-DD{file.suffix}")
        parts = [
            tiff.open_tiff(file, name, part)
            if file.suffix.lower() in tiff.SUFFIXES
            else dataset.layer_of(file, name, part)
            for part, file in held[name].items()
        ]
        for part in parts[1:]:
            _check_same_grid(parts[0], part, path)
        layers[name] = parts[0] if len(parts) == 1 else stacked(parts, f"{name}_*")
    return layers


def _open_dataset(path: Path) -> tuple[dict[str, LazyRaster], dict[str, Any], bool]:
    """Return the layers, the manifest, and whether backscatter is calibrated."""
    opened = dataset.open_dataset(path)
    layers = dataset.layers_in(opened, path)
    if missing := lacking(layers):
        raise StackError(f"'{path}' lacks the variables {', '.join(missing)}; it holds {listed(map(str, opened))}")
    try:
        stored = json.loads(opened.attrs.get("manifest", "{}"))
    except (TypeError, ValueError):
        raise StackError(f"'{path}' has a manifest that is not JSON; remove or rewrite that attribute") from None
    return layers, stored if isinstance(stored, dict) else {}, is_calibrated(opened.attrs)


def _of_dim(layers: Mapping[str, LazyRaster], dim: str) -> list[LazyRaster]:
    """Return the layers with channels of a kind; the first decides on the order of the others' channels."""
    names = [*(name for name in CHANNEL_DIM if name in layers), *layers]
    return [layers[name] for name in names if dim_of(name) == dim]


def _of_one_kind(layers: Mapping[str, LazyRaster], path: Path) -> dict[str, LazyRaster]:
    """Return the layers, those of a kind with their channels in the same order.

    Those of the past may lack channels.

    Raises:
        StackError: naming two that are not on one grid, or do not hold the same channels.
    """
    held = {}
    for name, layer in layers.items():
        _check_same_grid(_of_dim(layers, "pol")[0], layer, path)
        dim = dim_of(name)
        peer = _of_dim(layers, dim)[0] if dim else layer
        if name in CHANNEL_DIM and sorted(layer.channels) != sorted(peer.channels):
            raise StackError(
                f"'{path}': {peer.label} holds {', '.join(peer.channels)} but {layer.label} holds "
                f"{', '.join(layer.channels)}; give both the same bands"
            )
        held[name] = layer if layer.channels == peer.channels or not dim else in_order(layer, peer.channels)
    return held


def _check_same_grid(a: LazyRaster, b: LazyRaster, path: Path) -> None:
    if apart := difference(a.geobox, b.geobox):
        raise StackError(f"'{path}': {a.label} and {b.label} are on different grids: {apart}")


def _stored_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        stored = json.loads(file.read_text("utf-8-sig")) if file.exists() else {}
    except (OSError, ValueError):
        raise StackError(f"'{file}' is not readable JSON; remove it or write it again") from None
    return stored if isinstance(stored, dict) else {}


def _date(path: Path, name: str, asked: date | str | None, stored: Mapping[str, Any]) -> str | None:
    held = str(stored[name])[:10] if stored.get(name) else None
    try:
        held = held and date.fromisoformat(held).isoformat()
    except ValueError:
        raise StackError(f"'{path}' has a manifest whose {name} is no date ({held}); write it as YYYY-MM-DD") from None
    if asked is not None and held is not None and str(asked)[:10] != held:
        raise StackError(f"'{path}' has {name} = {held} but {asked} was asked for; leave --{name} out or change it")
    return str(asked)[:10] if asked is not None else held


def _bounds(geobox: GeoBox) -> str:
    west, south, east, north = geobox.geographic_extent.boundingbox
    return f"{west:.4f},{south:.4f},{east:.4f},{north:.4f}"
