"""Audits of a folder's products: each against the clearest Sentinel-2 that has come since."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

from crgen.batch.products.listing import products_in
from crgen.errors import CrgenError, SourceError
from crgen.files import write_whole
from crgen.pipeline.audit import DAYS, Audit, NotYetError, audit
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.request import EarthEngine

LOOKED = ".audited"
"""In a folder: the day on which its maps were last looked after; Earth Engine is asked once a day."""


def audit_products(folder: Path, options: EarthEngine, today: datetime.date) -> Iterator[tuple[Path, Audit | str]]:
    """Yield the maps that were scored, each with its result, or with why it could not be.

    A map is scored again when a clearer image comes, while images still tell of it.

    Args:
        folder: of the products.
        options: how to ask Earth Engine.
        today: UTC.

    Raises:
        OutputError: if the folder cannot be written.
        SourceError: if Earth Engine cannot be asked.
    """
    looked = folder / LOOKED
    if not folder.is_dir() or (looked.exists() and looked.read_text() == today.isoformat()):
        return
    for product in products_in(folder):
        age = (today - datetime.date.fromisoformat(product.item["properties"]["crgen:t2"])).days
        if not 0 < age <= DAYS + 1:  # an image is there a day after it was taken
            continue
        try:
            yield product.paths.reflectance, audit(product.paths.item, earth_engine=options, unless=_day(product.paths))
        except NotYetError:
            continue
        except SourceError:  # none of the others can be asked about either: looked after again next time
            raise
        except CrgenError as error:
            yield product.paths.reflectance, str(error)
    write_whole(looked, today.isoformat().encode())


def _day(paths: Paths) -> datetime.date | None:
    """Return the day that a map was scored against; None if it was not."""
    try:
        return datetime.date.fromisoformat(json.loads(paths.audit.read_bytes())["day"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
