"""Open the imagery of an area and two dates: the demo scene, a local stack, or Earth Engine."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from crgen.errors import AreaError, RequestError
from crgen.files import pulled_from
from crgen.model.card import ModelCard
from crgen.pipeline.request import FillRequest
from crgen.pipeline.source.area import Area, read_area, read_outline, with_layer
from crgen.pipeline.source.channels import Channels, bands_made
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.earthengine.acquire import acquire
from crgen.pipeline.source.earthengine.manifest import Unfinished, area_pulled, bands_held
from crgen.pipeline.source.ground import crs_name, ground_pixel
from crgen.pipeline.source.imagery import Scene, check_dates
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.past import NO_PAST, USUAL, Asked, asked_for, kept_of
from crgen.pipeline.source.stack import (
    FEATHER,
    is_calibrated,
    manifest_of,
    require_channels,
    require_two_dates,
    stack_geobox,
)


def open_scene(request: FillRequest, card: ModelCard, unfinished: Unfinished | None = None) -> Scene:
    """Open the imagery a model asks for; reads no pixels.

    Args:
        request: what is asked. A local stack may say by itself which days it is of, and that its radar is of no true
            level.
        card: says which polarisations, bands and pixel size to open.
        unfinished: see :func:`~crgen.pipeline.source.earthengine.acquire.acquire`.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    asked, aoi = asked_for(request.past, request.after), with_layer(request.aoi, request.layer)
    if request.source == "gee":
        return _open_earth_engine(request, aoi, card, asked or USUAL, unfinished)
    if request.source == "demo":
        return _open_demo(request, aoi, card, asked or NO_PAST)
    scene = _open_local(request, aoi, card)
    stack, notes = kept_of(scene.stack, scene.t1, scene.t2, asked)
    return replace(scene, stack=stack, notes=(*scene.notes, *notes))


def _open_earth_engine(
    request: FillRequest, aoi: str | None, card: ModelCard, past: Asked, unfinished: Unfinished | None
) -> Scene:
    options = request.earth_engine
    made = bands_made(request.bands, card.config, bands_held(options))
    channels, t1, t2 = Channels.of(card, made), request.t1, request.t2
    acquired = acquire(options, channels, aoi=aoi, t1=t1, t2=t2, crs=request.crs, past=past, unfinished=unfinished)
    days = acquired.manifest.dates
    notes = (*acquired.area.notes, *acquired.manifest.notes, *acquired.notes)
    calibrated = request.s1_calibrated
    dates, water = (days["t1"], days["t2"]), acquired.water
    certain = tuple(pull for pull in acquired.pulls if pull is not water)
    return Scene(acquired.stack, acquired.area, *dates, notes, calibrated, made, certain, water)


def _open_demo(request: FillRequest, aoi: str | None, card: ModelCard, past: Asked) -> Scene:
    t1, t2 = request.t1, request.t2
    if aoi is None:
        raise RequestError("source 'demo' needs an area: give --aoi with a GeoJSON file or west,south,east,north")
    if t1 is None or t2 is None:
        raise RequestError("source 'demo' needs both dates: give --t1 and --t2 as YYYY-MM-DD")
    check_dates(t1, t2)
    area = read_area(aoi, crs=request.crs, resolution=card.resolution)
    made = bands_made(request.bands, card.config)
    channels = Channels.of(card, made)
    grid = area.geobox.pad(channels.margin)
    stack = open_demo(grid, t1, t2, pols=channels.pols, bands=channels.bands, past=past)
    return Scene(stack, area, t1, t2, area.notes, request.s1_calibrated, made)


def _open_local(request: FillRequest, aoi: str | None, card: ModelCard) -> Scene:
    path, crs = Path(request.source), request.crs
    open_on = functools.partial(
        open_stack, path, s1_units=request.s1_units, s2_scale=request.s2_scale, s2_offset=request.s2_offset
    )
    if aoi is None and crs is not None:
        raise RequestError("--crs with a local stack needs --aoi too: it says what to warp")
    if crs is not None and aoi is not None:
        wanted = read_area(aoi, crs=crs, resolution=card.resolution)
        grid = wanted.geobox.pad(card.window + FEATHER)
        stack = open_on(geobox=grid)
        area = wanted
        notes: tuple[str, ...] = (*wanted.notes, f"the stack was warped to {crs_name(crs)}, bilinear")
    else:
        stack = open_on()
        area, notes = _area_on(stack_geobox(stack), path, aoi, manifest_of(stack))
    require_two_dates(stack, f"'{path}'")
    made = bands_made(request.bands, card.config, held=[str(band) for band in stack["s2_t1"].band.values])
    require_channels(stack, pols=card.config.needed_pols, bands=Channels.of(card, made).bands)
    pixel = ground_pixel(area.geobox)
    if abs(pixel - card.resolution) > 0.01 * card.resolution:
        notes += (f"the stack's pixels are {pixel:.4g} m, the weights were trained at {card.resolution:g} m",)
    if "s2_t2" in stack and "clear_t2" not in stack:
        notes += ("s2_t2 has no clear-sky score (clear_t2), so nothing of it is taken as observed",)
    manifest = manifest_of(stack)
    calibrated = request.s1_calibrated and is_calibrated(stack.attrs)
    notes += tuple(map(str, pulled_from(manifest).get("notes", ())))
    dates = []
    for name, date in (("t1", request.t1), ("t2", request.t2)):
        if date is None and name not in manifest:
            raise RequestError(f"the stack {path} does not say its {name}: give --{name} as YYYY-MM-DD")
        dates.append(date or datetime.date.fromisoformat(manifest[name]))
    check_dates(*dates)
    for name, date in zip(("t1", "t2"), dates, strict=True):
        if name in manifest and str(date) != manifest[name]:
            raise RequestError(f"'{path}' is of {name} {manifest[name]}, not {date}; leave --{name} out")
    return Scene(stack, area, dates[0], dates[1], notes, calibrated, made)


def _area_on(grid: GeoBox, path: Path, aoi: str | None, manifest: Mapping[str, Any]) -> tuple[Area, tuple[str, ...]]:
    """Return the area on a stack's own grid, and what was left out of it.

    Without ``aoi``, it is what the stack was pulled for, without the margin; or all of it.
    """
    outline = box(*grid.extent.boundingbox.bbox)
    if aoi is None and (pulled := pulled_from(manifest)):
        area = area_pulled(pulled, f"the manifest in {path}")
        if (grid & area.geobox) == area.geobox:
            return area, ()
    if aoi is None:
        return Area(path.resolve().stem, grid, outline), ()
    asked = read_outline(aoi, crs=str(grid.crs))
    common: BaseGeometry = asked.polygon.intersection(outline)
    if common.area == 0:
        raise AreaError(f"the area '{aoi}' lies outside the stack {path}, which covers {_lonlat(grid)}")
    covering = grid.enclosing(Geometry(common, grid.crs)) & grid
    notes = asked.notes
    share = common.area / asked.polygon.area
    if share < 0.9999:
        notes += (f"the stack covers {100 * share:.1f} % of the area; the rest is left out",)
    return Area(asked.name, covering, asked.polygon, asked.notes), notes


def _lonlat(grid: GeoBox) -> str:
    west, south, east, north = grid.geographic_extent.boundingbox.bbox
    return f"{west:.3f},{south:.3f},{east:.3f},{north:.3f} (west,south,east,north)"
