"""Zeros that nobody declared and that cannot be data: outside a swath many files hold 0 and do not say so."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crgen.pipeline.source.local.lazy_raster import LazyRaster, Pixels

FIELD = 5
"""Pixels on a side from which a square of exact zeros is no coincidence."""
REACH = 16
"""Pixels over which what hangs together with such a square belongs to it."""


def dark_missing(layer: LazyRaster) -> LazyRaster:
    """Take optical pixels as missing that are stored as 0 in every channel: ESA's products mean "none" by it."""
    return replace(layer, read=partial(_read_lit, layer)) if max(layer.zero) <= 0 else layer


def silent_missing(layer: LazyRaster) -> LazyRaster:
    """Take regions of radar as missing that are exactly 0 in every channel, and larger than a field or at the edge."""
    return replace(layer, read=partial(_read_heard, layer))


def _zero(layer: LazyRaster, pixels: Pixels) -> NDArray[np.bool_]:
    """Say where a layer stores 0, or nothing, in every channel."""
    zero = np.array(layer.zero, np.float32)[:, None, None]
    found: NDArray[np.bool_] = ((pixels == zero) | np.isnan(pixels)).all(axis=0)
    return found


def _read_lit(layer: LazyRaster, rows: slice, columns: slice) -> Pixels:
    pixels = layer.read(rows, columns)
    pixels[:, _zero(layer, pixels)] = np.nan
    return pixels


def _read_heard(layer: LazyRaster, rows: slice, columns: slice) -> Pixels:
    pixels = layer.read(rows, columns)
    if not (pixels == 0).any():
        return pixels
    margin = FIELD + REACH
    height, width = layer.geobox.shape
    top, left = max(rows.start - margin, 0), max(columns.start - margin, 0)
    wide = layer.read(slice(top, min(rows.stop + margin, height)), slice(left, min(columns.stop + margin, width)))
    zero = ((wide == 0) | np.isnan(wide)).all(axis=0)
    # Beyond the edge all is zero, so that a strip along it counts as a region.
    zero = np.pad(zero, margin, constant_values=True)
    missing = ndimage.binary_opening(zero, np.ones((FIELD, FIELD), bool))
    missing = ndimage.binary_dilation(missing, np.ones((3, 3), bool), iterations=REACH, mask=zero)
    down, right = rows.start - top + margin, columns.start - left + margin
    pixels[:, missing[down : down + pixels.shape[1], right : right + pixels.shape[2]]] = np.nan
    return pixels
