"""The synthetic Sentinel-2 granules and their Cloud Score+."""

import functools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely

from tests.earthengine import ground
from tests.earthengine.images import FLOAT, UINT8, UINT16, Grid, Image, Pixels, Projection, transform
from tests.earthengine.scenes import Track, millis, ring, stored_band

COLLECTION = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
#: The granule that has no Cloud Score+ image.
WITHOUT_SCORE = "20210704T030541_20210704T031527_T49SGU"
#: Day and tile of acquisitions that were processed twice, and of those that come in two parts.
DUPLICATED = {("2021-07-09", "49SGU"), ("2021-07-09", "50SKD"), ("2021-07-29", "50SLD")}
SPLIT = {("2021-07-29", "49SGU")}
#: Half the width of a swath and the side of a tile, metres.
HALF_SWATH, TILE = 145_000.0, 109_800.0
QA60_MASKED = datetime(2022, 1, 25, tzinfo=UTC), datetime(2024, 2, 28, tzinfo=UTC)

#: MGRS tile: EPSG code, easting and northing of its upper left corner.
TILES = {
    **{
        f"49S{column}{row}": (32649, easting, northing)
        for column, easting in (("E", 499980.0), ("F", 600000.0), ("G", 699960.0))
        for row, northing in (("S", 3700020.0), ("T", 3800040.0), ("U", 3900000.0), ("V", 4000020.0), ("A", 4100040.0))
    },
    **{
        f"50S{column}{row}": (32650, easting, northing)
        for column, easting in (("K", 199980.0), ("L", 300000.0), ("M", 399960.0))
        for row, northing in (("B", 3700020.0), ("C", 3800040.0), ("D", 3900000.0), ("E", 4000020.0), ("F", 4100040.0))
    },
    "36KXD": (32736, 600000.0, 7900000.0),
}
TRACKS = {
    124: Track("EPSG:32649", 114.1, 34.7, -168.0),
    24: Track("EPSG:32649", 112.3, 34.7, -168.0),
    49: Track("EPSG:32736", 34.9, -19.8, -168.0),
}
#: Relative orbit, spacecraft, datatake, cloudiness, tiles (None: all that the swath touches).
DATATAKES = [
    (124, "B", "2021-07-04T03:05:41", 0.50, None),
    (124, "A", "2021-07-09T03:05:41", 0.30, None),
    (24, "B", "2021-07-11T03:15:41", 0.55, None),
    (124, "B", "2021-07-14T03:05:41", 0.90, None),
    (124, "A", "2021-07-19T03:05:41", 0.95, None),
    (24, "B", "2021-07-21T03:15:41", 0.80, None),
    (124, "B", "2021-07-24T03:05:41", 0.40, None),
    (124, "A", "2021-07-29T03:05:41", 0.20, None),
    *[(124, "A", f"2020-{d}T03:05:41", 0.02, ("49SGU",)) for d in ("07-14", "07-24", "08-03")],
    *[(124, "A", f"2021-{d}T03:05:41", 0.02, ("49SGU",)) for d in ("04-05", "04-15", "04-25", "04-30")],
    (124, "A", "2017-07-05T03:05:41", 0.20, ("49SGU", "50SKD")),
    (124, "A", "2022-07-09T03:05:41", 0.25, ("49SGU", "50SKD")),
    (124, "B", "2025-07-08T03:05:41", 0.25, ("49SGU", "50SKD")),
    (49, "A", "2021-07-08T07:36:11", 0.10, ("36KXD",)),
    (49, "B", "2021-07-23T07:36:11", 0.35, ("36KXD",)),
]
METRES = {name: 10 for name in ("B2", "B3", "B4", "B8")} | {name: 60 for name in ("B1", "B9")}
TOO_BRIGHT = 0.03
"""What the older generation of a duplicate adds to reflectance."""


