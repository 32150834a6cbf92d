"""Where an array lies: from coordinates, and from what is stated beside them, which must agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError

from crgen.errors import StackError
from crgen.pipeline.source.ground import crs_name

TOLERANCE = 0.01
"""Pixels by which places that should agree may differ, beside the rounding of how they are stored."""


def grid_of(variable: xr.DataArray, attributes: Mapping[str, Any], label: str) -> GeoBox:
    """Return the grid of a variable with dimensions ``y`` and ``x``, as it is stored: any row order, any pixel shape.

    Args:
        variable: with its coordinates; those hold the pixels' centres.
        attributes: of the whole file.
        label: how messages name the variable.

    Raises:
        StackError: if it is on no grid, its coordinates are not evenly spaced, or what is stated contradicts them.
    """
    stated = list(_transforms(variable, attributes, label))
    axes = [_axis(variable, dim, label) for dim in ("x", "y")]
    placed = next((transform for _, transform in stated), None)
    if placed is not None and (placed.b or placed.d):
        raise StackError(f"'{label}' is rotated, not north-up (transform {tuple(placed)[:6]}); warp it first")
    (x, width), (y, height) = (
        axis if axis is not None else _stated_axis(placed, dim, label)
        for dim, axis in zip(("x", "y"), axes, strict=True)
    )
    if not (width and height) and placed is None:
        raise StackError(f"'{label}' has one pixel along an axis and states no transform, so their size is unknown")
    if placed is not None:
        width, height = width or placed.a, height or placed.e
    transform = Affine(width, 0, x - width / 2, 0, height, y - height / 2)
    for name, other in stated:
        if difference := _apart(variable, transform, other):
            raise StackError(
                f"'{label}' lies in two places: its coordinates and its stated transform ({name}) are {difference}; "
                "correct one, e.g. with rioxarray's write_transform, or remove the transform"
            )
    # What is stated is exact where coordinates are rounded; it may have been stated for the other order of rows.
    same = (t for _, t in stated if t.a * transform.a > 0 and t.e * transform.e > 0)
    shape = variable.sizes["y"], variable.sizes["x"]
    return with_short_crs(GeoBox(shape, next(same, transform), _crs(variable, attributes, label)))


def with_short_crs(geobox: GeoBox) -> GeoBox:
    """Name the CRS by its EPSG code where it has one, as areas do, instead of by the file's text."""
    epsg = geobox.crs.epsg if geobox.crs else None
    return GeoBox(geobox.shape, geobox.affine, f"EPSG:{epsg}") if epsg else geobox


def axis_aligned(geobox: GeoBox, label: str) -> GeoBox:
    """Return a grid that is not rotated.

    Raises:
        StackError: if it is.
    """
    a = geobox.affine
    if a.b or a.d:
        raise StackError(
            f"'{label}' is rotated, not north-up (transform {tuple(a)[:6]}); warp it first, e.g. with gdalwarp"
        )
    return geobox


def _axis(variable: xr.DataArray, dim: str, label: str) -> tuple[float, float] | None:
    """Return the first coordinate and the step (0 of one pixel); None without coordinates."""
    if dim not in variable.coords:
        return None
    stored = variable[dim].values
    try:
        packed = variable[dim].attrs
        values = stored.astype(np.float64) * packed.get("scale_factor", 1) + packed.get("add_offset", 0)
    except (TypeError, ValueError):
        raise StackError(f"'{label}': the coordinate {dim} is not numbers; write the pixels' centres") from None
    if not np.isfinite(values).all():
        raise StackError(f"'{label}': the coordinate {dim} has values that are not finite; write the pixels' centres")
    if len(values) < 2:
        return float(values[0]), 0.0
    rounding = float(np.finfo(stored.dtype).eps * np.abs(values).max()) if stored.dtype.kind == "f" else 0.0
    steps = np.diff(values)
    usual = float(np.median(steps))
    step = float((values[-1] - values[0]) / (len(values) - 1))
    uneven = np.abs(steps - usual) > TOLERANCE * abs(usual) + 2 * rounding
    if uneven.any() or not usual:
        at = int(np.argmax(uneven))
        raise StackError(
            f"'{label}': the coordinate {dim} is not even: steps of {usual:.10g}, but {steps[at]:.10g} from "
            f"number {at} ({values[at]:.10g}) to {at + 1} ({values[at + 1]:.10g}); reindex it on a full grid, "
            "missing pixels NaN"
        )
    drift = np.abs(values - (values[0] + step * np.arange(len(values))))
    if drift.max() > TOLERANCE * abs(step) + 2 * rounding:
        at = int(drift.argmax())
        raise StackError(
            f"'{label}': the coordinate {dim} is not even: its steps go from {steps.min():.10g} to {steps.max():.10g}, "
            f"so that number {at} stands {drift[at]:.4g} off; resample it on an even grid"
        )
    return float(values[0]), step


