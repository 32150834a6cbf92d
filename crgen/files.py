"""Files that appear whole or not at all: room for them, other names while they are made, one rename; what they hold."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crgen.errors import OutputError

PARSING = threading.Lock()
"""Held while NumPy parses the header of an array: where several threads do so at a time, Python 3.11 may raise a
SystemError about the depth of a syntax tree."""
ASSETS = "https://earthengine.googleapis.com/v1/projects/earthengine-public/assets/"
"""Where Earth Engine describes its public assets, by their ids."""


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a hidden name beside ``path`` to write under; what stands there replaces ``path`` by atomic rename.

    Before, it is brought to the disk. Whatever stops the writing, an interrupt too, leaves an earlier file as it was
    and nothing half-written.

    Args:
        path: a file, or a folder where there is none yet; its parent must exist.
        shared: whether other threads or processes may write it meanwhile: each then has a hidden name of its own.
    """
    with _whole(path.with_name(f"{path.name}.{uuid.uuid4().hex}") if shared else path) as partial:
        yield partial
        sync(partial)
        partial.replace(path)
    sync(path.parent)


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Yield the hidden name beside ``path`` to write under, for :func:`publish`; the folder is made if need be.

    At the end the file is brought to the disk; whatever stops the writing leaves nothing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    discard([path])
    with _whole(path) as partial:
        yield partial
        sync(partial)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    try:
        yield partial_name(path)
    except BaseException:
        with suppress(OSError):
            discard([path])
        raise


def partial_name(path: Path) -> Path:
    """Return the hidden name beside ``path`` under which it is made."""
    return path.with_name(f".{path.name}.partial")


def write_partial(path: Path, content: bytes) -> Path:
    """Write a small file whole under its hidden name and bring it to the disk.

    Returns:
        The hidden file, for :func:`publish`.

    Raises:
        OutputError: if it cannot be written.
    """
    try:
        with making(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror} ({size_text(len(content))} needed, "
            f"{size_text(free_space(path.parent))} free); free some space there or choose another folder"
        ) from error
    return partial


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all.

    Raises:
        OutputError: if it cannot be written; an earlier one then stays as it was.
    """
    publish([(write_partial(path, content), path)])


def publish(finished: Iterable[tuple[Path, Path]]) -> None:
    """Rename finished files to their targets, in the order given, after checking that all can be.

    Args:
        finished: pairs of a finished file and its target in the same folder; the file that names the others
            comes last, and an older one of its name goes first.

    Raises:
        OutputError: if a target cannot be replaced.
    """
    pairs = list(finished)
    for _, target in pairs:
        if target.is_dir():
            raise OutputError(
                f"cannot write {target}: a folder of that name is in the way; move it or choose another name"
            )
    for source, target in pairs:
        try:
            if len(pairs) > 1:
                pairs[-1][1].unlink(missing_ok=True)
            source.replace(target)
            sync(target.parent)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror}; choose another folder") from error


@contextmanager
def told_after(text: str, seconds: float = 2.0) -> Iterator[None]:
    """Say on standard error what is going on, or waited for, once it has taken some seconds."""

    def tell() -> None:
        with suppress(OSError, ValueError):
            print(f"note: {text}", file=sys.stderr, flush=True)

    timer = threading.Timer(seconds, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def discard(targets: Iterable[Path]) -> None:
    """Remove what stands under the hidden names of ``targets``, also where GDAL appended ``.ovr.tmp``."""
    for target in targets:
        partial = partial_name(target)
        for leftover in partial.parent.glob(f"{glob.escape(partial.name)}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def remove(paths: Iterable[Path]) -> None:
    """Remove files.

    Raises:
        OutputError: naming the one that cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {path}, which is of an earlier file: {error.strerror}") from error


def sync(path: Path) -> None:
    """Bring a file, or a folder's names, from memory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, or made, before any work is done; makes nothing.

    Raises:
        OutputError: naming the folder and the reason.
    """
    existing = _nearest_existing(folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {existing}: {error.strerror}; choose another folder") from error


def require_space(folder: Path, nbytes: int, what: Path) -> None:
    """Refuse to write ``nbytes`` for the file ``what`` into a folder whose disk has fewer left.

    Raises:
        OutputError: saying how much is needed and free.
    """
    free = free_space(folder)
    if free < nbytes:
        raise OutputError(
            f"cannot write {what}: the disk of {folder} is full ({size_text(nbytes)} more needed, "
            f"{size_text(free)} free); free some space there or choose another folder",
            transient=True,
        )


def free_space(folder: Path) -> int:
    """Return the bytes free on the disk of ``folder``, which need not exist yet."""
    return shutil.disk_usage(_nearest_existing(folder)).free


def size_text(nbytes: float) -> str:
    """Return a size for people: ``"1.4 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256 as the hexadecimal multihash of STAC's ``file:checksum``: ``1220`` + digest."""
    with path.open("rb") as file:
        return "1220" + hashlib.file_digest(file, "sha256").hexdigest()


def home_cache() -> Path | None:
    """Return the folder for what can be fetched again, ``~/.cache/crgen``; None for a user without a home folder."""
    try:
        return Path.home() / ".cache" / "crgen"
    except RuntimeError:  # neither HOME nor a line in the list of users, as in containers
        return None


def _nearest_existing(folder: Path) -> Path:
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())


def files_identity(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of a file, or of every file below a folder; nothing if there is none."""
    if path.is_file():
        files = [path]
    else:
        files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    found = ((file, file.stat()) for file in files)
    return [(file.relative_to(path).as_posix(), stat.st_size, stat.st_mtime_ns) for file, stat in found]


def stack_files(source: str) -> list[tuple[str, int, int]]:
    """Return :func:`files_identity` of a local stack; nothing for the sources ``gee`` and ``demo``."""
    return [] if source in ("gee", "demo") else files_identity(Path(source))


def manifest_in(content: Any) -> Any:
    """Return the manifest inside a STAC Item, a local stack's manifest or a state of exports, or ``content`` itself."""
    content = _within(_within(content, "properties", None), "crgen:manifest", content)
    if _within(content, "source", None) == "local":
        content = _within(content, "stored", content)
    return _within(content, "manifest", content)


def pulled_from(content: Any) -> dict[str, Any]:
    """Return what :func:`manifest_in` does where that is of Earth Engine; empty where it is of anything else."""
    held = manifest_in(content)
    return held if _within(held, "source", None) == "gee" else {}


def _within(content: Any, name: str, otherwise: Any) -> Any:
    return content.get(name, otherwise) if isinstance(content, dict) else otherwise
