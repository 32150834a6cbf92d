"""Which channels of the imagery are opened: those that weights read to make some bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from crgen.errors import RequestError
from crgen.model.card import ModelCard
from crgen.model.config import GeneratorConfig
from crgen.model.find import find_weights, read_card
from crgen.pipeline.box import grid_of, lattice_box
from crgen.pipeline.request import ALL
from crgen.pipeline.source.stack import FEATHER

BANDS = ("B2", "B3", "B4", "B8", "B11", "B12")
"""The bands that are made where none are named: true colour, near and short-wave infrared."""


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


def channels_of(weights: str, bands: Sequence[str] | None) -> Channels:
    """Return what weights ask Earth Engine for to make some bands, or the usual ones.

    Raises:
        RequestError: if the weights do not make a band.
        WeightsError: if there are none of that name.
    """
    card = read_card(find_weights(weights))
    return Channels.of(card, bands_made(bands, card.config))


def bands_made(
    asked: Sequence[str] | None, config: GeneratorConfig, held: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the bands of the result.

    Args:
        asked: by a person, or ``("all",)``; None for :data:`BANDS`, as far as they can be made.
        config: of the generator.
        held: the bands of a local stack or a manifest.

    Raises:
        RequestError: if the weights do not make a band.
    """
    if asked is None:
        return tuple(b for b in BANDS if b in config.bands and (held is None or b in held or b in config.core))
    if tuple(asked) == ALL:
        return config.bands
    if unknown := [band for band in asked if band not in config.bands]:
        raise RequestError(f"the weights do not make {', '.join(unknown)}; they make {', '.join(config.bands)}")
    return tuple(asked)
