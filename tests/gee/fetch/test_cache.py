"""Tiles on disk: whole or absent, whatever happened to the file."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from crgen.errors import OutputError
from crgen.gee.fetch.cache import TileCache, default_folder
from tests.realdata import REAL_DATA, needs_real_data

KEY = "ab" + "0" * 62
TILE = np.array([[(1.5, 1), (-3.25, 0)]], dtype=[("VV", "f4"), ("valid", "u1")])


def files_below(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


def test_a_tile_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    cache = TileCache(tmp_path / "new" / "folder")
    assert cache.load(KEY) is None
    assert KEY not in cache
    cache.store(KEY, TILE)
    assert KEY in cache
    np.testing.assert_array_equal(cache.load(KEY), TILE)
    cache.remove(KEY)
    assert KEY not in cache


@given(
    dtype=st.sampled_from(["f4,f4,u1", "u2,u2,u2,f4,u1", ",".join(["f4"] * 90)]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 99),
)
def test_any_bits_of_any_bands_come_back(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: tuple[int, int], seed: int
) -> None:
    kind = np.dtype(dtype)
    tile = np.frombuffer(np.random.default_rng(seed).bytes(shape[0] * shape[1] * kind.itemsize), kind).reshape(shape)
    cache = TileCache(tmp_path_factory.mktemp("tiles"))
    for stored in (tile, tile[::-1, ::2]):
        cache.store(KEY, stored)
        held = cache.load(KEY)
        assert (held.tobytes(), held.dtype, held.shape) == (stored.tobytes(), kind, stored.shape)


@needs_real_data
def test_real_imagery_takes_less_room_than_as_it_arrives(tmp_path: Path) -> None:
    radar, optical = (rasterio.open(REAL_DATA / f"biomassters/0060c0a5_{name}_08.tif").read() for name in ("S1", "S2"))
    cache = TileCache(tmp_path)
    for planes, kinds, share in ((radar[:2], ["f4"] * 2, 0.75), (optical[:10], ["u2"] * 10, 0.75)):
        tile = np.empty(planes.shape[1:], ",".join([*kinds, "u1"]))
        for name, plane in zip(tile.dtype.names, [*planes, 1], strict=True):
            tile[name] = plane
        cache.store(KEY, tile)
        print(f"{cache.size() / tile.nbytes:.2f} of {tile.nbytes:,} bytes")
        assert cache.size() < share * tile.nbytes


@given(st.data())
def test_a_damaged_tile_counts_as_absent(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("tiles")
    cache = TileCache(folder)
    cache.store(KEY, TILE)
    (path,) = files_below(folder)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    path.write_bytes(content)
    assert cache.load(KEY) is None
    assert KEY not in cache, "so that it is fetched again"


def test_a_failed_write_leaves_nothing_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TileCache(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left on device; free some space, or set CRGEN_CACHE"):
        cache.store(KEY, TILE)
    assert not files_below(tmp_path)


def test_a_folder_that_cannot_be_written_is_told_before_a_tile_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder can be here")
    claim = TileCache(tmp_path / "file" / "tiles").claim(KEY, lambda: False)
    with pytest.raises(OutputError, match="make it writable, or set CRGEN_CACHE"), claim:
        raise AssertionError("asked all the same")


def test_old_tiles_in_a_folder_that_can_only_be_read_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TileCache(tmp_path)
    cache.store(KEY, TILE)
    (path,) = files_below(tmp_path)
    os.utime(path, (0, 0))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    cache.prune()
    assert cache.load(KEY) is not None
    path.write_bytes(b"damaged")
    assert cache.load(KEY) is None


def test_old_tiles_and_leftovers_of_killed_runs_go(tmp_path: Path) -> None:
    cache = TileCache(tmp_path)
    cache.store(KEY, TILE)
    cache.store("cd" + KEY[2:], TILE)
    leftover = tmp_path / "ab" / "tmp123.partial"
    leftover.write_bytes(b"half")
    for path, days in ((tmp_path / "ab" / f"{KEY}.tile", 40), (leftover, 2)):
        then = time.time() - days * 86400
        os.utime(path, (then, then))
    cache.prune()
    assert [p.suffix for p in files_below(tmp_path / "cd")] == [".tile"]
    assert not files_below(tmp_path / "ab")
    assert KEY not in cache


def test_a_cache_is_gone_through_once_a_day(tmp_path: Path) -> None:
    cache = TileCache(tmp_path)
    cache.store(KEY, TILE)
    cache.prune()
    os.utime(tmp_path / "ab" / f"{KEY}.tile", (0, 0))
    cache.prune()
    assert KEY in cache
    yesterday = time.time() - 86401
    os.utime(tmp_path / "pruned", (yesterday, yesterday))
    cache.prune()
    assert KEY not in cache


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRGEN_CACHE", str(tmp_path))
    assert default_folder() == tmp_path / "earthengine"


def test_a_process_that_ends_while_tiles_are_fetched_leaves_no_lock(tmp_path: Path) -> None:
    program = f"""
import threading
from pathlib import Path
from crgen.gee.fetch.cache import TileCache
held = threading.Event()
def fetch():
    with TileCache(Path({str(tmp_path)!r})).claim({KEY!r}, lambda: False):
        held.set()
        threading.Event().wait()
threading.Thread(target=fetch, daemon=True).start()
held.wait()
assert list(Path({str(tmp_path)!r}).rglob("*.lock"))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert not files_below(tmp_path)


def test_where_there_are_no_locks_tiles_are_fetched_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", without)
    cache = TileCache(tmp_path)
    with cache.claim(KEY, lambda: False):
        cache.store(KEY, TILE)
    assert [p.suffix for p in files_below(tmp_path)] == [".tile"]


def test_one_process_at_a_time_fetches_a_tile(tmp_path: Path) -> None:
    cache, order = TileCache(tmp_path), []

    def fetch(name: str) -> None:
        with TileCache(tmp_path).claim(KEY, lambda: KEY in cache):
            if KEY not in cache:
                order.append(name)
                time.sleep(0.1)
                cache.store(KEY, TILE)

    threads = [threading.Thread(target=fetch, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) == 1
    assert [p.suffix for p in files_below(tmp_path)] == [".tile"]
