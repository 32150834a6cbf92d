"""Fetch the images of a job with xee: ``python fetch_xee.py JOB``, JSON as ``race.Job`` writes it."""

import json
import sys
from pathlib import Path
from typing import Any


def main(job: dict[str, Any]) -> None:
    import dask
    import ee
    import xarray as xr
    from google.auth.credentials import AnonymousCredentials

    ee.deprecation._FetchDataCatalogStac = lambda: {}
    ee.Initialize(AnonymousCredentials(), project="benchmark", url=job["url"])
    height, width = job["shape"]
    grid: dict[str, Any] = {
        "engine": "ee",
        "crs": job["crs"],
        "crs_transform": tuple(job["transform"]),
        "shape_2d": (width, height),
    }
    if job["tuned"]:
        side = 1024
        grid["io_chunks"] = {"time": 2, "x": side, "y": side}
        grid["chunks"] = {"time": 2, "x": side, "y": side}
        grid["executor_kwargs"] = {"max_workers": 1}
        dask.config.set(scheduler="threads", num_workers=job["at_once"])
    # Scenes of the same bands make one collection, as a user of xee would have it.
    collections: dict[str, list[Any]] = {}
    for parts in job["images"].values():
        for scene, bands, bilinear in parts:
            image = ee.Image(scene).select(bands)
            collections.setdefault("-".join(bands), []).append(image.resample("bilinear") if bilinear else image)
    writes = []
    for name, images in collections.items():
        data = xr.open_dataset(ee.ImageCollection(images), **grid).drop_encoding()
        writes.append(data.to_zarr(Path(job["out"]) / f"{name}.zarr", mode="w", compute=not job["tuned"]))
    if job["tuned"]:
        dask.compute(*writes)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
