"""A picture of which acquisitions cover an area, and which of them were taken."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from odc.geo.geom import Geometry
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from crgen.files import write_whole
from crgen.gee.choose.choice import Candidate, Choice

TITLES = {"s1": "radar", "s2": "optical"}
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8e5ea2", "#c77f1a", "#4f5d75")
MUTED = "#9a9a9a"
PANEL = 5.2
"""Side of a panel in inches."""


def draw_footprints(path: Path, choice: Choice) -> None:
    """Draw one panel per variable.

    What was taken is filled and numbered, 1 on top; what was not is dashed. The area is black.

    Raises:
        OutputError: if it cannot be written.
    """
    manifest = choice.manifest
    area = Geometry(manifest.area.polygon, manifest.area.crs).to_crs("EPSG:4326", resolution=1000).geom
    names = [f"{sensor}_{date}" for sensor in TITLES for date in manifest.dates]
    columns = len(manifest.dates)
    figure = Figure(figsize=(PANEL * columns, PANEL * len(TITLES) * 0.95), layout="constrained")
    FigureCanvasAgg(figure)
    view = _view(area, choice)
    axes = figure.subplots(len(TITLES), columns, squeeze=False).ravel()
    for place, name in zip(axes, names, strict=True):
        _draw(place, name, choice, area, view)
    figure.suptitle(f"{manifest.area.name}: acquisitions looked at and taken", fontsize=12, fontweight="bold")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_whole(path, content.getvalue())


def _draw(place: Axes, name: str, choice: Choice, area: BaseGeometry, view: tuple[float, float, float, float]) -> None:
    sensor, date = name.split("_")
    manifest = choice.manifest
    candidates = [c for c in choice.candidates if c.variable == name]
    taken = sorted((c for c in candidates if c.taken), key=lambda c: _rank(c, choice))
    for candidate in (c for c in candidates if not c.taken):
        _outline(place, _footprint(candidate), color=MUTED, linestyle=(0, (4, 3)), linewidth=0.9)
    for number, candidate in reversed(list(enumerate(taken))):
        colour = COLOURS[number % len(COLOURS)]
        shape = _footprint(candidate)
        for part in _parts(shape):
            place.fill(*part.exterior.xy, color=colour, alpha=0.18, linewidth=0)
        _outline(place, shape, color=colour, linewidth=1.8, label=f"{number + 1}. {_label(candidate)}")
    if left := len(candidates) - len(taken):
        place.plot([], [], color=MUTED, linestyle=(0, (4, 3)), linewidth=0.9, label=f"{left} not taken")
    _outline(place, area, color="black", linewidth=2.0, label=manifest.area.name)
    share = manifest.coverage.get(name, 0.0)
    what = f"{100 * share:.1f} % of the area" if share else "none"
    place.set_title(f"{date} {TITLES[sensor]}, {manifest.dates[date]}: {what}", fontsize=10)
    west, south, east, north = view
    place.set_xlim(west, east)
    place.set_ylim(south, north)
    place.set_aspect(1 / math.cos(math.radians((south + north) / 2)), adjustable="box")
    place.grid(color="#e4e4e4", linewidth=0.6)
    place.tick_params(labelsize=8)
    place.xaxis.set_major_formatter(lambda x, _: f"{(x + 180) % 360 - 180:g}°")
    place.yaxis.set_major_formatter(lambda y, _: f"{y:g}°")
    handles, labels = place.get_legend_handles_labels()
    order = [*range(len(taken))[::-1], *range(len(taken), len(labels))]
    place.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(0, -0.05),
        frameon=False,
    )


def _rank(candidate: Candidate, choice: Choice) -> int:
    """Return how far down in the mosaic a pass lies."""
    order = [scene.id for scene in choice.manifest.scenes.get(candidate.variable, ())]
    return order.index(candidate.overpass.first.id)


def _label(candidate: Candidate) -> str:
    first = candidate.overpass.first
    clear = "" if candidate.overpass.clear is None else f", {100 * candidate.overpass.clear:.0f} % clear"
    return f"{first.platform} {first.day:%d %b}, orbit {first.relative_orbit} {first.direction.lower()}{clear}"


def _footprint(candidate: Candidate) -> BaseGeometry:
    return shapely.union_all([scene.footprint for scene in candidate.overpass.scenes])


def _view(area: BaseGeometry, choice: Choice) -> tuple[float, float, float, float]:
    """Return the degrees to show: the footprints, but at most some ten times the area's own size around it."""
    west, south, east, north = area.bounds
    span = max(east - west, north - south, 0.5) * 4
    middle = np.array([(west + east) / 2, (south + north) / 2])
    shapes = [_footprint(c) for c in choice.candidates] or [area]
    bounds = shapely.total_bounds([area, *shapes])
    low, high = np.maximum(bounds[:2] - 0.1, middle - span), np.minimum(bounds[2:] + 0.1, middle + span)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _outline(place: Axes, shape: BaseGeometry, label: str | None = None, **style: Any) -> None:
    for number, part in enumerate(_parts(shape)):
        place.plot(*part.exterior.xy, label=label if number == 0 else None, **style)


def _parts(shape: BaseGeometry) -> list[Polygon]:
    return [p for p in getattr(shape, "geoms", [shape]) if isinstance(p, Polygon)]
