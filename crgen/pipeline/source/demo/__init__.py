"""The procedural demo scene: a Stack for any area and dates that needs no account and no network."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from pyproj import CRS

from crgen.errors import RequestError, StackError
from crgen.pipeline.source.demo.land import cover_on, make_land
from crgen.pipeline.source.demo.optical import HALO, clear_score, ground_reflectance, make_sky, under_clouds
from crgen.pipeline.source.demo.radar import backscatter
from crgen.pipeline.source.demo.terrain import SCENE, Block
from crgen.pipeline.source.past import NO_PAST, Asked, Look, choose_looks
from crgen.pipeline.source.stack import POLARISATIONS, S2_BANDS, build_stack

__all__ = ["open_demo"]

_CLOUD_COVER = {"t1": (0.13, 0.24), "t2": (0.72, 0.84), "past": (0.05, 0.95)}
_REVISIT, _CYCLE = 5, 6
"""Days between the looks of Sentinel-2, and of Sentinel-1 in one orbit."""
_EARTH_RADIUS = 6_371_000.0

map_blocks: Callable[..., da.Array] = da.map_blocks


def open_demo(
    geobox: GeoBox,
    t1: datetime.date,
    t2: datetime.date,
    *,
    pols: Sequence[str],
    bands: Sequence[str],
    past: Asked = NO_PAST,
    chunk: int = 512,
) -> xr.Dataset:
    """Open the procedural demo scene over ``geobox``.

    The scene is seeded by place: a pixel is a function of the CRS, its index on the CRS's lattice of pixels,
    the dates and the channel, and of nothing else, so chunks and overlapping areas agree bit for bit. Between
    ``t1`` and ``t2`` heavy rain floods the low ground if ``t1 < t2``; otherwise there is no flood. Seasons
    follow the day of the year and the hemisphere of the CRS. A grid whose origin lies between the lattice's
    pixels shows the nearest ones.

    Args:
        geobox: grid, north-up with square pixels, in any CRS (degrees are taken as 111 km).
        t1: date of the first radar and of the partly cloudy optical image.
        t2: date of the second radar and of the mostly cloudy optical image.
        pols: polarisations, of ``"VV"`` and ``"VH"``.
        bands: Sentinel-2 bands, of :data:`crgen.pipeline.source.stack.S2_BANDS`.
        past: how far around t2 to look for other clear dates; nothing is flooded on them before t1.
        chunk: side of a dask chunk in pixels; memory is bounded by it and by the number of workers.

    Returns:
        A Stack of ``s1_t1``, ``s1_t2``, ``s2_t1``, ``s2_t2``, ``clear_t1``, ``clear_t2`` and ``truth_t2``
        (``s2_t2`` without its clouds and shadows; equal to it wherever it is clear), and of the past where one was
        asked for. No pixel is missing.

    Raises:
        RequestError: if a polarisation or band is unknown, or ``chunk`` is not positive.
        StackError: if the grid has no CRS, or is not north-up with square pixels.
    """
    for kind, asked, known in (("polarisation", pols, POLARISATIONS), ("band", bands, S2_BANDS)):
        for label in asked:
            if label not in known:
                raise RequestError(f"the demo scene has no {kind} '{label}'; it has {', '.join(known)}")
    if chunk < 1:
        raise RequestError(f"the demo scene's chunk is {chunk}; give a positive number of pixels")
    whole, southern = _lattice(geobox)
    halo = max(2, math.ceil(HALO / whole.metres))
    chunks = tuple(_sizes(n, chunk) for n in geobox.shape)

    def blocks(function: Callable[..., Any], *inputs: da.Array, **settings: Any) -> da.Array:
        """One object per block, drawn once and shared by the variables that need it."""
        name = f"demo-{function.__name__.strip('_')}"
        meta = np.empty((0, 0), object)
        return map_blocks(function, *inputs, name=_named(name, inputs, settings), chunks=chunks, meta=meta, **settings)

    def planes(function: Callable[..., Any], *inputs: da.Array, channels: int, **settings: Any) -> da.Array:
        """One float32 array per block, with a channel axis unless ``channels`` is 0."""
        name = _named(f"demo-{function.__name__.strip('_')}", inputs, settings)
        axes = ((channels,), *chunks) if channels else chunks
        new_axis = 0 if channels and all(a.ndim == 2 for a in inputs) else None
        meta = np.empty((0,) * len(axes), np.float32)
        return map_blocks(function, *inputs, name=name, chunks=axes, new_axis=new_axis, meta=meta, **settings)

    land = blocks(_land, whole=whole, halo=halo)
    place = blocks(_place, whole=whole)

    def cloudiness(t: str, date: datetime.date) -> float:
        least, most = _CLOUD_COVER[t]
        return least + (most - least) * (whole.seed("clouds", t, date) % 1000) / 1000

    def optical(t: str, date: datetime.date) -> tuple[da.Array, da.Array, da.Array]:
        """Return what Sentinel-2 sees on a date, its clear-sky score, and the ground."""
        sky = blocks(make_sky, place, date=date, cover=cloudiness(t, date), southern=southern)
        settings = {"date": date, "bands": bands, "southern": southern, "halo": halo}
        ground = planes(ground_reflectance, land, cover(t, date), channels=len(bands), **settings)
        seen = planes(under_clouds, ground, sky, channels=len(bands), bands=bands)
        return seen, planes(clear_score, place, sky, channels=0, date=date), ground

    def radar(t: str, date: datetime.date) -> da.Array:
        return planes(backscatter, land, cover(t, date), channels=len(pols), date=date, pols=pols, halo=halo)

    def cover(t: str, date: datetime.date) -> da.Array:
        flood = t1 < t2 and (t == "t2" or (t == "past" and date >= t2))
        return blocks(cover_on, land, date=date, southern=southern, flood=flood)

    variables: dict[str, da.Array] = {}
    for t, date in (("t1", t1), ("t2", t2)):
        variables[f"s2_{t}"], variables[f"clear_{t}"], ground = optical(t, date)
        variables[f"s1_{t}"] = radar(t, date)
    variables["truth_t2"] = ground
    manifest: dict[str, Any] = {"source": "demo", "t1": t1.isoformat(), "t2": t2.isoformat(), "scene": SCENE}
    days = [t1 + datetime.timedelta(step) for step in range(-_REVISIT * (past.before // _REVISIT), 366, _REVISIT)]
    looks = choose_looks([Look(day, 1 - cloudiness("past", day)) for day in days], t1, t2, past)
    if looks:
        seen, clear, _ = zip(*(optical("past", day) for day in looks), strict=True)
        cycles = [round((day - t1).days / _CYCLE) * _CYCLE for day in looks]
        backscattered = [radar("past", t1 + datetime.timedelta(cycle)) for cycle in cycles]
        for name, arrays in (("s1_past", backscattered), ("s2_past", seen), ("clear_past", clear)):
            variables[name] = da.stack(arrays)  # type: ignore[no-untyped-call]
        manifest["past"] = [day.isoformat() for day in looks]
    return build_stack(geobox, variables, pols=pols, bands=bands, manifest=manifest, times=looks)


def _sizes(length: int, chunk: int) -> tuple[int, ...]:
    """Cut ``length`` pixels into chunks."""
    whole, rest = divmod(length, chunk)
    return (chunk,) * whole + ((rest,) if rest or not whole else ())


def _named(name: str, inputs: tuple[da.Array, ...], settings: dict[str, Any]) -> str:
    return f"{name}-{tokenize(SCENE, [a.name for a in inputs], settings)}"


def _lattice(geobox: GeoBox) -> tuple[Block, bool]:
    """Return the pixels of ``geobox`` on its CRS's lattice, and whether their seasons are southern."""
    if geobox.crs is None:
        raise StackError("the demo scene's grid has no CRS; give the area one, e.g. EPSG:32649")
    a = geobox.affine
    if a.b or a.d or a.a <= 0 or a.e >= 0 or abs(a.a + a.e) > 1e-6 * a.a:
        raise StackError("the demo scene's grid is not north-up with square pixels; give one that is")
    crs = CRS.from_user_input(geobox.crs)
    unit = crs.axis_info[0].unit_conversion_factor * (_EARTH_RADIUS if crs.is_geographic else 1)
    height, width = geobox.shape
    i = round(a.c / a.a) + np.arange(width, dtype=np.int64)
    j = round(a.f / a.a) - 1 - np.arange(height, dtype=np.int64)
    block = Block(crs=str(geobox.crs), i=i, j=j, metres=a.a * unit)
    if crs.utm_zone:
        return block, crs.utm_zone.endswith("S")
    area = crs.area_of_use
    return block, area is not None and area.south + area.north < -1


def _land(*, whole: Block, halo: int, block_info: Any) -> Any:
    return make_land(_cut(whole, block_info, halo))


def _place(*, whole: Block, block_info: Any) -> Block:
    return _cut(whole, block_info, 0)


def _cut(whole: Block, block_info: Any, halo: int) -> Block:
    """Return one dask block of ``whole``, ``halo`` pixels larger on each side."""
    (top, bottom), (left, right) = block_info[None]["array-location"]
    i = np.arange(whole.i[0] + left - halo, whole.i[0] + right + halo)
    j = whole.j[0] - np.arange(top - halo, bottom + halo)
    return Block(crs=whole.crs, i=i, j=j, metres=whole.metres)
