"""The synthetic Sentinel-1 scenes."""

import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tests.earthengine import ground
from tests.earthengine.images import DOUBLE, FLOAT, Band, Grid, Image, Pixels, Projection, derived, transform
from tests.earthengine.scenes import Track, millis, ring, stored_band

COLLECTION = "COPERNICUS/S1_GRD_FLOAT"
#: The same scenes in dB, later.
COLLECTION_DB = "COPERNICUS/S1_GRD"
#: Pixels of track 113 on 2021-07-08 that are missing inside the footprint (longitude and latitude).
GAP = shapely.box(114.02, 34.60, 114.04, 34.62)
#: Half the width of a swath, the border noise inside it, and the length of a slice, metres.
HALF_SWATH, BORDER, SLICE = 125_000.0, 600.0, 170_000.0
#: What terrain correction leaves open between two slices of a pass, metres.
SEAM = 12.0
#: The pass that is there in power alone yet.
NEWEST = datetime(2025, 7, 24, tzinfo=UTC)
#: From then on the processor masks border noise itself (IPF 2.90).
BORDER_NOISE_UNTIL = datetime(2018, 3, 13, tzinfo=UTC)

TRACKS = {
    142: Track("EPSG:32649", 111.0, 34.667, -10.0),
    113: Track("EPSG:32649", 113.2, 34.667, -10.0),
    40: Track("EPSG:32650", 115.3, 34.667, -10.0),
    47: Track("EPSG:32649", 113.6, 34.2, -170.0),
    6: Track("EPSG:32736", 34.9, -19.9, -170.0),
    30: Track("EPSG:32637", 37.4, -0.5, -10.0),
}
PASS = {142: "ASCENDING", 113: "ASCENDING", 40: "ASCENDING", 47: "DESCENDING", 6: "DESCENDING", 30: "ASCENDING"}
ZONE_SCENES = {
    142: "EPSG:32649",
    113: "EPSG:32649",
    40: "EPSG:32650",
    47: "EPSG:32649",
    6: "EPSG:32736",
    30: "EPSG:32637",
}
#: Over Zhengzhou only Sentinel-1A, every twelve days; over Beira also B; over Mount Kenya across the equator.
PASSES = [
    *[(142, "A", f"2021-{d}T10:36:05") for d in ("07-10", "07-22", "08-03")],
    *[(113, "A", f"2021-{d}T10:28:05") for d in ("07-08", "07-20", "08-01")],
    *[(40, "A", f"2021-{d}T10:20:05") for d in ("07-03", "07-15", "07-27")],
    *[(47, "A", f"2021-{d}T22:21:05") for d in ("07-03", "07-15", "07-27")],
    *[(6, p, f"2021-07-{d}T03:04:05") for p, d in (("A", "03"), ("B", "09"), ("A", "15"), ("B", "21"))],
    *[(113, "A", f"2020-{d}T10:28:05") for d in ("07-13", "07-25", "08-06")],
    *[(113, "A", f"2021-{d}T10:28:05") for d in ("04-03", "04-15", "04-27")],
    *[(30, "A", f"2021-07-{d}T15:50:05") for d in ("09", "21")],
    *[(113, "A", f"2017-07-{d}T10:28:05") for d in ("05", "17")],
    *[(113, "A", f"2022-07-{d}T10:28:05") for d in ("10", "22")],
    *[(113, p, f"2025-07-{d}T10:28:05") for p, d in (("A", "06"), ("C", "12"), ("A", "18"), ("C", "24"))],
]
_ORBIT_ZERO = {"A": (38711, 73), "B": (27700, 27), "C": (-18600, 172)}


def _absolute_orbit(platform: str, relative: int, time: datetime) -> int:
    start, offset = _ORBIT_ZERO[platform]
    guess = start + round((time - datetime(2021, 7, 10, tzinfo=UTC)).total_seconds() / 86400 * 175 / 12)
    return guess - (guess - offset - relative + 1 + 87) % 175 + 87


