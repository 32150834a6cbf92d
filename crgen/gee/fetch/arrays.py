"""Lazy arrays of a manifest's pixels on a grid: nothing is fetched until dask computes a block."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from crgen.gee.connection.session import Settings, connect
from crgen.gee.fetch.fetcher import HOME, Fetcher, Job, fetcher
from crgen.gee.fetch.images import Layer, layers, past_together, water_layer
from crgen.gee.fetch.per_tile import layers_over
from crgen.gee.fetch.tile import LARGEST, Tiling, tile_side
from crgen.gee.manifest import Manifest

map_blocks: Callable[..., da.Array] = da.map_blocks

AHEAD = 2
"""Tiles fetched ahead in either direction, in multiples of the concurrency."""


@dataclass(frozen=True)
class Pull:
    """All tiles of some layers on a grid; small, and picklable to dask workers.

    Tiles are numbered row by row, and of each place layer by layer: the order that readers ask in.
    """

    layers: tuple[Layer, ...]
    """Of each variable, with all its scenes."""
    tiling: Tiling
    settings: Settings
    folder: Path
    parts: tuple[Layer, ...]
    """Layers with the scenes that meet some tile."""
    part_of: tuple[int | None, ...]
    """For each tile the number of its part; None where no scene meets it."""
    home: str = HOME
    opened: float = field(default_factory=time.monotonic, compare=False)
    """When it was laid out, by the monotonic clock of the process ``home``."""

    @property
    def geobox(self) -> GeoBox:
        """The grid."""
        return self.tiling.geobox

    @property
    def shape(self) -> tuple[int, int]:
        """Tiles down and across."""
        return len(self.tiling.rows), len(self.tiling.columns)

    def __len__(self) -> int:
        return len(self.part_of)

    def job(self, number: int) -> Job | None:
        """Return a tile by its number; None if there is nothing to ask for."""
        part = self.part_of[number]
        if part is None:
            return None
        return Job(self.parts[part], self.geobox, self.tiling.tiles[number // len(self.layers)])

    def jobs(self, numbers: Iterable[int]) -> Iterator[Job]:
        """Yield tiles by their numbers, those that there is anything to ask for."""
        return filter(None, map(self.job, numbers))

    def read(self, layer: int, row: int, col: int) -> NDArray[np.float32]:
        """Return a tile in the Stack's units, ``(channel, y, x)``; its neighbours are fetched meanwhile.

        Neighbours in both directions: dask reads a line of tiles from the last to the first.
        """
        number = (row * self.shape[1] + col) * len(self.layers) + layer
        # Elsewhere only the other layers of the same place: whoever reads one needs them all.
        here = self.home == HOME
        alone = here and not _in_dask_worker()
        window = AHEAD * self.settings.concurrency if alone else None
        first, last = number - layer, number - layer + len(self.layers) - 1
        if window is not None:
            first, last = max(0, number - window), min(len(self) - 1, number + window)
        pairs = zip_longest(range(number + 1, last + 1), range(number - 1, first - 1, -1))
        ahead = list(self.jobs(n for pair in pairs for n in pair if n is not None))
        job = self.job(number)
        if job is None:
            self.fetcher.begin(ahead, self.opened if here else time.monotonic())
            tile, whole = self.tiling.tiles[number // len(self.layers)], self.layers[layer]
            return whole.decode(np.zeros((tile.height, tile.width), whole.dtype))
        return job.layer.decode(self.fetcher.get(job, ahead, self.opened if here else None))

    def begin(self) -> None:
        """Start to fetch the first tiles, while their reader is still being set up."""
        some = min(len(self), AHEAD * self.settings.concurrency)
        self.fetcher.begin(self.jobs(range(some)), self.opened)

    @property
    def fetcher(self) -> Fetcher:
        """What fetches them in this process, with its counters."""
        return fetcher(self.settings, self.folder)

    @property
    def bytes(self) -> int:
        """Of all tiles as they arrive, uncompressed."""
        return int(np.prod(self.geobox.shape)) * sum(layer.dtype.itemsize for layer in self.layers)

    def missing(self) -> list[Job]:
        """Return the tiles that must be fetched: those that scenes meet and that are not on disk."""
        cache = self.fetcher.cache
        return [job for job in self.jobs(range(len(self))) if job.key not in cache]

    def arrays(self) -> dict[str, da.Array]:
        """Return the Stack's variables: ``s1_…``, ``s2_…`` ``(channel, y, x)`` and ``clear_…`` ``(y, x)``, float32.

        Those of several days of the past, ``s1_past`` and ``s2_past``, hold one day's channels after the other's.
        """
        token = hashlib.sha256(repr((self.tiling, [layer.digest for layer in self.layers])).encode())
        made = {}
        for number, layer in enumerate(self.layers):
            chunks = ((layer.channels,), self.tiling.rows, self.tiling.columns)
            pixels = map_blocks(
                partial(_block, self, number),
                name=f"gee-{layer.name}-{token.hexdigest()[:16]}",
                chunks=chunks,
                dtype=np.float32,
                meta=np.empty((0, 0, 0), np.float32),
            )
            if layer.name.startswith("s2") and not layer.name.endswith("past"):
                made[layer.name], made[layer.name.replace("s2", "clear")] = pixels[:-1], pixels[-1]
            else:
                made[layer.name] = pixels
        return made


def open_pull(
    manifest: Manifest,
    geobox: GeoBox,
    settings: Settings,
    folder: Path,
    *,
    largest: int = LARGEST,
    copied: Sequence[date] = (),
) -> tuple[Pull, Manifest]:
    """Lay out the tiles of a manifest's scenes on a grid; fetches nothing.

    Args:
        manifest: the scenes.
        geobox: the grid, north-up; it may reach beyond the manifest's area.
        settings: how to reach Earth Engine.
        folder: where tiles are kept.
        largest: side of a tile in pixels, at most.
        copied: days of the manifest's past whose Sentinel-2 is wanted too.

    Returns:
        The pull, and the manifest with the digests of its expressions. If it held digests that differ now, a note
        says that this version of crgen computes these variables in another way.

    Raises:
        SourceError: if Earth Engine cannot be used.
    """
    connect(settings)
    whole = {f"s2_{day}": manifest.past[f"s2_{day}"] for day in copied}
    shown = manifest.model_copy(update={"scenes": manifest.scenes | whole})
    made = tuple(layers(shown))
    digests = {layer.name: layer.digest for layer in made}
    changed = [name for name, digest in manifest.expressions.items() if digests.get(name, digest) != digest]
    notes = manifest.notes
    if changed:
        notes += (f"{', '.join(changed)} is computed in another way than when the manifest was made",)
    tiling = Tiling(geobox, tile_side(made, largest))
    parts, part_of = layers_over(shown, geobox, tiling.tiles)
    pull = Pull(made, tiling, settings, folder, parts, part_of)
    return pull, manifest.model_copy(update={"expressions": digests, "notes": notes})


def _in_dask_worker() -> bool:
    """Say whether this thread works for a dask.distributed worker, which has neighbours."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _block(pull: Pull, layer: int, block_info: Any = None) -> NDArray[np.float32]:
    _, row, col = block_info[None]["chunk-location"]
    return pull.read(layer, row, col)


