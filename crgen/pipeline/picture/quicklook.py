"""The quicklook: one PNG that shows what went in, what came out, and what of it was observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer

from crgen.files import write_partial
from crgen.pipeline.cog.profile import TRUE_COLOUR, composites
from crgen.pipeline.picture.page import MARGIN, MISSING, MUTED, Entry, Sheet
from crgen.pipeline.picture.thumbnail import InputThumbnails, cog_thumbnail
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

WIDEST, TALLEST, NARROWEST = 14.0, 10.5, 2.2
"""Limits of the sheet and of a panel's column, in inches."""
GAP, TITLE, CAPTION, LINE = 0.22, 0.42, 0.42, 0.24
"""In inches: the gap between panels, heights of title, panel title and legend line."""


@dataclass(frozen=True)
class Panel:
    """One picture of the quicklook."""

    title: str
    image: NDArray[np.float32]
    """``(y, x)`` or ``(y, x, 3)``: reflectance, backscatter in dB, or quality classes; NaN where missing."""
    kind: Literal["optical", "radar", "quality"]
    caption: str = ""
    """A second line: sensor, bands."""
    composite: int = 0
    """Of an optical panel: which composite it shows; each has a stretch of its own."""


def draw_quicklook(
    path: Path,
    *,
    panels: Sequence[Panel],
    title: str,
    geobox: GeoBox,
    stretch_like: Sequence[NDArray[np.float32]],
    shares: Mapping[Quality, float],
    xmp: str = "",
    proof: str = "",
) -> Path:
    """Draw the panels under the hidden name of ``path``.

    All optical panels of a composite share one stretch, and all radar panels another, so that they can be compared;
    pixels without data are hatched. A panel of a second composite stands beside that of the first.

    Args:
        path: the PNG to make.
        panels: pictures of the same area, in reading order.
        title: heading of the whole.
        geobox: the grid of the area; gives shape and scale.
        stretch_like: by composite, the optical image whose 2nd to 98th percentiles, by channel, set the stretch: the
            result, not a cloudy input.
        shares: of the area by quality class, for the legend.
        xmp: an XMP packet to put into the file.
        proof: a line below it: what was scored on the place's own past.

    Returns:
        The hidden file, for :func:`~crgen.files.publish`.

    Raises:
        OutputError: if it cannot be written.
    """
    radar = [panel.image for panel in panels if panel.kind == "radar"]
    stretches = [stretch_of([image], 0.05) for image in stretch_like], stretch_of(radar, 5.0)
    beside = [i - 1 for i, panel in enumerate(panels) if panel.composite]
    columns, panel_width, panel_height = arrange(len(panels), geobox.shape[0] / geobox.shape[1], beside)
    column = max(panel_width, NARROWEST)
    width = 2 * MARGIN + columns * (column + GAP) - GAP
    sheet = Sheet(width)
    legend = sheet.wrapped(_legend(shares, any(_is_missing(panel).any() for panel in panels)))
    row = CAPTION + panel_height + GAP
    lines = len(legend) + bool(proof)
    sheet.set_height(MARGIN + TITLE + -(-len(panels) // columns) * row + lines * LINE + MARGIN / 2)

    room = sheet.draw_scale(MARGIN, metres_across(geobox) / panel_width, panel_width) - 2 * MARGIN
    sheet.write(MARGIN, MARGIN, title, room, fontsize=13, fontweight="bold")
    for number, panel in enumerate(panels):
        left = MARGIN + number % columns * (column + GAP)
        top = MARGIN + TITLE + number // columns * row
        sheet.write(left, top, panel.title, column, fontsize=10, fontweight="bold")
        sheet.write(left, top + 0.2, _caption(panel, stretches[1]), column, fontsize=8, color=MUTED)
        axes = sheet.axes(left, top + CAPTION, panel_width, panel_height)
        interpolation = "nearest" if panel.kind == "quality" else "auto"
        axes.imshow(colours_of(panel, *stretches), aspect="auto", interpolation=interpolation)
    for number, entries in enumerate(legend):
        sheet.draw_legend(entries, sheet.height - MARGIN / 2 - (lines - number) * LINE)
    if proof:
        sheet.write(MARGIN, sheet.height - MARGIN / 2 - LINE, proof, width - 2 * MARGIN, fontsize=9)
    return write_partial(path, sheet.png(xmp))


def product_panels(
    inputs: InputThumbnails,
    *,
    result: Path,
    quality: Path,
    t1: date,
    t2: date,
    days: Mapping[str, Sequence[date]],
    truth: NDArray[np.float32] | None = None,
) -> tuple[list[Panel], list[NDArray[np.float32]]]:
    """Return the panels of a product, and its image by composite to set the stretch by.

    Args:
        inputs: the Stack in small.
        result: the reflectance COG.
        quality: the quality COG.
        t1: day of the reference images.
        t2: day the product shows.
        days: days of acquisition by variable, in order, where they are known; named where they are others.
        truth: what t2 looked like, in the bands of the first composite, ``(y, x, band)``, if that is known.
    """
    with rasterio.open(result) as cog:
        shown = composites(cog.descriptions)
    images = [np.moveaxis(cog_thumbnail(result, bands), 0, -1) for bands in shown]

    def optical(title: str, caption: str, composite: int, image: NDArray[np.float32]) -> Panel:
        return Panel(title, image, "optical", f"{caption} · {_named(shown[composite])}", composite)

    def radar(name: str, date: str, asked: date) -> Panel:
        title = f"{date} radar, {_days(days.get(name, ()), asked)}"
        return Panel(title, inputs.radar(name), "radar", f"Sentinel-1 {inputs.pol}")

    first = f"t1 optical, {_days(days.get('s2_t1', ()), t1)}"
    panels = [optical(first, "Sentinel-2", i, inputs.optical("s2_t1", bands)) for i, bands in enumerate(shown)]
    panels += [radar("s1_t1", "t1", t1), radar("s1_t2", "t2", t2)]
    panels += [optical(f"t2 result, {_day(t2)}", "origin: see quality", *of) for of in enumerate(images)]
    classes = cog_thumbnail(quality)[0]
    panels.append(Panel(f"t2 quality, {_day(t2)}", classes, "quality", "where each pixel comes from"))
    if truth is not None:
        panels.append(optical(f"t2 truth, {_day(t2)}", "cloud-free", 0, truth))
    return panels, images


def _named(bands: Sequence[str]) -> str:
    """Return bands with what they show as red, green and blue."""
    kind = " true colour" if tuple(bands) == TRUE_COLOUR else " false colour" if len(bands) == 3 else ""
    return " ".join(bands) + kind


def stretch_of(images: Sequence[NDArray[np.float32]], narrowest: float) -> NDArray[np.float64]:
    """Return the 2nd and 98th percentile of the valid pixels by channel, ``(channel, 2)``.

    Args:
        images: ``(y, x)`` or ``(y, x, channel)``, all alike, NaN where missing.
        narrowest: least distance of the two, so that noise over a flat scene is not drawn as contrast.
    """
    if not images:
        return np.array([[0.0, narrowest]])
    pixels = np.concatenate([image.reshape(image.shape[0] * image.shape[1], -1) for image in images])
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if not len(pixels):
        return np.array([[0.0, narrowest]])
    low, high = np.percentile(pixels, (2, 98), axis=0)
    spare = np.maximum(narrowest - (high - low), 0) / 2
    return np.stack([low - spare, high + spare], axis=1)


def metres_across(geobox: GeoBox) -> float:
    """Return the ground distance from left to right edge, in metres, along the middle row of a grid."""
    box = geobox.boundingbox
    middle = (box.bottom + box.top) / 2
    lonlat = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True)
    (west, south), (east, north) = lonlat.transform(box.left, middle), lonlat.transform(box.right, middle)
    return float(Geod(ellps="WGS84").inv(west, south, east, north)[2])


def arrange(count: int, aspect: float, beside: Sequence[int] = ()) -> tuple[int, float, float]:
    """Return how many columns, and a panel's width and height in inches, fill the sheet best.

    Panels in ``beside`` are not the last of their row.
    """

    def panel_width(columns: int) -> float:
        rows = -(-count // columns)
        room = TALLEST - TITLE - 2 * MARGIN - LINE - rows * (CAPTION + GAP)
        across = (WIDEST - 2 * MARGIN + GAP) / columns - GAP
        return min(across, room / rows / aspect)

    even = sorted({-(-count // -(-count // columns)) for columns in range(1, count + 1)})
    columns = max((n for n in even if all((i + 1) % n for i in beside)), key=panel_width)
    return columns, panel_width(columns), panel_width(columns) * aspect


def colours_of(panel: Panel, optical: Sequence[NDArray[np.float64]], radar: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return RGBA, transparent where missing."""
    missing = _is_missing(panel)
    if panel.kind == "quality":
        table = np.array([COLOURS[quality] for quality in Quality], "uint8")
        return np.take(table, np.where(missing, 0, panel.image).astype("uint8"), axis=0)
    low, high = (radar if panel.kind == "radar" else optical[panel.composite]).T
    image = np.where(missing[..., None], 0, panel.image.reshape(*missing.shape, -1))
    shown = np.clip((image - low) / (high - low), 0, 1)
    rgb = np.broadcast_to(255 * shown + 0.5, (*missing.shape, 3))
    return np.dstack([rgb, np.where(missing, 0, 255)]).astype("uint8")


def _is_missing(panel: Panel) -> NDArray[np.bool_]:
    absent = ~np.isfinite(panel.image)
    if panel.kind == "quality":
        absent |= panel.image == Quality.NODATA
    return np.asarray(absent.reshape(*absent.shape[:2], -1).any(axis=2))


def _caption(panel: Panel, radar: NDArray[np.float64]) -> str:
    if panel.kind != "radar":
        return panel.caption
    low, high = radar[0]
    span = f"{low:.0f} to {high:.0f} dB".replace("-", "\N{MINUS SIGN}")
    return f"{panel.caption} · {span}"


def _legend(shares: Mapping[Quality, float], missing: bool) -> list[Entry]:
    entries = []
    for quality in (*(q for q in Quality if q), Quality.NODATA):
        if share := 100 * shares.get(quality, 0.0):
            percent = f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"
            patch = {
                "facecolor": tuple(c / 255 for c in COLOURS[quality]),
                "edgecolor": MUTED,
                "linewidth": 0.5,
            }
            entries.append((f"{LABELS[quality]} {percent}", patch if quality else MISSING))
    if missing and not shares.get(Quality.NODATA):
        entries.append(("missing, or outside the area", MISSING))
    return entries


def _days(acquired: Sequence[date], asked: date) -> str:
    """Return the day asked for, after those of the acquisitions where they are others."""
    if not acquired or list(acquired) == [asked]:
        return _day(asked)
    ends = dict.fromkeys((acquired[0], acquired[-1]))
    return f"{' to '.join(map(_day, ends))} for {_day(asked)}"


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
