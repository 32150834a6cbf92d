"""The metadata of acquisitions: one query per collection, and what its answer means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Polygon, mapping
from shapely.geometry.base import BaseGeometry

from crgen.errors import SourceError
from crgen.gee.connection.session import Session
from crgen.gee.manifest import CLOUD_SCORE, S1, S2

DUPLICATE_SECONDS = 1.0
"""Sensing times of one tile closer than this are the same acquisition, processed more than once."""


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
    generated: float = 0.0
    """When it was processed, seconds since 1970."""
    unfit: str = ""
    """Why it cannot be used, if so."""

    @property
    def day(self) -> date:
        """Day of acquisition, UTC."""
        return self.time.date()

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
    """Ask for the metadata of all acquisitions, in one request per collection.

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

    def collection(name: str) -> Any:
        west, south, east, north = bounds
        within = ee.Geometry.Rectangle([west, south, east, north], "EPSG:4326", False)
        days = [
            ee.Filter.date(first.isoformat(), (last + timedelta(days=1)).isoformat())
            for first, last in merged(stretches)
        ]
        return ee.ImageCollection(name).filterBounds(within).filter(days[0] if len(days) == 1 else ee.Filter.Or(*days))

    def describe(name: str) -> list[dict[str, Any]]:
        answer = session.call(f"the acquisitions of {name}", lambda: ee.data.computeValue(collection(name)))
        try:
            return list(answer["features"])
        except (TypeError, KeyError):
            raise SourceError(
                f"Earth Engine described {name} in a way crgen does not understand; update crgen"
            ) from None

    centre = (bounds[0] + bounds[2]) / 2
    s1, left_out = understood(describe(S1), read_radar, centre) if radar else ([], [])
    s2, more = understood(describe(S2), read_optical, centre) if optical else ([], [])
    scored: frozenset[str] = frozenset()
    if s2:
        names = collection(CLOUD_SCORE).aggregate_array("system:index")
        scored = frozenset(session.call(f"the names of {CLOUD_SCORE}", lambda: ee.data.computeValue(names)))
    return Catalogue(tuple(s1), tuple(without_duplicates(s2)), scored, (*left_out, *more))


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
    return Asset(
        id=feature["id"],
        platform=f"S1{has['platform_number']}",
        time=_moment(has),
        relative_orbit=int(has["relativeOrbitNumber_start"]),
        orbit=int(has["orbitNumber_start"]),
        direction=str(has["orbitProperties_pass"]),
        bands=bands,
        footprint=read_footprint(has["system:footprint"], centre),
        unfit=unfit,
    )


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
        generated=float(has.get("GENERATION_TIME", 0)) / 1000,
    )


def without_duplicates(assets: Iterable[Asset]) -> list[Asset]:
    """Keep of each tile and sensing time only what was processed last."""
    kept: list[Asset] = []
    for asset in sorted(assets, key=lambda a: (a.tile or "", a.platform, a.time, -a.generated, a.id)):
        last = kept[-1] if kept else None
        if last and (last.tile, last.platform) == (asset.tile, asset.platform):
            apart = (asset.time - last.time).total_seconds()
            if apart < DUPLICATE_SECONDS:
                if asset.generated > last.generated:
                    kept[-1] = asset
                continue
        kept.append(asset)
    return kept


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
