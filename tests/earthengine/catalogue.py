"""The synthetic catalogue: scenes with the metadata of the real ones, and pixels from ``ground``.

Around Zhengzhou and across 114°E in July 2021, a few earlier and later years, and Beira in the southern UTM zone 36:

- Sentinel-1: three ascending tracks (142, 113, 40 from west to east) and a descending one (47), on the days on which
  Sentinel-1A passed in 2021; over Beira (track 6) B too, and C in 2025. Of the four slices of each pass two neighbours
  leave ``sentinel1.SEAM`` open; every scene has its own lattice. Power (``S1``) and, later, dB (``S1_DB``).
  The slices of track 113 meet inside ``examples/zhengzhou.geojson``. Track 40 lies in UTM 50, the others in UTM 49.
  Along the swath's edges of 2017 lies border noise below -30 dB. Around ``ground.LAKE``, which is calm water, pixels
  have speckle and noise. ``sentinel1.GAP`` is missing from track 113 on 2021-07-08 though the footprint covers it.
  Decoys on 2021-07-10: HH+HV, VV alone, EW, and IW at 40 m.
- A past of Zhengzhou: clear days of Sentinel-2 in July 2020 and in spring 2021, with track 113 a day or two from each.
- Across the equator at 37°E runs track 30, the number of which is 29 south of it.
- Sentinel-2: tiles of UTM 49 and 50 that overlap, relative orbits 124 and 24 whose swaths end inside tiles, duplicates
  (``sentinel2.DUPLICATED``; the older generation is 0.03 too bright), a tile in two parts (``sentinel2.SPLIT``), QA60
  masked between 2022-01-25 and 2024-02-28.
- Cloud Score+: one image per Sentinel-2 image, but none for ``sentinel2.WITHOUT_SCORE``, nor
  for the newer generation of 2021-07-29.
- Global Surface Water: ``ground.LAKE`` was always water but along its shore, and nothing else ever was.
"""

import functools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tests.earthengine import sentinel1, sentinel2, surface_water
from tests.earthengine.images import Image
from tests.earthengine.scenes import millis

S1 = sentinel1.COLLECTION
S1_DB = sentinel1.COLLECTION_DB
S2 = sentinel2.COLLECTION
CLOUD_SCORE = sentinel2.CLOUD_SCORE

Made = TypeVar("Made")


class once(Generic[Made]):  # noqa: N801, a decorator
    """Make something when it is first asked for; threads that come meanwhile wait for it, not each make its own."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._lock, self._cached = threading.RLock(), functools.cache(make)

    def __call__(self) -> Made:
        with self._lock:
            return self._cached()

    def forget(self) -> None:
        """Make it anew when it is next asked for."""
        self._cached.cache_clear()


@once
def collections() -> dict[str, tuple[Image, ...]]:
    """Every collection's images, ordered by time as Earth Engine lists them."""
    takes = sentinel2.datatakes()
    radar = sentinel1.scenes()
    found = {
        S1: radar,
        S1_DB: [
            sentinel1.in_decibel(scene)
            for scene in radar
            if scene.properties["system:time_start"] < millis(sentinel1.NEWEST)
        ],
        S2: [sentinel2.surface_reflectance(take) for take in takes],
        CLOUD_SCORE: [sentinel2.cloud_score(take) for take in takes if take.scored],
    }
    return {
        name: tuple(sorted(images, key=lambda image: (image.properties["system:time_start"], image.id)))
        for name, images in found.items()
    }


@once
def images() -> dict[str, Image]:
    """Every image by its asset id."""
    scenes = {str(image.id): image for listed in collections().values() for image in listed}
    return scenes | {surface_water.ASSET: surface_water.image()}
