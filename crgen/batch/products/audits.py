"""Audits of a folder's products: each is scored against the clearest Sentinel-2 image acquired since."""

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
"""File in a folder with the day of its last audit: Earth Engine is asked once a day."""


def audit_products(folder: Path, options: EarthEngine, today: datetime.date) -> Iterator[tuple[Path, Audit | str]]:
    """Audit the products in a folder, and yield the reflectance COG of each with its result or the reason for none.

    Those that have learned from images after t2 are left out: they would be scored against what they have seen.
    A product is audited again when a clearer image is acquired, until :data:`~crgen.pipeline.audit.DAYS` after t2.

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
        if not 0 < age <= DAYS + 1:  # an image joins the catalogue a day after its acquisition
            continue
        if product.item["properties"].get("crgen:manifest", {}).get("rules", {}).get("past_after"):
            continue  # it has learned from later images
        try:
            day = _audited_day(product.paths)
            yield product.paths.reflectance, audit(product.paths.item, earth_engine=options, unless=day)
        except NotYetError:
            continue
        except SourceError:  # the others would fail alike; the folder is audited again next time
            raise
        except CrgenError as error:
            yield product.paths.reflectance, str(error)
    write_whole(looked, today.isoformat().encode())


def _audited_day(paths: Paths) -> datetime.date | None:
    """Return the day of the image that a product was scored against; None if it was not."""
    try:
        return datetime.date.fromisoformat(json.loads(paths.audit.read_bytes())["day"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
