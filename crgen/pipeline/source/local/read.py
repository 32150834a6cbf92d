"""The local source: a Stack from a Zarr store, a NetCDF file, or a folder of GeoTIFFs."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from crgen.errors import StackError
from crgen.pipeline.source.local.lazy_raster import (
    READ_ERRORS,
    Layer,
    linear_to_db,
    placed,
    scaled,
    tiff_layer,
    to_dask,
    variable_layer,
)
from crgen.pipeline.source.stack import (
    CALIBRATED,
    CHANNEL_DIM,
    PAST,
    REQUIRED,
    build_stack,
    channel_of,
    dims_of,
    is_calibrated,
    stack_geobox,
)

MANIFEST = "manifest.json"
NETCDF_SUFFIXES = (".nc", ".nc4", ".cdf", ".netcdf", ".h5")
SAMPLE = 256


def open_stack(
    path: str | Path,
    *,
    t1: date | str | None = None,
    t2: date | str | None = None,
    s1_units: Literal["dB", "linear"] = "dB",
    s2_scale: float = 1.0,
    geobox: GeoBox | None = None,
    chunk: int = 1024,
) -> xr.Dataset:
    """Open imagery on disk as a Stack, reading only a few small blocks to check its units.

    A folder of GeoTIFFs holds ``s1_t1.tif``, ``s2_t1.tif``, ``s1_t2.tif`` and, where there are,
    ``s2_t2.tif``, ``clear_t1.tif``, ``clear_t2.tif``, ``truth_t2.tif``, all on one grid; band descriptions
    name the channels (``VV``, ``B3``; ``B03`` is understood). Zarr and NetCDF hold the variables and
    coordinates of the Stack. Integers become float32, nodata and infinities NaN. Where the level of the backscatter
    means nothing, ``"s1_calibrated": false`` in the folder's ``manifest.json`` says so, or the attribute
    ``s1_calibrated`` = 0 of the Zarr store or NetCDF file.

    Other looks at the place, if there are any, are ``s2_past_YYYY-MM-DD.tif`` and ``clear_past_YYYY-MM-DD.tif``, and
    ``s1_past_YYYY-MM-DD.tif`` of the same or other days: each Sentinel-2 goes with the Sentinel-1 nearest to it. Zarr
    and NetCDF hold them with a dimension ``time``.

    The grid is the files' own. Whether to leave it is the caller's decision, made by passing ``geobox``: on
    the same lattice the stack is cropped or padded with NaN, pixels untouched; otherwise it is resampled
    bilinearly.

    Args:
        path: the Zarr store, NetCDF file or folder.
        t1: date of the first pair of images; must agree with the stored manifest where that names one.
        t2: date of the second.
        s1_units: unit of the stored backscatter; ``"linear"`` power is turned into dB.
        s2_scale: factor from stored values to reflectance, e.g. 1e-4.
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
    if _is_zarr(path) or path.suffix.lower() in NETCDF_SUFFIXES:
        layers, past, stored, calibrated = _open_xarray(path)
    elif path.is_dir():
        layers, past, stored = _open_folder(path)
        calibrated = is_calibrated(stored)
        stored.pop(CALIBRATED, None)
    else:
        raise StackError(f"'{path}' is not a stack: give a Zarr store, a NetCDF file or a folder of GeoTIFFs")
    manifest: dict[str, Any] = {"source": "local", "path": path.resolve().name}
    for name, asked in (("t1", t1), ("t2", t2)):
        if value := _date(path, name, asked, stored):
            manifest[name] = value
    if stored:
        manifest["stored"] = stored
    for name, layer in layers.items():
        layers[name] = _in_stack_units(layer, name, path, s1_units, s2_scale)
    past = [
        look._replace(
            layers={n: _in_stack_units(layer, n, path, s1_units, s2_scale) for n, layer in look.layers.items()}
        )
        for look in past
    ]
    if geobox is not None:
        own = layers["s1_t1"].geobox
        if not own.geographic_extent.intersects(geobox.geographic_extent):
            raise StackError(f"'{path}' lies elsewhere: it covers {_bounds(own)}, the area is {_bounds(geobox)}")
        layers = {name: placed(layer, geobox) for name, layer in layers.items()}
        past = [look._replace(layers={n: placed(layer, geobox) for n, layer in look.layers.items()}) for look in past]
    arrays = {name: to_dask(layer, chunk) for name, layer in layers.items()}
    for name in PAST:
        if any(name in look.layers for look in past):
            arrays[name] = da.stack([_look(look, name, layers, chunk) for look in past])  # type: ignore[no-untyped-call]
    return build_stack(
        layers["s1_t1"].geobox,
        arrays,
        pols=layers["s1_t1"].channels,
        bands=layers["s2_t1"].channels,
        manifest=manifest,
        calibrated=calibrated,
        times=[look.day for look in past],
    )


