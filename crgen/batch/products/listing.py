"""The products below a folder, as their STAC Items describe them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from crgen.pipeline.product.outputs import Paths

COLLECTION, INDEX = "collection.json", "index.html"
"""Names of the two files that list a folder's products: for programs and for people."""


@dataclass(frozen=True)
class Product:
    """A whole product."""

    paths: Paths
    item: Mapping[str, Any]
    """Its STAC Item."""

    @property
    def size(self) -> int:
        """Bytes of all its files that exist."""
        total = 0
        for path in self.paths.all:
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total


def read_product(path: Path) -> Product | None:
    """Return the product whose Item is the file ``path``; None if that is no Item of crgen's, or gone."""
    try:
        item = json.loads(path.read_bytes())
        if item["type"] != "Feature" or not {"created", "crgen:t2", "crgen:sha256"} <= item["properties"].keys():
            return None
        product = Product(Paths(path.parent / unquote(item["assets"]["reflectance"]["href"])), item)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return product if product.paths.item.name == path.name else None


def products_in(folder: Path) -> list[Product]:
    """Return the products in a folder and its subfolders, newest t2 first; hidden files and folders are left out."""

    def order(product: Product) -> tuple[str, str, str]:
        properties = product.item["properties"]
        return properties["crgen:t2"], properties["created"], product.item["id"]

    items = (path for path in files_below(folder) if path.suffix == ".json" and not path.name.startswith("."))
    return sorted(filter(None, map(read_product, items)), key=order, reverse=True)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, without hidden folders."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in names)
