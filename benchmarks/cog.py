"""Three ways to write a COG from chunks: CPU time, wait after the last pixel, memory.

    python benchmarks/cog.py [SIDE]     (default 8192 px, 3 bands uint16, DEFLATE, chunks of 2048)

splice: crgen's own way; each chunk is encoded when it is there. COG driver: chunks go to a tiled GeoTIFF, which GDAL's
COG driver then copies. odc-geo: `save_cog_with_dask`. Each in a process of its own, over what the process held before.
"""

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import apart, cpu_seconds, peak_mb, report, watched

CHUNK, THREADS = 2048, 2
WAYS = ("splice", "COG driver", "odc-geo")


def chunk_at(row: int, col: int, side: int):
    """Return a chunk of something between noise and imagery."""
    import numpy as np
    from scipy import ndimage

    height, width = min(CHUNK, side - row), min(CHUNK, side - col)
    rng = np.random.default_rng([row, col])
    smooth = ndimage.zoom(rng.normal(size=(3, height // 32 + 2, width // 32 + 2)), (1, 32, 32), order=1)
    image = 2000 + 600 * smooth[:, :height, :width] + 40 * rng.normal(size=(3, height, width))
    return image.clip(1, 10_000).astype("uint16")


def profile_of(side: int):
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from crgen.pipeline.cog.profile import RasterProfile

    grid = GeoBox((side, side), Affine(10, 0, 500_000, 0, -10, 4_000_000), "EPSG:32631")
    return RasterProfile(grid, ("B11", "B8", "B3"), "uint16", 0, scale=1e-4, units="reflectance")


def splice_way(side: int, folder: Path, chunks) -> tuple[float, Path]:
    from crgen.files import publish
    from crgen.pipeline.cog.splice import splice
    from crgen.pipeline.cog.tiles import encode
    from crgen.pipeline.run.parts import PartStore, block_members, block_summary, stored_block

    profile, store = profile_of(side), PartStore(folder, "benchmark")

    def make(at):
        block = encode(profile, *at, chunk_at(*at, side))
        store.write(f"{at[0]}_{at[1]}", {"block": block_summary(block)}, block_members("image", block))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(make, chunks))
    last = time.perf_counter()
    parts = [store.open(f"{row}_{col}") for row, col in chunks]
    out = folder / "splice.tif"
    publish([(splice(out, profile, [stored_block(p, "image", p.summary["block"]) for p in parts]).path, out)])
    return last, out


def driver_way(side: int, folder: Path, chunks) -> tuple[float, Path]:
    import threading

    import rasterio
    from rasterio.shutil import copy
    from rasterio.windows import Window

    profile, lock = profile_of(side), threading.Lock()
    options = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint16", "nodata": 0}
    options |= {"crs": "EPSG:32631", "transform": profile.geobox.affine, "tiled": True, "blockxsize": 512}
    options |= {"blockysize": 512, "interleave": "pixel", "compress": "ZSTD", "zstd_level": 1, "bigtiff": "IF_SAFER"}
    with rasterio.open(folder / "scratch.tif", "w", **options) as scratch:

        def make(at):
            image = chunk_at(*at, side)
            with lock:
                scratch.write(image, window=Window(at[1], at[0], image.shape[2], image.shape[1]))

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(make, chunks))
        last = time.perf_counter()
    out = folder / "driver.tif"
    more = {"overview_resampling": "AVERAGE", "statistics": "YES", "num_threads": str(THREADS)}
    copy(folder / "scratch.tif", out, driver="COG", blocksize=512, compress="DEFLATE", predictor="STANDARD", **more)
    return last, out


def odc_way(side: int, folder: Path, chunks) -> tuple[float, Path]:
    import threading

    import dask
    import dask.array as da
    import numpy as np
    import xarray as xr
    from odc.geo.cog import save_cog_with_dask
    from odc.geo.xr import xr_coords

    made, lock = [0.0], threading.Lock()

    def make(block_info=None):
        (_, rows, cols) = block_info[None]["array-location"]
        image = chunk_at(rows[0], cols[0], side)
        with lock:
            made[0] = max(made[0], time.perf_counter())
        return image

    sizes = tuple(min(CHUNK, side - start) for start in range(0, side, CHUNK))
    data = da.map_blocks(make, chunks=((3,), sizes, sizes), dtype="uint16", meta=np.empty((0, 0, 0), "uint16"))
    coords = xr_coords(profile_of(side).geobox, dims=("y", "x"))
    image = xr.DataArray(data, dims=("band", "y", "x"), coords=coords)
    image.attrs["nodata"] = 0
    out = folder / "odc.tif"
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        save_cog_with_dask(image, out, compression="deflate", level=6, predictor=2, blocksize=512).compute()
    return made[0], out


def one(way: str, side: int) -> None:
    """Write one; prints JSON."""
    from rio_cogeo.cogeo import cog_validate

    function = {"splice": splice_way, "COG driver": driver_way, "odc-geo": odc_way}[way]
    chunks = [(row, col) for row in range(0, side, CHUNK) for col in range(0, side, CHUNK)]
    with tempfile.TemporaryDirectory() as name:
        chunk_at(0, 0, side)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(profile_of, side).result()
        before, start = cpu_seconds(), time.perf_counter()
        with watched(0.05) as samples:
            last, out = function(side, Path(name), chunks)
            end = time.perf_counter()
        base = samples[0][1] if samples else peak_mb()
        row = {
            "cpu": cpu_seconds() - before,
            "seconds": end - start,
            "tail": end - last,
            "memory": peak_mb() - base,
            "bytes": out.stat().st_size,
            "valid": cog_validate(str(out), strict=True)[0],
        }
    print(json.dumps(row))


def main(side: int) -> None:
    making = sum_of_making(side)
    rows, held = [], {}
    for way in WAYS:
        row = apart(__file__, way, side)
        held[way] = row
        ratio = held["splice"]
        rows.append(
            (
                way,
                f"{row['cpu'] - making:.1f}",
                f"{(row['cpu'] - making) / (ratio['cpu'] - making):.2f}",
                f"{row['tail']:.1f}",
                f"{row['tail'] / ratio['tail']:.1f}",
                f"{row['memory']:.0f}",
                f"{row['bytes'] / 1e6:.0f}",
                "yes" if row["valid"] else "no",
            )
        )
    header = (
        f"COG of {side} × {side} × 3 uint16",
        "CPU s, without making the pixels",
        "÷ splice",
        "s after the last pixel",
        "÷ splice",
        "peak memory over base, MB",
        "file, MB",
        "strictly valid",
    )
    report("cog", header, rows, {"ways": held})


def sum_of_making(side: int) -> float:
    """Return CPU seconds of making the pixels alone."""
    before = cpu_seconds()
    for row in range(0, side, CHUNK):
        for col in range(0, side, CHUNK):
            chunk_at(row, col, side)
    return cpu_seconds() - before


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 8192)
