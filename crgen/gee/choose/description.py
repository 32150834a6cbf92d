"""What the catalogue's description of an image of Sentinel-1 or Sentinel-2 means, and how to ask for no more of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from shapely.geometry.base import BaseGeometry

from crgen.gee.choose.outlines import read_footprint
from crgen.gee.manifest import S1, S2

RELATIVE_ORBITS = 175
"""Of Sentinel-1, after which numbers begin again."""
RADAR_PROPERTIES = (
    "system:time_start",
    "system:footprint",
    "platform_number",
    "instrumentMode",
    "resolution_meters",
    "orbitProperties_pass",
    "orbitNumber_start",
    "orbitNumber_stop",
    "relativeOrbitNumber_start",
)
"""What :func:`read_radar` reads."""
OPTICAL_PROPERTIES = (
    "system:time_start",
    "system:footprint",
    "SPACECRAFT_NAME",
    "SENSING_ORBIT_NUMBER",
    "SENSING_ORBIT_DIRECTION",
    "DATATAKE_IDENTIFIER",
    "DATASTRIP_ID",
    "PROCESSING_BASELINE",
    "MGRS_TILE",
    "CLOUDY_PIXEL_PERCENTAGE",
)
"""What :func:`read_optical` reads."""


@dataclass(frozen=True)
class Asset:
    """One image of Sentinel-1 or Sentinel-2, as the catalogue describes it."""

    id: str
    platform: str
    time: datetime
    relative_orbit: int
    orbit: int
    direction: str
    bands: tuple[str, ...]
    footprint: BaseGeometry
    """Longitude and latitude; longitudes run on beyond ±180 rather than jump."""
    cloudy: float | None = None
    """Share of cloud by its own metadata, 0 to 1."""
    clear_over_area: float | None = None
    """Share of what it shows of the area that is clear by Cloud Score+, 0 to 1; None where that was not asked."""
    tile: str | None = None
    baseline: float = 0.0
    """Version of the processor, of Sentinel-2."""
    processed: str = ""
    """When it was processed, as ``YYYYMMDDTHHMMSS``; empty where that is not known."""
    rank: int = 0
    """Place among images of the same tile and moment that are all needed: 0 lies on top."""
    unfit: str = ""
    """Why it cannot be used, if so."""
    lattice: tuple[str, float, float] | None = None
    """CRS of a radar image's pixels, and x and y of the corner of one."""
    track: int | None = None
    """Relative orbit that its pass has at the equator, where numbers change; None for ``relative_orbit``."""

    @property
    def day(self) -> date:
        """Day of acquisition, UTC."""
        return self.time.date()

    @property
    def geometry(self) -> tuple[int, str]:
        """Relative orbit and direction: what must agree between dates."""
        return self.relative_orbit if self.track is None else self.track, self.direction

    @property
    def index(self) -> str:
        """Its name within the collection."""
        return self.id.rsplit("/", 1)[-1]

    @property
    def clear(self) -> float | None:
        """Clear share: over the area if that is known, else of the whole scene by its metadata."""
        if self.clear_over_area is not None:
            return self.clear_over_area
        return None if self.cloudy is None else 1 - self.cloudy


def understood(
    features: Iterable[dict[str, Any]], read: Callable[[dict[str, Any], float], Asset], centre: float
) -> tuple[list[Asset], list[str]]:
    """Read descriptions; one that lacks what crgen needs is left out and named in a note."""
    assets, notes = [], []
    for feature in features:
        try:
            assets.append(read(feature, centre))
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            name = feature.get("id") if isinstance(feature, dict) else None
            notes.append(
                f"{name or 'an image'} was left out: its metadata is incomplete ({type(error).__name__}: {error})"
            )
    return assets, notes