def _stated_axis(stated: Affine | None, dim: str, label: str) -> tuple[float, float]:
    """Return the first pixel's centre and the step along a dimension without coordinates."""
    if stated is None:
        raise StackError(
            f"'{label}' is on no grid: it has no coordinate {dim} of one dimension, and no transform is stated; "
            "give each row and column the place of its centre"
        )
    step, corner = (stated.a, stated.c) if dim == "x" else (stated.e, stated.f)
    return corner + step / 2, step


def _transforms(variable: xr.DataArray, attributes: Mapping[str, Any], label: str) -> Iterator[tuple[str, Affine]]:
    """Yield what is stated of the transform, and where."""
    places = [(name, coord.attrs) for name, coord in variable.coords.items() if not coord.dims]
    for where, held in (*places, ("the variable", variable.attrs), ("the file", attributes)):
        for key in ("GeoTransform", "transform", "i2m"):
            if key not in held:
                continue
            numbers = _six(held[key])
            if numbers is None:
                raise StackError(
                    f"'{label}': {key} of {where} is not six numbers ({held[key]!r}); correct or remove it"
                )
            a, b, c, d, e, f = numbers
            if key == "GeoTransform":  # of GDAL
                yield f"{key} of {where}", Affine.from_gdal(a, b, c, d, e, f)
            elif key == "transform":  # of rasterio and stackstac
                yield f"{key} of {where}", Affine(a, b, c, d, e, f)
            else:  # of SNAP
                yield f"{key} of {where}", Affine(a, c, e, b, d, f)


def _six(value: Any) -> list[float] | None:
    try:
        parts = value.replace(",", " ").split() if isinstance(value, str) else list(value)
        numbers = [float(part) for part in parts]
    except (TypeError, ValueError):
        return None
    return numbers[:6] if len(numbers) in (6, 9) and all(map(math.isfinite, numbers)) else None


def _apart(variable: xr.DataArray, ours: Affine, stated: Affine) -> str | None:
    """Say how far two transforms are apart at the grid's corners, in either order of rows and columns."""
    if stated.b or stated.d:
        return "not both north-up"
    for dim, a, b in (
        ("columns", (ours.c, ours.a), (stated.c, stated.a)),
        ("rows", (ours.f, ours.e), (stated.f, stated.e)),
    ):
        size = variable.sizes["x" if dim == "columns" else "y"]
        ends = [np.sort([corner, corner + step * size]) for corner, step in (a, b)]
        stored = variable.coords.get("x" if dim == "columns" else "y")
        kind = stored.dtype if stored is not None and stored.dtype.kind == "f" else np.dtype(np.float64)
        rounding = 4 * float(np.finfo(kind).eps) * float(np.abs(ends[0]).max())
        off = float(np.abs(ends[0] - ends[1]).max())
        if off > TOLERANCE * abs(a[1]) + rounding:
            pixels = off / abs(a[1])
            hint = " (are the coordinates pixels' corners?)" if abs(pixels - 0.5) < 2 * TOLERANCE else ""
            return f"{pixels:.4g} {dim} apart{hint}"
    return None


