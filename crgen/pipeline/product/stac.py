"""The STAC Item of a product: what was made, from what, by what, and how much of it was observed.

STAC 1.1 with the extensions projection 2.0, raster 2.0, eo 2.0, file 2.1, processing 1.2, render 2.0,
classification 2.0, mlm 1.4, and scientific 1.0 where others' work is to be cited (https://stac-extensions.github.io).
The item is valid for the whole day of t2 in UTC
(``start_datetime`` to ``end_datetime``, ``datetime`` null), because a map drawn from several overpasses has no single
instant.
Every ``href`` to a file of the product is relative to the item, so the folder can be moved as one. Fields of
crgen's own (``crgen:…``) hold what a repetition needs: manifest, settings, model.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pystac
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.enums import WktVersion
from pystac.extensions.classification import Classification, ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.render import Render, RenderExtension
from pystac.extensions.scientific import Publication, ScientificExtension
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from crgen.files import file_sha256, pulled_from, write_partial
from crgen.pipeline.cog.profile import RasterProfile, band_statistics
from crgen.pipeline.product.mlm import describe_model
from crgen.pipeline.source.area_file import unwrapped
from crgen.pipeline.source.ground import ground_pixel
from crgen.pipeline.source.outline import as_polygons, parts_of
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

EO = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"
PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"

S2_SPECTRUM = {
    "B1": ("coastal", 0.4427),
    "B2": ("blue", 0.4924),
    "B3": ("green", 0.5598),
    "B4": ("red", 0.6646),
    "B5": ("rededge071", 0.7041),
    "B6": ("rededge075", 0.7405),
    "B7": ("rededge078", 0.7828),
    "B8": ("nir", 0.8328),
    "B8A": ("nir08", 0.8647),
    "B9": ("nir09", 0.9451),
    "B11": ("swir16", 1.6137),
    "B12": ("swir22", 2.2024),
}
"""STAC's common name and the centre wavelength in µm of Sentinel-2A's bands (ESA, MSI spectral bands)."""

WATER_DOI = "10.1038/nature20584"
WATER_PAPER = (
    "Pekel, Cottam, Gorelick & Belward (2016), High-resolution mapping of global surface water and its long-term "
    "changes, Nature 540, 418-422"
)
"""To be cited by whoever uses the JRC's Global Surface Water, which is free for all uses under Copernicus' terms."""

TILE_DIGESTS = "crgen:tile_crc32"
"""Asset field: the CRC-32 of each tile, little-endian, in base64."""

MEDIA_TYPES = {
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".html": pystac.MediaType.HTML,
    ".png": pystac.MediaType.PNG,
    ".qml": pystac.MediaType.XML,
    ".webp": "image/webp",
}

_SEAL = "crgen:sha256"
_SEALED = re.compile(rb'("crgen:sha256": ")[0-9a-f]{64}')

CARD_ESSENTIALS = ("name", "preset", "window", "trained_on", "radiometry", "held_out", "limits", "licence")


@dataclass(frozen=True)
class ProductFile:
    """One file of a product, finished but perhaps not yet published."""

    path: Path
    """Where its bytes are now."""
    name: str
    """The file name it is published under, beside the item."""
    title: str
    roles: tuple[str, ...]
    profile: RasterProfile | None = None
    """What it holds, if it is a COG."""
    tile_digests: bytes = b""
    """CRC-32 of its tiles, little-endian, in the file's order of directories, row by row."""


