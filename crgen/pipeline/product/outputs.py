"""The files of a product by their names."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from pathlib import Path

from crgen.pipeline.source.area import Area

RUN, PUBLISHING = "run.json", "publishing.json"
"""In the scratch folder: which run it belongs to, with its scenes, and the files about to be published."""


@dataclass(frozen=True)
class Paths:
    """The files of a product, all beside the reflectance COG and named after it."""

    reflectance: Path

    @classmethod
    def of(cls, out: Path | None, area: Area, t1: datetime.date, t2: datetime.date) -> Paths:
        """Return the files named by ``out``, or after area and dates."""
        return cls(out or Path(f"{area.name}_{t1}_{t2}.tif"))

    def _companion(self, ending: str) -> Path:
        return self.reflectance.with_name(self.reflectance.stem + ending)

    @property
    def quality(self) -> Path:
        """The quality COG."""
        return self._companion("_quality.tif")

    @property
    def water(self) -> Path:
        """The COG of probabilities of water, where the weights predict them."""
        return self._companion("_water.tif")

    @property
    def half_width(self) -> Path:
        """The COG of half the width of intervals, where the weights predict a variance."""
        return self._companion("_error.tif")

    @property
    def flood(self) -> Path:
        """The outlines of water, alike."""
        return self._companion("_flood.gpkg")

    @property
    def quicklook(self) -> Path:
        """The picture."""
        return self._companion(".png")

    @property
    def page(self) -> Path:
        """The page that shows it all."""
        return self._companion(".html")

    @property
    def styles(self) -> dict[str, Path]:
        """Styles for QGIS by the name of the look; one that stands beside a raster under its name is loaded with it."""
        named = {name: self._companion(f"_{name}.qml") for name in ("false_colour", "quality", "water", "error")}
        return {"true_colour": self._companion(".qml")} | named

    @property
    def item(self) -> Path:
        """The STAC Item; published last, so where it stands the product is whole."""
        return self._companion(".json")

    @property
    def audit(self) -> Path:
        """What the map scored against an image that came later; not of the product."""
        return self.item.with_name(f"{self.item.stem}_audit.json")

    @property
    def thumbnail(self) -> Path:
        """The map alone, small."""
        return self._companion("_thumbnail.webp")

    @property
    def rasters(self) -> dict[str, Path]:
        """The COGs by the key of their asset."""
        return {"reflectance": self.reflectance, "quality": self.quality, "water": self.water, "error": self.half_width}

    @property
    def files(self) -> dict[str, Path]:
        """Every file that a product may have beside its Item, by the key of its asset."""
        pictures = {"quicklook": self.quicklook, "thumbnail": self.thumbnail, "page": self.page}
        styles = {f"style_{name}": path for name, path in self.styles.items()}
        return {**self.rasters, "flood": self.flood, **pictures, **styles}

    @property
    def all(self) -> tuple[Path, ...]:
        """The same, and the Item."""
        return (*self.files.values(), self.item)

    @property
    def neighbours(self) -> tuple[Path, ...]:
        """Files beside the product that are not of it, but that viewers read along with its images."""
        beside = (
            *(
                path.with_name(path.name + ending)
                for path in self.all
                for ending in (".aux.xml", ".ovr", ".msk", ".msk.ovr")
            ),
            *(
                path.with_suffix(ending)
                for path in self.rasters.values()
                for ending in (".aux", ".tfw", ".tifw", ".wld", ".rrd")
            ),
        )
        return tuple(path for path in beside if path.is_file())

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self.reflectance.parent

    @property
    def scratch(self) -> Path:
        """The hidden folder of a run that is not finished."""
        return self.folder / f".{self.reflectance.name}.scratch"

    @property
    def interrupted(self) -> dict[str, str]:
        """Names and SHA-256 of the files that a run was about to publish when it was stopped.

        None once the run is over and only its folder was left.
        """
        if not (self.scratch / RUN).exists():
            return {}
        try:
            held: dict[str, str] = json.loads((self.scratch / PUBLISHING).read_text())
        except (OSError, ValueError):
            return {}
        return held
