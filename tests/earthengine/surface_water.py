"""The JRC's Global Surface Water: one image of the whole Earth, masked where there never was water."""

import numpy as np

from tests.earthengine import ground
from tests.earthengine.images import UINT8, Grid, Image, Pixels, Projection
from tests.earthengine.scenes import stored_band

ASSET = "JRC/GSW1_4/GlobalSurfaceWater"
#: Degrees of a pixel.
STEP = 0.00025


def image() -> Image:
    projection = Projection("EPSG:4326", (STEP, 0.0, -180.0, 0.0, -STEP, 80.0))
    band = stored_band("occurrence", UINT8, projection, (round(360 / STEP), round(140 / STEP)), _occurrence)
    return Image((band,), {"system:index": "GlobalSurfaceWater"}, None, ASSET, 1_600_000_000_000_000)


def _occurrence(grid: Grid) -> Pixels:
    share = ground.occurrence(*grid.centres("EPSG:4326"))
    return share, (np.rint(share) > 0).astype(float)