def build_item(
    *,
    item_id: str,
    geobox: GeoBox,
    footprint: Polygon | MultiPolygon,
    t1: date,
    t2: date,
    files: Mapping[str, ProductFile],
    card: Mapping[str, Any],
    model_sha256: str,
    manifest: Mapping[str, Any],
    settings: Mapping[str, Any],
    counts: Mapping[Quality, int],
    created: datetime,
    radar: tuple[str, str] | None = None,
    unlike: Mapping[str, float],
    renders: Mapping[str, Render] | None = None,
    water: Mapping[str, str] | None = None,
) -> pystac.Item:
    """Describe a product.

    Args:
        item_id: the item's id.
        geobox: the grid of its rasters.
        footprint: outline of the area, in the CRS of ``geobox``.
        t1: day of the reference images.
        t2: day the product shows.
        files: its files by asset key, finished so that they can be hashed; the categorical one is described
            by the quality classes.
        card: the model card.
        model_sha256: digest of the weights, hexadecimal.
        manifest: where the input comes from; ``manifest["scenes"]`` lists, by variable of the Stack, the
            scenes as ``{"id": …, "href": …}`` (``href`` optional); each becomes a ``derived_from`` link.
        settings: what the run was asked for.
        counts: pixels by quality class.
        created: when the product was made, with its time zone.
        radar: the days of the radar of t1 and of t2, where they are known.
        unlike: share of the area that is unlike the training, by what is (:mod:`crgen.model.usual`).
        renders: how to show its files.
        water: ``id`` and ``href`` of the JRC's Global Surface Water, if it was there to tell water of before.

    Returns:
        The item, its hrefs relative to the folder of the files.
    """
    outline = to_lonlat(footprint, geobox)
    item = pystac.Item(
        id=item_id,
        geometry=shapely.geometry.mapping(outline),
        bbox=bounds_of(outline),
        datetime=None,
        start_datetime=datetime.combine(t2, time.min, UTC),
        end_datetime=datetime.combine(t2, time(23, 59, 59), UTC),
        properties={
            "title": f"Cloud-free Sentinel-2 reflectance of {t2}"
            + (f", radar of {radar[0]} (t1) and {radar[1]} (t2)" if radar else ""),
            "created": pystac.utils.datetime_to_str(created),
            **_processing(t1, t2, radar or (str(t1), str(t2)), card, counts),
            "crgen:t1": t1.isoformat(),
            "crgen:t2": t2.isoformat(),
            "crgen:model": {
                "sha256": model_sha256,
                **{key: card[key] for key in CARD_ESSENTIALS if key in card},
            },
            "crgen:manifest": dict(manifest),
            "crgen:settings": dict(settings),
            "crgen:unlike_training": dict(unlike),
            "crgen:counts": {quality.name.lower(): int(counts.get(quality, 0)) for quality in Quality},
        },
        stac_extensions=[EO, RASTER, PROCESSING],
    )
    _describe_grid(item, geobox)
    for key, file in files.items():
        _add_asset(item, key, file, counts)
    if renders:
        RenderExtension.ext(item, add_if_missing=True).apply(dict(renders))
    describe_model(item, card, model_sha256)
    for link in _inputs(manifest):
        item.add_link(link)
    if water is not None:
        item.add_link(_derived_from(water, "water_occurrence"))
        scientific = ScientificExtension.ext(item, add_if_missing=True)
        scientific.apply(publications=[Publication(WATER_DOI, WATER_PAPER)])
    return item


def write_item(item: pystac.Item, path: Path) -> Path:
    """Write an item, with a digest of itself, under the hidden name of ``path``.

    Returns:
        The hidden file, for :func:`~crgen.files.publish`.

    Raises:
        OutputError: if it cannot be written.
    """
    item.properties[_SEAL] = "0" * 64
    text = json.dumps(item.to_dict(include_self_link=False), indent=2, ensure_ascii=False, allow_nan=False)
    content = text.encode()
    return write_partial(path, _SEALED.sub(rb"\g<1>" + seal_of(content).encode(), content))


def seal_of(content: bytes) -> str:
    """Return the SHA-256 of a written item, as its property ``crgen:sha256`` states it: with zeros in its place."""
    return hashlib.sha256(_SEALED.sub(rb"\g<1>" + b"0" * 64, content)).hexdigest()


def to_lonlat(footprint: Polygon | MultiPolygon, geobox: GeoBox) -> BaseGeometry:
    """Return an outline in WGS 84 longitude and latitude, its long edges bent as the projection bends them.

    Args:
        footprint: polygon in the CRS of ``geobox``.
        geobox: gives the CRS.

    Returns:
        A valid polygon, to 1e-7 degrees (1 cm), as RFC 7946 asks: exterior rings counter-clockwise, cut where it
        lies on both sides of 180°.
    """
    west, south, east, north = footprint.bounds
    step = max(east - west, north - south) / 20
    to_degrees = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform
    bent = shapely.transform(shapely.segmentize(footprint, step), lambda xy: np.column_stack(to_degrees(*xy.T)))
    lonlat = unwrapped(as_polygons(bent))
    if lonlat.bounds[2] > 180:
        sides = [shapely.intersection(lonlat, shapely.box(west, -90, west + 360, 90)) for west in (-180, 180)]
        beyond = shapely.transform(sides[1], lambda xy: xy - [360, 0])
        lonlat = MultiPolygon([*parts_of(sides[0]), *parts_of(beyond)])
    outline: BaseGeometry = shapely.orient_polygons(shapely.set_precision(lonlat, 1e-7))
    return outline


def bounds_of(outline: BaseGeometry) -> list[float]:
    """Return west, south, east and north of an outline in degrees; west beyond east if it crosses 180°."""
    west, south, east, north = outline.bounds
    if east - west > 180:
        sides = [part.bounds for part in parts_of(outline)]
        west, east = min(b[0] for b in sides if b[0] > 0), max(b[2] for b in sides if b[2] < 0)
    return [west, south, east, north]