def read_radar(feature: dict[str, Any], centre: float) -> Asset:
    """Understand one image of ``COPERNICUS/S1_GRD_FLOAT``; what keeps it from use is said in ``unfit``."""
    has = feature["properties"]
    bands = tuple(band["id"] for band in feature["bands"])
    unfit = ""
    if has.get("instrumentMode", "IW") != "IW":
        unfit = f"mode {has['instrumentMode']}, not IW"
    elif float(has.get("resolution_meters", 10)) != 10:
        unfit = f"{has['resolution_meters']} m resolution"
    elif "VV" not in bands:
        unfit = f"holds {'/'.join(b for b in bands if b != 'angle')}, no VV"
    footprint = read_footprint(has["system:footprint"], centre)
    direction = str(has["orbitProperties_pass"])
    relative, orbit = int(has["relativeOrbitNumber_start"]), int(has["orbitNumber_start"])
    crosses = has.get("orbitNumber_stop", orbit) != orbit
    # An ascending pass has one number south of the equator, and the next one north of it.
    later = crosses or (direction == "ASCENDING" and footprint.centroid.y < 0)
    return Asset(
        id=feature["id"],
        platform=f"S1{has['platform_number']}",
        time=_moment(has),
        relative_orbit=relative,
        orbit=orbit + later,
        direction=direction,
        bands=bands,
        footprint=footprint,
        unfit=unfit,
        lattice=_lattice(feature["bands"][0]) if bands else None,
        track=relative % RELATIVE_ORBITS + 1 if later else relative,
    )


def _lattice(band: dict[str, Any]) -> tuple[str, float, float] | None:
    corner = band.get("crs_transform")
    return (str(band["crs"]), float(corner[2]), float(corner[5])) if corner else None


def read_optical(feature: dict[str, Any], centre: float) -> Asset:
    """Understand one image of ``COPERNICUS/S2_SR_HARMONIZED``."""
    has = feature["properties"]
    datatake = re.search(r"_(\d{6})_N", str(has.get("DATATAKE_IDENTIFIER", "")))
    cloudy = has.get("CLOUDY_PIXEL_PERCENTAGE")
    return Asset(
        id=feature["id"],
        platform=str(has["SPACECRAFT_NAME"]).replace("Sentinel-", "S"),
        time=_moment(has),
        relative_orbit=int(has["SENSING_ORBIT_NUMBER"]),
        orbit=int(datatake[1]) if datatake else 0,
        direction=str(has.get("SENSING_ORBIT_DIRECTION", "DESCENDING")),
        bands=tuple(band["id"] for band in feature["bands"]),
        footprint=read_footprint(has["system:footprint"], centre),
        cloudy=None if cloudy is None else float(cloudy) / 100,
        tile=str(has["MGRS_TILE"]),
        baseline=float(has.get("PROCESSING_BASELINE", 0)),
        # GENERATION_TIME can be the time of sensing.
        processed=stamp[1] if (stamp := re.search(r"_DS_\w+?_(\d{8}T\d{6})_S", str(has.get("DATASTRIP_ID")))) else "",
    )


def _moment(properties: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(properties["system:time_start"] / 1000, UTC)


@dataclass(frozen=True)
class Kind:
    """One collection, and what is read of its images."""

    name: str
    properties: tuple[str, ...]
    read: Callable[[dict[str, Any], float], Asset]
    on_own_lattices: bool
    """Whether each image has a lattice of pixels that nothing else tells."""

    def brief(self, image: Any) -> Any:
        """Return what crgen reads of an image's description: the whole one has dozens of bands and properties."""
        import ee

        image = ee.Image(image)
        described = ee.Feature(None).copyProperties(image, [*self.properties])
        described = described.set("bands", image.bandNames()).set("index", image.id())
        # Bands of an image may have projections of their own: the first stands for those that are read.
        return described.set("lattice", image.select(0).projection()) if self.on_own_lattices else described

    def unbriefed(self, feature: dict[str, Any]) -> dict[str, Any]:
        """Return a brief description in the form of a whole one; empty if it is something else."""
        try:
            has = feature["properties"]
            bands = [{"id": name} for name in has["bands"]]
            if self.on_own_lattices:
                bands[0] |= {"crs": has["lattice"]["crs"], "crs_transform": has["lattice"]["transform"]}
            return {"id": f"{self.name}/{has['index']}", "properties": has, "bands": bands}
        except (TypeError, KeyError, IndexError):
            return {}


RADAR = Kind(S1, RADAR_PROPERTIES, read_radar, on_own_lattices=True)
OPTICAL = Kind(S2, OPTICAL_PROPERTIES, read_optical, on_own_lattices=False)