def open_past(
    manifest: Manifest, geobox: GeoBox, settings: Settings, folder: Path, days: Mapping[str, Sequence[date]]
) -> Pull:
    """Lay out the tiles of a manifest's past on a small grid; fetches nothing.

    Args:
        manifest: the scenes.
        geobox: the grid.
        settings: how to reach Earth Engine.
        folder: where tiles are kept.
        days: which days of the past, by layer: ``s1_past``, ``s2_past``.

    Raises:
        SourceError: if Earth Engine cannot be used.
    """
    connect(settings)
    return _everywhere(tuple(past_together(manifest, days)), geobox, settings, folder)


def open_water(asset: str, name: str, geobox: GeoBox, settings: Settings, folder: Path) -> Pull:
    """Lay out the tiles of how often there was water on a grid, as one layer; fetches nothing.

    Args:
        asset: the JRC's Global Surface Water.
        name: of the layer.
        geobox: the grid.
        settings: how to reach Earth Engine.
        folder: where tiles are kept.

    Raises:
        SourceError: if Earth Engine cannot be used.
    """
    connect(settings)
    return _everywhere((water_layer(asset, name),), geobox, settings, folder)


def _everywhere(made: tuple[Layer, ...], geobox: GeoBox, settings: Settings, folder: Path) -> Pull:
    """Return the tiles of layers that are asked for whole at every place of a grid."""
    tiling = Tiling(geobox, tile_side(made))
    return Pull(made, tiling, settings, folder, made, tuple(range(len(made))) * len(tiling.tiles))
