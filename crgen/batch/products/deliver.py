"""Delivery of a finished product to a folder or to an object store.

Nobody sees half a product there: the STAC Item, which names the other files, is written last, and an Item that is
replaced is removed first. A file that is already there, byte for byte, is not sent again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fsspec import AbstractFileSystem
from fsspec.core import split_protocol, url_to_fs

from crgen.batch.products.collection import listing_locked, write_listing
from crgen.batch.products.listing import COLLECTION, INDEX
from crgen.errors import OutputError, redact
from crgen.files import discard, file_sha256, making, partial_name, publish, write_partial
from crgen.pipeline.product.mlm import files_of
from crgen.pipeline.product.outputs import Paths

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl")
"""Schemes of object stores, reached through obstore; other schemes are fsspec's."""

_BLOCK = 8 << 20
_HOPELESS = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_REFUSED = ("PermissionDeniedError", "UnauthenticatedError", "UnknownConfigurationKeyError", "InvalidPathError")


class DeliveryError(OutputError):
    """The product could not be delivered; there is no Item of it at the destination."""


def deliver(paths: Paths, destination: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """Copy a product to a folder, or below the URL of an object store, under the same file names.

    Args:
        paths: the product; it stays where it is.
        destination: a folder, or the URL of one: ``s3://BUCKET/PREFIX``, ``gs://…``, ``az://…`` (these through
            obstore, ``crgen[batch]``), or any that fsspec and its plugins know.
        storage_options: passed to the file system; for object stores what obstore takes, e.g. ``endpoint``,
            ``region``, ``access_key_id``. Credentials not given are found as the store's own tools find them.

    Raises:
        DeliveryError: if the product is not whole, or cannot be written there.
    """
    with _explained(paths.reflectance.name, destination):
        item, digests = _read(paths)
        if (folder := _folder(destination)) is not None:
            _to_folder(paths, item, digests, folder)
        else:
            _to_store(paths, item, digests, _Store.of(destination, storage_options or {}))


def deliver_listing(folder: Path, destination: str, storage_options: Mapping[str, Any] | None = None) -> None:
    """List the products that were delivered to ``destination``, in its ``collection.json`` and ``index.html``.

    Args:
        folder: where the products were made, with its listing; those of a subfolder must have been delivered to the
            subfolder of that name in ``destination``.
        destination: as of :func:`deliver`. A folder is listed anew; an object store gets the listing of ``folder``.
        storage_options: as of :func:`deliver`.

    Raises:
        DeliveryError: if the listing cannot be written there.
    """
    with _explained("the list of products", destination):
        if (there := _folder(destination)) is not None:
            write_listing(there)
            return
        store = _Store.of(destination, storage_options or {})
        with listing_locked(folder):
            for name in (COLLECTION, INDEX):
                store.replace(name, (folder / name).read_bytes())


def _folder(destination: str) -> Path | None:
    protocol, path = split_protocol(destination)
    return Path(path) if protocol in (None, "file", "local") else None


def _read(paths: Paths) -> tuple[bytes, dict[Path, str]]:
    """Return the Item and the files that it names with their digests, as of :func:`~crgen.files.file_sha256`."""
    try:
        item = paths.item.read_bytes()
        assets = files_of(json.loads(item)).values()
        digests = {paths.folder / unquote(asset["href"]): str(asset["file:checksum"]) for asset in assets}
    except FileNotFoundError:
        raise DeliveryError(f"no product to deliver: {paths.item} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DeliveryError(f"{paths.item} is damaged; make the product again") from None
    for path, digest in digests.items():
        if file_sha256(path) != digest:
            raise DeliveryError(
                f"{path} differs from what its item says; `crgen verify` says where; make the product again"
            )
    return item, digests


def _to_folder(paths: Paths, item: bytes, digests: Mapping[Path, str], folder: Path) -> None:
    target = folder / paths.item.name
    missing = {file: folder / file.name for file, digest in digests.items() if not _is(folder / file.name, digest)}
    if not missing and target.is_file() and target.read_bytes() == item:
        return
    try:
        finished = [(_copy(file, copy, digests[file]), copy) for file, copy in missing.items()]
        publish([*finished, (write_partial(target, item), target)])
    finally:
        discard((*missing.values(), target))


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest


def _copy(file: Path, target: Path, digest: str) -> Path:
    with making(target) as partial:
        shutil.copyfile(file, partial)
    if not _is(partial, digest):
        raise DeliveryError(f"{target} was not written as it was read; look at its disk", transient=True)
    return partial


@dataclass(frozen=True)
class _Store:
    """A folder in a file system of fsspec."""

    fs: AbstractFileSystem
    root: str
    atomic: bool
    """Whether a file appears whole or not at all."""

    @classmethod
    def of(cls, destination: str, options: Mapping[str, Any]) -> _Store:
        protocol = destination.partition("://")[0]
        if protocol not in OBJECT_STORES:
            fs, root = url_to_fs(destination, **options)
            return cls(fs, root.rstrip("/"), False)
        try:
            from obstore.fsspec import FsspecStore
        except ImportError:
            raise ImportError(f"{protocol}:// needs obstore: pip install 'crgen[batch]'") from None
        store = FsspecStore(protocol, skip_instance_cache=True, **options)  # type: ignore[call-overload]
        return cls(store, destination.rstrip("/"), True)

    def url(self, name: str) -> str:
        return f"{self.root}/{name}"

    def content(self, name: str) -> Any:
        """Return the bytes of a small file; None if there is none."""
        try:
            return self.fs.cat_file(self.url(name))
        except FileNotFoundError:
            return None

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file atomically."""
        if self.atomic:
            self.fs.pipe_file(self.url(name), content)
            return
        hidden = self.url(partial_name(Path(name)).name)
        self.fs.pipe_file(hidden, content)
        if self.fs.exists(self.url(name)):
            self.fs.rm_file(self.url(name))
        self.fs.mv(hidden, self.url(name))

    def holds(self, file: Path, digest: str) -> bool:
        """Say whether a copy of a file is there: by the MD5 that the store states as its ETag, or by reading it."""
        url, size = self.url(file.name), file.stat().st_size
        try:
            info = self.fs.info(url)
        except FileNotFoundError:
            return False
        if info["size"] != size:
            return False
        tag = str(info.get("e_tag") or info.get("ETag") or "").strip('"')
        if re.fullmatch(r"[0-9a-f]{32}", tag):
            with file.open("rb") as content:
                if hashlib.file_digest(content, "md5").hexdigest() == tag:
                    return True
        sha256 = hashlib.sha256()
        for start in range(0, size, _BLOCK):
            # Without a range where that is the whole file: obstore refuses such answers.
            part = (start, min(start + _BLOCK, size)) if size > _BLOCK else ()
            sha256.update(self.fs.cat_file(url, *part))
        return "1220" + sha256.hexdigest() == digest


def _to_store(paths: Paths, item: bytes, digests: Mapping[Path, str], store: _Store) -> None:
    name = paths.item.name
    held = store.content(name)
    missing = [file for file, digest in digests.items() if not store.holds(file, digest)]
    if held == item and not missing:
        return
    if held is not None:
        store.fs.rm_file(store.url(name))
    if not store.atomic:
        store.fs.makedirs(store.root, exist_ok=True)
    for file in missing:
        store.fs.put_file(str(file), store.url(file.name))
        if not store.holds(file, digests[file]):
            raise DeliveryError(f"{redact(store.url(file.name))} did not arrive as it was sent", transient=True)
    store.replace(name, item)
    if store.content(name) != item:
        store.fs.rm_file(store.url(name))
        raise DeliveryError(f"{redact(store.url(name))} did not arrive as it was sent", transient=True)


@contextlib.contextmanager
def _explained(name: str, destination: str) -> Iterator[None]:
    """Raise any failure as a :class:`DeliveryError` whose message holds no secret."""

    def error(reason: object, *, transient: bool) -> DeliveryError:
        line, _, answer = str(reason).strip().partition("<?xml")  # what an object store answered
        said = re.search(r"<Message>([^<]+)</Message>", answer)
        line = redact(" ".join([*line.splitlines()[:1], *(said.groups() if said else ())]))
        return DeliveryError(f"cannot deliver {name} to {redact(destination)}: {line}", transient=transient)

    try:
        yield
    except DeliveryError:
        raise
    except (ImportError, ValueError, TypeError, FileNotFoundError) as failure:
        raise error(failure, transient=False) from None
    except OutputError as failure:
        raise error(failure, transient=True) from None
    except OSError as failure:
        transient = failure.errno not in _HOPELESS and not isinstance(failure, PermissionError)
        raise error(failure.strerror or failure, transient=transient) from None
    except Exception as failure:
        raise error(failure, transient=type(failure).__name__ not in _REFUSED) from None
