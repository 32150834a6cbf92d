"""A map of 40,000 km² has a page as small as any other's, and its outlines take no more memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.windows import Window
from scipy import ndimage

from crgen.pipeline.picture.viewer import LARGEST
from crgen.pipeline.tiling.quality import COLOURS, Quality

ROOT = Path(__file__).parents[3]
TILE = 2000


def field(seed: int) -> np.ndarray:
    """A smooth random field that can be laid side by side, of deviation 1, ``(TILE, TILE)``; ponds of some 300 m."""
    noise = np.random.default_rng(seed).standard_normal((TILE, TILE))
    smooth = ndimage.gaussian_filter(noise, 15, mode="wrap")
    return smooth / smooth.std()


def write(path: Path, side: int, tile: np.ndarray, nodata: int, *, scale: float = 1.0, names=(), colours=None) -> None:
    """Write a raster of square tiles, laid side by side, with the overviews that pictures are read from."""
    profile = {"driver": "GTiff", "width": side, "height": side, "count": len(tile), "dtype": tile.dtype, "crs": 32649}
    profile |= {
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "zstd",
        "zstd_level": 1,
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile, transform=Affine(10, 0, 300_000, 0, -10, 3_850_000)) as raster:
        raster.descriptions, raster.scales = names, [scale] * len(tile)
        if colours:
            raster.write_colormap(1, colours)
        line = np.concatenate([tile] * -(-side // TILE), -1)[..., :side]
        for row in range(0, side, TILE):
            raster.write(line[:, : side - row], window=Window(0, row, side, min(TILE, side - row)))
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([4, 16], Resampling.nearest if colours else Resampling.average)


def took(folder: Path, side: int) -> dict[str, int]:
    """Make what follows the pixels of a map in a process of its own, and return what that took."""
    t1, t2 = field(1), field(2)
    water = np.clip(50 + 40 * np.stack([t2, t1]), 0, 100).astype(np.uint8)
    reflectance = (1500 + 300 * np.stack([t2, t1, t1 - t2])).clip(1).astype(np.uint16)
    colours = {int(quality): colour for quality, colour in COLOURS.items()}
    classes = np.where(t1 > 0, Quality.OBSERVED, Quality.GENERATED).astype(np.uint8)[None]
    write(folder / "map.tif", side, reflectance, 0, scale=1e-4, names=("B2", "B3", "B4"))
    write(folder / "map_error.tif", side, reflectance // 10, 65535, scale=1e-4, names=("B2", "B3", "B4"))
    write(folder / "map_water.tif", side, water, 255, names=("water", "water_t1"))
    write(folder / "map_quality.tif", side, classes, 0, names=("quality",), colours=colours)
    # Else GDAL keeps what it read in 5 % of the machine's memory.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GDAL_CACHEMAX": "64"}
    words = [sys.executable, "-m", "tests.pipeline.picture.large", str(folder)]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.nightly
def test_the_page_of_twenty_thousand_pixels_squared_is_small_and_memory_is_flat(tmp_path: Path) -> None:
    """Sixteen times the area takes what strips four times as wide need, and a page of 8 MB at most."""
    made = []
    for side in (5_000, 20_000):
        (tmp_path / str(side)).mkdir()
        made.append(took(tmp_path / str(side), side))
        print(side, made[-1])
    small, large = made
    assert large["outlines"] > 12 * small["outlines"] > 10_000
    assert large["page"] <= LARGEST
    assert large["picture"] <= LARGEST
    spent = [one["megabytes"] - one["megabytes before"] for one in made]
    assert spent[1] < 5 * max(spent[0], 100), "a few hundred megabytes, not those of 400 million pixels"
