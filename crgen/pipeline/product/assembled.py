"""The finished rasters of a map, not yet published, and what is known of them: all that pictures, page and Item say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crgen.pipeline.cog.splice import Spliced
from crgen.pipeline.flood.area import Areas
from crgen.pipeline.picture.thumbnail import InputThumbnails
from crgen.pipeline.product.truth import Truth
from crgen.pipeline.source.registration import Shift
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.past import Learned


@dataclass(frozen=True)
class Assembled:
    """The finished rasters, and what is known of them."""

    rasters: dict[str, Spliced]
    """By the key of their asset."""
    outlines: Path | None
    """The GeoPackage of water, where the weights tell of it."""
    inputs: InputThumbnails
    """The inputs in small."""
    tally: Tally
    areas: Areas | None
    """Of water, where the weights tell of it."""
    check: dict[str, Any]
    """See :func:`~crgen.pipeline.product.selfcheck.self_check`."""
    shift: Shift | None
    """Between the radar of t1 and of t2, where it could be told."""
    radar: str
    """What a person is told of the radar; may be empty."""
    learned: Learned | None
    """What the place's past teaches, if it was asked."""
    truth: Truth
    notes: tuple[str, ...]
    """What a person should know about the inputs."""

    @property
    def files(self) -> dict[str, Path]:
        """Where the rasters are, by the key of their asset."""
        return {name: spliced.path for name, spliced in self.rasters.items()}
