"""The pictures of a finished product: inputs and result side by side, and the map alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crgen.files import write_partial
from crgen.model.card import ModelCard
from crgen.pipeline.cog.profile import xmp_of
from crgen.pipeline.picture.quicklook import Panel, colours_of, draw_quicklook, stretch_of
from crgen.pipeline.product.assembled import Assembled
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.source.imagery import Scene

THUMBNAIL = 600
"""Pixels of its longer side."""


def picture(
    scene: Scene,
    paths: Paths,
    panels: tuple[list[Panel], list[NDArray[np.float32]]],
    product: Assembled,
    card: ModelCard,
) -> Path:
    """Draw the quicklook of panels under its hidden name and return that."""
    title = paths.reflectance.stem
    if (error := product.truth.error) is not None:
        made, copied = (error[row]["RMSE"] for row in ("generated", "copy of t1"))
        title += f" · RMSE of generated pixels {made:.3f}, of copying t1 there {copied:.3f}"
    return draw_quicklook(
        paths.quicklook,
        panels=panels[0],
        title=title,
        geobox=scene.area.geobox,
        stretch_like=panels[1],
        shares=product.tally.shares,
        xmp=xmp_of(card.name),
        proof=product.learned.line if product.learned is not None else "",
    )


def write_thumbnail(paths: Paths, panels: tuple[list[Panel], list[NDArray[np.float32]]], card: ModelCard) -> Path:
    """Write the map alone, small, under its hidden name and return that."""
    result = next(panel for panel in panels[0] if panel.kind == "optical" and panel.image is panels[1][0])
    image = Image.fromarray(colours_of(result, [stretch_of([panels[1][0]], 0.05)], stretch_of([], 5.0)))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    image.save(content, "WEBP", quality=82, xmp=xmp_of(card.name).encode())
    return write_partial(paths.thumbnail, content.getvalue())
