"""The products below a folder, as their items tell."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from filelock import FileLock

from crgen.errors import OutputError
from crgen.files import told_after
from crgen.pipeline.product.outputs import Paths


@dataclass(frozen=True)
class Product:
    """A whole product."""

    paths: Paths
    item: Mapping[str, Any]
    """Its STAC Item."""

    @property
    def order(self) -> tuple[str, str, str]:
        """Sorts products by the day they show, then by when they were made."""
        properties = self.item["properties"]
        return properties["crgen:t2"], properties["created"], self.item["id"]

    @property
    def size(self) -> int:
        """Bytes of all its files that are there."""
        total = 0
        for path in self.paths.all:
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total


def read_product(path: Path) -> Product | None:
    """Return the product whose item is at ``path``; None if nothing of crgen's is there, or no longer."""
    try:
        item = json.loads(path.read_bytes())
        if item["type"] != "Feature" or not {"created", "crgen:t2", "crgen:sha256"} <= item["properties"].keys():
            return None
        product = Product(Paths(path.parent / unquote(item["assets"]["reflectance"]["href"])), item)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return product if product.paths.item.name == path.name else None


def products_in(folder: Path) -> list[Product]:
    """Return the products in a folder and in the folders in it, newest first; hidden folders are left out."""
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                product = read_product(Path(here, name))
                if product is not None:
                    found.append(product)
    return sorted(found, key=lambda product: product.order, reverse=True)


@contextlib.contextmanager
def listing(folder: Path) -> Iterator[None]:
    """Let one process at a time list a folder's products, so that whoever lists last has seen them all.

    Raises:
        OutputError: if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".listing.lock")
        with told_after(f"waiting for {lock.lock_file}, which another process holds while it lists the products"):
            lock.acquire()
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}; choose another folder") from error
    try:
        yield
    finally:
        lock.release()
