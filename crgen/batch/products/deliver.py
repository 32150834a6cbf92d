"""A finished product brought to where people look for it: a folder, or an object store by URL.

Nobody sees half a product there: the STAC Item, which names the other files, comes last, and that of a product which
is replaced goes first. What is already there, byte for byte, is not sent again.
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
from typing import Any, cast
from urllib.parse import unquote

from fsspec import AbstractFileSystem
from fsspec.core import split_protocol, url_to_fs

from crgen.batch.products.collection import COLLECTION, update_collection
from crgen.batch.products.index import INDEX, write_index
from crgen.batch.products.listing import listing
from crgen.errors import OutputError, redact
from crgen.files import discard, file_sha256, making, partial_name, publish, write_partial
from crgen.pipeline.product.mlm import files_of
from crgen.pipeline.product.outputs import Paths

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "adl")
"""Schemes served by obstore, where an object appears whole or not at all; other schemes are fsspec's own."""

_BLOCK = 8 << 20
_HOPELESS = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
_REFUSED = ("PermissionDeniedError", "UnauthenticatedError", "UnknownConfigurationKeyError", "InvalidPathError")


class DeliveryError(OutputError):
    """The product could not be delivered; where it was to go there is no item of it."""


@dataclass(frozen=True)
class _File:
    """A file of the product as its item describes it."""

    path: Path
    size: int
    sha256: str
    md5: str


def deliver(paths: Paths, destination: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Copy a product to a folder or below the URL of an object store, under the same file names.

    Args:
        paths: the product; it stays where it is.
        destination: a folder, or the URL of one: ``s3://BUCKET/PREFIX``, ``gs://…``, ``az://…`` (these through
            obstore, ``crgen[batch]``), or any that fsspec and its plugins know.
        storage_options: passed to the file system; for object stores what obstore takes, e.g. ``endpoint``,
            ``region``, ``access_key_id``. Credentials not given are found as the store's own tools find them.

    Returns:
        Where each file is now, the item last.

    Raises:
        DeliveryError: if the product is not whole, or cannot be written there; no item of it stands there then.
    """
    protocol, path = split_protocol(destination)
    local = Path(path) if protocol in (None, "file", "local") else None
    with _explained(paths.reflectance.name, destination):
        item, files = _read(paths)
        if local is not None:
            return _to_folder(paths, item, files, local)
        return _to_store(paths, item, files, *_store(destination, protocol, storage_options or {}))


def deliver_listing(folder: Path, destination: str, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Bring the collection and the page of products to where these were delivered.

    Args:
        folder: where the products were made, with ``collection.json`` and ``index.html``; those of the folders in it
            must have been delivered to folders of the same names in ``destination``.
        destination: as of :func:`deliver`. In a folder the listing is made from the products that stand there, to an
            object store that of ``folder`` is copied.
        storage_options: as of :func:`deliver`.

    Returns:
        Where the collection and the page are now.

    Raises:
        DeliveryError: if they cannot be written there.
    """
    protocol, path = split_protocol(destination)
    with _explained("the list of products", destination):
        if protocol in (None, "file", "local"):
            return [str(update_collection(Path(path))), str(write_index(Path(path)))]
        fs, root, whole = _store(destination, protocol, storage_options or {})
        with listing(folder):
            for name in (COLLECTION, INDEX):
                _put(fs, f"{root}/{name}", (folder / name).read_bytes(), whole)
        return [fs.unstrip_protocol(f"{root}/{name}") for name in (COLLECTION, INDEX)]


def _read(paths: Paths) -> tuple[bytes, list[_File]]:
    """Return the item and the files it names, checked against it."""
    try:
        item = paths.item.read_bytes()
        assets = files_of(json.loads(item)).values()
        named = [(paths.folder / unquote(asset["href"]), asset["file:checksum"]) for asset in assets]
    except FileNotFoundError:
        raise DeliveryError(f"no product to deliver: {paths.item} is missing", transient=False) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DeliveryError(f"{paths.item} is damaged; make the product again", transient=False) from None
    files = []
    for path, checksum in named:
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                sha256.update(block)
                md5.update(block)
        if "1220" + sha256.hexdigest() != checksum:
            raise DeliveryError(
                f"{path} differs from what its item says; `crgen verify` says where; make the product again",
                transient=False,
            )
        files.append(_File(path, path.stat().st_size, sha256.hexdigest(), md5.hexdigest()))
    return item, files


