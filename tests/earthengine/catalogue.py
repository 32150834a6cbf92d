"""The synthetic catalogue: scenes with the metadata of the real ones, and pixels from ``ground``.

Around Zhengzhou and across 114°E in July 2021, a few later years, and Beira in the southern UTM zone 36:

- Sentinel-1: three ascending tracks (142, 113, 40 from west to east) and a descending one (47), platforms A and B,
  and C in 2025. Four slices of each pass abut along the track. The slices of track 113 meet inside
  ``examples/zhengzhou.geojson``. Track 40 lies in UTM 50, the others in UTM 49. Along the swath's edges lies border
  noise below -30 dB. ``GAP`` is missing from track 113 on 2021-07-09 though the footprint covers it. Decoys on
  2021-07-10: HH+HV, VV alone, EW, and IW at 40 m.
- Sentinel-2: tiles of UTM 49 and 50 that overlap, relative orbits 124 and 24 whose swaths end inside tiles, duplicates
  on 2021-07-09 (the older generation is 0.03 too bright), QA60 masked between 2022-01-25 and 2024-02-28.
- Cloud Score+: one image per Sentinel-2 image, but none for ``WITHOUT_SCORE``.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely

from tests.earthengine import ground
from tests.earthengine.images import (
    DOUBLE,
    FLOAT,
    LATTICE,
    UINT8,
    UINT16,
    Band,
    Grid,
    Image,
    Pixels,
    PixelType,
    Projection,
    sample,
    transform,
)

S1 = "COPERNICUS/S1_GRD"
S2 = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"

#: Pixels of track 113 on 2021-07-09 that are missing inside the footprint (longitude and latitude).
GAP = shapely.box(114.02, 34.60, 114.04, 34.62)
WITHOUT_SCORE = "20210704T030541_20210704T031527_T49SGU"
#: Half the width of a Sentinel-1 swath, and the border noise inside it, metres.
S1_HALF_SWATH, S1_BORDER = 125_000.0, 600.0
SLICE = 170_000.0
S2_HALF_SWATH = 145_000.0
TILE = 109_800.0
QA60_MASKED = datetime(2022, 1, 25, tzinfo=UTC), datetime(2024, 2, 28, tzinfo=UTC)


@dataclass(frozen=True)
class Track:
    """A satellite's ground track: a straight line in one UTM zone, ``along`` the flight and ``across`` it."""

    crs: str
    lon: float
    lat: float
    heading: float

    def frame(self, grid: Grid) -> tuple[Any, Any]:
        """Metres across and along the track of every pixel's centre."""
        x, y = grid.centres(self.crs)
        x0, y0 = transform("EPSG:4326", self.crs, self.lon, self.lat)
        sin, cos = np.sin(np.radians(self.heading)), np.cos(np.radians(self.heading))
        east, north = x - x0, y - y0
        return east * cos - north * sin, east * sin + north * cos

    def strip(self, half_width: float, start: float, stop: float) -> shapely.Polygon:
        """Footprint in longitude and latitude, its edges densified."""
        edge = np.linspace(0, 1, 9)[:-1]
        corners = [(-half_width, start), (half_width, start), (half_width, stop), (-half_width, stop)]
        across, along = (
            np.concatenate(
                [a[i] + (b[i] - a[i]) * edge for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
            )
            for i in (0, 1)
        )
        sin, cos = np.sin(np.radians(self.heading)), np.cos(np.radians(self.heading))
        x0, y0 = transform("EPSG:4326", self.crs, self.lon, self.lat)
        lon, lat = transform(self.crs, "EPSG:4326", x0 + across * cos + along * sin, y0 - across * sin + along * cos)
        return shapely.Polygon(np.column_stack([lon, lat]).round(6))


@dataclass(frozen=True)
class Pattern:
    """A raster whose pixel is a pure function of where its centre lies.

    Levels of the pyramid are means of 2 x 2 and 4 x 4 pixels; coarser levels average 4 x 4 of their pixels.
    """

    projection: Projection
    dimensions: tuple[int, int]
    compute: Callable[[Grid], Pixels]
    dtype: np.dtype[Any]

    def block(self, column: int, row: int, width: int, height: int, level: int) -> Pixels:
        if level == 0:
            return self._native(column, row, width, height)
        steps = min(2**level, 4)
        a, _, c, _, e, f = self.projection.transform
        size = 2**level / steps
        total, weight = np.zeros((height, width)), np.zeros((height, width))
        for i in range(steps):
            for j in range(steps):
                shifted = (
                    a * 2**level, 0.0, c + a * (size * (j + 0.5) - 2 ** (level - 1)),
                    e * 0.0, e * 2**level, f + e * (size * (i + 0.5) - 2 ** (level - 1)),
                )  # fmt: skip
                values, mask = self._values(
                    Grid(Projection(self.projection.crs, shifted), 1, 1).window(column, row, width, height)
                )
                total, weight = total + values * mask, weight + mask
        return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), weight / steps**2

    def _native(self, column: int, row: int, width: int, height: int) -> Pixels:
        # Windows start on the coordinate lattice, so that a pixel does not depend on the window it is read with.
        left, top = column % LATTICE, row % LATTICE
        whole = Grid(self.projection, 1, 1).window(column - left, row - top, width + left, height + top)
        values, mask = self._values(whole)
        return values[top:, left:], mask[top:, left:]

    def _values(self, grid: Grid) -> Pixels:
        values, mask = self.compute(grid)
        x, y = grid.centres(self.projection.crs)
        a, _, c, _, e, f = self.projection.transform
        column, row = (x - c) / a, (y - f) / e
        within = (column >= 0) & (column < self.dimensions[0]) & (row >= 0) & (row < self.dimensions[1])
        mask = np.where(within, mask, 0.0)
        if self.dtype.kind in "ui":
            values = np.rint(values)
        return np.where(mask > 0, values.astype(self.dtype), 0), mask


