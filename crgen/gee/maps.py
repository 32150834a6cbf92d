"""A map to look at: t1 beside the result, radar and the product's layers, area and footprints; for notebooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np
import rasterio
import shapely
from odc.geo.geom import Geometry
from shapely.geometry.base import BaseGeometry

from crgen.errors import SourceError
from crgen.gee.connection.session import Settings, connect
from crgen.gee.fetch.images import VALID, optical_image, radar_image
from crgen.gee.manifest import Manifest, Scene
from crgen.gee.product_layers import product_layers

OPTICAL = (0.0, 4000.0)
RADAR = (-25.0, 0.0)
"""Digital numbers and dB that are drawn black and white."""
SHOWN = (("B4", "B3", "B2"), ("B11", "B8", "B3"))
"""What is drawn as red, green and blue: the first of these whose bands are there."""
SENSORS = {"s1": "radar", "s2": "optical"}
COLOURS = {"s1_t1": "#1b6ca8", "s1_t2": "#5aa9e6", "s2_t1": "#d1495b", "s2_t2": "#f29e4c"}


class Product(Protocol):
    """What :func:`crgen.fill` returns."""

    @property
    def paths(self) -> Any:
        """Its files; ``paths.item`` is the STAC Item."""
        ...


def preview(source: Manifest | Product | str | Path, *, settings: Settings | None = None) -> Any:
    """Show a manifest, or a product beside what it was made from, on a geemap map.

    The split control has the optical image of t1 on the left. On the right is the product's reflectance, which needs
    the extra ``crgen[notebook]``; otherwise it is the optical image of t2, or its radar where there is none.
    Layers of both radar images, the area and the footprints can be switched on; of a product those of its page too:
    the map in true and false colour, what was observed at t2, probability of water, error, quality, outlines of water.

    Args:
        source: a manifest, the path of one or of a product's STAC Item, or what ``crgen.fill`` returned.
        settings: how to reach Earth Engine; by default as for every command.

    Returns:
        A ``geemap.Map``.

    Raises:
        SourceError: if there is no manifest of Earth Engine in it, or it lacks scenes, or Earth Engine cannot be used.
    """
    manifest, raster, item = _read(source)
    if absent := [name for name in ("s1_t1", "s1_t2", "s2_t1") if name not in manifest.scenes]:
        raise SourceError(f"there is no map of a manifest without scenes of {', '.join(absent)}; choose scenes anew")
    session = connect((settings or Settings.from_environment()).standard)
    import ipyleaflet
    from geemap import Map

    make: Callable[..., Any] = Map

    def layer(name: str, label: str) -> Any:
        fetcher = session.call(f"a map of {name}", lambda: _map_id(name, manifest), writes=True)["tile_fetcher"]
        return ipyleaflet.TileLayer(url=fetcher.url_format, name=label, attribution="Google Earth Engine", max_zoom=24)

    area = Geometry(manifest.area.polygon, manifest.area.crs).to_crs("EPSG:4326", resolution=1000).geom
    west, south, east, north = area.bounds
    shown = make(center=((south + north) / 2, (west + east) / 2), zoom=10, ee_initialize=False)
    for date in ("t1", "t2"):
        radar = layer(f"s1_{date}", _label(f"s1_{date}", manifest))
        radar.visible = False
        shown.add(radar)
    left = layer("s2_t1", _label("s2_t1", manifest))
    right, label = _right(raster, manifest, layer)
    shown.add(ipyleaflet.SplitMapControl(left_layer=left, right_layer=right))
    for text, place in ((f"t1, {manifest.dates['t1']}", "bottomleft"), (label, "bottomright")):
        shown.add_html(f"<b>{text}</b>", position=place)
    for drawn in () if item is None else product_layers(item):
        shown.add(drawn)
    for name, scenes in manifest.scenes.items():
        shown.add(_outline(scenes, name))
    style = {"color": "black", "weight": 2, "fillOpacity": 0}
    shown.add(ipyleaflet.GeoJSON(data=_geojson(area), style=style, name=manifest.area.name))
    shown.fit_bounds([[south, west], [north, east]])
    return shown


def _read(source: Manifest | Product | str | Path) -> tuple[Manifest, Path | None, Path | None]:
    """Return the manifest, and the reflectance raster and the Item if there is a product."""
    if isinstance(source, Manifest):
        return source, None, None
    path = Path(source) if isinstance(source, str | Path) else Path(source.paths.item)
    manifest = Manifest.read(path)
    asset = json.loads(path.read_text("utf-8-sig")).get("assets", {}).get("reflectance")
    return (manifest, None, None) if asset is None else (manifest, path.parent / unquote(asset["href"]), path)


def _right(raster: Path | None, manifest: Manifest, layer: Any) -> tuple[Any, str]:
    """Return the layer on the right and its label; the label says so if the product cannot be shown."""
    day = manifest.dates["t2"]
    if raster is not None and find_spec("localtileserver"):
        return _raster(raster), f"result, {day}"
    missing = "" if raster is None else f"<br>{raster.name} is not shown: it needs pip install 'crgen[notebook]'"
    name = "s2_t2" if "s2_t2" in manifest.scenes else "s1_t2"
    label = _label(name, manifest)
    return layer(name, label), f"{label}{missing}"


def _label(name: str, manifest: Manifest) -> str:
    """Return what a variable shows and when it was acquired; the date asked for is said where it is another."""
    sensor, date = name.split("_")
    asked, acquired = manifest.dates[date], manifest.days[name]
    days = str(asked) if acquired == [asked] else f"{', '.join(map(str, acquired))} for {asked}"
    return f"{SENSORS[sensor]} {date}, {days}"


def _raster(path: Path) -> Any:
    from geemap.common import get_local_tile_layer

    make: Callable[..., Any] = get_local_tile_layer
    with rasterio.open(path) as file:
        scale = 1 if file.scales[0] == 1 else 1 / file.scales[0]
        held = list(file.descriptions)
    low, high = (value * 1e-4 * scale for value in OPTICAL)
    bands = [held.index(band) + 1 for band in _shown(held)]
    return make(str(path), indexes=bands, vmin=low, vmax=high, layer_name="result", quiet=True)


def _shown(bands: Sequence[str]) -> list[str]:
    """Return the bands to draw as red, green and blue, or the one to draw in grey."""
    whole = (list(composite) for composite in SHOWN if set(composite) <= set(bands))
    return next(whole, list(bands[:3]) if len(bands) >= 3 else list(bands[:1]))


def _map_id(name: str, manifest: Manifest) -> Any:
    scenes = manifest.scenes[name]
    if name.startswith("s1"):
        others = [held for other, held in manifest.scenes.items() if other.startswith("s1") and other != name]
        image, bands, (low, high) = radar_image(scenes, manifest.pols, others), [manifest.pols[0]], RADAR
    else:
        image, bands, (low, high) = optical_image(scenes, manifest.bands), _shown(manifest.bands), OPTICAL
    return image.updateMask(image.select([VALID])).getMapId({"bands": bands, "min": low, "max": high})


def _outline(scenes: tuple[Scene, ...], name: str) -> Any:
    import ipyleaflet

    shape = shapely.union_all([shapely.geometry.shape(scene.footprint) for scene in scenes])
    style = {"color": COLOURS[name], "weight": 1, "fillOpacity": 0}
    layer = ipyleaflet.GeoJSON(data=_geojson(shape), style=style, name=f"footprints of {name}")
    layer.visible = False
    return layer


def _geojson(shape: BaseGeometry) -> dict[str, Any]:
    rounded: BaseGeometry = shapely.transform(shape, lambda xy: np.round(xy, 5))
    return {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(rounded))}