def _to_folder(paths: Paths, item: bytes, files: list[_File], folder: Path) -> list[str]:
    target = {file.path: folder / file.path.name for file in files}
    item_target = folder / paths.item.name
    delivered = [str(path) for path in (*target.values(), item_target)]
    missing = [file for file in files if not _is(target[file.path], file)]
    if not missing and item_target.is_file() and item_target.read_bytes() == item:
        return delivered
    try:
        finished = [(_copy(file, target[file.path]), target[file.path]) for file in missing]
        publish([*finished, (write_partial(item_target, item), item_target)])
    finally:
        discard((*target.values(), item_target))
    return delivered


def _is(path: Path, file: _File) -> bool:
    return path.is_file() and path.stat().st_size == file.size and file_sha256(path) == "1220" + file.sha256


def _copy(file: _File, target: Path) -> Path:
    with making(target) as partial:
        shutil.copyfile(file.path, partial)
    if not _is(partial, file):
        raise DeliveryError(f"{target} was not written as it was read; look at its disk", transient=True)
    return partial


def _store(destination: str, protocol: str, options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str, bool]:
    """Return the file system, the folder in it, and whether a file there appears whole or not at all."""
    if protocol not in OBJECT_STORES:
        fs, root = url_to_fs(destination, **options)
        return fs, root.rstrip("/"), False
    try:
        from obstore.fsspec import FsspecStore
    except ImportError:
        raise ImportError(f"{protocol}:// needs obstore: pip install 'crgen[batch]'") from None
    store: AbstractFileSystem = FsspecStore(protocol, skip_instance_cache=True, **options)  # type: ignore[call-overload]
    return store, destination.rstrip("/"), True


def _to_store(
    paths: Paths, item: bytes, files: list[_File], fs: AbstractFileSystem, root: str, whole: bool
) -> list[str]:
    item_url = f"{root}/{paths.item.name}"
    urls = {file.path: f"{root}/{file.path.name}" for file in files}
    delivered = [fs.unstrip_protocol(url) for url in (*urls.values(), item_url)]
    held = _content(fs, item_url)
    if held == item and all(_size(fs, urls[file.path]) == file.size for file in files):
        return delivered
    if held is not None:
        fs.rm_file(item_url)
    if not whole:
        fs.makedirs(root, exist_ok=True)
    for file in files:
        url = urls[file.path]
        if not _arrived(fs, url, file):
            fs.put_file(str(file.path), url)
            if not _arrived(fs, url, file):
                raise DeliveryError(f"{redact(url)} did not arrive as it was sent", transient=True)
    _put(fs, item_url, item, whole)
    if _content(fs, item_url) != item:
        fs.rm_file(item_url)
        raise DeliveryError(f"{redact(item_url)} did not arrive as it was sent", transient=True)
    return delivered


def _put(fs: AbstractFileSystem, url: str, content: bytes, whole: bool) -> None:
    """Write a small file that appears whole, in place of an older one."""
    if whole:
        fs.pipe_file(url, content)
        return
    folder, _, name = url.rpartition("/")
    hidden = f"{folder}/{partial_name(Path(name)).name}"
    fs.pipe_file(hidden, content)
    if fs.exists(url):
        fs.rm_file(url)
    fs.mv(hidden, url)


def _content(fs: AbstractFileSystem, url: str) -> bytes | None:
    try:
        return cast(bytes, fs.cat_file(url))
    except FileNotFoundError:
        return None


def _size(fs: AbstractFileSystem, url: str) -> int | None:
    try:
        return cast(int, fs.info(url)["size"])
    except FileNotFoundError:
        return None


def _arrived(fs: AbstractFileSystem, url: str, file: _File) -> bool:
    """Tell whether ``url`` holds the file: by the MD5 that the store states as its ETag, or by reading it back."""
    try:
        info = fs.info(url)
    except FileNotFoundError:
        return False
    if info["size"] != file.size:
        return False
    tag = str(info.get("e_tag") or info.get("ETag") or "").strip('"')
    if re.fullmatch(r"[0-9a-f]{32}", tag) and tag == file.md5:
        return True
    digest = hashlib.sha256()
    for start in range(0, file.size, _BLOCK):
        part = (start, min(start + _BLOCK, file.size)) if file.size > _BLOCK else ()
        digest.update(fs.cat_file(url, *part))
    return digest.hexdigest() == file.sha256


@contextlib.contextmanager
def _explained(name: str, destination: str) -> Iterator[None]:
    """Raise what went wrong as a :class:`DeliveryError` without secrets."""

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
