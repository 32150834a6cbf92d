"""What a run, or one chunk of it, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crgen.pipeline.tiling.quality import Quality


@dataclass
class Tally:
    """What a run, or one chunk of it, counted."""

    pixels: Counter[int] = field(default_factory=Counter)
    """Pixels of each quality class."""
    missing: Counter[str] = field(default_factory=Counter)
    """Pixels inside the area at which an input is missing, by variable."""
    unlike: Counter[str] = field(default_factory=Counter)
    """Pixels unlike the training, by what is (:mod:`crgen.model.usual`)."""
    water: Counter[str] = field(default_factory=Counter)
    """Pixels of water to be expected, see :func:`~crgen.pipeline.tiling.water.expected_pixels`."""
    inside: int = 0
    """Pixels inside the area."""
    seen: int = 0
    """Pixels of these that were seen at t2, used or not."""
    windows: int = 0
    """Windows computed."""

    @property
    def made(self) -> int:
        """Pixels that hold a value."""
        return sum(count for quality, count in self.pixels.items() if quality != Quality.NODATA)

    @property
    def shares(self) -> dict[Quality, float]:
        """Share of the area by quality class, of those that occur; pixels outside of it are not counted."""
        pixels = {quality: self.pixels[quality] for quality in Quality} | {Quality.NODATA: self.inside - self.made}
        return {quality: count / self.inside for quality, count in pixels.items() if count}

    def add(self, other: Tally) -> None:
        """Count another chunk in."""
        for name, count in vars(other).items():
            held = getattr(self, name)
            if isinstance(held, Counter):
                held.update(count)
            else:
                setattr(self, name, held + count)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Tally:
        """Return what :meth:`to_json` was called on; JSON has made its numbers of classes texts."""
        counters = {name: Counter(held[name]) for name in ("missing", "unlike", "water")}
        pixels = Counter({int(quality): count for quality, count in held["pixels"].items()})
        return cls(**{**held, **counters, "pixels": pixels})