class _Look(NamedTuple):
    """An earlier look at the place."""

    day: date
    layers: dict[str, Layer]
    """By variable of the Stack, as far as there are any."""


def _look(look: _Look, name: str, layers: Mapping[str, Layer], chunk: int) -> da.Array:
    """Return a variable of one date with the channels of the Stack's own dates, NaN where it has none."""
    peer = layers["s1_t1" if PAST[name] == "pol" else "s2_t1"]
    wanted = peer.channels if PAST[name] else ()
    layer = look.layers.get(name)
    if layer is not None and layer.channels == wanted:
        return to_dask(layer, chunk)
    shape = (*((len(wanted),) if wanted else ()), *peer.geobox.shape)
    chunks = (*((len(wanted),) if wanted else ()), chunk, chunk)
    missing: da.Array = da.full(shape, np.nan, dtype=np.float32, chunks=chunks)  # type: ignore[no-untyped-call]
    if layer is None:
        return missing
    held = to_dask(layer, chunk)
    planes = [held[layer.channels.index(c)] if c in layer.channels else missing[i] for i, c in enumerate(wanted)]
    stacked: da.Array = da.stack(planes).rechunk({0: -1})  # type: ignore[no-untyped-call]
    return stacked


def _is_zarr(path: Path) -> bool:
    return any((path / name).exists() for name in (".zgroup", "zarr.json", ".zmetadata"))


def _open_folder(path: Path) -> tuple[dict[str, Layer], list[_Look], dict[str, Any]]:
    files = {p.stem: p for p in sorted(path.iterdir()) if p.suffix.lower() in (".tif", ".tiff")}
    missing = [f"{name}.tif" for name in REQUIRED if name not in files]
    if missing:
        held = ", ".join(p.name for p in files.values()) or "no GeoTIFF"
        raise StackError(f"folder '{path}' lacks {', '.join(missing)}; it holds {held}")
    layers = {name: _open_tiff(files[name], name) for name in CHANNEL_DIM if name in files}
    first = layers["s1_t1"]
    for name, layer in layers.items():
        if difference := _grid_difference(first.geobox, layer.geobox):
            raise StackError(f"'{path}': {first.label} and {layer.label} are on different grids: {difference}")
        dim = CHANNEL_DIM[name]
        peer = layers["s1_t1" if dim == "pol" else "s2_t1"]
        if dim and layer.channels != peer.channels:
            raise StackError(
                f"'{path}': {peer.label} holds {', '.join(peer.channels)} but {layer.label} holds "
                f"{', '.join(layer.channels)}; give both the same bands in the same order"
            )
    return layers, _past_in(path, files, first), _stored_manifest(path)


def _past_in(path: Path, files: Mapping[str, Path], first: Layer) -> list[_Look]:
    """Return the earlier looks in a folder, in order of time."""
    found: dict[str, dict[date, Layer]] = {name: {} for name in PAST}
    for stem, file in files.items():
        name = next((name for name in PAST if stem.startswith(f"{name}_")), None)
        if name is None:
            continue
        try:
            day = date.fromisoformat(stem.removeprefix(f"{name}_"))
        except ValueError:
            raise StackError(f"'{file}' does not say its day: name it {name}_YYYY-MM-DD{file.suffix}") from None
        layer = found[name][day] = _open_tiff(file, name)
        if difference := _grid_difference(first.geobox, layer.geobox):
            raise StackError(f"'{path}': {first.label} and {layer.label} are on different grids: {difference}")
    radar = found["s1_past"]
    looks = []
    for day, optical in sorted(found["s2_past"].items()):
        layers = {"s2_past": optical}
        if day in found["clear_past"]:
            layers["clear_past"] = found["clear_past"][day]
        if radar:
            layers["s1_past"] = radar[min(sorted(radar), key=lambda other: abs(other - day))]
        looks.append(_Look(day, layers))
    return looks


def _stored_manifest(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        stored = json.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError):
        raise StackError(f"'{file}' is not readable JSON; remove it or write it again") from None
    return stored if isinstance(stored, dict) else {}


