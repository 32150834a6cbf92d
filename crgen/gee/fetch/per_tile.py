"""Layers over one tile each, with the scenes that meet it alone: small expressions, which other runs share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import shapely
from odc.geo.geobox import GeoBox
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from crgen.gee.choose.outlines import projected
from crgen.gee.fetch.images import Layer, layer_of
from crgen.gee.fetch.tile import Tile
from crgen.gee.manifest import Manifest, Scene

REACH = 1000.0
"""Metres from a footprint within which a tile meets a scene: footprints are drawn coarser than pixels."""


def layers_over(
    manifest: Manifest, geobox: GeoBox, tiles: Iterable[Tile]
) -> tuple[tuple[Layer, ...], tuple[int | None, ...]]:
    """Return the layers that tiles need; the client must be connected.

    Args:
        manifest: the scenes.
        geobox: the grid.
        tiles: parts of it.

    Returns:
        Layers, each with the scenes that meet some of the tiles; and for each tile, variable by variable in the
        manifest's order, the number of its layer. None where no scene meets it: nothing is there to ask for.
    """
    near = {name: _Near(scenes, str(geobox.crs)) for name, scenes in manifest.scenes.items()}
    layers: list[Layer] = []
    numbers: dict[tuple[str, ...], int] = {}
    at: list[int | None] = []
    for tile in tiles:
        outline = _outline(geobox, tile)
        for name in manifest.scenes:
            scenes, others = scenes_over(manifest, name, lambda other, outline=outline: near[other].to(outline))  # type: ignore[misc]
            if not scenes:
                at.append(None)
                continue
            key = (name, *(scene.id for date in (scenes, *others) for scene in date))
            if key not in numbers:
                numbers[key] = len(layers)
                layers.append(layer_of(manifest, name, scenes, others))
            at.append(numbers[key])
    return tuple(layers), tuple(at)


def scenes_over(
    manifest: Manifest, name: str, near: Callable[[str], Sequence[Scene]]
) -> tuple[Sequence[Scene], list[list[Scene]]]:
    """Return a variable's scenes in some place, and those of radar's other dates that decide which orbit shows.

    An orbit that is missing there at another date is left out. Of one orbit alone, the other dates decide nothing.

    Args:
        manifest: all scenes.
        name: the variable.
        near: gives the scenes of a variable in that place.
    """
    scenes = near(name)
    if not name.startswith("s1") or len({scene.geometry for scene in manifest.scenes[name]}) == 1:
        return scenes, []
    dates = [near(other) for other in manifest.scenes if other.startswith("s1") and other != name]
    orbits = {scene.geometry for scene in scenes}.intersection(*({scene.geometry for scene in date} for date in dates))
    shown = [scene for scene in scenes if scene.geometry in orbits]
    if len(orbits) < 2:
        return shown, []
    return shown, [[scene for scene in date if scene.geometry in orbits] for date in dates]


class _Near:
    """Finds the scenes that meet a place, in their order."""

    def __init__(self, scenes: Sequence[Scene], crs: str) -> None:
        self._scenes = scenes
        self._tree = shapely.STRtree([projected(shape(scene.footprint), crs) for scene in scenes])

    def to(self, outline: BaseGeometry) -> list[Scene]:
        return [self._scenes[i] for i in sorted(self._tree.query(outline, predicate="intersects"))]


def _outline(geobox: GeoBox, tile: Tile) -> BaseGeometry:
    """Return a tile with ``REACH`` around it, in the grid's CRS."""
    left, top = geobox.affine * (tile.col, tile.row)
    right, bottom = geobox.affine * (tile.col + tile.width, tile.row + tile.height)
    return box(min(left, right) - REACH, min(top, bottom) - REACH, max(left, right) + REACH, max(top, bottom) + REACH)
