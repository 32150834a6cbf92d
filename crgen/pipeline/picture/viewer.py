"""One page that shows a map: a single file that a browser opens without a server or a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image
from pyproj import Transformer

from crgen.files import write_partial
from crgen.pipeline.flood.polygons import LAYERS, hidden_name
from crgen.pipeline.source.ground import ground_pixel

LARGEST = 8_000_000
"""Bytes of a page at most."""
MOST_OUTLINES = 4_000
"""Outlines drawn; the largest come first."""
GRID = 9
"""Places along a side whose longitude and latitude are known; those between follow linearly."""
NAMES = {
    "flood": "new water",
    "water_before": "water before too",
    "water_unknown_before": "water, unknown before",
}
OUTLINES = {"flood": "#c2185b", "water_before": "#08519c", "water_unknown_before": "#b35900"}

Pixels = NDArray[np.uint8]
"""Red, green, blue and opacity, ``(y, x, 4)``."""


@dataclass(frozen=True)
class Layer:
    """A picture of the whole area."""

    key: str
    name: str
    """What it is called where it can be chosen."""
    text: str
    """What it shows, for who cannot see it."""
    pixels: Pixels
    kind: Literal["image", "overlay"] = "image"
    """An image is seen alone; an overlay lies over it."""
    keys: Sequence[tuple[str, str]] = ()
    """What colours mean: words, and the colour as CSS has it."""


def write_page(
    path: Path,
    *,
    title: str,
    geobox: GeoBox,
    layers: Sequence[Layer],
    outlines: Path | None,
    first: Mapping[str, str],
    notes: Sequence[str],
    facts: Mapping[str, str],
    scenes: Sequence[Mapping[str, str]],
    repeat: str,
    cite: str,
    licence: str,
) -> Path:
    """Write the page under the hidden name of ``path``.

    Args:
        path: the page to make.
        title: what it shows.
        geobox: the grid of the map.
        layers: pictures of the area, the images first: the first on the left, the second on the right.
        outlines: a GeoPackage of :func:`~crgen.pipeline.flood.polygons.write_polygons`.
        first: what a person asks first, by its name; stands above the map.
        notes: what a person should know before trusting it; below that.
        facts: all else, by its name; stands below the map.
        scenes: acquisitions, by ``what``, ``day``, ``platform``, ``orbit`` and ``id``.
        repeat: the command that makes the map again.
        cite: how to cite it.
        licence: of the imagery.

    Returns:
        The hidden file, for :func:`~crgen.files.publish`.

    Raises:
        OutputError: if it cannot be written.
    """
    said = {
        "title": title,
        "first": first,
        "notes": notes,
        "facts": facts,
        "outline_keys": [(NAMES[layer], OUTLINES[layer]) for layer in LAYERS],
        "scenes": scenes,
        "repeat": repeat,
        "cite": cite,
        "licence": licence,
        "width": geobox.shape[1],
        "height": geobox.shape[0],
        "place": {"shape": [int(n) for n in geobox.shape], "pixel": ground_pixel(geobox), "grid": _lonlat(geobox)},
    }
    page, share = b"", 1.0
    while not page or len(page) > LARGEST:
        shown = [{"layer": layer, "href": _encoded(layer, share)} for layer in layers]
        drawn = [] if outlines is None else _drawn(outlines, geobox, share)
        page = template(Path(__file__).with_name("viewer.html.j2")).render(shown=shown, outlines=drawn, **said).encode()
        share *= 0.8
    return write_partial(path, page)


def template(path: Path) -> jinja2.Template:
    """Return a template of an HTML page: what is put in is escaped, and what is not given is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(path.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)


def _encoded(layer: Layer, share: float) -> str:
    """Return a picture as a data URL, at a share of its size."""
    image = Image.fromarray(layer.pixels)
    if share < 1:
        image = image.resize([max(1, round(n * share)) for n in image.size])
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=layer.kind == "overlay" and share == 1, quality=82, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()


def _drawn(outlines: Path, geobox: GeoBox, share: float) -> list[dict[str, str]]:
    """Return the largest outlines by layer as paths in pixels of the map.

    They are simplified, and left out with their holes where too small, to what can be seen at a share of the size.
    """
    a = geobox.affine
    step = max(geobox.shape) / 2000 / share
    found = []
    for layer in LAYERS:
        with hidden_name():
            _, _, wkb, (areas,) = pyogrio.raw.read(  # type: ignore[no-untyped-call]
                outlines, layer=layer, columns=["area_m2"], where=f"area_m2 >= {(2 * step * a.a) ** 2:.0f}"
            )
        largest = np.argsort(areas, kind="stable")[::-1][:MOST_OUTLINES]
        rings = shapely.get_rings(shapely.get_parts(shapely.from_wkb(wkb[largest])))
        rings = rings[shapely.area(shapely.polygons(rings)) >= (2 * step * a.a) ** 2]
        pixels = shapely.transform(
            shapely.simplify(rings, step * a.a), lambda xy: np.round((xy - (a.c, a.f)) / (a.a, a.e), 1)
        )
        found.append({"name": layer, "colour": OUTLINES[layer], "path": "".join(map(_path, pixels))})
    return found


def _path(ring: Any) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in ring.coords[:-1]) + "Z"


def _lonlat(geobox: GeoBox) -> list[list[tuple[float, float]]]:
    """Return longitude and latitude on a grid of places over the area, from its upper left corner.

    Longitudes go on beyond 180° where the area lies on both sides of it, so that those between follow.
    """
    a, (height, width) = geobox.affine, geobox.shape
    cols, rows = np.meshgrid(np.linspace(0, width, GRID), np.linspace(0, height, GRID))
    x, y = a.c + a.a * cols, a.f + a.e * rows
    lon, lat = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)
    lon = np.unwrap(np.unwrap(lon, axis=0, period=360), axis=1, period=360)
    return [[(round(a, 7), round(b, 7)) for a, b in zip(*row, strict=True)] for row in zip(lon, lat, strict=True)]
