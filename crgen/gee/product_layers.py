"""The rasters and outlines of a product as layers of a web map, drawn as its STAC Item says; no tile server."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import matplotlib
import numpy as np
import pyogrio
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

LONGEST = 2000
"""Pixels of a picture's longer side, at most."""
NAMES = {
    "true_colour": "result, true colour",
    "false_colour": "result, false colour",
    "colour": "result",
    "water": "probability of water at t2",
    "error": "how far reflectance may be off",
    "quality": "quality classes",
}
SEEN = ("observed", "blended")
"""Classes of pixels that an image of t2 shows."""
OUTLINES = {
    "flood": ("new water", "#c2185b"),
    "water_before": ("water before too", "#08519c"),
    "water_unknown_before": ("water, unknown before", "#b35900"),
}
"""By layer of a product's GeoPackage."""


def product_layers(item: Path) -> Iterator[Any]:
    """Yield ipyleaflet's layers of a product: its pictures, what was observed at t2, and outlines of water.

    Pictures are warped to the web's Mercator projection, so that they lie where they should. All are switched off.

    Args:
        item: its STAC Item.
    """
    content = json.loads(item.read_text("utf-8-sig"))
    assets: dict[str, Any] = content.get("assets", {})
    paths = {name: item.parent / unquote(asset["href"]) for name, asset in assets.items()}
    for name, render in content["properties"].get("renders", {}).items():
        path = paths[render["assets"][0]]
        colours, bounds = _drawn(path, render)
        yield _overlay(colours, bounds, NAMES.get(name, name))
        if len(render["bidx"]) == 3 and "quality" in paths:
            classes = {one["name"]: one["value"] for one in assets["quality"]["classification:classes"]}
            origin, _, _ = _warped(paths["quality"], [1], Resampling.nearest)
            colours[~np.isin(origin[0], [classes[name] for name in SEEN]), 3] = 0
            if colours[..., 3].any():
                yield _overlay(colours, bounds, f"t2 observed, {NAMES.get(name, name).rpartition(', ')[2]}")
    if "flood" in paths:
        yield from _outlines(paths["flood"])


def _drawn(path: Path, render: Mapping[str, Any]) -> tuple[NDArray[np.uint8], list[list[float]]]:
    """Return red, green, blue and opacity of a raster ``(y, x, 4)`` as an Item's ``renders`` has it, and its bounds."""
    nearest = render.get("resampling") == "nearest"
    stored, valid, bounds = _warped(path, render["bidx"], Resampling.nearest if nearest else Resampling.average)
    if "colormap" in render:
        table = np.zeros((256, 4), np.uint8)
        for value, colour in render["colormap"].items():
            table[int(value)] = colour
        colours = table[stored[0].astype(np.uint8)]
    else:
        low, high = np.array(render["rescale"], float).T[..., None, None]
        shares = np.clip((stored - low) / (high - low), 0, 1)
        if len(shares) == 1:
            known = {name.lower(): name for name in matplotlib.colormaps}
            ramp = matplotlib.colormaps[known[render.get("colormap_name", "gray")]]
            colours = (255 * ramp(shares[0])).astype(np.uint8)
        else:
            colours = (255 * np.concatenate([shares, np.ones_like(shares[:1])])).astype(np.uint8).transpose(1, 2, 0)
    colours[~valid, 3] = 0
    return colours, bounds


def _warped(
    path: Path, bands: list[int], resampling: Resampling
) -> tuple[NDArray[Any], NDArray[np.bool_], list[list[float]]]:
    """Return stored values in Mercator ``(band, y, x)``, where they are valid, and the corners in degrees."""
    with rasterio.open(path) as raster, WarpedVRT(raster, crs="EPSG:3857", resampling=resampling) as warped:
        step = max(1.0, max(warped.shape) / LONGEST)
        shape = (len(bands), *(max(1, round(n / step)) for n in warped.shape))
        values = warped.read(bands, out_shape=shape, masked=True, resampling=resampling)
        to_degrees = Transformer.from_crs("EPSG:3857", "EPSG:4326", always_xy=True).transform
        (west, east), (south, north) = to_degrees(warped.bounds[::2], warped.bounds[1::2])
    valid = np.asarray(~np.ma.getmaskarray(values).any(axis=0))
    return values.data, valid, [[south, west], [north, east]]


def _overlay(colours: NDArray[np.uint8], bounds: list[list[float]], name: str) -> Any:
    import ipyleaflet

    content = io.BytesIO()
    Image.fromarray(colours).save(content, "WEBP", quality=85)
    url = "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
    layer = ipyleaflet.ImageOverlay(url=url, bounds=bounds, name=name)
    layer.visible = False
    return layer


def _outlines(path: Path) -> Iterator[Any]:
    import ipyleaflet

    for layer, (name, colour) in OUTLINES.items():
        meta, _, outlines, _ = pyogrio.raw.read(path, layer=layer, columns=[])  # type: ignore[no-untyped-call]
        if not len(outlines):
            continue
        to_degrees = Transformer.from_crs(meta["crs"], "EPSG:4326", always_xy=True).transform
        together = shapely.multipolygons(shapely.get_parts(shapely.from_wkb(outlines)))
        moved = shapely.transform(together, lambda xy: np.column_stack(to_degrees(*xy.T)).round(6))  # noqa: B023
        data = {"type": "Feature", "properties": {}, "geometry": json.loads(str(shapely.to_geojson(moved)))}
        style = {"color": colour, "weight": 1, "fillOpacity": 0}
        drawn = ipyleaflet.GeoJSON(data=data, style=style, name=name)
        drawn.visible = False
        yield drawn