def _open_tiff(path: Path, name: str) -> Layer:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                geobox, descriptions = GeoBox.from_rio(file), file.descriptions
    except READ_ERRORS as exc:
        raise StackError(f"'{path}' cannot be opened as a GeoTIFF ({exc}); copy it again") from None
    if geobox.crs is None:
        raise StackError(f"'{path}' has no CRS; set it, e.g. with gdal_edit -a_srs EPSG:32649")
    geobox = _with_short_crs(geobox)
    if channel_of(name) is None:
        if len(descriptions) != 1:
            raise StackError(f"'{path}' has {len(descriptions)} bands; a clear-sky score has one")
        return tiff_layer(path, (), geobox)
    if not all(descriptions):
        example = "VV, VH" if channel_of(name) == "pol" else "B2, B3, B4"
        raise StackError(f"'{path}' does not say what its bands are; set band descriptions ({example})")
    return tiff_layer(path, tuple(map(_channel, descriptions)), geobox)


def _open_xarray(path: Path) -> tuple[dict[str, Layer], list[_Look], dict[str, Any], bool]:
    """Return the layers, the earlier looks, the manifest, and whether backscatter is calibrated."""
    engine = "zarr" if path.is_dir() else "netcdf4"
    try:
        # Without chunks: the layers read windows straight from the store.
        dataset = xr.open_dataset(path, engine=engine, decode_coords="all", chunks=None, cache=False)
    except (*READ_ERRORS, KeyError, TypeError) as exc:
        reason = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        raise StackError(f"'{path}' cannot be opened ({reason}); is it complete? copy it again") from None
    missing = [name for name in REQUIRED if name not in dataset]
    if missing:
        raise StackError(f"'{path}' lacks the variables {', '.join(missing)}; it holds {', '.join(map(str, dataset))}")
    geobox = _with_short_crs(stack_geobox(dataset[["s1_t1"]]))
    layers = {}
    past: dict[date, dict[str, Layer]] = {}
    for name in (n for n in (*CHANNEL_DIM, *PAST) if n in dataset):
        dim, dims = channel_of(name), dims_of(name)
        variable, label = dataset[name], f"{path.name}/{name}"
        if variable.dims != dims:
            raise StackError(f"'{label}' has dimensions {variable.dims}, expected {dims}")
        if variable.dtype.kind not in "fiu":
            raise StackError(f"'{label}' is {variable.dtype}, expected numbers")
        if dim and dim not in dataset.coords:
            raise StackError(f"'{path}' has no coordinate '{dim}' naming the channels")
        channels = tuple(map(_channel, dataset[dim].values)) if dim else ()
        if name not in PAST:
            layers[name] = variable_layer(variable, label, channels, geobox)
            continue
        for at, day in enumerate(_days_of(dataset, path)):
            shown = f"{label} of {day}"
            past.setdefault(day, {})[name] = variable_layer(variable.isel(time=at), shown, channels, geobox)
    try:
        stored = json.loads(dataset.attrs.get("manifest", "{}"))
    except (TypeError, ValueError):
        raise StackError(f"'{path}' has a manifest that is not JSON; remove or rewrite that attribute") from None
    looks = [_Look(day, held) for day, held in sorted(past.items()) if "s2_past" in held]
    return layers, looks, stored, is_calibrated(dataset.attrs)


def _days_of(dataset: xr.Dataset, path: Path) -> list[date]:
    times = dataset["time"].values if "time" in dataset.coords else np.zeros(0)
    if times.dtype.kind != "M" or np.isnat(times).any():
        raise StackError(f"'{path}' has a past whose coordinate 'time' does not hold dates")
    days = [date.fromisoformat(str(moment)[:10]) for moment in times]
    if twice := [day for day, count in Counter(days).items() if count > 1]:
        raise StackError(f"'{path}' has {twice[0]} twice in its past ('time'); keep one of the two")
    return days


def _with_short_crs(geobox: GeoBox) -> GeoBox:
    """Name the CRS by its EPSG code where it has one, as areas do, instead of by the file's text."""
    epsg = geobox.crs.epsg if geobox.crs else None
    return GeoBox(geobox.shape, geobox.affine, f"EPSG:{epsg}") if epsg else geobox


def _channel(name: Any) -> str:
    """Return the Stack's name of a channel: ``vv`` is ``VV``, ``B03`` is ``B3``."""
    return re.sub(r"^B0(?=\d)", "B", str(name).strip().upper())


