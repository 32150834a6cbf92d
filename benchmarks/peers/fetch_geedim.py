"""Fetch the images of a job with geedim: ``python fetch_geedim.py JOB``, JSON as ``race.Job`` writes it."""

import json
import sys
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> None:
    import ee
    import geedim.stac
    from google.auth.credentials import AnonymousCredentials

    async def unknown(*_: object) -> None:
        """Stand in for the public catalogue, which is not on this machine: it gives tags of the file alone."""

    geedim.stac.STACClient()._get = unknown
    ee.deprecation._FetchDataCatalogStac = lambda: {}
    ee.Initialize(AnonymousCredentials(), project="benchmark", url=job["url"])

    def bands(name: str) -> Any:
        first, *others = (
            image.resample("bilinear") if bilinear else image
            for scene, names, bilinear in job["images"][name]
            for image in [ee.Image(scene).select(names)]
        )
        for other in others:
            first = first.addBands(other)
        return first

    grid = {"crs": job["crs"], "crs_transform": job["transform"], "shape": job["shape"]}
    names = list(job["images"])
    if not job["tuned"]:
        for name in names:
            path = Path(job["out"]) / f"{name}.tif"
            bands(name).gd.prepareForExport(**grid).gd.toGeoTIFF(path, overwrite=True, max_requests=job["at_once"])
        return
    whole = bands(names[0])
    for name in names[1:]:
        whole = whole.addBands(bands(name))
    ready = whole.gd.prepareForExport(**grid, dtype="float32").gd
    ready.toGeoTIFF(Path(job["out"]) / "all.tif", overwrite=True, max_tile_size=16, max_requests=job["at_once"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
