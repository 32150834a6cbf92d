"""The metadata of acquisitions: one query per collection, and what its answer means."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon, mapping
from shapely.geometry.base import BaseGeometry

from crgen.errors import SourceError
from crgen.gee.connection.retry import TooMuch
from crgen.gee.connection.session import Session
from crgen.gee.manifest import CLOUD_SCORE, S1, S2

T = TypeVar("T")

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
COVERED = 0.001
"""Share of a footprint that may stick out of others which cover it."""
DUPLICATE_SECONDS = 1.0
"""Sensing times of one tile closer than this are the same acquisition: processed more than once, or in two parts."""


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


@dataclass(frozen=True)
class Catalogue:
    """What was acquired over an area in some stretches of time."""

    radar: tuple[Asset, ...] = ()
    optical: tuple[Asset, ...] = ()
    scored: frozenset[str] = frozenset()
    """Names of the Sentinel-2 images that Cloud Score+ has a score for."""
    notes: tuple[str, ...] = ()


def search(
    session: Session,
    bounds: tuple[float, float, float, float],
    stretches: Sequence[tuple[date, date]],
    *,
    radar: bool = True,
    optical: bool = True,
) -> Catalogue:
    """Ask for the metadata of all acquisitions, in one request per collection, or a few if that is too much.

    Args:
        session: the connection.
        bounds: west, south, east, north of the area in degrees.
        stretches: first and last days, UTC.
        radar: whether to ask for Sentinel-1.
        optical: whether to ask for Sentinel-2 and Cloud Score+.

    Raises:
        SourceError: if Earth Engine cannot be asked, or answers with something else.
    """
    import ee

    def collection(name: str, stretches: Sequence[tuple[date, date]]) -> Any:
        west, south, east, north = bounds
        within = ee.Geometry.Rectangle([west, south, east, north], "EPSG:4326", False)
        days = [ee.Filter.date(first.isoformat(), (last + timedelta(days=1)).isoformat()) for first, last in stretches]
        return ee.ImageCollection(name).filterBounds(within).filter(days[0] if len(days) == 1 else ee.Filter.Or(*days))

    def ask(name: str, asked: Any) -> list[dict[str, Any]]:
        answer = session.call(f"the acquisitions of {name}", lambda: ee.data.computeValue(asked))
        try:
            return list(answer["features"])
        except (TypeError, KeyError):
            raise SourceError(
                f"Earth Engine described {name} in a way crgen does not understand; update crgen"
            ) from None

    def describe(kind: _Kind, stretches: Sequence[tuple[date, date]]) -> list[dict[str, Any]]:
        # What the service makes of a brief description no local server can show: if it does not serve, the whole does.
        held = collection(kind.name, stretches)
        try:
            found = [_unbriefed(kind, one) for one in ask(kind.name, held.map(partial(_brief, kind)))]
        except SourceError as error:
            if error.transient:
                raise
            return ask(kind.name, held)
        served = not found or understood(found, kind.read, centre)[0]
        return found if served else ask(kind.name, held)

    def images(kind: _Kind) -> tuple[list[Asset], list[str]]:
        return understood(in_slices(partial(describe, kind), days), kind.read, centre)

    def scores(stretches: Sequence[tuple[date, date]]) -> list[str]:
        names = collection(CLOUD_SCORE, stretches).aggregate_array("system:index")
        return list(session.call(f"the names of {CLOUD_SCORE}", lambda: ee.data.computeValue(names)))

    days = merged(stretches)
    centre = (bounds[0] + bounds[2]) / 2
    s1, left_out = images(_RADAR) if radar else ([], [])
    s2, more = images(_OPTICAL) if optical else ([], [])
    scored = frozenset(in_slices(scores, days) if s2 else ())
    return Catalogue(tuple(s1), tuple(without_duplicates(s2, scored)), scored, (*left_out, *more))


def _brief(kind: _Kind, image: Any) -> Any:
    """Return what crgen reads of an image's description: the whole one has dozens of bands and properties."""
    import ee

    image = ee.Image(image)
    described = ee.Feature(None).copyProperties(image, [*kind.properties])
    described = described.set("bands", image.bandNames()).set("index", image.id())
    # Bands of an image may have projections of their own: the first stands for those that are read.
    return described.set("lattice", image.select(0).projection()) if kind.on_own_lattices else described


def _unbriefed(kind: _Kind, feature: dict[str, Any]) -> dict[str, Any]:
    """Return a brief description in the form of a whole one; empty if it is something else."""
    try:
        has = feature["properties"]
        bands = [{"id": name} for name in has["bands"]]
        if kind.on_own_lattices:
            bands[0] |= {"crs": has["lattice"]["crs"], "crs_transform": has["lattice"]["transform"]}
        return {"id": f"{kind.name}/{has['index']}", "properties": has, "bands": bands}
    except (TypeError, KeyError, IndexError):
        return {}


