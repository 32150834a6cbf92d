"""The manifest: which acquisitions serve which variable, frozen, so that a run can be repeated."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from shapely import from_wkt
from shapely.geometry.base import BaseGeometry

from crgen.errors import SourceError
from crgen.files import manifest_in

S1 = "COPERNICUS/S1_GRD_FLOAT"
"""Backscatter as power; a scene is here before it is in ``COPERNICUS/S1_GRD``, in dB, which older manifests name."""
S2 = "COPERNICUS/S2_SR_HARMONIZED"
CLOUD_SCORE = "GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED"
SCORE_BAND = "cs_cdf"
"""Of the two, how likely a pixel is clear, 0 to 1."""
WATER, WATER_BAND = "JRC/GSW1_4/GlobalSurfaceWater", "occurrence"
"""How often there was water from 1984 to 2021, in per cent, of 30 m; masked where there never was."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Scene(_Frozen):
    """One asset that pixels come from."""

    id: str
    href: str
    """The asset in Earth Engine's REST API."""
    platform: str
    """``S1A``, ``S2B``, …"""
    time: datetime
    """Start of the acquisition, UTC."""
    days_apart: int
    """Days from the date asked for to the acquisition's, UTC."""
    relative_orbit: int
    """Of a Sentinel-2 scene as well as of a Sentinel-1 scene."""
    track: int | None = None
    """Relative orbit that its pass has at the equator, where numbers change; None if not known."""
    orbit: int
    """Absolute orbit, at the equator too: the scenes of one orbit are one pass."""
    direction: str
    """``ASCENDING`` or ``DESCENDING``."""
    coverage: float
    """Share of the area that the whole pass covers."""
    clear: float | None = None
    """Share of the scene without cloud, by its own metadata; None for radar."""
    clear_over_area: float | None = None
    """Share of what it shows of the area that is clear by Cloud Score+; None where that is not known."""
    score: str | None = None
    """Its Cloud Score+ asset; None where there is none, or for radar."""
    tile: str | None = None
    """MGRS tile of a Sentinel-2 scene."""
    footprint: dict[str, Any]
    """GeoJSON, longitude and latitude."""
    lattice: tuple[str, float, float] | None = None
    """CRS of a radar scene's own pixels, and x and y of the corner of one; None if not known."""

    @property
    def geometry(self) -> tuple[int, str]:
        """Relative orbit and direction: from where the ground was looked at."""
        return self.relative_orbit if self.track is None else self.track, self.direction


class Grid(_Frozen):
    """An area of interest on its grid."""

    name: str
    crs: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]
    outline: str
    """WKT, in ``crs``."""

    @classmethod
    def of(cls, name: str, geobox: GeoBox, outline: BaseGeometry) -> Grid:
        """Describe an area."""
        a, b, c, d, e, f = (float(v) for v in geobox.affine[:6])
        rows, columns = geobox.shape
        return cls(
            name=name, crs=str(geobox.crs), transform=(a, b, c, d, e, f), shape=(rows, columns), outline=outline.wkt
        )

    @property
    def geobox(self) -> GeoBox:
        """The grid."""
        return GeoBox(self.shape, Affine(*self.transform), self.crs)

    @property
    def polygon(self) -> BaseGeometry:
        """The outline, in ``crs``."""
        return from_wkt(self.outline)


class Manifest(_Frozen):
    """Frozen asset ids with all that says why these; JSON round trip without loss."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: Literal["gee"] = "gee"
    version: Literal[1] = 1
    dates: dict[str, date]
    """The days asked for: ``t1``, ``t2``, …"""
    area: Grid
    pols: tuple[str, ...]
    bands: tuple[str, ...]
    scenes: dict[str, tuple[Scene, ...]]
    """By variable of the Stack (``s1_t1``); a scene lies on top of those after it."""
    past: dict[str, tuple[Scene, ...]] = Field(default_factory=dict)
    """Other looks at the place, by day: ``s2_2021-06-20`` and the radar that goes with it, ``s1_2021-06-20``."""
    water: str | None = None
    """Asset that tells how often there was water at the place; None for none."""
    coverage: dict[str, float]
    """Share of the area that the scenes' footprints cover, by variable."""
    notes: tuple[str, ...] = ()
    rules: dict[str, int | float | str] = Field(default_factory=dict)
    """How the scenes were chosen: the fields of :class:`~crgen.gee.choose.choice.Rules`."""
    expressions: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of the serialised image that pixels were computed from, by variable."""

    @property
    def days(self) -> dict[str, list[date]]:
        """Days of acquisition (UTC) by variable, in order."""
        return {name: sorted({scene.time.date() for scene in chosen}) for name, chosen in self.scenes.items()}

    @property
    def past_days(self) -> list[date]:
        """Days of the other looks, in order."""
        return sorted(date.fromisoformat(name[3:]) for name in self.past if name.startswith("s2_"))

    @property
    def platforms(self) -> dict[str, list[str]]:
        """Satellites by variable."""
        return {name: sorted({scene.platform for scene in chosen}) for name, chosen in self.scenes.items()}

    def to_json(self) -> str:
        """Return the manifest as JSON, indented."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False)

    @classmethod
    def parse(cls, content: Any, where: str) -> Manifest:
        """Read a manifest from decoded JSON.

        Raises:
            SourceError: naming ``where`` and the first field that does not fit.
        """
        try:
            return cls.model_validate_json(json.dumps(content))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the manifest"
            raise SourceError(f"{where} is not a manifest crgen can repeat: {field}: {first['msg']}") from None

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest from a file: one that ``crgen scenes`` wrote, or the STAC Item of a product.

        Raises:
            SourceError: if there is none in it.
        """
        try:
            content = json.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise SourceError(f"cannot read the manifest {path}: {error.strerror}") from None
        except ValueError:
            raise SourceError(f"the manifest {path} is not JSON; is it a product's .json?") from None
        return cls.parse(manifest_in(content), str(path))
