"""A page of a folder's products for people: one file that a browser opens from a disk, an object store or a phone."""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from crgen.batch.products.collection import COLLECTION
from crgen.batch.products.listing import Product, listing, read_product
from crgen.errors import OutputError
from crgen.files import size_text, write_whole
from crgen.pipeline.picture.viewer import template
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

INDEX = "index.html"
NAMES = {
    "reflectance": "Reflectance",
    "quality": "Quality classes",
    "water": "Probability of water",
    "error": "Half-width of the 90 % interval",
    "flood": "Outlines of water",
    "quicklook": "Picture",
    "page": "Page",
}


def write_index(folder: Path) -> Path:
    """Write ``index.html`` from the STAC Collection of ``folder``: its products, newest first, with their pictures.

    Returns:
        The file.

    Raises:
        OutputError: if there is no collection, or the page cannot be written.
    """
    path = folder / INDEX
    with listing(folder):
        cards = [_card(href, product) for href, product in _listed(folder)]
        page = template(Path(__file__).with_name("index.html.j2")).render(
            cards=cards,
            view=_view([card["bbox"] for card in cards]),
            collection=COLLECTION,
            legend=[(LABELS[quality], _colour(quality)) for quality in Quality if quality != Quality.NODATA],
        )
        write_whole(path, page.encode())
    return path


def _listed(folder: Path) -> Iterator[tuple[str, Product]]:
    """Yield the products that the collection lists, with the hrefs of their items."""
    path = folder / COLLECTION
    try:
        links = json.loads(path.read_bytes())["links"]
        hrefs = [link["href"] for link in links if link["rel"] == "item"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"cannot read the collection {path}: {error}; make it first") from None
    for href in hrefs:
        product = read_product(folder / unquote(href))
        if product is not None:
            yield href, product


def _card(href: str, product: Product) -> dict[str, Any]:
    properties, assets = product.item["properties"], product.item["assets"]
    west, south, east, north = product.item["bbox"]
    lat, lon = (south + north) / 2, (west + east) / 2
    counts: Mapping[str, int] = properties["crgen:counts"]
    return {
        "name": product.item["id"],
        "job": posixpath.dirname(posixpath.normpath(unquote(href))) or product.item["id"],
        "page": _beside(href, assets["page"]["href"]) if "page" in assets else None,
        "flooded": properties["crgen:water"]["flooded_km2"] if "crgen:water" in properties else None,
        "flooded_90": properties.get("crgen:water", {}).get("flooded_90_km2"),
        "bbox": (west, south, east, north),
        "t1": _day(properties["crgen:t1"]),
        "t2": _day(properties["crgen:t2"]),
        "created": properties["created"][:16].replace("T", " "),
        "weights": properties["crgen:model"]["name"],
        "picture": _beside(href, assets.get("thumbnail", assets["quicklook"])["href"]),
        "geo": f"geo:{lat:.4f},{lon:.4f}",
        "place": f"{abs(lat):.2f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.2f}° {'E' if lon >= 0 else 'W'}",
        "shares": _shares(counts),
        "missing": 100 * counts["nodata"] / (sum(counts.values()) or 1),
        "error": properties.get("crgen:error"),
        "files": [
            (NAMES[key], _beside(href, asset["href"]), size_text(asset["file:size"]))
            for key, asset in assets.items()
            if key in NAMES
        ],
        "item": href,
    }


def _view(boxes: Sequence[tuple[float, float, float, float]]) -> dict[str, Any] | None:
    """Return the frame of a map of products in degrees, and the meridians and parallels to draw; None for none."""
    if not boxes:
        return None
    wests, souths, easts, norths = zip(*boxes, strict=True)
    west, south, east, north = min(wests), min(souths), max(easts), max(norths)
    span = max(east - west, 2 * (north - south), 0.2) * 1.3
    west, north = (west + east - span) / 2, (south + north + span / 2) / 2
    step = next(step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 45, 90) if span / step <= 8)

    def marks(low: float, high: float) -> list[float]:
        return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]

    lon, lat = marks(west, west + span), marks(north - span / 2, north)
    return {"west": west, "north": north, "span": span, "lon": lon, "lat": lat}


def _shares(counts: Mapping[str, int]) -> list[tuple[str, float, str]]:
    """Return label, percent of the pixels that have a value, and colour of every class that occurs."""
    classes = [quality for quality in Quality if quality != Quality.NODATA]
    held = {quality: counts.get(quality.name.lower(), 0) for quality in classes}
    valid = sum(held.values()) or 1
    shares = ((quality, 100 * count / valid) for quality, count in held.items())
    return [(LABELS[quality], share, _colour(quality)) for quality, share in shares if share]


def _colour(quality: Quality) -> str:
    red, green, blue, _ = COLOURS[quality]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _beside(item: str, href: str) -> str:
    """Return where a file of an item is, seen from the page."""
    return quote(posixpath.normpath(posixpath.join(posixpath.dirname(unquote(item)), unquote(href))))


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%B %Y}"
