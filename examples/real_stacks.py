"""Turn small public collections of real Sentinel-1/2 imagery into Stacks that ``crgen fill`` reads.

    python examples/real_stacks.py DATA OUT

``DATA`` holds ``worldcereal/`` (github.com/WorldCereal/worldcereal-classification) and ``biomassters/``
(chips of the BioMassters challenge). Each pair in ``PAIRS`` becomes ``OUT/<name>.zarr``. Where the optical
image of t2 is clear it is kept aside as ``truth_t2``, so a run can report its real error; where it is
cloudy it becomes ``s2_t2`` with its clear-sky score.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from crgen.pipeline.source.local.write import write_stack
from crgen.pipeline.source.stack import build_stack

POLS = ("VV", "VH")
MONTHS_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")
DATES_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
BIOMASSTERS_BANDS = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12")
DATES = "00002806639B424A_32631_2017-08-01_2018-11-30.nc"
CLEAR_SCL = (4, 5, 6, 7, 11)  # vegetation, bare, water, unclassified, snow
# The chips' files do not say where in Finland they lie: a place in its UTM zone stands in.
BIOMASSTERS_ORIGIN = (500_000, 6_900_000)
BIOMASSTERS_CRS = "EPSG:32635"


def worldcereal_months(data: Path, t1: str, t2: str, *, truth: bool = True) -> xr.Dataset:
    """Two monthly composites of 1 × 1 km in Belgium, e.g. ``"2021-03"`` and ``"2021-06"``.

    2020-12 and 2021-01 have no optical image; all others are clear.
    """
    with xr.open_dataset(data / "worldcereal/worldcereal_preprocessed_inputs.nc") as file:
        months = {str(t)[:7]: file.isel(t=i).load() for i, t in enumerate(file.t.values)}
        grid = _grid(file, 10, "EPSG:32631")

    def values(month: str, name: str) -> np.ndarray:
        stored = months[month][name].values
        return np.where(stored == 65535, np.nan, stored.astype("float32"))

    def s1(month: str) -> np.ndarray:
        return np.stack([20 * np.log10(values(month, f"S1-SIGMA0-{p}")) - 83 for p in POLS])

    def s2(month: str) -> np.ndarray:
        return np.stack([values(month, f"S2-L2A-B{b[1:]:0>2}") for b in MONTHS_BANDS]) * 1e-4

    variables = {"s1_t1": s1(t1), "s2_t1": s2(t1), "s1_t2": s1(t2)}
    variables["truth_t2" if truth else "s2_t2"] = s2(t2)
    manifest = {"source": "WorldCereal monthly composites", "t1": f"{t1}-01", "t2": f"{t2}-01"}
    return _stack(grid, variables, MONTHS_BANDS, manifest)


def worldcereal_dates(data: Path, t1: str, t2: str, *, truth: bool = True) -> xr.Dataset:
    """Two Sentinel-2 dates of 640 × 640 m in Belgium, e.g. ``"2018-05-06"``, with the nearest radar.

    20 m bands and radar are repeated to 10 m. The clear-sky score is 1 where the scene classification sees
    land, water or snow, and 0 elsewhere; it misses some cloud.
    """
    folder = data / "worldcereal"
    fine = xr.open_dataset(folder / f"S2_L2A_10m_{DATES}")
    coarse = xr.open_dataset(folder / f"S2_L2A_20m_{DATES}", drop_variables="SCL")
    classes = xr.open_dataset(folder / f"S2_L2A_20m_{DATES}", mask_and_scale=False)["SCL"]
    radar = xr.open_dataset(folder / f"S1_GRD-ASCENDING_20m_{DATES}")
    grid = _grid(fine, 10, "EPSG:32631")
    for file in (coarse, radar):
        if _grid(file, 20, "EPSG:32631").boundingbox != grid.boundingbox:
            raise ValueError("the 10 m and 20 m files do not cover the same square")

    def at(file: Any, day: str) -> Any:
        return file.isel(timestamp=int(np.abs(file.timestamp.values - np.datetime64(f"{day}T12")).argmin()))

    def repeated(values: np.ndarray) -> np.ndarray:
        return values.repeat(2, axis=-2).repeat(2, axis=-1)

    def s1(day: str) -> np.ndarray:
        return np.stack([repeated(at(radar, day)[p].values) for p in POLS])

    def s2(day: str) -> np.ndarray:
        planes = []
        for band in DATES_BANDS:
            name = band if band == "B8A" else f"B{band[1:]:0>2}"
            planes.append(at(fine, day)[name].values if name in fine else repeated(at(coarse, day)[name].values))
        return np.stack(planes)

    def clear(day: str) -> np.ndarray:
        return repeated(np.isin(at(classes, day).values, CLEAR_SCL).astype("float32"))

    variables = {"s1_t1": s1(t1), "s2_t1": s2(t1), "clear_t1": clear(t1), "s1_t2": s1(t2)}
    variables |= {"truth_t2": s2(t2)} if truth else {"s2_t2": s2(t2), "clear_t2": clear(t2)}
    radar_dates = {f"s1_{k}": str(at(radar, day).timestamp.values)[:19] for k, day in (("t1", t1), ("t2", t2))}
    manifest = {"source": "WorldCereal site 00002806639B424A", "t1": t1, "t2": t2, **radar_dates}
    return _stack(grid, variables, DATES_BANDS, manifest)


def biomassters(data: Path, chip: str, m1: int, m2: int, *, truth: bool = True) -> xr.Dataset:
    """Two months (0 is September) of a 2.56 × 2.56 km chip in Finland, on a made-up place.

    Clear to the eye are months 1, 4, 7, 8, 9 and 11 of chip 288afc34 (6 has three clouds and lake ice) and
    1, 2, 7, 8, 9 and 10 of chip 0060c0a5 (0 has a cloud's shadow, 11 is half clouded; snow lies in 3 to 6).
    The clear-sky score is one minus the cloud probability, which sees phantoms in winter's shade.
    """

    def read(kind: str, month: int) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(data / f"biomassters/{chip}_{kind}_{month:02d}.tif") as file:
                return file.read().astype("float32")

    def s1(month: int) -> np.ndarray:
        ascending = read("S1", month)[:2]
        return np.where(ascending == -9999, np.nan, ascending)

    def s2(month: int) -> np.ndarray:
        stored = read("S2", month)[:10]
        return np.where((stored == 0).all(axis=0), np.nan, stored) * np.float32(1e-4)

    def clear(month: int) -> np.ndarray:
        cloud = read("S2", month)[10]
        return 1 - np.where(cloud == 255, np.nan, cloud) / 100

    variables = {"s1_t1": s1(m1), "s2_t1": s2(m1), "clear_t1": clear(m1), "s1_t2": s1(m2)}
    variables |= {"truth_t2": s2(m2)} if truth else {"s2_t2": s2(m2), "clear_t2": clear(m2)}
    shape = variables["s1_t1"].shape[1:]
    x, y = BIOMASSTERS_ORIGIN
    grid = GeoBox(shape, Affine(10, 0, x, 0, -10, y), BIOMASSTERS_CRS)
    manifest = {"source": f"BioMassters chip {chip}, placed arbitrarily", "months": [m1, m2]}
    return _stack(grid, variables, BIOMASSTERS_BANDS, manifest)


def _stack(
    grid: GeoBox, variables: dict[str, np.ndarray], bands: tuple[str, ...], manifest: dict[str, Any]
) -> xr.Dataset:
    arrays = {name: values.astype("float32") for name, values in variables.items()}
    return build_stack(grid, arrays, pols=POLS, bands=bands, manifest=manifest)


def _grid(file: xr.Dataset, resolution: float, crs: str) -> GeoBox:
    """Return the grid whose pixel centres are the file's coordinates."""
    x, y = file.x.values, file.y.values
    corner = x[0] - resolution / 2, y[0] + resolution / 2
    return GeoBox((y.size, x.size), Affine(resolution, 0, corner[0], 0, -resolution, corner[1]), crs)


PAIRS: dict[str, Callable[[Path], xr.Dataset]] = {
    "months_spring_to_summer": partial(worldcereal_months, t1="2021-03", t2="2021-06"),
    "months_without_optical_t1": partial(worldcereal_months, t1="2021-01", t2="2021-06"),
    "dates_spring_to_summer": partial(worldcereal_dates, t1="2018-05-06", t2="2018-06-28"),
    "dates_clouds_at_t1": partial(worldcereal_dates, t1="2018-06-13", t2="2018-07-08"),
    "dates_clouds_at_t2": partial(worldcereal_dates, t1="2018-05-06", t2="2018-08-14", truth=False),
    "finland_spring_to_summer": partial(biomassters, chip="288afc34", m1=7, m2=11),
    "finland_clouds_at_t1": partial(biomassters, chip="288afc34", m1=6, m2=9),
    "finland_clouds_at_t2": partial(biomassters, chip="0060c0a5", m1=8, m2=11, truth=False),
}


def main(data: Path, out: Path) -> None:
    for name, make in PAIRS.items():
        print(write_stack(make(data), out / f"{name}.zarr"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/real_stacks.py DATA OUT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