def _latitude(track: Track, along: float) -> float:
    return track.lat + along * float(np.cos(np.radians(track.heading))) / 110_600


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
    # Numbers of orbits change at the ascending node.
    starts_before, ends_before = (PASS[relative] == "ASCENDING" and _latitude(track, end) < 0 for end in along)
    kind = {("VV", "VH"): "DV", ("VV",): "SV", ("HH", "HV"): "DH"}[polarisations]
    scale = "H" if metres == 10 else "M"
    name = (
        f"S1{platform}_{mode}_GRD{scale}_1S{kind}_{time:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}_{orbit:06d}_"
        f"{orbit * 7 % 0xFFFFFF:06X}_{(orbit * 31 + slice_number * 97 + metres) % 0xFFFF:04X}"
    )
    footprint = track.strip(HALF_SWATH, *along)
    crs = ZONE_SCENES[relative]
    x, y = transform("EPSG:4326", crs, *np.array(footprint.exterior.coords).T)
    # Every scene sits off the CRS's own lattice at a place of its own.
    west = 10 * np.floor(x.min() / 10) - 10 - 3.7 * orbit % 10 - slice_number % 3
    north = 10 * np.ceil(y.max() / 10) + 10 + 4.3 * orbit % 10 + slice_number % 2
    size = int(np.ceil((x.max() - west) / metres)), int(np.ceil((north - y.min()) / metres))
    projection = Projection(crs, (float(metres), 0.0, float(west), 0.0, -float(metres), float(north)))
    gap = relative == 113 and start.date() == datetime(2021, 7, 8).date()

    def compute(grid: Grid, polarisation: str) -> Pixels:
        lon, lat = grid.centres("EPSG:4326")
        across, distance = track.frame(grid)
        values = ground.measured(lon, lat, *grid.centres(crs), polarisation, start)
        if start < BORDER_NOISE_UNTIL:
            values = np.where(np.abs(across) > HALF_SWATH - BORDER, -40.0, values)
        mask = (np.abs(across) < HALF_SWATH) & (distance >= along[0] + SEAM / 2) & (distance < along[1] - SEAM / 2)
        if gap:
            west, south, east, north = GAP.bounds
            mask &= ~((lon >= west) & (lon < east) & (lat >= south) & (lat < north))
        return to_power(values), mask.astype(float)

    def angle(grid: Grid) -> Pixels:
        across, _ = track.frame(grid)
        return 38.0 + across / 17_000, np.ones(across.shape)

    bands = [
        stored_band(p, DOUBLE, projection, size, functools.partial(compute, polarisation=p)) for p in polarisations
    ]
    bands.append(stored_band("angle", FLOAT, projection, size, angle))
    properties = {
        "system:index": name,
        "system:time_start": millis(time),
        "system:time_end": millis(stop),
        "system:footprint": ring(footprint),
        "system:asset_size": 1_000_000_000 + orbit,
        "instrument": "Synthetic Aperture Radar",
        "instrumentMode": mode,
        "instrumentSwath": mode,
        "orbitNumber_start": orbit - starts_before,
        "orbitNumber_stop": orbit - ends_before,
        "orbitProperties_pass": PASS[relative],
        "orbitProperties_ascendingNodeTime": millis(start - timedelta(minutes=9)),
        "platform_number": platform,
        "platformHeading": TRACKS[relative].heading,
        "productType": "GRD",
        "relativeOrbitNumber_start": relative - starts_before,
        "relativeOrbitNumber_stop": relative - ends_before,
        "resolution": scale,
        "resolution_meters": metres,
        "segmentStartTime": millis(time),
        "sliceNumber": slice_number + 3,
        "totalSlices": 4,
        "sliceProductFlag": "true",
        "transmitterReceiverPolarisation": list(polarisations),
        "S1TBX_Calibration_Operator_version": "8.0.5",
        "GRD_Post_Processing_software_name": "Sentinel-1 IPF",
        "GRD_Post_Processing_software_version": "3.31",
    }
    return Image(tuple(bands), properties, footprint, f"{COLLECTION}/{name}", 1_630_000_000_000_000 + orbit)


def to_power(decibel: NDArray[Any]) -> NDArray[Any]:
    """Backscatter as power; what noise outweighs is 0."""
    return np.where(decibel > ground.NEGATIVE, 10 ** (decibel / 10), 0.0)


def in_decibel(scene: Image) -> Image:
    """The scene as ``COPERNICUS/S1_GRD`` holds it."""

    def converted(band: Band) -> Band:
        def convert(values: NDArray[Any], mask: NDArray[Any]) -> Pixels:
            return 10 * np.log10(np.maximum(values, 10 ** (ground.NEGATIVE / 10))), mask

        return band if band.name == "angle" else derived(band, convert)

    return replace(scene.map_bands(converted), id=f"{COLLECTION_DB}/{scene.properties['system:index']}")


def scenes() -> list[Image]:
    found = []
    for relative, platform, start in PASSES:
        time = datetime.fromisoformat(start).replace(tzinfo=UTC)
        found += [_sentinel1(relative, platform, time, number) for number in (-2, -1, 0, 1)]
    decoy = datetime(2021, 7, 10, 10, 0, 5, tzinfo=UTC)
    for number, (mode, polarisations, metres) in enumerate(
        (("IW", ("HH", "HV"), 10), ("IW", ("VV",), 10), ("EW", ("VV", "VH"), 40), ("IW", ("VV", "VH"), 40))
    ):
        for part in (-1, 0):
            found.append(_sentinel1(113, "A", decoy + timedelta(minutes=2 * number), part, mode, polarisations, metres))
    return found
