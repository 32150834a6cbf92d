"""What follows the pixels of a map: outlines and area of water, pictures, page, of rasters that are there.

Run as ``python -m tests.pipeline.picture.large FOLDER``; prints what it took.
"""

import datetime
import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import dask.array as da
import numpy as np
import pyogrio
import rasterio
from odc.geo.geobox import GeoBox
from shapely.geometry import box

from crgen.files import publish
from crgen.model.find import find_weights, read_card
from crgen.pipeline.cog.splice import Spliced
from crgen.pipeline.flood.area import areas_of
from crgen.pipeline.flood.polygons import LAYERS, write_polygons
from crgen.pipeline.picture.quicklook import product_panels
from crgen.pipeline.picture.thumbnail import InputThumbnails
from crgen.pipeline.product.assembled import Assembled
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.product.page import write_product_page
from crgen.pipeline.product.pictures import picture, write_thumbnail
from crgen.pipeline.product.selfcheck import self_check
from crgen.pipeline.product.truth import Truth
from crgen.pipeline.source.area import Area
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.source.stack import build_stack
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.hidden import Hidden
from crgen.pipeline.tiling.quality import Quality
from crgen.pipeline.tiling.water import NEW, OLD

MADE = ("B2", "B3", "B4")
T1, T2 = datetime.date(2021, 7, 10), datetime.date(2021, 7, 22)


def peak() -> float:
    """Most memory that this process has had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def scene_of(grid: GeoBox) -> Scene:
    """Imagery of an area that nobody will read."""
    radar, optical = (da.zeros((n, *grid.shape), dtype=np.float32, chunks=(n, 1024, 1024)) for n in (1, len(MADE)))
    variables = {"s1_t1": radar, "s2_t1": optical, "s1_t2": radar}
    stack = build_stack(grid, variables, pols=["VV"], bands=MADE, manifest={"source": "local"})
    return Scene(stack, Area("large", grid, box(*grid.extent.boundingbox)), T1, T2, (), True, MADE)


def main(folder: Path) -> None:
    paths, card = Paths(folder / "map.tif"), read_card(find_weights("base"))
    with rasterio.open(paths.reflectance) as raster:
        grid = GeoBox.from_rio(raster)
    scene, pixels = scene_of(grid), grid.shape[0] * grid.shape[1]
    inputs = InputThumbnails(tuple(grid.shape), MADE, MADE, "VV")
    noise = np.random.default_rng(0)
    for at in range(0, grid.shape[0] - 1023, 1024):
        chunk = {name: noise.random((3, 1024, 1024), np.float32) for name in ("s1_t1", "s1_t2", "s2_t1")}
        inputs.put(at, at, inputs.reduce(at, at, chunk))
    start, before = time.monotonic(), peak()
    rasters = {name: path for name, path in paths.rasters.items() if path.exists()}
    tally = Tally(Counter({int(Quality.GENERATED): pixels}), water=Counter({NEW: pixels / 9, OLD: pixels / 20}))
    tally.inside = pixels
    areas = areas_of(paths.water, tally.water, card.water)
    outlines = write_polygons(paths.flood, paths.water, str(T2), str(T2))
    panels = product_panels(
        inputs, result=rasters["reflectance"], quality=rasters["quality"], t1=T1, t2=T2, days=scene.days
    )
    spliced = {name: Spliced(path, b"") for name, path in rasters.items()}
    check = self_check(Hidden(3), tally, MADE)
    made = Assembled(spliced, outlines, inputs, tally, areas, check, None, "", None, Truth(), ())
    page = write_product_page(scene, paths, panels, made, card)
    shown = picture(scene, paths, panels, made, card), write_thumbnail(paths, panels, card)
    publish([(outlines, paths.flood), (page, paths.page), (shown[0], paths.quicklook), (shown[1], paths.thumbnail)])
    took = {
        "outlines": sum(pyogrio.read_info(paths.flood, layer=layer)["features"] for layer in LAYERS),
        "megabytes before": round(before),
        "megabytes": round(peak()),
        "seconds": round(time.monotonic() - start),
        "page": paths.page.stat().st_size,
        "picture": paths.quicklook.stat().st_size,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