def _date(path: Path, name: str, asked: date | str | None, stored: Mapping[str, Any]) -> str | None:
    held = str(stored[name])[:10] if stored.get(name) else None
    if asked is not None and held is not None and str(asked)[:10] != held:
        raise StackError(f"'{path}' has {name} = {held} but {asked} was asked for; leave --{name} out or change it")
    return str(asked)[:10] if asked is not None else held


def _grid_difference(a: GeoBox, b: GeoBox) -> str | None:
    if a.crs != b.crs:
        return f"CRS {a.crs} and {b.crs}"
    if a.shape != b.shape:
        return f"{a.shape.x} × {a.shape.y} and {b.shape.x} × {b.shape.y} pixels"
    apart = np.abs(np.subtract(a.affine[:6], b.affine[:6])) / abs(a.affine.a)
    if apart[[2, 5]].max() > 0.01 or apart[[0, 1, 3, 4]].max() * max(a.shape) > 0.01:
        return f"transforms {tuple(a.affine[:6])} and {tuple(b.affine[:6])}"
    return None


def _bounds(geobox: GeoBox) -> str:
    west, south, east, north = geobox.geographic_extent.boundingbox
    return f"{west:.4f},{south:.4f},{east:.4f},{north:.4f}"


def _in_stack_units(layer: Layer, name: str, path: Path, s1_units: str, s2_scale: float) -> Layer:
    """Convert a layer to the Stack's units, or refuse it if a sample of its values contradicts them."""
    where = f"'{path}': {layer.label if name in PAST else name}"
    channel = channel_of(name)
    if channel == "pol" and s1_units == "linear":
        sample = _sample(layer)
        if sample.size and sample.min() < 0:
            raise StackError(f"{where} holds negative values, so it is not linear power; leave --s1-units out")
        return linear_to_db(layer)
    if channel == "band" and s2_scale != 1.0:
        layer = scaled(layer, s2_scale)
    sample = _sample(layer)
    if sample.size:
        problem = _unit_problem(channel, sample, s2_scale)
        if problem:
            raise StackError(f"{where} {problem}")
    return layer


def _unit_problem(dim: str | None, sample: NDArray[np.float32], s2_scale: float) -> str | None:
    low, middle, high = (float(v) for v in np.percentile(sample, (0, 50, 100)))
    span = f"values {low:.4g} to {high:.4g}, median {middle:.4g}"
    if dim is None:
        return f"should be a score from 0 to 1 ({span}); scale it" if low < -0.01 or high > 1.01 else None
    if dim == "pol":
        if low < -200:
            return f"holds an undeclared nodata value ({span}); set it, e.g. with gdal_edit -a_nodata {low:g}"
        if low >= 0 and middle < 5:
            return f"looks like linear power ({span}), pass --s1-units linear"
        if low >= 0 or not -45 < middle < 10:
            return f"does not look like backscatter in dB ({span}); calibrate it and convert it to dB"
        return None
    bright = float(np.percentile(sample, 75))
    if low < -2:
        return f"holds an undeclared nodata value ({span}); set it, e.g. with gdal_edit -a_nodata {low:g}"
    if bright > 2 or high > 100:
        scale = "1e-4" if high > 255 else "0.0039 (1/255)"
        return f"looks like DN ({span}), pass --s2-scale {scale}"
    if s2_scale != 1.0 and high < 1e-3:
        return f"is nearly black at --s2-scale {s2_scale:g} ({span}); leave the option out or correct it"
    return None


def _sample(layer: Layer) -> NDArray[np.float32]:
    """Return the valid values of the first small block that has any; empty if none of nine has."""
    for rows, columns in _sample_windows(layer.geobox):
        pixels = layer.read(rows, columns)
        if np.isfinite(pixels).any():
            return pixels[np.isfinite(pixels)]
    return np.empty(0, np.float32)


def _sample_windows(geobox: GeoBox) -> Iterator[tuple[slice, slice]]:
    """Yield blocks at the centre, then on a 3 × 3 raster over the grid."""
    height, width = geobox.shape
    for down in (0.5, 0.1, 0.9):
        for right in (0.5, 0.1, 0.9):
            top, left = (max(int(n * share) - SAMPLE // 2, 0) for n, share in ((height, down), (width, right)))
            yield slice(top, min(top + SAMPLE, height)), slice(left, min(left + SAMPLE, width))
