"""Passes: all scenes of one overpass of a satellite over an area."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

import shapely
from shapely.geometry.base import BaseGeometry

from crgen.gee.choose.description import Asset
from crgen.gee.choose.outlines import projected

OVERPASS = timedelta(minutes=30)
"""Scenes further apart in time are of different passes; an orbit takes 100 minutes."""


ClearBy = Literal["score", "scene"]
"""``score``: Cloud Score+, over the area; ``scene``: the metadata, of the whole scene."""


@dataclass(frozen=True)
class Pass:
    """The scenes of one overpass."""

    scenes: tuple[Asset, ...]
    shape: BaseGeometry
    """What it covers of the area, in the grid's CRS."""
    coverage: float
    clear: float | None
    """Share without cloud of what it covers."""
    clear_by: frozenset[ClearBy]
    """Where that share is from."""

    @property
    def first(self) -> Asset:
        """The earliest scene; all agree in platform, orbit and direction."""
        return self.scenes[0]

    @property
    def orbit(self) -> tuple[int, str]:
        """Relative orbit and direction: what must agree between dates."""
        return self.first.geometry


def passes_over(
    assets: Iterable[Asset],
    outline: BaseGeometry,
    crs: str,
    channels: Sequence[str] = (),
    reach: BaseGeometry | None = None,
) -> list[Pass]:
    """Return the passes that touch the area, earliest first; scenes that lack a channel are left out of theirs.

    A pass of such scenes alone is kept, marked unfit. Scenes that touch only ``reach`` are in their pass.
    """
    groups: list[list[Asset]] = []
    for asset in sorted(assets, key=lambda a: (a.platform, *a.geometry, a.orbit, a.time, a.id)):
        if not (groups and _same_pass(groups[-1][-1], asset)):
            groups.append([])
        groups[-1].append(_checked(asset, channels))
    passes = []
    for group in groups:
        members = sorted(group, key=lambda a: a.rank)
        shapes = [projected(a.footprint, crs) for a in members]
        near = [
            (a, s) for a, s in zip(members, shapes, strict=True) if s.intersects(outline if reach is None else reach)
        ]
        fit = [(a, s.intersection(outline)) for a, s in near if not a.unfit or all(b.unfit for b, _ in near)]
        union = shapely.union_all([s for _, s in fit])
        if union.area == 0:
            continue
        known = [(a.clear, s.area) for a, s in fit if a.clear is not None and s.area > 0]
        clear = sum(c * n for c, n in known) / sum(n for _, n in known) if known else None
        by = {_clear_by(a) for a, s in fit if a.clear is not None and s.area > 0}
        coverage = min(1.0, union.area / outline.area)
        passes.append(Pass(tuple(a for a, _ in fit), union, coverage, clear, frozenset(by)))
    return sorted(passes, key=lambda p: (p.first.time, p.first.id))


def _clear_by(asset: Asset) -> ClearBy:
    return "scene" if asset.clear_over_area is None else "score"


def _same_pass(a: Asset, b: Asset) -> bool:
    together = (a.platform, a.geometry, a.orbit) == (b.platform, b.geometry, b.orbit)
    return together and b.time - a.time < OVERPASS


def _checked(asset: Asset, channels: Sequence[str]) -> Asset:
    """Return the asset, marked unfit if it lacks a channel."""
    lacking = [c for c in channels if c not in asset.bands]
    if asset.unfit or not lacking:
        return asset
    held = [b for b in asset.bands if b in ("VV", "VH", "HH", "HV")]
    return replace(asset, unfit=f"holds {'/'.join(held)} only" if held else f"lacks {', '.join(lacking)}")
