"""The page of a folder's products: one HTML file that a browser opens from a disk or an object store."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from crgen.batch.products.listing import COLLECTION, Product
from crgen.files import size_text
from crgen.pipeline.picture.viewer import template
from crgen.pipeline.product.selfcheck import check_line, worse_than_copying
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

NAMES = {
    "reflectance": "Reflectance",
    "quality": "Quality classes",
    "water": "Probability of water",
    "error": "Half-width of the 90 % interval",
    "flood": "Outlines of water",
    "quicklook": "Picture",
    "page": "Page",
}
CLASSES = [quality for quality in Quality if quality != Quality.NODATA]


def page_of(folder: Path, products: Sequence[Product]) -> str:
    """Return the HTML page of products below ``folder``, in the order given, with their pictures and a map."""
    cards = [_card(href_of(folder, product.paths.item), product) for product in products]
    return template(Path(__file__).with_name("index.html.j2")).render(
        cards=cards,
        view=_view([card["bbox"] for card in cards]),
        collection=COLLECTION,
        legend=[(LABELS[quality], _colour(quality)) for quality in CLASSES],
    )


def href_of(folder: Path, file: Path) -> str:
    """Return the relative URL of a file, as seen from ``folder``."""
    return "./" + quote(Path(os.path.relpath(file, folder)).as_posix())


def _card(href: str, product: Product) -> dict[str, Any]:
    properties, assets = product.item["properties"], product.item["assets"]
    water = properties.get("crgen:water", {})
    west, south, east, north = product.item["bbox"]
    east += 360 * (west > east)  # it lies on both sides of 180°
    lat, lon = (south + north) / 2, _turned((west + east) / 2)
    counts: Mapping[str, int] = properties["crgen:counts"]
    check = properties.get("crgen:self_check", {"checked": False})
    return {
        "name": product.item["id"],
        "job": posixpath.dirname(posixpath.normpath(unquote(href))) or product.item["id"],
        "page": _beside(href, assets["page"]["href"]) if "page" in assets else None,
        "worse": check_line(check) if worse_than_copying(check) else None,
        "flooded": water.get("flooded_km2"),
        "flooded_90": water.get("flooded_90_km2"),
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
    """Return the frame of the map of products in degrees, with its meridians and parallels; None without products."""
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
    named = [(degrees, _turned(degrees)) for degrees in lon]
    return {"west": west, "north": north, "span": span, "lon": named, "lat": lat}


def _turned(lon: float) -> float:
    """Return a longitude as one between -180° and 180°; what lies between these stays as it is, to the last bit."""
    return lon if -180 <= lon <= 180 else (lon + 180) % 360 - 180


def _shares(counts: Mapping[str, int]) -> list[tuple[str, float, str]]:
    """Return the label, the percentage of the valid pixels, and the colour of every class that occurs."""
    held = {quality: count for quality in CLASSES if (count := counts.get(quality.name.lower(), 0))}
    valid = sum(held.values())
    return [(LABELS[quality], 100 * count / valid, _colour(quality)) for quality, count in held.items()]


def _colour(quality: Quality) -> str:
    red, green, blue, _ = COLOURS[quality]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _beside(item: str, href: str) -> str:
    """Return the URL of a file of an Item, as seen from the page."""
    return quote(posixpath.normpath(posixpath.join(posixpath.dirname(unquote(item)), unquote(href))))


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%B %Y}"
