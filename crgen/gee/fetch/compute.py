"""Compute units that requests take, as Earth Engine tells it, and by that what others will take: an estimate.

The service tells what a request took in a profile of it. It is asked for the first tile of a kind that a process
fetches, the second, the fourth, and so on. What it tells is kept beside the tiles.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from crgen.gee.connection.session import Session
from crgen.gee.fetch.images import Layer
from crgen.gee.fetch.tile import Tile

FILE = "compute.jsonl"
PATIENCE = 20.0
"""Seconds that a profile is asked for; without it nothing but an estimate is worse."""
SECONDS_COLUMN = "EECU"
"""What the heading of a profile begins with: the unit of its first column."""


class Estimate(NamedTuple):
    """What some requests will take."""

    hours: float
    """EECU-hours."""
    tiles: int
    """Tiles that it is known from."""


def kind_of(layer: Layer) -> str:
    """Return what tiles have in common that take alike for each pixel of each scene: the sensor, and how many bands."""
    return f"{layer.name[:2]}, {len(layer.bands)} bands"


def work_of(layer: Layer, tile: Tile) -> float:
    """Return the pixels of all scenes that a tile is computed from, in millions."""
    return layer.scenes * tile.height * tile.width / 1e6


def seconds_told(profile: str) -> float | None:
    """Return the EECU-seconds of a profile, a table with a line for each operation; None if it is something else."""
    heading, _, rows = profile.partition("\n")
    if not heading.strip().startswith(SECONDS_COLUMN):
        return None
    return sum(float(number) for number in re.findall(r"^ *(\d+(?:\.\d+)?) ", rows, re.MULTILINE))


class Meter:
    """Asks what requests took, and keeps it.

    Args:
        folder: where tiles are kept.
        service: the address of Earth Engine.
    """

    def __init__(self, folder: Path, service: str) -> None:
        self._path, self._service = folder / FILE, service
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def due(self, layer: Layer) -> bool:
        """Say whether a profile of this request is wanted, and count it."""
        kind = kind_of(layer)
        with self._lock:
            self._seen[kind] += 1
            count = self._seen[kind]
        return count & (count - 1) == 0  # a power of two

    def read(
        self, session: Session, layer: Layer, tile: Tile, profiles: Sequence[str], stopped: threading.Event
    ) -> None:
        """Keep what a request took, if the service tells."""
        import ee

        asked = ee.ApiFunction.lookup("Profile.getProfiles").call(ids=list(profiles))
        with session.gate.aside():  # pixels do not depend on it
            told = session.call("a profile", lambda: ee.data.computeValue(asked), patience=PATIENCE, stopped=stopped)
        seconds = seconds_told(told) if isinstance(told, str) else None
        if seconds is None:
            return
        line = {"service": self._service, "kind": kind_of(layer), "work": work_of(layer, tile), "seconds": seconds}
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, (json.dumps(line) + "\n").encode())
            finally:
                os.close(descriptor)

    def estimate(self, asked: Iterable[tuple[Layer, Tile]]) -> Estimate | None:
        """Return what requests will take by what earlier ones took; None if of some nothing is known."""
        work: defaultdict[str, float] = defaultdict(float)
        seconds: defaultdict[str, float] = defaultdict(float)
        tiles: Counter[str] = Counter()
        for kind, pixels, took in self._kept():
            work[kind] += pixels
            seconds[kind] += took
            tiles[kind] += 1
        total, kinds = 0.0, set()
        for layer, tile in asked:
            kind = kind_of(layer)
            if not work[kind]:
                return None
            total += work_of(layer, tile) * seconds[kind] / work[kind]
            kinds.add(kind)
        return Estimate(total / 3600, sum(tiles[kind] for kind in kinds))

    def _kept(self) -> Iterator[tuple[str, float, float]]:
        """Yield kind, work and EECU-seconds of what this service told; a damaged line is passed over."""
        try:
            lines = self._path.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            with suppress(ValueError, KeyError, TypeError):
                told = json.loads(line)
                if told["service"] == self._service:
                    yield str(told["kind"]), float(told["work"]), float(told["seconds"])


def compute_text(estimate: Estimate | None) -> str:
    """Return an estimate for people."""
    if estimate is None:
        return "not known yet: Earth Engine tells it while tiles are fetched"
    return f"about {estimate.hours:.2g} EECU-hours, estimated from {estimate.tiles:,} tiles fetched before"
