"""Write a COG from an array, as a run does from its chunks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np

from crgen.pipeline.cog import RasterProfile
from crgen.pipeline.files import publish
from crgen.pipeline.splice import splice
from crgen.pipeline.tiles import EncodedBlock, encode


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
