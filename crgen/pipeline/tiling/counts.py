"""What a run, or one chunk of it, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    bands: int = 0
    """Bands of the result."""
    compared: int = 0
    """Generated pixels with a known truth and an optical image of t1."""
    absolute: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """Sum of absolute errors over those pixels and the bands: of the result, and of copying t1."""
    squared: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    """Sum of squared errors, alike."""

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
        self.pixels.update(other.pixels)
        self.missing.update(other.missing)
        self.unlike.update(other.unlike)
        self.water.update(other.water)
        self.inside += other.inside
        self.seen += other.seen
        self.windows += other.windows
        self.compared += other.compared
        self.absolute = self.absolute + other.absolute
        self.squared = self.squared + other.squared

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "pixels": {str(int(quality)): count for quality, count in self.pixels.items()},
            "missing": dict(self.missing),
            "unlike": dict(self.unlike),
            "water": dict(self.water),
            **{name: getattr(self, name) for name in ("inside", "seen", "windows", "bands", "compared")},
            "absolute": self.absolute.tolist(),
            "squared": self.squared.tolist(),
        }

    @classmethod
    def from_json(cls, held: Mapping[str, Any]) -> Tally:
        """Return what :meth:`to_json` was called on."""
        return cls(
            **dict(held)
            | {
                "pixels": Counter({int(quality): count for quality, count in held["pixels"].items()}),
                "missing": Counter(held["missing"]),
                "unlike": Counter(held["unlike"]),
                "water": Counter(held["water"]),
                "absolute": np.array(held["absolute"]),
                "squared": np.array(held["squared"]),
            }
        )
