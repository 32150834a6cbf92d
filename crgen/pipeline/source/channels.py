"""The channels of a Stack that a model asks for, and how far around an area it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from crgen.model.card import ModelCard
from crgen.pipeline.box import grid_of, lattice_box
from crgen.pipeline.source.stack import FEATHER


@dataclass(frozen=True)
class Channels:
    """What to open: the channels and the margin of a model, or others."""

    pols: tuple[str, ...]
    bands: tuple[str, ...]
    resolution: float
    margin: int
    """Pixels fetched around the area at most, so that windows at its edge see real surroundings."""
    window: int = 256
    """Side of the model's windows in pixels."""
    needed_pols: tuple[str, ...] = ()
    """Polarisations that radar must have where it has not all; empty for all."""
    water: bool = False
    """Whether it matters how often there was water before."""

    @classmethod
    def of(cls, card: ModelCard, made: Sequence[str]) -> Channels:
        """Return what a model asks for to make some bands: these, and those that it makes all others from."""
        config = card.config
        bands = tuple(band for band in config.bands if band in made or band in config.core)
        margin, water = card.window + FEATHER, config.predicts_water
        return cls(config.pols, bands, card.resolution, margin, card.window, config.needed_pols, water)

    def around(self, area: GeoBox) -> GeoBox:
        """Return the grid that is fetched for an area: all that the windows which touch it read, and no more."""
        read = lattice_box(area).windows(self.window).grow(FEATHER)
        common = read.intersect(lattice_box(area).grow(self.margin))
        assert common is not None
        return grid_of(common, area)

    def held_pols(self, there: Sequence[str]) -> tuple[str, ...]:
        """Return which polarisations there are; none if a needed one is not there."""
        held = tuple(pol for pol in self.pols if pol in there)
        return held if set(self.needed_pols or self.pols) <= set(held) else ()
