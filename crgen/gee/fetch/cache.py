"""Tiles on disk: what was fetched once is not asked for again, also after a crash.

A tile is one file, named by the digest of what was asked (expression, bands, grid). It is written whole, and begins
with the digest of its content: a damaged tile counts as absent. The content is the header of an NPY, and the pixels as
Blosc compresses them, bytes of like rank beside each other.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import io
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numcodecs.blosc import Blosc
from numpy.typing import NDArray

from crgen.errors import OutputError
from crgen.files import PARSING, check_writable, home_cache, replacing, told_after

MAGIC = b"crgen tile 2\n"
DIGEST = hashlib.sha256().digest_size
PACKED = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)
KEEP_DAYS, PRUNE_EVERY = 30, 1
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of a file system that has none: processes may fetch a tile twice there."""
_claimed: set[Path] = set()
"""Lock files of the tiles that this process is fetching."""


def default_folder() -> Path:
    """Return where tiles are kept: ``$CRGEN_CACHE``, or ``~/.cache/crgen``, below it ``earthengine``.

    Raises:
        OutputError: if there is neither.
    """
    folder = os.environ.get("CRGEN_CACHE") or home_cache()
    if folder is None:
        raise OutputError("this user has no home folder to keep fetched tiles in; set CRGEN_CACHE to a folder, or HOME")
    return Path(folder) / "earthengine"


def folder_of_run(*, keep: bool) -> tuple[Path, tuple[str, ...]]:
    """Return where a run has its tiles, and what a person should know of that.

    It is :func:`default_folder`. Where tiles are not to be kept, or cannot be, it is a folder that goes with the
    process; what an unwritable one holds is linked into it, so that it is not fetched again.

    Raises:
        OutputError: if there is no room for a passing folder either.
    """
    if not keep:
        return _passing_folder(), ()
    try:
        folder = default_folder()
        for place in (folder, *folder.glob("??")):
            check_writable(place)
    except OutputError as error:
        passing = _passing_folder()
        if home_cache() or "CRGEN_CACHE" in os.environ:
            for tile in default_folder().glob("??/*.tile"):
                with suppress(OSError):
                    (passing / tile.parent.name).mkdir(exist_ok=True)
                    (passing / tile.parent.name / tile.name).symlink_to(tile.absolute())
        return passing, (f"fetched tiles are not kept beyond this run: {error} (CRGEN_CACHE names one)",)
    return folder, ()


def _passing_folder() -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="crgen-tiles-"))
    except OSError as error:
        raise OutputError(
            f"there is no folder for fetched tiles: {error.strerror}; set CRGEN_CACHE, or TMPDIR, to one that can be "
            "written"
        ) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class TileCache:
    """A folder of tiles; safe from any thread or process.

    Args:
        folder: made when the first tile is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> NDArray[Any] | None:
        """Return a tile, or None if it is not there or not whole (what is damaged is removed)."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        head = len(MAGIC) + DIGEST
        body = memoryview(content)[head:]
        if content[: len(MAGIC)] == MAGIC and content[len(MAGIC) : head] == hashlib.sha256(body).digest():
            stream = io.BytesIO(body)
            np.lib.format.read_magic(stream)
            with PARSING:
                shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
            tile = np.empty(shape, dtype)
            PACKED.decode(body[stream.tell() :], out=tile.view(np.uint8))
            return tile
        _forget(path)
        return None

    def store(self, key: str, tile: NDArray[Any]) -> None:
        """Keep a tile.

        Raises:
            OutputError: if the disk does not take it.
        """
        tile, header = np.ascontiguousarray(tile), io.BytesIO()
        np.lib.format.write_array_header_2_0(header, np.lib.format.header_data_from_array_1_0(tile))
        parts = header.getvalue(), PACKED.encode(tile)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        self._write(self._path(key), MAGIC, digest.digest(), *parts)

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def mark_split(self, key: str) -> None:
        """Remember that this tile is too much for one request."""
        self._write(self._path(key).with_suffix(".split"))

    def is_split(self, key: str) -> bool:
        """Say whether this tile was found too much for one request."""
        return self._path(key).with_suffix(".split").exists()

    @contextmanager
    def claim(self, key: str, until: Callable[[], bool]) -> Iterator[None]:
        """Hold the right to fetch a tile, of all processes of this machine; a killed one loses it.

        Args:
            key: the tile.
            until: asked now and then while another process holds it; True ends the waiting, without the right.

        Raises:
            OutputError: if the folder cannot be written: better known before a tile is asked for.
        """
        path = self._path(key).with_suffix(".lock")
        lock = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with told_after(f"waiting for {path}, which another process holds while it fetches that tile"):
                lock.acquire(poll_interval=0.05, cancel_check=until)
        except Timeout:
            yield
            return
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise self._unwritable(error) from error
        _claimed.add(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            lock.release()
            _claimed.discard(path)

    def remove(self, key: str) -> None:
        """Forget a tile."""
        self._path(key).unlink(missing_ok=True)

    def size(self) -> int:
        """Return the bytes of all tiles."""
        return sum(size for _, size, _ in self._files())

    def prune(self, days: float = KEEP_DAYS) -> None:
        """Remove what was written more than ``days`` ago, and what killed runs left half-written a day ago.

        Of all runs of a day the first looks.
        """
        now, pruned = time.time(), self.folder / "pruned"
        with suppress(OSError):
            if now - pruned.stat().st_mtime < 86400 * PRUNE_EVERY:
                return
        for path, _, written in self._files():
            if written < now - 86400 * (1 if path.suffix in (".partial", ".lock") else days):
                _forget(path)
        with suppress(OSError):
            pruned.touch()

    def _files(self) -> list[tuple[Path, int, float]]:
        found = []
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except OSError:  # another process was faster
                continue
            found.append((path, status.st_size, status.st_mtime))
        return found

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.tile"

    def _write(self, path: Path, *parts: bytes | memoryview) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, shared=True) as partial, partial.open("wb") as file:
                file.writelines(parts)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> OutputError:
        remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        return OutputError(
            f"cannot keep fetched tiles in {self.folder}: {error.strerror}; {remedy}, or set CRGEN_CACHE to "
            "another folder"
        )


@atexit.register
def _give_up_claims() -> None:
    """Remove the locks of tiles whose threads end with the process."""
    for path in _claimed.copy():
        _forget(path)


def _forget(path: Path) -> None:
    """Remove a file, if this process may: a folder that can only be read still serves what it holds."""
    with suppress(OSError):
        path.unlink()
