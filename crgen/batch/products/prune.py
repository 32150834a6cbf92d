"""Old products taken away, so that the disk does not run full.

A product's item goes first: what is listed is whole. A product is kept while a run makes it anew, and for as long as
a file ``NAME.pin`` stands beside it.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from crgen.batch.products.collection import COLLECTION, update_collection
from crgen.batch.products.index import write_index
from crgen.batch.products.listing import Product, products_in
from crgen.errors import OutputError, RequestError
from crgen.files import publish
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.run.scratch import at_rest

PIN = ".pin"
GONE = ".pruned"
"""Ends the hidden name under which an item says which files are still to go."""


@dataclass(frozen=True)
class Pruned:
    """A product that is too old or too much."""

    paths: Paths
    size: int
    """Bytes."""
    reason: str
    kept: str = ""
    """Why it stays all the same; empty if it went, or would go."""


def prune(
    folder: Path,
    *,
    older_than: datetime.timedelta | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
    unfinished: Collection[Path] = (),
) -> list[Pruned]:
    """Take away products in ``folder`` and the folders in it, oldest first, and list the rest anew.

    What a prune that was killed left half done is finished. The collection and the page are made anew where there is
    a collection.

    Args:
        folder: where the products are.
        older_than: take away products made longer ago.
        max_size: then take away more until all of them together have at most so many bytes.
        dry_run: only tell what would go.
        unfinished: reflectance COGs of products with which something is still to be done.

    Returns:
        The products that went, or would go, and those that should but are kept, in the order they were looked at.

    Raises:
        RequestError: if the folder is none.
        OutputError: if something cannot be taken away.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder} is no folder; give the one that holds the products")
    try:
        if not dry_run:
            for item in list(_half_gone(folder)):
                _finish(item)
        judged = list(_judge(products_in(folder), older_than, max_size, dry_run, unfinished))
    except OSError as error:
        raise OutputError(f"cannot take away {error.filename}: {error.strerror}") from error
    if not dry_run and (folder / COLLECTION).exists():
        update_collection(folder)
        write_index(folder)
    return judged


def _judge(
    products: list[Product],
    older_than: datetime.timedelta | None,
    max_size: int | None,
    dry_run: bool,
    unfinished: Collection[Path],
) -> Iterator[Pruned]:
    oldest_first = sorted(products, key=_made)
    sizes = {product.paths.item: product.size for product in oldest_first}
    total = sum(sizes.values())
    now = datetime.datetime.now(datetime.UTC)
    for product in oldest_first:
        size = sizes[product.paths.item]
        age = now - _made(product)
        if older_than is not None and age > older_than:
            reason = f"made {age.days} days ago"
        elif max_size is not None and total > max_size:
            reason = "one of the oldest of too much"
        else:
            continue
        busy = product.paths.reflectance in unfinished
        kept = "not finished" if busy else _take_away(product.paths, dry_run)
        if not kept:
            total -= size
        yield Pruned(product.paths, size, reason, kept)


def _made(product: Product) -> datetime.datetime:
    return datetime.datetime.fromisoformat(product.item["properties"]["created"])


def _take_away(paths: Paths, dry_run: bool) -> str:
    """Take a product away, and return why it was not."""
    if paths.reflectance.with_suffix(PIN).exists():
        return "pinned"
    with at_rest(paths) as resting:
        if not resting:
            return "being made"
        if not dry_run:
            gone = paths.item.with_name(f".{paths.item.name}{GONE}")
            publish([(paths.item, gone)])
            _remove(paths)
    if not dry_run:
        gone.unlink()  # at last: by it the next prune knows what is still to go
    return ""


def _remove(paths: Paths) -> None:
    for path in (*paths.all, *paths.neighbours, paths.audit):
        if path != paths.item:
            path.unlink(missing_ok=True)


def _half_gone(folder: Path) -> Iterator[Path]:
    """Yield the items of products whose files are still to go."""
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(here, name) for name in names if name.startswith(".") and name.endswith(GONE))


def _finish(gone: Path) -> None:
    """Take away what is left of a product, unless one of its name has been made since."""
    href = json.loads(gone.read_bytes())["assets"]["reflectance"]["href"]
    paths = Paths(gone.parent / unquote(href))
    with at_rest(paths) as resting:
        if resting and not paths.item.exists():
            _remove(paths)
    if resting:
        gone.unlink()
