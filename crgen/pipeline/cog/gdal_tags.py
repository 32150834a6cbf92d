"""The tags that GDAL itself writes for a raster: place, palette, names, scale, statistics."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rasterio.io import MemoryFile

from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.cog.pyramid import BLOCK
from crgen.pipeline.cog.tiff import BYTE, XMP, Field, read_directories
from crgen.pipeline.cog.tiles import FIXED_POINT, Moments, tile_options


def gdal_tags(profile: RasterProfile, moments: Sequence[Moments]) -> dict[int, Field]:
    """Return the tags of a raster of one tile with the profile's metadata and statistics."""
    with MemoryFile() as memory:  # type: ignore[no-untyped-call]
        with memory.open(
            driver="GTiff",
            width=BLOCK,
            height=BLOCK,
            count=len(profile.bands),
            dtype=profile.dtype,
            nodata=profile.nodata,
            crs=str(profile.geobox.crs),
            transform=profile.geobox.affine,
            photometric="MINISBLACK" if profile.colours is None else "PALETTE",
            sparse_ok=True,
            **tile_options(profile),
        ) as dataset:
            if profile.colours is not None:
                dataset.write_colormap(1, dict(profile.colours))
            dataset.colorinterp = profile.colour_interpretation
            dataset.scales = (profile.scale,) * dataset.count
            dataset.offsets = (profile.offset,) * dataset.count
            dataset.units = (profile.units,) * dataset.count
            dataset.descriptions = profile.bands
            dataset.update_tags(**profile.tags)
            height, width = profile.shape
            for band in dataset.indexes:
                held = moments[band - 1] if moments else Moments()
                unit = FIXED_POINT if profile.dtype == "float32" else 1
                dataset.update_tags(band, **profile.band_tags, **_statistics(held, unit, height * width))
        encoded = bytes(memory.getbuffer())
    tags = next(read_directories(io.BytesIO(encoded)))
    if profile.xmp:
        packet = profile.xmp.encode()
        tags[XMP] = Field(BYTE, len(packet), packet)
    return tags


def _statistics(moments: Moments, unit: int, pixels: int) -> dict[str, str]:
    """Return GDAL's statistics tags."""
    percent = {"STATISTICS_VALID_PERCENT": f"{100 * moments.valid / pixels:.4g}"}
    if not moments.valid:
        return percent
    mean = moments.total / moments.valid / unit
    # In integers: the difference of two large, nearly equal numbers.
    scaled = moments.valid * moments.squares - moments.total**2
    deviation = max(scaled, 0) ** 0.5 / moments.valid / unit
    values = {"MINIMUM": moments.minimum, "MAXIMUM": moments.maximum, "MEAN": mean, "STDDEV": deviation}
    return {f"STATISTICS_{name}": f"{value:.14g}" for name, value in values.items()} | percent