def _crs(variable: xr.DataArray, attributes: Mapping[str, Any], label: str) -> str:
    """Return the one CRS that is stated, in GDAL's words or by its EPSG code.

    Raises:
        StackError: if there is none, or there are two.
    """
    found: dict[str, CRS] = {}
    for where, value in _crs_statements(variable, attributes):
        try:
            found[where] = CRS.from_cf(value) if isinstance(value, dict) else CRS.from_user_input(value)
        except (CRSError, KeyError):
            said = value["grid_mapping_name"] if isinstance(value, dict) else value
            raise StackError(
                f"'{label}': the CRS of {where} is none that PROJ knows, or incomplete ({str(said)[:60]}); correct it"
            ) from None
    if not found:
        raise StackError(f"'{label}' states no CRS; write it, e.g. with rioxarray's write_crs")
    first, *others = found.items()
    for where, crs in others:
        if not same_crs(first[1], crs):
            raise StackError(
                f"'{label}' states two CRSs: {crs_name(first[1])} ({first[0]}) and {crs_name(crs)} ({where}); "
                "remove one"
            )
    return first[1].to_wkt()


def _crs_statements(variable: xr.DataArray, attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    mapping = variable.encoding.get("grid_mapping") or variable.attrs.get("grid_mapping")
    for name, coord in variable.coords.items():
        if coord.dims or (
            mapping is not None and str(mapping) in variable.coords and "crs_wkt" in coord.attrs and name != mapping
        ):
            continue
        for key in ("crs_wkt", "spatial_ref", "wkt"):
            if coord.attrs.get(key):
                yield f"{name}", coord.attrs[key]
                break
        else:
            if coord.attrs.get("grid_mapping_name"):
                yield f"{name}", {k: _plain(v) for k, v in coord.attrs.items()}
            elif str(name).lower() in ("epsg", "proj:epsg", "proj:code", "crs"):
                yield f"{name}", _code(coord.item())
    for where, held in (("the variable", variable.attrs), ("the file", attributes)):
        for key in ("crs", "epsg", "proj:epsg", "proj:code", "crs_wkt"):
            if isinstance(held.get(key), str | int | np.integer) and held[key] != "":
                yield f"{key} of {where}", _code(held[key])


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _code(value: Any) -> Any:
    text = str(_plain(value)).strip()
    return f"EPSG:{text}" if text.isdigit() else text


def same_crs(a: CRS, b: CRS) -> bool:
    """Say whether two CRSs are one, however each is written."""
    codes = a.to_epsg(), b.to_epsg()
    return codes[0] == codes[1] if all(codes) else a.equals(b, ignore_axis_order=True)


def pixels_apart(a: Affine, b: Affine, shape: tuple[int, int]) -> float:
    """Return by how many pixels of ``a`` two transforms of a raster ``(rows, columns)`` are apart at its corners."""
    rows, columns = shape
    corners = [(column, row) for column in (0, columns) for row in (0, rows)]
    return max(math.dist(~a * (b * corner), corner) for corner in corners)


def difference(a: GeoBox, b: GeoBox) -> str | None:
    """Say how two grids differ; None if they are one to a hundredth of a pixel."""
    if a.crs != b.crs:
        return f"CRS {crs_name(a.crs)} and {crs_name(b.crs)}"
    if a.shape != b.shape:
        return f"{a.shape.x} × {a.shape.y} and {b.shape.x} × {b.shape.y} pixels"
    apart: NDArray[np.float64] = np.abs(np.subtract(a.affine[:6], b.affine[:6])) / abs(a.affine.a)
    if apart[[2, 5]].max() > TOLERANCE or apart[[0, 1, 3, 4]].max() * max(a.shape) > TOLERANCE:
        return f"transforms {tuple(a.affine[:6])} and {tuple(b.affine[:6])}"
    return None
