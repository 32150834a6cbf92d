"""GeoTIFFs, and other rasters of GDAL, as layers: where they lie, what their bands are, how numbers are stored."""

from __future__ import annotations

import warnings
from pathlib import Path

import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from crgen.errors import StackError
from crgen.pipeline.source.local.coding import Coding
from crgen.pipeline.source.local.grid import axis_aligned, with_short_crs
from crgen.pipeline.source.local.lazy_raster import READ_ERRORS, Layer, TiffBands, north_up, tiff_layer
from crgen.pipeline.source.local.names import channel, dim_of
from crgen.pipeline.source.stack import POLARISATIONS, S2_BANDS

SUFFIXES = (".tif", ".tiff", ".jp2")


def open_tiff(path: Path, name: str, part: str = "") -> Layer:
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
                flags = file.mask_flag_enums
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