def _processing(
    t1: date, t2: date, radar: tuple[str, str], card: Mapping[str, Any], counts: Mapping[Quality, int]
) -> dict[str, Any]:
    valid = sum(n for quality, n in counts.items() if quality != Quality.NODATA)
    observed = 100 * counts.get(Quality.OBSERVED, 0) / valid if valid else 0.0
    return {
        "processing:level": "L4",
        "processing:lineage": (
            f"Sentinel-2 surface reflectance of {t2}: {observed:.1f} % of the valid pixels were observed "
            "under a clear sky; the others were generated, or blended with generated ones, by CRGenNet "
            f"('{card['name']}') from Sentinel-1 backscatter of {' and '.join(radar)} and Sentinel-2 reflectance "
            f"of {t1}."
        ),
        "processing:software": {
            "crgen": version("crgen"),
            "torch": version("torch"),
            "GDAL": rasterio.__gdal_version__,
        },
    }


def _describe_grid(item: pystac.Item, geobox: GeoBox) -> None:
    crs = geobox.crs
    assert crs is not None
    box = geobox.boundingbox
    projection = ProjectionExtension.ext(item, add_if_missing=True)
    projection.apply(
        code=f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else None,
        wkt2=None if crs.to_epsg() else crs.to_wkt(version=WktVersion.WKT2_2019),
        bbox=[box.left, box.bottom, box.right, box.top],
        shape=[int(n) for n in geobox.shape],
        transform=[float(v) for v in geobox.affine[:6]],
    )
    item.common_metadata.gsd = round(ground_pixel(geobox), 3)


def _add_asset(item: pystac.Item, key: str, file: ProductFile, counts: Mapping[Quality, int]) -> None:
    media_type = pystac.MediaType.COG if file.profile else MEDIA_TYPES.get(Path(file.name).suffix)
    asset = pystac.Asset(f"./{quote(file.name)}", file.title, media_type=media_type, roles=list(file.roles))
    item.add_asset(key, asset)
    FileExtension.ext(asset, add_if_missing=True).apply(checksum=file_sha256(file.path), size=file.path.stat().st_size)
    if file.profile is None:
        return
    if file.tile_digests:
        asset.extra_fields[TILE_DIGESTS] = base64.b64encode(file.tile_digests).decode()
    statistics = band_statistics(file.path)
    asset.extra_fields["bands"] = [
        _band(name, file.profile, values) for name, values in zip(file.profile.bands, statistics, strict=True)
    ]
    if file.profile.colours is not None:
        ClassificationExtension.ext(asset, add_if_missing=True).classes = quality_classes(counts)


def _band(name: str, profile: RasterProfile, statistics: Mapping[str, float]) -> dict[str, Any]:
    band: dict[str, Any] = {
        "name": name,
        "data_type": profile.dtype,
        "nodata": "nan" if math.isnan(profile.nodata) else profile.nodata,
        "statistics": dict(statistics),
    }
    if profile.colours is None:
        band |= {"unit": profile.units, "raster:scale": profile.scale, "raster:offset": profile.offset}
    if name in S2_SPECTRUM:
        common_name, wavelength = S2_SPECTRUM[name]
        band |= {
            "description": f"Sentinel-2 {name} {profile.quantity}",
            "eo:common_name": common_name,
            "eo:center_wavelength": wavelength,
        }
    return band


def quality_classes(counts: Mapping[Quality, int]) -> list[Classification]:
    """Return the quality classes with their colours, pixel counts and shares of all pixels in percent."""
    total = sum(counts.values())
    return [
        Classification.create(
            value=int(quality),
            name=quality.name.lower(),
            title=LABELS[quality],
            description=LABELS[quality],
            color_hint="{:02X}{:02X}{:02X}".format(*COLOURS[quality][:3]),
            nodata=True if quality == Quality.NODATA else None,
            percentage=100 * counts.get(quality, 0) / total if total else 0.0,
            count=int(counts.get(quality, 0)),
        )
        for quality in Quality
    ]


def _inputs(manifest: Mapping[str, Any]) -> list[pystac.Link]:
    # A stack of a person's own may name scenes in ways of its own.
    scenes: Mapping[str, Any] = pulled_from(manifest).get("scenes", {})
    links = [_derived_from(scene, variable) for variable, listed in scenes.items() for scene in listed]
    if links:
        return links
    names = [str(manifest[key]) for key in ("source", "path") if key in manifest]
    return [pystac.Link("derived_from", _urn("source", *names), title="source: " + " ".join(names))]


def _derived_from(asset: Mapping[str, Any], variable: str) -> pystac.Link:
    href = asset.get("href") or _urn("scene", asset["id"])
    return pystac.Link("derived_from", href, title=asset["id"], extra_fields={"crgen:variable": variable})


def _urn(*parts: str) -> str:
    return ":".join(("urn:crgen", *(quote(part, safe="") for part in parts)))
