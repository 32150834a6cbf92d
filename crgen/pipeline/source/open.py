"""Open the imagery of an area and two dates: the demo scene, a local stack, or Earth Engine."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry

from crgen.errors import AreaError, RequestError
from crgen.files import pulled_from
from crgen.model.card import ModelCard
from crgen.model.config import GeneratorConfig
from crgen.pipeline.request import ALL, EarthEngine
from crgen.pipeline.source.area import Area, read_area, read_outline
from crgen.pipeline.source.demo import open_demo
from crgen.pipeline.source.earthengine import Channels, area_pulled, bands_held, open_earth_engine
from crgen.pipeline.source.ground import crs_name, ground_pixel
from crgen.pipeline.source.imagery import Scene, check_dates
from crgen.pipeline.source.local.read import open_stack
from crgen.pipeline.source.past import NO_PAST, USUAL, asked_for, kept_of
from crgen.pipeline.source.stack import FEATHER, is_calibrated, manifest_of, require_channels, stack_geobox

BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
"""The bands that are made where none are named: true colour, near and short-wave infrared."""


def open_scene(
    source: str,
    *,
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
    s1_units: Literal["dB", "linear"],
    s1_calibrated: bool,
    s2_scale: float,
    s2_offset: float,
    bands: tuple[str, ...] | None,
    card: ModelCard,
    earth_engine: EarthEngine,
    past: str | None = None,
    after: int = 0,
) -> Scene:
    """Open the imagery a model asks for.

    Args:
        source: ``demo``, ``gee``, or the path of a local stack.
        aoi: the area, as :func:`~crgen.pipeline.source.area.read_area` takes it; None for the whole of a local stack.
        t1: date of the first pair; None to take it from a local stack's manifest, which it must agree with.
        t2: date of the second radar image, alike.
        crs: grid of the result; None for the area's UTM zone, or for a local stack's own grid.
        s1_units: units of a local stack's Sentinel-1, ``dB`` or ``linear``.
        s1_calibrated: whether Sentinel-1 is in true dB; a local stack may say by itself that it is not.
        s2_scale: what to multiply a local stack's Sentinel-2 with to get reflectance.
        s2_offset: what to add after that.
        bands: the bands to make; None for the usual ones, of which a local stack or a manifest may lack some.
        card: says which polarisations, bands and pixel size to open.
        earth_engine: how to ask Earth Engine, for source ``gee``.
        past: how far back to look for other looks at the place, as a person writes it; None for the source's usual.
        after: days after t2 within which looks tell of its light.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    asked = asked_for(past, after)
    if source == "gee":
        made = bands_made(bands, card.config, bands_held(earth_engine))
        scene = open_earth_engine(
            earth_engine, aoi=aoi, t1=t1, t2=t2, crs=crs, card=card, made=made, past=asked or USUAL
        )
        return replace(scene, calibrated=s1_calibrated)
    if source != "demo":
        open_on = functools.partial(open_stack, Path(source), s1_units=s1_units, s2_scale=s2_scale, s2_offset=s2_offset)
        scene = _open_local(Path(source), open_on, aoi, t1, t2, crs, s1_calibrated, bands, card)
        stack, notes = kept_of(scene.stack, scene.t1, scene.t2, asked)
        return replace(scene, stack=stack, notes=(*scene.notes, *notes))
    if aoi is None:
        raise RequestError("source 'demo' needs an area: give --aoi with a GeoJSON file or west,south,east,north")
    if t1 is None or t2 is None:
        raise RequestError("source 'demo' needs both dates: give --t1 and --t2 as YYYY-MM-DD")
    check_dates(t1, t2)
    area = read_area(aoi, crs=crs, resolution=card.resolution)
    made = bands_made(bands, card.config)
    channels = Channels.of(card, made)
    grid = area.geobox.pad(channels.margin)
    stack = open_demo(grid, t1, t2, pols=channels.pols, bands=channels.bands, past=asked or NO_PAST)
    return Scene(stack, area, t1, t2, area.notes, s1_calibrated, made)


def bands_made(
    asked: Sequence[str] | None, config: GeneratorConfig, held: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the bands of the result.

    Args:
        asked: by a person, or ``("all",)``; None for :data:`BANDS`, as far as they can be made.
        config: of the generator.
        held: the bands of a local stack or a manifest.

    Raises:
        RequestError: if the weights do not make a band.
    """
    if asked is None:
        return tuple(b for b in BANDS if b in config.bands and (held is None or b in held or b in config.core))
    if tuple(asked) == ALL:
        return config.bands
    if unknown := [band for band in asked if band not in config.bands]:
        raise RequestError(f"the weights do not make {', '.join(unknown)}; they make {', '.join(config.bands)}")
    return tuple(asked)


def _open_local(
    path: Path,
    open_on: Callable[..., xr.Dataset],
    aoi: str | None,
    t1: datetime.date | None,
    t2: datetime.date | None,
    crs: str | None,
    s1_calibrated: bool,
    bands: tuple[str, ...] | None,
    card: ModelCard,
) -> Scene:
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
    made = bands_made(bands, card.config, held=[str(band) for band in stack["s2_t1"].band.values])
    require_channels(stack, pols=card.config.needed_pols, bands=Channels.of(card, made).bands)
    pixel = ground_pixel(area.geobox)
    if abs(pixel - card.resolution) > 0.01 * card.resolution:
        notes += (f"the stack's pixels are {pixel:.4g} m, the weights were trained at {card.resolution:g} m",)
    if "s2_t2" in stack and "clear_t2" not in stack:
        notes += ("s2_t2 has no clear-sky score (clear_t2), so nothing of it is taken as observed",)
    manifest = manifest_of(stack)
    calibrated = s1_calibrated and is_calibrated(stack.attrs)
    notes += tuple(map(str, pulled_from(manifest).get("notes", ())))
    dates = []
    for name, date in (("t1", t1), ("t2", t2)):
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
