"""Tiles from Earth Engine through the cache, many at once, each asked for once.

A pool of threads would be less code. But tiles are asked for by dask's readers one block at a time, by several
processes, and some turn out to be too large for one request: so the tiles that follow are fetched ahead to keep all
connections busy, a tile that several need is fetched by one of them, and a large one is split.

A process has one :class:`Fetcher` per settings and cache folder.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import queue
import threading
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from crgen.errors import CrgenError, SourceError
from crgen.gee.connection.retry import INTERRUPTED, LOOK_UP, Stopped, TooMuch
from crgen.gee.connection.session import Session, Settings, connect
from crgen.gee.fetch.cache import TileCache
from crgen.gee.fetch.compute import Meter
from crgen.gee.fetch.images import Layer
from crgen.gee.fetch.tile import Tile, grid_of, read_tile, tile_key

SPARE = 0.5
"""Threads beyond the requests that may be under way, as a share of them: they prepare the next requests, read and keep
the answers, while as many as may be are on the line."""
SETTLE = 15.0
"""Seconds that a run which fails waits for the answers under way."""
HOME = uuid.uuid4().hex
"""Names this process. Far ahead is fetched only where the stack was opened: dask workers would repeat each other."""


@dataclass(frozen=True)
class Job:
    """One tile of one layer."""

    layer: Layer
    geobox: GeoBox
    tile: Tile

    @cached_property
    def grid(self) -> dict[str, Any]:
        """Its grid, as ``computePixels`` takes it."""
        return grid_of(self.geobox, self.tile)

    @cached_property
    def key(self) -> str:
        """Its name in the cache."""
        return tile_key(self.layer, self.grid)

    @property
    def bytes(self) -> int:
        """Of its pixels as they arrive, uncompressed."""
        return self.tile.height * self.tile.width * self.layer.dtype.itemsize

    def __str__(self) -> str:
        tile = self.tile
        return f"{self.layer.name}, {tile.width} × {tile.height} px at row {tile.row}, column {tile.col}"


class Delivery(Future[None]):
    """A tile that is wanted."""

    def __init__(self, since: float) -> None:
        super().__init__()
        self.since = since
        """When it was first wanted, by the monotonic clock."""


class Fetcher:
    """Fetches tiles with threads of its own; safe from any thread.

    Args:
        settings: how to reach Earth Engine.
        folder: where tiles are kept.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.cache = TileCache(folder)
        self.asked = 0
        """Tiles and parts of tiles that Earth Engine delivered."""
        self.stored = 0
        """Tiles that were on disk when they were first needed."""
        self.arrived = 0
        """Whole tiles fetched, from however many parts."""
        self._settings = settings
        self.meter = Meter(folder, settings.url)
        self._profiles: queue.SimpleQueue[tuple[Job, list[str]]] = queue.SimpleQueue()
        self._told = -math.inf
        self._under_way: dict[str, Delivery] = {}
        self._known: set[str] = set()
        self._images: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._queue: queue.PriorityQueue[tuple[int, int, Job, Delivery]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    def get(self, job: Job, ahead: Iterable[Job] = (), since: float | None = None) -> NDArray[Any]:
        """Return a tile, from disk or from Earth Engine.

        Args:
            job: the tile.
            ahead: tiles that will be needed next.
            since: moment of the monotonic clock from which they are wanted, now if not given. A final refusal that
                came later, and that nobody was told of yet, holds for them: nothing is asked.

        Raises:
            SourceError: if Earth Engine does not deliver it.
            OutputError: if it cannot be kept.
        """
        since = time.monotonic() if since is None else max(since, self._told)
        for _ in range(3):
            needed = self._ask(job, since, urgent=True)
            self.begin(ahead, since)
            if needed is not None:
                try:
                    _await(needed)
                except CrgenError:
                    self._told = time.monotonic()
                    self._settle()
                    raise
            tile = self.cache.load(job.key)
            if tile is not None:
                return tile
            with self._lock:
                self._known.discard(job.key)
        raise SourceError(f"tiles in {self.cache.folder} are damaged as soon as they are written; is the disk sound?")

    def begin(self, jobs: Iterable[Job], since: float) -> None:
        """Have tiles fetched that will be needed soon; waits for none."""
        for job in jobs:
            self._ask(job, since, urgent=False)

    def stop(self) -> None:
        """End the threads; waiting ones at once, others when their request is answered."""
        with self._lock:
            self._stopped.set()
            for _ in self._threads:
                self._queue.put((-1, next(self._order), None, None))  # type: ignore[arg-type]

    def _settle(self) -> None:
        """Let what is on the line arrive and be kept: the process may end with the error that is about to be told."""
        with self._lock:
            running = [future for future in self._under_way.values() if future.running()]
        until = time.monotonic() + SETTLE
        while wait(running, timeout=LOOK_UP).not_done and time.monotonic() < until and not INTERRUPTED.is_set():
            pass

    def _ask(self, job: Job, since: float, *, urgent: bool) -> Delivery | None:
        """Have a tile fetched unless it is kept; None if it is."""
        with self._lock:
            if job.key in self._known:
                return None
            if (future := self._under_way.get(job.key)) is None:
                if job.key in self.cache:
                    self._known.add(job.key)
                    self.stored += 1
                    return None
                future = self._under_way[job.key] = Delivery(since)
                self._queue.put((0 if urgent else 1, next(self._order), job, future))
                self._more_threads()
            elif urgent:
                # It waits among those ahead: also queue it in front. Whoever comes second finds it taken.
                self._queue.put((0, next(self._order), job, future))
            return future

    def _more_threads(self) -> None:
        concurrency = self._settings.concurrency
        if len(self._threads) < concurrency + math.ceil(SPARE * concurrency):
            # Daemons: a run that is interrupted does not wait for answers that nobody reads.
            thread = threading.Thread(target=self._work, daemon=True, name=f"earthengine-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while not self._stopped.is_set():
            _, _, job, future = self._queue.get()
            with self._lock:
                if self._stopped.is_set() or future.running() or future.done():
                    continue  # queued twice, and another thread was first
                future.set_running_or_notify_cancel()
            try:
                with self.cache.claim(job.key, partial(self._is_idle, job.key)):
                    if job.key not in self.cache:
                        session = connect(self._settings)
                        with session.gate.wanted_since(future.since):
                            self._fetch(session, job)
            except BaseException as error:
                with self._lock:
                    del self._under_way[job.key]
                    future.set_exception(error)
                    # The run ends with this error: what only waits its turn would be asked for nobody.
                    if not self._stopped.is_set():
                        self._refuse_queued(error)
            else:
                with self._lock:
                    self._known.add(job.key)
                    self.arrived += 1
                    del self._under_way[job.key]
                future.set_result(None)
                self._read_profiles()

    def _refuse_queued(self, error: BaseException) -> None:
        """End with ``error`` what nobody has begun; the lock is held."""
        with suppress(queue.Empty):
            while True:
                _, _, job, future = self._queue.get_nowait()
                if not future.running() and not future.done():
                    del self._under_way[job.key]
                    future.set_exception(error)

    def _is_idle(self, key: str) -> bool:
        """Say whether there is nothing left to do for a tile."""
        return self._stopped.is_set() or INTERRUPTED.is_set() or key in self.cache

    def _fetch(self, session: Session, job: Job) -> None:
        """Bring one tile into the cache, in parts if it must be."""
        if not self.cache.is_split(job.key):
            try:
                self.cache.store(job.key, self._request(session, job))
                _give_memory_back()
                return
            except TooMuch as error:
                if job.tile.smallest:
                    raise SourceError(
                        f"Earth Engine cannot compute even {job} ({error}); try fewer scenes with a smaller "
                        "--search-days, or 'crgen pull --export drive'"
                    ) from None
                if not error.suspected:
                    self.cache.mark_split(job.key)
        whole = np.empty((job.tile.height, job.tile.width), job.layer.dtype)
        parts = [Job(job.layer, job.geobox, tile) for tile in job.tile.halves()]
        for part in parts:
            tile = self.cache.load(part.key)
            if tile is None:
                self._fetch(session, part)
                tile = self.cache.load(part.key)
            assert tile is not None
            row, col = part.tile.row - job.tile.row, part.tile.col - job.tile.col
            whole[row : row + part.tile.height, col : col + part.tile.width] = tile
        self.cache.store(job.key, whole)
        for part in parts:
            self.cache.remove(part.key)

    def _request(self, session: Session, job: Job) -> NDArray[Any]:
        import ee

        image = self._image(job.layer)

        profiles: list[str] = []
        hook = profiles.append if self.meter.due(job.layer) else None

        def ask() -> NDArray[Any]:
            asked = {"expression": image, "fileFormat": "NPY", "grid": job.grid}
            profiles.clear()
            with ee.data.profiling(hook):
                return read_tile(ee.data.computePixels(asked), job.layer, job.tile)

        tile = session.call(str(job), ask, stopped=self._stopped, divisible=not job.tile.smallest)
        if profiles:
            self._profiles.put((job, profiles))
        with self._lock:
            self.asked += 1
        return tile

    def _read_profiles(self) -> None:
        """Keep what requests took, once their tiles are delivered; that it cannot be told ends no run."""
        with suppress(queue.Empty, CrgenError, Stopped, TooMuch):
            while True:
                job, profiles = self._profiles.get_nowait()
                self.meter.read(connect(self._settings), job.layer, job.tile, profiles, self._stopped)

    def _image(self, layer: Layer) -> Any:
        import ee

        with self._lock:
            if layer.digest not in self._images:
                self._images[layer.digest] = ee.deserializer.fromJSON(layer.expression)
            return self._images[layer.digest]


def _give_memory_back() -> None:
    """Return to the system what tiles took: the C library keeps it for each thread, which doubles what is held."""
    with suppress(AttributeError, OSError, TypeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _await(future: Delivery) -> None:
    """Wait for a tile, or until the process is told to end."""
    while not wait([future], timeout=LOOK_UP).done:
        if INTERRUPTED.is_set():
            raise Stopped
    future.result()


_fetchers: dict[tuple[int, Settings, Path], Fetcher] = {}
_fetchers_lock = threading.Lock()


def fetcher(settings: Settings, folder: Path) -> Fetcher:
    """Return this process's fetcher, made when first asked for; a forked process makes its own."""
    with _fetchers_lock:
        return _fetchers.setdefault((os.getpid(), settings, folder), Fetcher(settings, folder))
