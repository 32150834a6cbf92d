"""From options to a request; a product is made again from what it says about itself (promise 7)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from crgen.errors import RequestError, SourceError, WeightsError
from crgen.files import manifest_in
from crgen.model.find import find_weights, known_weights, read_card
from crgen.pipeline.request import EarthEngine, FillRequest, read


def request_of(named: Mapping[str, Any]) -> FillRequest:
    """Return the request of the options that a person names.

    Those left out have their defaults, or with ``manifest`` what the product was made with.

    Raises:
        CrgenError: of the kind that fits what is wrong.
    """
    given, earth_engine = read(FillRequest, named), EarthEngine(**read(EarthEngine, named))
    if earth_engine.manifest is not None:
        return repeated(earth_engine.manifest, given, replace(earth_engine, manifest=None))
    return FillRequest(**given, earth_engine=earth_engine)


def repeated(path: Path, given: dict[str, Any], earth_engine: EarthEngine) -> FillRequest:
    """Return the request that made a product, for its scenes.

    Args:
        path: the product's STAC Item, or a manifest alone, which says no more than scenes, area and dates.
        given: fields of the request that a person names now; they go before the product's.
        earth_engine: how to ask Earth Engine now.

    Raises:
        SourceError: if the file cannot be read, or is neither.
        RequestError: if a person names what the manifest has frozen, a file that the product names is neither beside it
            nor in the working folder, or settings make no sense.
        WeightsError: if the weights of that name are others than made the product.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise SourceError(f"{path} is not JSON; give a product's .json, or a manifest") from None
    manifest = manifest_in(content)
    properties = (content.get("properties") if isinstance(content, dict) else None) or {}
    if isinstance(manifest, dict) and manifest.get("source") != "gee":
        manifest = properties.get("crgen:manifest", manifest)  # not what was stored with a stack of the person's own
    if not (isinstance(content, dict) and isinstance(manifest, dict) and "source" in manifest):
        raise SourceError(f"{path} is neither a product's .json nor a manifest")
    settings = {"bands": _bands_of(content), **properties.get("crgen:settings", {})}
    request = read(FillRequest, settings) | given
    if manifest["source"] == "gee":
        if named := [
            f"--{name}" for name in ("aoi", "layer", "t1", "t2", "crs", "source") if given.get(name) is not None
        ]:
            raise RequestError(f"--manifest {path} says area, dates and scenes: leave out {', '.join(named)}")
        # The settings' own area is a file that may be gone; the manifest holds it whole.
        request |= {"source": "gee", "aoi": None, "t1": None, "t2": None, "crs": None, "layer": None}
        earth_engine = replace(earth_engine, manifest=path)
    elif manifest["source"] == "local" and "source" not in given and request.get("source"):
        request["source"] = _beside(path, request["source"], "the stack", "source")
    if request.get("aoi") and "aoi" not in given and not _is_bounds(request["aoi"]):
        request["aoi"] = _beside(path, request["aoi"], "the area", "aoi")
    if "weights" in settings and "weights" not in given:
        if request["weights"] not in known_weights():
            request["weights"] = _beside(path, request["weights"], "weights", "weights")
        _check_weights(request["weights"], properties, path)
    try:
        return FillRequest(**request, earth_engine=earth_engine)
    except TypeError as error:
        raise SourceError(f"{path} holds settings that crgen does not understand ({error}); update crgen") from None


def _beside(path: Path, name: str, what: str, option: str) -> str:
    """Return the path of a file that a product names: beside the product, or else from the working folder."""
    found = [place for place in (path.parent / name, Path(name), path.parent / Path(name).name) if place.exists()]
    if not found:
        raise RequestError(
            f"{path} was made from {what} '{Path(name).name}', which is neither beside it nor here: "
            f"say where it is with --{option}"
        )
    return str(found[0])


def _is_bounds(aoi: str) -> bool:
    """Say whether an area is written as four numbers, not named by a file."""
    try:
        return len([float(part) for part in aoi.split(",")]) == 4
    except ValueError:
        return False


def _bands_of(content: dict[str, Any]) -> list[str] | None:
    """Return the bands of a product whose settings do not name them, as crgen 0.1 wrote them; None for a manifest."""
    bands = content.get("assets", {}).get("reflectance", {}).get("bands")
    return None if bands is None else [band["name"] for band in bands]


def _check_weights(name: str, properties: dict[str, Any], path: Path) -> None:
    sha256 = properties.get("crgen:model", {}).get("sha256")
    if sha256 is not None and read_card(find_weights(name)).tensors_sha256 != sha256:
        version = properties.get("processing:software", {}).get("crgen")
        by = f"crgen {version} with weights" if version else "weights"
        raise WeightsError(
            f"{path} was made by {by} '{name}' of digest {sha256[:12]}…, which differ from those of that name here; "
            "get the same weights, or name others with --weights"
        )