@dataclass(frozen=True)
class Datatake:
    """One Sentinel-2 granule: tile, sensing and how cloudy it is."""

    tile: str
    relative: int
    spacecraft: str
    time: datetime
    cloudiness: float
    generation: datetime
    baseline: str
    old: bool = False
    part: int = 0
    """Of two parts the first or second along the flight; 0 for all."""

    @property
    def scored(self) -> bool:
        """Whether Cloud Score+ has a score for it."""
        newer = self.generation.year == 2023
        return self.index != WITHOUT_SCORE and not (newer and self.tile == "50SLD")

    @property
    def stretch(self) -> tuple[float, float]:
        """Metres along the flight that it holds."""
        return {0: (-400_000.0, 400_000.0), 1: (-400_000.0, 0.0), 2: (0.0, 400_000.0)}[self.part]

    @property
    def index(self) -> str:
        second = self.time + timedelta(minutes=9, seconds=(40 if self.old else 46) + self.part)
        return f"{self.time:%Y%m%dT%H%M%S}_{second:%Y%m%dT%H%M%S}_T{self.tile}"

    @property
    def crs(self) -> str:
        return f"EPSG:{TILES[self.tile][0]}"

    def projection(self, metres: int) -> tuple[Projection, tuple[int, int]]:
        _, easting, northing = TILES[self.tile]
        size = int(TILE // metres)
        return Projection(self.crs, (float(metres), 0.0, easting, 0.0, -float(metres), northing)), (size, size)

    def seen(self, grid: Grid) -> Any:
        """Which pixels lie in the swath."""
        across, along = TRACKS[self.relative].frame(grid)
        start, stop = self.stretch
        return (np.abs(across) < HALF_SWATH) & (along >= start) & (along < stop)

    def reflectance(self, grid: Grid, band: str) -> Pixels:
        lon, lat = grid.centres("EPSG:4326")
        values = ground.reflectance(lon, lat, band, self.time, self.cloudiness) + TOO_BRIGHT * self.old
        return values * 10_000, self.seen(grid).astype(float)

    def score(self, grid: Grid) -> Pixels:
        lon, lat = grid.centres("EPSG:4326")
        return ground.clear_sky(lon, lat, self.time, self.cloudiness), self.seen(grid).astype(float)

    def classes(self, grid: Grid) -> Pixels:
        score, mask = self.score(grid)
        return np.select([score >= 0.6, score >= 0.4], [4, 8], 9), mask

    def cloud_percent(self, grid: Grid) -> Pixels:
        score, mask = self.score(grid)
        return 100 * (1 - score), mask

    def qa60(self, grid: Grid) -> Pixels:
        score, mask = self.score(grid)
        masked = QA60_MASKED[0] <= self.time < QA60_MASKED[1]
        return np.where(score < 0.4, 1024, 0), mask * (0.0 if masked else 1.0)

    @functools.cached_property
    def footprint(self) -> shapely.Polygon:
        _, easting, northing = TILES[self.tile]
        edge = np.linspace(0, 1, 9)[:-1]
        x = easting + TILE * np.concatenate([edge, 1 + 0 * edge, 1 - edge, 0 * edge])
        y = northing - TILE * np.concatenate([0 * edge, edge, 1 + 0 * edge, 1 - edge])
        lon, lat = transform(self.crs, "EPSG:4326", x, y)
        square = shapely.Polygon(np.column_stack([lon, lat]))
        whole = square.intersection(TRACKS[self.relative].strip(HALF_SWATH, *self.stretch))
        return shapely.set_precision(whole, 1e-6)


def datatakes() -> list[Datatake]:
    takes = []
    for relative, spacecraft, start, cloudiness, tiles in DATATAKES:
        time = datetime.fromisoformat(start).replace(tzinfo=UTC)
        generation = time + timedelta(hours=5)
        swath = TRACKS[relative].strip(HALF_SWATH, -400_000, 400_000)
        for tile in tiles or TILES:
            if tiles is None and tile == "36KXD":
                continue
            baseline = "0301" if time.year < 2022 else "0400" if time.year < 2023 else "0511"
            take = Datatake(tile, relative, spacecraft, time, cloudiness, generation, baseline)
            if take.footprint.area < 1e-4 or not swath.intersects(take.footprint):
                continue
            takes.append(take)
            day = f"{time:%Y-%m-%d}", tile
            if day in DUPLICATED:
                again = datetime(2023, 2, 11, tzinfo=UTC)
                takes[-1:] = [replace(take, generation=again, baseline="0500"), replace(take, old=True)]
            elif day in SPLIT:
                takes[-1:] = [replace(take, part=1), replace(take, part=2)]
    return takes


def surface_reflectance(take: Datatake) -> Image:
    bands = []
    for name in ground.REFLECTANCE:
        projection, size = take.projection(METRES.get(name, 20))
        bands.append(stored_band(name, UINT16, projection, size, functools.partial(take.reflectance, band=name)))
    twenty, sixty = take.projection(20), take.projection(60)
    bands += [
        stored_band("SCL", UINT8, *twenty, take.classes),
        stored_band("MSK_CLDPRB", UINT8, *twenty, take.cloud_percent),
        stored_band("QA60", UINT16, *sixty, take.qa60),
    ]
    product = (
        f"S2{take.spacecraft}_MSIL2A_{take.time:%Y%m%dT%H%M%S}_N{take.baseline}_R{take.relative:03d}_T{take.tile}_"
        f"{take.generation:%Y%m%dT%H%M%S}"
    )
    baseline = f"{take.baseline[:2]}.{take.baseline[2:]}"
    orbit = 31_588 + round((take.time - ground.EPOCH).total_seconds() / 86_400 * 14.3)
    # Sensing of this granule: a few seconds after the datatake began, the same for both generations.
    seconds = 10 + _seconds(take.tile)
    properties = {
        "system:index": take.index,
        "system:time_start": millis(take.time + timedelta(minutes=6, seconds=seconds)),
        "system:footprint": ring(take.footprint),
        "system:asset_size": 1_100_000_000,
        "CLOUDY_PIXEL_PERCENTAGE": round(100 * take.cloudiness, 3),
        "CLOUD_COVERAGE_ASSESSMENT": round(100 * take.cloudiness, 3),
        "NODATA_PIXEL_PERCENTAGE": round(100 * (1 - take.footprint.area / _square_area(take)), 3),
        "DATASTRIP_ID": f"S2{take.spacecraft}_OPER_MSI_L2A_DS_VGS4_{take.generation:%Y%m%dT%H%M%S}"
        f"_S{take.time + timedelta(minutes=2 * take.part):%Y%m%dT%H%M%S}_N{baseline}",
        "DATATAKE_IDENTIFIER": f"GS2{take.spacecraft}_{take.time:%Y%m%dT%H%M%S}_{orbit:06d}_N{baseline}",
        "DATATAKE_TYPE": "INS-NOBS",
        # Of many products it is the time of sensing.
        "GENERATION_TIME": millis(take.time),
        "GRANULE_ID": f"L2A_T{take.tile}_A{orbit:06d}_{take.time:%Y%m%dT%H%M%S}",
        "MGRS_TILE": take.tile,
        "PROCESSING_BASELINE": baseline,
        "PRODUCT_ID": product,
        "SENSING_ORBIT_DIRECTION": "DESCENDING",
        "SENSING_ORBIT_NUMBER": take.relative,
        "SPACECRAFT_NAME": f"Sentinel-2{take.spacecraft}",
        "MEAN_SOLAR_ZENITH_ANGLE": 20.0,
        "MEAN_SOLAR_AZIMUTH_ANGLE": 120.0,
    }
    return Image(tuple(bands), properties, take.footprint, f"{COLLECTION}/{take.index}", 1_640_000_000_000_000)


def cloud_score(take: Datatake) -> Image:
    projection, size = take.projection(10)
    bands = (
        stored_band("cs", FLOAT, projection, size, take.score),
        stored_band("cs_cdf", FLOAT, projection, size, take.score),
    )
    properties = {
        "system:index": take.index,
        "system:time_start": millis(take.time + timedelta(minutes=6, seconds=10 + _seconds(take.tile))),
        "system:footprint": ring(take.footprint),
        "MGRS_TILE": take.tile,
        "SOURCE_PRODUCT_ID": take.index,
        "MODEL_VERSION": "v1",
    }
    return Image(bands, properties, take.footprint, f"{CLOUD_SCORE}/{take.index}", 1_650_000_000_000_000)


def _seconds(tile: str) -> int:
    """Something between 0 and 39 that differs from tile to tile."""
    return sum((i + 1) * ord(letter) for i, letter in enumerate(tile)) % 40


def _square_area(take: Datatake) -> float:
    projection, _ = take.projection(10)
    _, _, x, _, _, y = projection.transform
    lon, lat = transform(
        take.crs, "EPSG:4326", np.array([x, x + TILE, x + TILE, x]), np.array([y, y, y - TILE, y - TILE])
    )
    return float(shapely.Polygon(np.column_stack([lon, lat])).area)
