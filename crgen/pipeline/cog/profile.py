"""What a raster of a product is, beside its pixels, and what a finished one says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

Colour = tuple[int, int, int, int]
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a composite of captured elements and some that a trained algorithm made."""


@dataclass(frozen=True)
class RasterProfile:
    """What a raster is, beside its pixels."""

    geobox: GeoBox
    bands: tuple[str, ...]
    """Band descriptions, in order; Sentinel-2 bands by Earth Engine's names (``"B4"``)."""
    dtype: Literal["uint8", "uint16", "float32"]
    nodata: float
    scale: float = 1.0
    """``value = stored * scale + offset``."""
    offset: float = 0.0
    units: str = ""
    quantity: str = "surface reflectance"
    """What bands of Sentinel-2 hold."""
    xmp: str = ""
    """An XMP packet, see :func:`xmp_of`."""
    band_tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of every band."""
    tags: Mapping[str, str] = field(default_factory=dict)
    colours: Mapping[int, Colour] | None = None
    """RGBA by value; makes the raster categorical: a palette, and overviews by majority."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.geobox.shape
        return int(height), int(width)

    @property
    def nbytes(self) -> int:
        """Size of the pixels in memory, uncompressed."""
        height, width = self.shape
        return int(height * width * len(self.bands) * np.dtype(self.dtype).itemsize)

    @property
    def colour_interpretation(self) -> tuple[ColorInterp, ...]:
        """Palette, or what :func:`display_bands` shows as red, green and blue, or as gray."""
        if self.colours is not None:
            return (ColorInterp.palette,)
        shown = display_bands(self.bands)
        guns = (ColorInterp.red, ColorInterp.green, ColorInterp.blue) if len(shown) == 3 else (ColorInterp.gray,)
        by_band = dict(zip(shown, guns, strict=True))
        return tuple(by_band.get(band, ColorInterp.undefined) for band in self.bands)


TRUE_COLOUR, FALSE_COLOUR = ("B4", "B3", "B2"), ("B11", "B8", "B3")
"""Bands as red, green and blue; in the second water is dark, whatever it carries."""


def composites(bands: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the composites to show side by side, each of bands as red, green and blue.

    True colour, then false colour, where all three bands exist; if neither does, the first three bands, or the first
    alone where there are fewer.
    """
    whole = tuple(composite for composite in (TRUE_COLOUR, FALSE_COLOUR) if set(composite) <= set(bands))
    return whole or (tuple(bands[:3]) if len(bands) >= 3 else tuple(bands[:1]),)


def display_bands(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the bands to show as red, green and blue where there is room for one composite."""
    return composites(bands)[0]


def band_statistics(path: Path) -> list[dict[str, float]]:
    """Return the statistics a COG holds of each band's stored values, before scale and offset.

    Returns:
        By band ``minimum``, ``maximum``, ``mean``, ``stddev`` and ``valid_percent``; only the last where no
        pixel is valid.
    """
    with rasterio.open(path) as cog:
        tags = [cog.tags(band) for band in cog.indexes]
    names = ("minimum", "maximum", "mean", "stddev", "valid_percent")
    keys = {name: f"STATISTICS_{name.upper()}" for name in names}
    return [{name: float(band[key]) for name, key in keys.items() if key in band} for band in tags]


def xmp_of(weights: str) -> str:
    """Return an XMP packet (ISO 16684-1) with IPTC's ``DigitalSourceType``, and the weights that were used."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:CreatorTool={quoteattr("crgen " + version("crgen"))}'
        f' Iptc4xmpExt:DigitalSourceType="{SOURCE}">'
        f"<Iptc4xmpExt:AISystemUsed>crgen, weights {escape(weights)}</Iptc4xmpExt:AISystemUsed>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    )
