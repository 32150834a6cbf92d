"""Rasters of random pixels, and a COG from an array, as a run writes it from its chunks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from affine import Affine
from odc.geo.geobox import GeoBox

from crgen.files import publish
from crgen.pipeline.cog.profile import RasterProfile
from crgen.pipeline.cog.splice import splice
from crgen.pipeline.cog.tiles import EncodedBlock, encode
from crgen.pipeline.tiling.quality import COLOURS


def profile_of(shape, bands=("B2", "B3", "B4"), dtype="uint16", nodata=0, **more):
    geobox = GeoBox(shape, Affine(10, 0, 500_000, 0, -10, 4_000_000), "EPSG:32631")
    return RasterProfile(geobox, bands, dtype, nodata, **more)


def reflectance_profile(shape, bands=("B2", "B3", "B4")):
    return profile_of(shape, bands, scale=1e-4, units="1", tags={"CRGEN_MODEL": "base"})


def quality_profile(shape):
    return profile_of(shape, ("quality",), "uint8", colours=COLOURS)


def dn_image(shape, count=3, seed=0):
    return np.random.default_rng(seed).integers(1, 10_000, (count, *shape)).astype("uint16")


def blocks_of(
    profile: RasterProfile, image: np.ndarray, size: int, order: Sequence[int] | None = None, threads: int = 1
) -> list[EncodedBlock]:
    """Encode an image in squares, in the order given."""
    starts = list(product(*(range(0, n, size) for n in image.shape[1:])))
    starts = starts if order is None else [starts[i] for i in order]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda s: encode(profile, *s, image[:, s[0] : s[0] + size, s[1] : s[1] + size]), starts))


def write_cog(path: Path, profile: RasterProfile, image: np.ndarray, size: int = 1024, **more) -> Path:
    """Make and publish a COG."""
    publish([(splice(path, profile, blocks_of(profile, image, size, **more)).path, path)])
    return path
