"""GeoTIFFs, and other rasters of GDAL, as layers: where they lie, what their bands are, how numbers are stored."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from crgen.errors import StackError
from crgen.pipeline.source.ground import crs_name
from crgen.pipeline.source.local.coding import Coding
from crgen.pipeline.source.local.grid import TOLERANCE, axis_aligned, pixels_apart, same_crs, with_short_crs
from crgen.pipeline.source.local.lazy_raster import READ_ERRORS, LazyRaster, TiffBands, north_up, tiff_layer
from crgen.pipeline.source.local.names import channel, dim_of
from crgen.pipeline.source.stack import POLARISATIONS, S2_BANDS

SUFFIXES = (".tif", ".tiff", ".jp2")

SEVERAL_PLACES = ("GTiff", "JP2OpenJPEG")
"""Drivers of GDAL that also look beside a file for where it lies."""


class _Place(NamedTuple):
    """What one file says of where a raster lies."""

    file: Path
    """The raster itself, or one beside it."""
    transform: Affine | None
    crs: CRS | None


def open_tiff(path: Path, name: str, part: str = "") -> LazyRaster:
    """Open a raster file as a layer; reads no pixels.

    Args:
        path: the file.
        name: the variable of the Stack that it holds, or one look of the past.
        part: the channel that it holds, where each has a file of its own.

    Raises:
        StackError: if it cannot be opened, is not on a grid, holds no real numbers, or does not name its bands.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                crs, transform, shape, tied = file.crs, file.transform, file.shape, bool(file.gcps[0])
                descriptions, colours, dtypes = list(file.descriptions), list(file.colorinterp), file.dtypes
                scales, offsets, nodata = file.scales, file.offsets, file.nodatavals
                flags, driver = file.mask_flag_enums, file.driver
            places = _places(path) if driver in SEVERAL_PLACES else []
    except READ_ERRORS as exc:
        raise StackError(f"'{path}' cannot be opened as a GeoTIFF ({exc}); copy it again") from None
    if tied and crs is None:
        raise StackError(
            f"'{path}' is not on a grid, it has only tie points (GCPs); terrain-correct it, or warp it with gdalwarp"
        )
    if crs is None:
        raise StackError(f"'{path}' has no CRS; set it, e.g. with gdal_edit -a_srs EPSG:32649")
    if transform == Affine.identity():
        raise StackError(f"'{path}' does not say where it lies (no geotransform); set it, e.g. with gdal_edit -a_ullr")
    _check_one_place(path, shape, places)
    if unreal := [dtype for dtype in dtypes if dtype.startswith("complex")]:
        raise StackError(
            f"'{path}' holds complex numbers ({unreal[0]}), as of a single-look product; give backscatter, e.g. in dB"
        )
    geobox = axis_aligned(with_short_crs(GeoBox(shape, transform, str(crs))), str(path))
    known = (*POLARISATIONS, *S2_BANDS)
    alphas = [
        i for i, colour in enumerate(colours) if colour == ColorInterp.alpha and channel(descriptions[i]) not in known
    ]
    held = [i for i in range(len(descriptions)) if i not in alphas[:1]]
    bands = TiffBands(
        path,
        tuple(i + 1 for i in held),
        tuple(
            Coding(scales[i], offsets[i], () if nodata[i] is None or nodata[i] != nodata[i] else (nodata[i],))
            for i in held
        ),
        any(MaskFlags.per_dataset in flags[i] and MaskFlags.alpha not in flags[i] for i in held),
        alphas[0] + 1 if alphas else None,
    )
    return north_up(tiff_layer(bands, _channels(path, name, part, [descriptions[i] for i in held]), geobox))


def _places(path: Path) -> list[_Place]:
    """Return what a raster and each file beside it say of where it lies, the raster itself first."""
    places = []
    for where in ("INTERNAL", "PAM", "TABFILE", "WORLDFILE"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, GEOREF_SOURCES=where) as file:
                transform = None if file.transform == Affine.identity() else file.transform
                crs = None if file.crs is None else CRS.from_user_input(file.crs)
                beside = path if where == "INTERNAL" else Path(file.files[-1])
        places.append(_Place(beside, transform, crs))
    return places


def _check_one_place(path: Path, shape: tuple[int, int], places: list[_Place]) -> None:
    """Refuse a raster that lies elsewhere by what stands beside it: GDAL would take one of them without a word.

    Raises:
        StackError: naming both, and how far they are apart.
    """
    placed = [(place.file, place.transform) for place in places if place.transform is not None]
    for file, transform in placed[1:]:
        if (off := pixels_apart(placed[0][1], transform, shape)) > TOLERANCE:
            raise StackError(
                f"'{path}' lies in two places: {placed[0][0].name} and {file.name} say {off:.4g} pixels apart; "
                f"remove {file.name}, or correct one of them"
            )
    named = [(place.file, place.crs) for place in places if place.crs is not None]
    for file, crs in named[1:]:
        if not same_crs(named[0][1], crs):
            raise StackError(
                f"'{path}' states two CRSs: {crs_name(named[0][1])} ({named[0][0].name}) and {crs_name(crs)} "
                f"({file.name}); remove {file.name}, or correct one of them"
            )


def _channels(path: Path, name: str, part: str, descriptions: list[str | None]) -> tuple[str, ...]:
    if dim_of(name) is None:
        if len(descriptions) != 1:
            raise StackError(f"'{path}' has {len(descriptions)} bands; a clear-sky score has one")
        return ()
    if part:
        if len(descriptions) != 1:
            raise StackError(f"'{path}' has {len(descriptions)} bands; by its name it should hold {part} alone")
        said = channel(descriptions[0]) if descriptions[0] else part
        if said != part and said in (*POLARISATIONS, *S2_BANDS):
            raise StackError(f"'{path}' is {part} by its name but {said} by its band description; correct one of them")
        return (part,)
    if not all(descriptions):
        example = "VV, VH" if dim_of(name) == "pol" else "B2, B3, B4"
        raise StackError(f"'{path}' does not say what its bands are; set band descriptions ({example})")
    return tuple(map(channel, descriptions))