def _band(
    name: str, kind: PixelType, projection: Projection, size: tuple[int, int], compute: Callable[[Grid], Pixels]
) -> Band:
    raster = Pattern(projection, size, compute, kind.dtype)
    return Band(name, kind, lambda grid: sample(raster, grid, "nearest"), projection, size)


def _millis(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _footprint(polygon: shapely.Polygon) -> dict[str, Any]:
    return {"type": "LinearRing", "coordinates": [list(point) for point in polygon.exterior.coords]}


# Sentinel-1 -------------------------------------------------------------------------------------

TRACKS = {
    142: Track("EPSG:32649", 111.0, 34.667, -10.0),
    113: Track("EPSG:32649", 113.2, 34.667, -10.0),
    40: Track("EPSG:32650", 115.3, 34.667, -10.0),
    47: Track("EPSG:32649", 113.6, 34.2, -170.0),
    6: Track("EPSG:32736", 34.9, -19.9, -170.0),
}
PASS = {142: "ASCENDING", 113: "ASCENDING", 40: "ASCENDING", 47: "DESCENDING", 6: "DESCENDING"}
ZONE_SCENES = {142: "EPSG:32649", 113: "EPSG:32649", 40: "EPSG:32650", 47: "EPSG:32649", 6: "EPSG:32736"}
PASSES = [
    *[(142, p, f"2021-07-{d}T10:36:05") for p, d in (("A", "05"), ("B", "11"), ("A", "17"), ("B", "23"))],
    *[(113, p, f"2021-07-{d}T10:28:05") for p, d in (("A", "03"), ("B", "09"), ("A", "15"), ("B", "21"), ("A", "27"))],
    *[(40, p, f"2021-07-{d}T10:20:05") for p, d in (("B", "04"), ("A", "10"), ("B", "16"), ("A", "22"), ("B", "28"))],
    *[(47, p, f"2021-07-{d}T22:21:05") for p, d in (("B", "05"), ("A", "11"), ("B", "17"), ("A", "23"))],
    *[(6, p, f"2021-07-{d}T03:04:05") for p, d in (("A", "03"), ("B", "09"), ("A", "15"), ("B", "21"))],
    *[(113, "A", f"2022-07-{d}T10:28:05") for d in ("10", "22")],
    *[(113, p, f"2025-07-{d}T10:28:05") for p, d in (("A", "06"), ("C", "12"), ("A", "18"), ("C", "24"))],
]
_ORBIT_ZERO = {"A": (38711, 73), "B": (27700, 27), "C": (-18600, 172)}


def _absolute_orbit(platform: str, relative: int, time: datetime) -> int:
    start, offset = _ORBIT_ZERO[platform]
    guess = start + round((time - datetime(2021, 7, 10, tzinfo=UTC)).total_seconds() / 86400 * 175 / 12)
    return guess - (guess - offset - relative + 1 + 87) % 175 + 87


def _sentinel1(
    relative: int,
    platform: str,
    start: datetime,
    slice_number: int,
    mode: str = "IW",
    polarisations: tuple[str, ...] = ("VV", "VH"),
    metres: int = 10,
) -> Image:
    track = TRACKS[relative]
    along = (slice_number * SLICE, (slice_number + 1) * SLICE)
    time = start + timedelta(seconds=25 * (slice_number + 2))
    stop = time + timedelta(seconds=25)
    orbit = _absolute_orbit(platform, relative, start)
    kind = {("VV", "VH"): "DV", ("VV",): "SV", ("HH", "HV"): "DH"}[polarisations]
    scale = "H" if metres == 10 else "M"
    name = (
        f"S1{platform}_{mode}_GRD{scale}_1S{kind}_{time:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}_{orbit:06d}_"
        f"{orbit * 7 % 0xFFFFFF:06X}_{(orbit * 31 + slice_number * 97 + metres) % 0xFFFF:04X}"
    )
    footprint = track.strip(S1_HALF_SWATH, *along)
    crs = ZONE_SCENES[relative]
    x, y = transform("EPSG:4326", crs, *np.array(footprint.exterior.coords).T)
    # Real scenes sit on no common lattice: the origin is a whole number of metres, different for every scene.
    west, north = np.floor(x.min()) - 3.0 - slice_number, np.ceil(y.max()) + 7.0 + relative % 10
    size = int(np.ceil((x.max() - west) / metres)), int(np.ceil((north - y.min()) / metres))
    projection = Projection(crs, (float(metres), 0.0, float(west), 0.0, -float(metres), float(north)))
    gap = relative == 113 and start.date() == datetime(2021, 7, 9).date()

    def compute(grid: Grid, polarisation: str) -> Pixels:
        lon, lat = grid.centres("EPSG:4326")
        across, distance = track.frame(grid)
        values = ground.backscatter(lon, lat, polarisation, start)
        values = np.where(np.abs(across) > S1_HALF_SWATH - S1_BORDER, -40.0, values)
        mask = (np.abs(across) < S1_HALF_SWATH) & (distance >= along[0]) & (distance < along[1])
        if gap:
            west, south, east, north = GAP.bounds
            mask &= ~((lon >= west) & (lon < east) & (lat >= south) & (lat < north))
        return values, mask.astype(float)

    def angle(grid: Grid) -> Pixels:
        across, _ = track.frame(grid)
        return 38.0 + across / 17_000, np.ones(across.shape)

    bands = [_band(p, DOUBLE, projection, size, functools.partial(compute, polarisation=p)) for p in polarisations]
    bands.append(_band("angle", FLOAT, projection, size, angle))
    properties = {
        "system:index": name,
        "system:time_start": _millis(time),
        "system:time_end": _millis(stop),
        "system:footprint": _footprint(footprint),
        "system:asset_size": 1_000_000_000 + orbit,
        "instrument": "Synthetic Aperture Radar",
        "instrumentMode": mode,
        "instrumentSwath": mode,
        "orbitNumber_start": orbit,
        "orbitNumber_stop": orbit,
        "orbitProperties_pass": PASS[relative],
        "orbitProperties_ascendingNodeTime": _millis(start - timedelta(minutes=9)),
        "platform_number": platform,
        "platformHeading": TRACKS[relative].heading,
        "productType": "GRD",
        "relativeOrbitNumber_start": relative,
        "relativeOrbitNumber_stop": relative,
        "resolution": scale,
        "resolution_meters": metres,
        "segmentStartTime": _millis(time),
        "sliceNumber": slice_number + 3,
        "totalSlices": 4,
        "sliceProductFlag": "true",
        "transmitterReceiverPolarisation": list(polarisations),
        "S1TBX_Calibration_Operator_version": "8.0.5",
        "GRD_Post_Processing_software_name": "Sentinel-1 IPF",
        "GRD_Post_Processing_software_version": "3.31",
    }
    return Image(tuple(bands), properties, footprint, f"{S1}/{name}", 1_630_000_000_000_000 + orbit)


def _sentinel1_scenes() -> list[Image]:
    scenes = []
    for relative, platform, start in PASSES:
        time = datetime.fromisoformat(start).replace(tzinfo=UTC)
        scenes += [_sentinel1(relative, platform, time, number) for number in (-2, -1, 0, 1)]
    decoy = datetime(2021, 7, 10, 10, 0, 5, tzinfo=UTC)
    for number, (mode, polarisations, metres) in enumerate(
        (("IW", ("HH", "HV"), 10), ("IW", ("VV",), 10), ("EW", ("VV", "VH"), 40), ("IW", ("VV", "VH"), 40))
    ):
        for part in (-1, 0):
            scenes.append(
                _sentinel1(113, "A", decoy + timedelta(minutes=2 * number), part, mode, polarisations, metres)
            )
    return scenes


# Sentinel-2 -------------------------------------------------------------------------------------

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
S2_TRACKS = {
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

    @property
    def index(self) -> str:
        second = (
            self.time + timedelta(minutes=9, seconds=46)
            if not self.old
            else self.time + timedelta(minutes=9, seconds=40)
        )
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
        return np.abs(S2_TRACKS[self.relative].frame(grid)[0]) < S2_HALF_SWATH

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
        whole = square.intersection(S2_TRACKS[self.relative].strip(S2_HALF_SWATH, -400_000, 400_000))
        return shapely.set_precision(whole, 1e-6)


def _datatakes() -> list[Datatake]:
    takes = []
    for relative, spacecraft, start, cloudiness, tiles in DATATAKES:
        time = datetime.fromisoformat(start).replace(tzinfo=UTC)
        generation = time + timedelta(hours=5)
        swath = S2_TRACKS[relative].strip(S2_HALF_SWATH, -400_000, 400_000)
        for tile in tiles or TILES:
            if tiles is None and tile == "36KXD":
                continue
            baseline = "0301" if time.year < 2022 else "0400" if time.year < 2023 else "0511"
            take = Datatake(tile, relative, spacecraft, time, cloudiness, generation, baseline)
            if take.footprint.area < 1e-4 or not swath.intersects(take.footprint):
                continue
            takes.append(take)
            if time.date() == datetime(2021, 7, 9).date() and tile in ("49SGU", "50SKD"):
                takes[-1] = Datatake(
                    tile, relative, spacecraft, time, cloudiness, datetime(2023, 2, 11, tzinfo=UTC), "0500"
                )
                takes.append(Datatake(tile, relative, spacecraft, time, cloudiness, generation, baseline, old=True))
    return takes


def _sentinel2(take: Datatake) -> Image:
    bands = []
    for name in ground.REFLECTANCE:
        projection, size = take.projection(METRES.get(name, 20))
        bands.append(_band(name, UINT16, projection, size, functools.partial(take.reflectance, band=name)))
    twenty, sixty = take.projection(20), take.projection(60)
    bands += [
        _band("SCL", UINT8, *twenty, take.classes),
        _band("MSK_CLDPRB", UINT8, *twenty, take.cloud_percent),
        _band("QA60", UINT16, *sixty, take.qa60),
    ]
    product = (
        f"S2{take.spacecraft}_MSIL2A_{take.time:%Y%m%dT%H%M%S}_N{take.baseline}_R{take.relative:03d}_T{take.tile}_"
        f"{take.generation:%Y%m%dT%H%M%S}"
    )
    baseline = f"{take.baseline[:2]}.{take.baseline[2:]}"
    # Sensing of this granule: a few seconds after the datatake began, the same for both generations.
    seconds = 10 + (hash_of(take.tile) % 40)
    properties = {
        "system:index": take.index,
        "system:time_start": _millis(take.time + timedelta(minutes=6, seconds=seconds)),
        "system:footprint": _footprint(take.footprint),
        "system:asset_size": 1_100_000_000,
        "CLOUDY_PIXEL_PERCENTAGE": round(100 * take.cloudiness, 3),
        "CLOUD_COVERAGE_ASSESSMENT": round(100 * take.cloudiness, 3),
        "NODATA_PIXEL_PERCENTAGE": round(100 * (1 - take.footprint.area / _square_area(take)), 3),
        "DATASTRIP_ID": f"S2{take.spacecraft}_OPER_MSI_L2A_DS_{take.generation:%Y%m%dT%H%M%S}",
        "DATATAKE_IDENTIFIER": f"GS2{take.spacecraft}_{take.time:%Y%m%dT%H%M%S}_031000_N{baseline}",
        "DATATAKE_TYPE": "INS-NOBS",
        "GENERATION_TIME": _millis(take.generation),
        "GRANULE_ID": f"L2A_T{take.tile}_A031000_{take.time:%Y%m%dT%H%M%S}",
        "MGRS_TILE": take.tile,
        "PROCESSING_BASELINE": baseline,
        "PRODUCT_ID": product,
        "SENSING_ORBIT_DIRECTION": "DESCENDING",
        "SENSING_ORBIT_NUMBER": take.relative,
        "SPACECRAFT_NAME": f"Sentinel-2{take.spacecraft}",
        "MEAN_SOLAR_ZENITH_ANGLE": 20.0,
        "MEAN_SOLAR_AZIMUTH_ANGLE": 120.0,
    }
    return Image(tuple(bands), properties, take.footprint, f"{S2}/{take.index}", 1_640_000_000_000_000)


def _cloud_score(take: Datatake) -> Image:
    projection, size = take.projection(10)
    bands = (
        _band("cs", FLOAT, projection, size, take.score),
        _band("cs_cdf", FLOAT, projection, size, take.score),
    )
    properties = {
        "system:index": take.index,
        "system:time_start": _millis(take.time + timedelta(minutes=6, seconds=10 + hash_of(take.tile) % 40)),
        "system:footprint": _footprint(take.footprint),
        "MGRS_TILE": take.tile,
        "SOURCE_PRODUCT_ID": take.index,
        "MODEL_VERSION": "v1",
    }
    return Image(bands, properties, take.footprint, f"{CLOUD_SCORE}/{take.index}", 1_650_000_000_000_000)


def hash_of(text: str) -> int:
    """A small number that is the same in every process, unlike ``hash``."""
    return sum((i + 1) * ord(letter) for i, letter in enumerate(text))


def _square_area(take: Datatake) -> float:
    projection, _ = take.projection(10)
    _, _, x, _, _, y = projection.transform
    lon, lat = transform(
        take.crs, "EPSG:4326", np.array([x, x + TILE, x + TILE, x]), np.array([y, y, y - TILE, y - TILE])
    )
    return float(shapely.Polygon(np.column_stack([lon, lat])).area)


# Look-up ----------------------------------------------------------------------------------------


@functools.cache
def collections() -> dict[str, tuple[Image, ...]]:
    """Every collection's images, ordered by time as Earth Engine lists them."""
    takes = _datatakes()
    found = {
        S1: _sentinel1_scenes(),
        S2: [_sentinel2(take) for take in takes],
        CLOUD_SCORE: [_cloud_score(take) for take in takes if take.index != WITHOUT_SCORE],
    }
    return {
        name: tuple(sorted(images, key=lambda image: (image.properties["system:time_start"], image.id)))
        for name, images in found.items()
    }


@functools.cache
def images() -> dict[str, Image]:
    """Every image by its asset id."""
    return {str(image.id): image for scenes in collections().values() for image in scenes}
