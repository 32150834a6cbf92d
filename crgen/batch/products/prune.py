"""Removal of old products, so that the disk does not run full.

A product's Item is renamed first, so that whatever is listed is whole. A product is kept while a run makes it again,
and for as long as a file ``NAME.pin`` stands beside it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from crgen.batch.products.collection import write_listing
from crgen.batch.products.listing import COLLECTION, Product, files_below, products_in
from crgen.errors import OutputError, RequestError
from crgen.files import publish
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.run.scratch import at_rest

PIN = ".pin"
GONE = ".pruned"
"""Ending of the hidden name that an Item has while the files of its product are removed."""


@dataclass(frozen=True)
class Pruned:
    """A product that is too old, or one of too many."""

    paths: Paths
    size: int
    """Bytes."""
    reason: str
    kept: str = ""
    """Why it is kept nevertheless; empty if it was removed, or would be."""


def prune(
    folder: Path,
    *,
    older_than: datetime.timedelta | None = None,
    max_size: int | None = None,
    dry_run: bool = False,
    unfinished: Collection[Path] = (),
) -> list[Pruned]:
    """Remove products in ``folder`` and its subfolders, oldest first; then list the others anew if they were listed.

    What a killed prune left half removed is removed first.

    Args:
        folder: where the products are.
        older_than: remove products made longer ago.
        max_size: then remove more, until all of them together have at most so many bytes.
        dry_run: change nothing.
        unfinished: reflectance COGs of products that must stay, e.g. because they are not delivered yet.

    Returns:
        The products that are too old or too many, oldest first, also those that are kept.

    Raises:
        RequestError: if there is no such folder.
        OutputError: if something cannot be removed.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder} is no folder; give the one that holds the products")
    try:
        if not dry_run:
            for item in [path for path in files_below(folder) if path.name.startswith(".") and path.suffix == GONE]:
                _finish(item)
        oldest_first = sorted(products_in(folder), key=_made)
        sizes = [product.size for product in oldest_first]
        total = sum(sizes)
        pruned = []
        for product, size in zip(oldest_first, sizes, strict=True):
            paths, age = product.paths, datetime.datetime.now(datetime.UTC) - _made(product)
            if older_than is not None and age > older_than:
                reason = f"made {age.days} days ago"
            elif max_size is not None and total > max_size:
                reason = "one of the oldest of too much"
            else:
                continue
            kept = "not finished" if paths.reflectance in unfinished else _remove(paths, dry_run)
            total -= 0 if kept else size
            pruned.append(Pruned(paths, size, reason, kept))
    except OSError as error:
        raise OutputError(f"cannot remove {error.filename}: {error.strerror}") from error
    if not dry_run and (folder / COLLECTION).exists():
        write_listing(folder)
    return pruned


def _made(product: Product) -> datetime.datetime:
    return datetime.datetime.fromisoformat(product.item["properties"]["created"])


def _remove(paths: Paths, dry_run: bool) -> str:
    """Remove a product; return why it is kept instead, or an empty text."""
    if paths.reflectance.with_suffix(PIN).exists():
        return "pinned"
    with at_rest(paths) as resting:
        if not resting:
            return "being made"
        if not dry_run:
            gone = paths.item.with_name(f".{paths.item.name}{GONE}")
            publish([(paths.item, gone)])
            _remove_files(paths)
    if not dry_run:
        gone.unlink()  # last, because it tells the next prune what is left to remove
    return ""


def _remove_files(paths: Paths) -> None:
    for path in (*paths.all, *paths.neighbours, paths.audit):
        if path != paths.item:
            path.unlink(missing_ok=True)


def _finish(gone: Path) -> None:
    """Remove what is left of a product, unless another one of its name has been made since."""
    href = json.loads(gone.read_bytes())["assets"]["reflectance"]["href"]
    paths = Paths(gone.parent / unquote(href))
    with at_rest(paths) as resting:
        if resting and not paths.item.exists():
            _remove_files(paths)
    if resting:
        gone.unlink()
