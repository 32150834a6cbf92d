"""Clear share of optical images over an area, by Cloud Score+: one small request, whatever the size of the area.

A scene's metadata gives the cloud of its whole tile, 110 km wide, which tells little about a small area.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import shapely

from crgen.errors import SourceError
from crgen.gee.choose.catalogue import Catalogue
from crgen.gee.choose.description import Asset
from crgen.gee.choose.outlines import lonlat
from crgen.gee.connection.faults import Fault, Remedy, understand
from crgen.gee.connection.session import Session
from crgen.gee.manifest import CLOUD_SCORE, SCORE_BAND, Grid

CLEAR_FROM = 0.6
"""Score from which a pixel counts as clear, as in a fill that names no other."""
PIXELS = 200_000
"""Largest number of pixels of the area that are counted: those of larger areas are of a coarser level."""
FINEST = 10.0
"""Pixel size of Cloud Score+, metres; the levels of Earth Engine's pyramid have twice that, four times, …"""
SMALL_TILES = 4
"""Earth Engine's ``tileScale``: it computes all images of a place at once, which larger tiles have no memory for."""


def with_clear_shares(session: Session, catalogue: Catalogue, area: Grid, assets: Iterable[Asset]) -> Catalogue:
    """Return the catalogue with the clear share over the area of some of its optical images.

    Args:
        session: the connection.
        catalogue: what was acquired.
        area: the area of interest, without margin.
        assets: the images of which it matters; those without a score are left as they are.

    Returns:
        The catalogue; if Earth Engine cannot compute the shares, unchanged but for a note.

    Raises:
        SourceError: if Earth Engine cannot be asked.
    """
    names = sorted({asset.index for asset in assets} & catalogue.scored)
    if not names:
        return catalogue
    answer = session.call("the clear share of the optical images", lambda: _ask(names, area))
    if isinstance(answer, Fault):
        reason = answer.reason.rstrip(".")
        note = f"Earth Engine did not compute how clear the area is ({reason}): the scenes' metadata decided instead"
        return replace(catalogue, notes=(*catalogue.notes, note))
    optical = (replace(asset, clear_over_area=answer.get(asset.index)) for asset in catalogue.optical)
    return replace(catalogue, optical=tuple(optical))


def scale_for(area: Grid) -> float:
    """Return the pixel size, in metres, of the finest level at which the area has no more than ``PIXELS`` pixels."""
    coarser = math.sqrt(area.polygon.area / PIXELS) / FINEST
    return FINEST * 2.0 ** max(0, math.ceil(math.log2(coarser)))


def _ask(names: Sequence[str], area: Grid) -> dict[str, float] | Fault:
    """Return the shares by image, without those that are masked all over the area; or why they cannot be computed."""
    import ee

    try:
        answer = ee.data.computeValue(_shares(names, area))
    except ee.EEException as error:
        fault = understand(error)
        if fault.remedy is Remedy.SPLIT or (fault.remedy is Remedy.STOP and fault.status == 400):
            return fault  # of this request alone
        raise
    try:
        return {name: round(float(answer[name]), 4) for name in names if answer[name] is not None}
    except (TypeError, KeyError, ValueError):
        raise SourceError(
            f"Earth Engine described {CLOUD_SCORE} in a way crgen does not understand; update crgen"
        ) from None


def _shares(names: Sequence[str], area: Grid) -> Any:
    """Return the dictionary of shares by image: one reduction of one image, as many at once are refused."""
    import ee

    clear = [ee.Image(f"{CLOUD_SCORE}/{name}").select([SCORE_BAND]).gte(CLEAR_FROM) for name in names]
    scale = scale_for(area)
    outline = shapely.segmentize(area.polygon.simplify(scale / 2), 10_000.0)
    region = json.loads(shapely.to_geojson(lonlat(outline, area.crs)))
    return (
        ee.ImageCollection.fromImages(clear)
        .toBands()
        .rename(list(names))
        .reduceRegion(
            ee.Reducer.mean(),
            ee.Geometry(region, None, False),
            scale=scale,
            crs=area.crs,
            bestEffort=True,
            maxPixels=10 * PIXELS,
            tileScale=SMALL_TILES,
        )
    )