def in_slices(ask: Callable[[Sequence[tuple[date, date]]], list[T]], days: Sequence[tuple[date, date]]) -> list[T]:
    """Return what is there in some stretches of days, asked for in halves where it is too much for one answer.

    Raises:
        SourceError: if one day is too much, or Earth Engine refuses.
    """
    try:
        return ask(days)
    except TooMuch as error:
        (first, last), *_ = days
        if len(days) > 1:
            halves = [days[: len(days) // 2], days[len(days) // 2 :]]
        elif first < last:
            middle = first + (last - first) // 2
            halves = [[(first, middle)], [(middle + timedelta(1), last)]]
        else:
            raise SourceError(
                f"Earth Engine cannot list what was acquired on {first} alone ({error}); make the area smaller"
            ) from None
    return [found for half in halves for found in in_slices(ask, half)]


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


def merged(stretches: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Return the days of all stretches as few stretches that do not touch."""
    joined: list[tuple[date, date]] = []
    for first, last in sorted(stretches):
        if joined and first <= joined[-1][1] + timedelta(days=1):
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


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


@dataclass(frozen=True)
class _Kind:
    """One collection, and what is read of its images."""

    name: str
    properties: tuple[str, ...]
    read: Callable[[dict[str, Any], float], Asset]
    on_own_lattices: bool
    """Whether each image has a lattice of pixels that nothing else tells."""


_RADAR = _Kind(S1, RADAR_PROPERTIES, read_radar, on_own_lattices=True)
_OPTICAL = _Kind(S2, OPTICAL_PROPERTIES, read_optical, on_own_lattices=False)


def without_duplicates(assets: Iterable[Asset], scored: Collection[str] = ()) -> list[Asset]:
    """Leave out images that were processed more than once: those that a better one of the same tile and time covers.

    A tile that two datastrips share comes in two images, each of a part: both stay. Better is what has a Cloud Score+
    score, then the later processor, then the later processing.
    """

    def better(asset: Asset) -> tuple[Any, ...]:
        return asset.index in scored, asset.baseline, asset.processed, asset.id

    kept: list[Asset] = []
    together: list[Asset] = []
    for asset in sorted(assets, key=lambda a: (a.tile or "", a.platform, a.time, a.id)):
        if together and not _same_acquisition(together[0], asset):
            kept += _needed(sorted(together, key=better, reverse=True))
            together = []
        together.append(asset)
    return kept + _needed(sorted(together, key=better, reverse=True))


def _same_acquisition(a: Asset, b: Asset) -> bool:
    apart = (b.time - a.time).total_seconds()
    return (a.tile, a.platform) == (b.tile, b.platform) and apart < DUPLICATE_SECONDS


def _needed(best_first: Sequence[Asset]) -> list[Asset]:
    """Return the images that those before them do not cover, ranked."""
    needed: list[Asset] = []
    covered: BaseGeometry = Polygon()
    for asset in best_first:
        if not needed or asset.footprint.difference(covered).area > COVERED * asset.footprint.area:
            needed.append(replace(asset, rank=len(needed)))
            covered = covered.union(asset.footprint)
    return needed


def read_footprint(geometry: dict[str, Any], centre: float) -> BaseGeometry:
    """Return a footprint as a valid polygon whose longitudes lie around ``centre`` without a jump at 180°."""
    kind, coordinates = geometry["type"], geometry["coordinates"]
    rings = {"LinearRing": [coordinates], "Polygon": coordinates[:1], "MultiPolygon": [p[0] for p in coordinates]}[kind]
    polygons = []
    for ring in rings:
        points = np.asarray(ring, dtype=float)[:, :2]
        longitudes = np.rad2deg(np.unwrap(np.deg2rad(points[:, 0])))
        longitudes += 360 * np.round((centre - longitudes.mean()) / 360)
        polygons.append(shapely.make_valid(Polygon(np.column_stack([longitudes, points[:, 1]]))))
    return shapely.union_all(polygons)


def projected(footprint: BaseGeometry, crs: str) -> BaseGeometry:
    """Return a footprint of longitude and latitude in a grid's CRS, edges densified."""
    transform = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform
    dense = shapely.segmentize(footprint, 0.1)
    moved = shapely.transform(dense, lambda xy: np.column_stack(transform(xy[:, 0], xy[:, 1])))
    return shapely.make_valid(moved)


def lonlat(shape: BaseGeometry, crs: str) -> BaseGeometry:
    """Return a shape of a grid's CRS in longitude and latitude, up to the antimeridian; edges are not densified."""
    transform = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform
    west, south, east, north = shape.bounds
    middle, _ = transform((west + east) / 2, (south + north) / 2)

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        longitudes, latitudes = transform(xy[:, 0], xy[:, 1])
        # Beyond the antimeridian longitudes jump: count them from the shape's middle, and end there.
        longitudes = np.clip(middle + (longitudes - middle + 180) % 360 - 180, -180, 180)
        return np.column_stack([longitudes, latitudes])

    return shapely.transform(shape, moved)


def as_geojson(footprint: BaseGeometry) -> dict[str, Any]:
    """Return a footprint as GeoJSON, to a ten-thousandth of a degree (11 m)."""
    parts = [p for p in getattr(footprint, "geoms", [footprint]) if isinstance(p, Polygon)]
    shape = shapely.set_precision(parts[0] if len(parts) == 1 else MultiPolygon(parts), 1e-4)
    content: dict[str, Any] = mapping(shape)
    return {"type": content["type"], "coordinates": _lists(content["coordinates"])}


def _lists(coordinates: Any) -> Any:
    return [_lists(c) for c in coordinates] if isinstance(coordinates, (tuple, list)) else coordinates


def _moment(properties: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(properties["system:time_start"] / 1000, UTC)
