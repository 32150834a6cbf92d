"""The hidden folder beside a product in which a run keeps its parts, so that a stopped run can go on.

It is locked while a run works in it; the lock ends with the process. Its record says which run the parts belong to, and
parts of another run are not used.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from crgen.errors import AreaError, OutputError, RequestError, StackError
from crgen.files import discard, file_sha256, write_whole
from crgen.pipeline.product.outputs import PUBLISHING, RUN, Paths
from crgen.pipeline.run.fingerprint import Fingerprint, difference

LOCK = "lock"
HOPELESS = (AreaError, RequestError, StackError)
"""Errors that running the same command again would only repeat."""


@dataclass(frozen=True)
class Scratch:
    """A run's folder, locked."""

    folder: Path
    created: datetime.datetime
    """When the run first began."""

    def announce(self, finished: list[tuple[Path, Path]]) -> None:
        """Note which files are about to be published, so that a kill on the way leaves no doubt whose they are.

        Args:
            finished: pairs of a finished file and its target.
        """
        digests = {target.name: file_sha256(file) for file, target in finished}
        write_whole(self.folder / PUBLISHING, json.dumps(digests, indent=1).encode())


@contextlib.contextmanager
def scratch_of(paths: Paths, fingerprint: Fingerprint, manifest: dict[str, Any], *, restart: bool) -> Iterator[Scratch]:
    """Lock a product's scratch folder and make it, or take up what a stopped run left there.

    Leaving removes what was half made of the product. The parts stay if the run was stopped after it had finished
    some; the exception then carries a note that says so. Otherwise the folder goes, and so do folders made for it.

    Args:
        paths: the product.
        fingerprint: names the run.
        manifest: the scenes it uses, kept with it.
        restart: throw away what another run left.

    Raises:
        OutputError: if the folder cannot be made.
        InUse: if another process works on the same product.
        OtherRun: if an unfinished run of other inputs, weights or settings is in the way.
    """
    new = [path for path in (paths.folder, *paths.folder.parents) if not path.exists()]
    folder = paths.scratch
    keep = False
    with _without_empty(new), _locked(paths):
        try:
            created = _claim(folder, paths, fingerprint, manifest, restart)
            yield Scratch(folder, created)
        except OtherRun:
            keep = True
            raise
        except BaseException as error:
            parts = len(list(folder.glob("*.part"))) if folder.is_dir() else 0
            keep = parts > 0 and not isinstance(error, HOPELESS)
            if keep:
                error.add_note(
                    f"{parts} finished chunk{'s' if parts > 1 else ''} kept in {folder}: run the same command again "
                    "to go on, or with --restart to begin anew"
                )
            raise
        finally:
            discard(paths.all)
            if not keep:
                _clear(paths)


def sweep(paths: Paths, patience: float = 0.0) -> None:
    """Remove the folder of a run that is over, where a kill in its last moment left it.

    Args:
        paths: the product.
        patience: seconds to wait for a process that holds the folder.
    """
    if paths.scratch.is_dir() and not _is_unfinished(paths):
        with contextlib.suppress(OutputError), _locked(paths, patience):
            if not _is_unfinished(paths):
                _clear(paths)


def _is_unfinished(paths: Paths) -> bool:
    """Say whether a run left something to go on with: it is over once the Item it announced, its last file, stands."""
    announced = paths.interrupted.get(paths.item.name)
    try:
        return (paths.scratch / RUN).exists() and file_sha256(paths.item) != announced
    except OSError:
        return True


def _clear(paths: Paths) -> None:
    """Remove a run's folder, first what says that it is one: what is left if this is cut short is none any more."""
    with contextlib.suppress(OSError):
        (paths.scratch / RUN).unlink()
    shutil.rmtree(paths.scratch, ignore_errors=True)


def abandon(paths: Paths) -> None:
    """Throw away what a stopped run left of a product that nobody goes on with; one that is being made stays."""
    if paths.scratch.is_dir():
        with contextlib.suppress(OutputError), _locked(paths):
            if not paths.item.exists():
                for name in paths.interrupted:
                    paths.reflectance.with_name(name).unlink(missing_ok=True)
            discard(paths.all)
            _clear(paths)


class InUse(OutputError):  # noqa: N818
    """Another process makes the same product."""


class OtherRun(OutputError):  # noqa: N818
    """An unfinished run of other inputs, weights, settings or software is in the way."""


@contextlib.contextmanager
def _without_empty(folders: list[Path]) -> Iterator[None]:
    """Remove folders that were made for nothing."""
    try:
        yield
    finally:
        for folder in folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _locked(paths: Paths, patience: float = 0.0) -> Iterator[None]:
    lock = FileLock(paths.scratch / LOCK, timeout=patience, fallback_to_soft=False)
    try:
        paths.scratch.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InUse(
            f"another run is making {paths.reflectance} at this moment; wait for it, or give another --out",
            transient=True,
        ) from None
    except OSError as error:
        raise OutputError(f"cannot write {paths.reflectance}: {error.strerror}; choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _claim(
    folder: Path, paths: Paths, fingerprint: Fingerprint, manifest: dict[str, Any], restart: bool
) -> datetime.datetime:
    """Return when the run in ``folder`` began; it begins now if there is none."""
    try:
        held = _held(folder)
        if held is not None and not restart:
            if other := difference(held["fingerprint"], fingerprint):
                raise OtherRun(
                    f"{folder} holds an unfinished run of {paths.reflectance.name} with {other}; "
                    "repeat that run's command to finish it, or add --restart to throw it away and begin anew"
                )
            for leftover in folder.glob(".*.partial"):
                leftover.unlink()
            return datetime.datetime.fromisoformat(held["created"])
        for leftover in folder.iterdir():
            if leftover.name != LOCK:
                leftover.unlink()
        created = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        run = {"fingerprint": fingerprint, "created": created.isoformat(), "manifest": manifest}
        write_whole(folder / RUN, json.dumps(run, indent=1).encode())
    except OSError as error:
        raise OutputError(f"cannot write {paths.reflectance}: {error.strerror}; choose another --out") from error
    return created


def _held(folder: Path) -> dict[str, Any] | None:
    """Return what the folder says of its run; None if it says nothing that can be read."""
    try:
        held: dict[str, Any] = json.loads((folder / RUN).read_text())
        datetime.datetime.fromisoformat(held["created"])
        return held if isinstance(held["fingerprint"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def at_rest(paths: Paths) -> Iterator[bool]:
    """Hold off runs of a product, so that its files can be taken away.

    Yields:
        False if a run works on the product, or has left something to go on with: then nothing is held.
    """
    with contextlib.ExitStack() as stack:
        try:
            resting = not _is_unfinished(paths)
            if resting:
                stack.enter_context(_locked(paths))
                resting = not _is_unfinished(paths)
        except InUse:
            resting = False
        if resting:
            stack.callback(_clear, paths)
        yield resting
