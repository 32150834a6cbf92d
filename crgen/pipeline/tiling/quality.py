"""The quality classes: where each pixel of a product comes from."""

from enum import IntEnum


class Quality(IntEnum):
    """Values of the quality raster, one per pixel of the product."""

    NODATA = 0
    """No value: the radar of t2 is missing here, or the pixel lies outside the area."""
    OBSERVED = 1
    """Seen by Sentinel-2 at t2 under a clear sky; passed through unchanged."""
    GENERATED = 2
    """Made by the generator from radar and the optical image of t1, which shows the ground here."""
    BLENDED = 3
    """Observed, but within the feather of a cloud's edge: part observation, part generator."""
    GENERATED_RADAR_ONLY = 4
    """Made by the generator where no optical image of t1 exists: trust it less."""
    GENERATED_CLOUDY_T1 = 5
    """Made by the generator where the optical image of t1 shows cloud, haze or shadow: trust it less too."""
    GENERATED_UNLIKE = 6
    """Made by the generator where radar or ground are unlike all it was trained on (:mod:`crgen.model.usual`), whatever
    t1 shows: nobody knows how far it is off."""


GENERATED_CLASSES = tuple(quality for quality in Quality if quality.name.startswith("GENERATED"))
"""Nothing of these was observed at t2."""
LABELS = {
    Quality.NODATA: "no data",
    Quality.OBSERVED: "observed",
    Quality.GENERATED: "generated, t1 clear",
    Quality.BLENDED: "blended at a cloud's edge",
    Quality.GENERATED_RADAR_ONLY: "generated, no optical t1",
    Quality.GENERATED_CLOUDY_T1: "generated, t1 under cloud",
    Quality.GENERATED_UNLIKE: "generated, unlike training",
}
COLOURS = {
    Quality.NODATA: (0, 0, 0, 0),
    Quality.OBSERVED: (44, 123, 182, 255),
    Quality.GENERATED: (253, 174, 97, 255),
    Quality.BLENDED: (171, 217, 233, 255),
    Quality.GENERATED_RADAR_ONLY: (215, 25, 28, 255),
    Quality.GENERATED_CLOUDY_T1: (227, 111, 30, 255),
    Quality.GENERATED_UNLIKE: (118, 42, 131, 255),
}
