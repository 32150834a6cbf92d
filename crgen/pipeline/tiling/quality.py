"""The quality classes: where each pixel of a product comes from."""

from enum import IntEnum


class Quality(IntEnum):
    """Values of the quality raster, one per pixel of the product."""

    NODATA = 0
    """No value: the radar of t2 is missing here, or the pixel lies outside the area."""
    OBSERVED = 1
    """Seen by Sentinel-2 at t2 under a clear sky; passed through unchanged."""
    GENERATED = 2
    """Made by the generator from radar and the optical image of t1."""
    BLENDED = 3
    """Observed, but within the feather of a cloud's edge: part observation, part generator."""
    GENERATED_RADAR_ONLY = 4
    """Made by the generator where no optical image of t1 exists: trust it less."""


LABELS = {
    Quality.NODATA: "no data",
    Quality.OBSERVED: "observed",
    Quality.GENERATED: "generated",
    Quality.BLENDED: "blended at a cloud's edge",
    Quality.GENERATED_RADAR_ONLY: "generated without optical t1",
}
COLOURS = {
    Quality.NODATA: (0, 0, 0, 0),
    Quality.OBSERVED: (44, 123, 182, 255),
    Quality.GENERATED: (253, 174, 97, 255),
    Quality.BLENDED: (171, 217, 233, 255),
    Quality.GENERATED_RADAR_ONLY: (215, 25, 28, 255),
}
