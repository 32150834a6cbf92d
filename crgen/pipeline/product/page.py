"""The page of a product: its pictures, layers and numbers, put together for :mod:`crgen.pipeline.picture.viewer`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crgen.model.card import ModelCard
from crgen.pipeline.flood.area import Areas
from crgen.pipeline.picture.quicklook import Panel, colours_of, stretch_of
from crgen.pipeline.picture.thumbnail import cog_thumbnail
from crgen.pipeline.picture.viewer import Layer, Pixels, write_page
from crgen.pipeline.product.assembled import Assembled
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.product.selfcheck import check_line, worse_than_copying
from crgen.pipeline.product.stac import WATER_DOI, WATER_PAPER
from crgen.pipeline.product.styles import ERROR_RAMP, WATER_RAMP
from crgen.pipeline.source.imagery import Scene
from crgen.pipeline.source.stack import manifest_of
from crgen.pipeline.tiling.counts import Tally
from crgen.pipeline.tiling.past import Learned
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

PAPER = (
    "Duan, Belgiu & Stein (2026), ISPRS Journal of Photogrammetry and Remote Sensing 236, "
    "doi 10.1016/j.isprsjprs.2026.03.042"
)
SENSORS = {"s1": "radar", "s2": "optical"}


def write_product_page(
    scene: Scene,
    paths: Paths,
    panels: tuple[list[Panel], list[NDArray[np.float32]]],
    made: Assembled,
    card: ModelCard,
) -> Path:
    """Write the page of finished files under its hidden name and return that.

    Args:
        scene: the imagery.
        paths: the product.
        panels: of :func:`~crgen.pipeline.picture.quicklook.product_panels`.
        made: its rasters, wherever they are, and what is known of them.
        card: of the weights.
    """
    demo = manifest_of(scene.stack).get("source") == "demo"
    years = " and ".join(dict.fromkeys((str(scene.t1.year), str(scene.t2.year))))
    cited = PAPER if scene.water_asset is None else f"{PAPER}; water of before by {WATER_PAPER}, doi {WATER_DOI}"
    source = "" if scene.water_asset is None else " Water of before: source EC JRC/Google."
    made_by = f"crgen {version('crgen')} with the weights '{card.name}' (SHA-256 {card.tensors_sha256[:16]}…)"
    return write_page(
        paths.page,
        title=f"{paths.reflectance.stem}: Sentinel-2 reflectance of {scene.t2}, cloud-free",
        geobox=scene.area.geobox,
        layers=[*_images(*panels), *_overlays(made.files, made.tally)],
        outlines=made.outlines,
        first=_first(made.areas, made.check, made.learned),
        notes=made.notes,
        facts=_facts(scene, made.tally, made.radar) | {"Made by": made_by},
        scenes=list(_scenes(scene)),
        repeat=f"crgen fill --manifest {shlex.quote(paths.item.name)} --out again.tif",
        cite=f"Map of {scene.t2} made by {made_by}, after {cited}.",
        licence="A made-up scene: it shows no place on Earth."
        if demo
        else f"Contains modified Copernicus Sentinel data {years}, processed by crgen.{source}",
    )


def _images(panels: Sequence[Panel], images: Sequence[NDArray[np.float32]]) -> Iterator[Layer]:
    """Yield the pictures of each panel, that of t1 and the result first."""
    radar = [panel.image for panel in panels if panel.kind == "radar"]
    stretches = [stretch_of([image], 0.05) for image in images], stretch_of(radar, 5.0)
    classes = next(panel.image for panel in panels if panel.kind == "quality")
    first = [panel for panel in panels if panel.kind == "optical" and panel.composite == 0]
    t1, result = first[:2]
    seen = result.image.copy()
    seen[~np.isin(classes, [Quality.OBSERVED, Quality.BLENDED])] = np.nan
    observed = Panel("t2 observed" + result.title.removeprefix("t2 result"), seen, "optical", result.caption)
    rest = [panel for panel in panels if panel is not t1 and panel is not result and panel.kind != "quality"]
    if np.isfinite(seen).any():
        rest.insert(0, observed)
    for number, panel in enumerate((t1, result, *rest)):
        shown = panel.caption.rpartition(" · ")[2]
        name = f"{panel.title}, {' '.join(shown.split()[-2:]) if shown.endswith('colour') else shown}"
        yield Layer(f"image{number}", name, f"The whole area: {panel.title} ({shown})", colours_of(panel, *stretches))


def _overlays(rasters: Mapping[str, Path], tally: Tally) -> Iterator[Layer]:
    if "water" in rasters:
        water = cog_thumbnail(rasters["water"], ["water"])[0]
        ends, colours = [ramp[0] for ramp in WATER_RAMP], [(*_rgb(ramp[1]), ramp[2]) for ramp in WATER_RAMP]
        text = "Probability of water at t2, from transparent (none) to dark blue (certain)"
        keys = [(f"{per_cent} %", colour) for per_cent, colour, _ in WATER_RAMP]
        yield Layer("water", "Probability of water at t2", text, _ramped(water, ends, colours), "overlay", keys)
    if "error" in rasters:
        error = cog_thumbnail(rasters["error"])
        known = np.isfinite(error).all(0)
        error = np.where(known, np.where(known, error, 0).mean(0), np.nan)
        top = 2 * float(error[known].mean()) if known.any() else 1.0
        ends = np.linspace(0, top or 1.0, len(ERROR_RAMP)).tolist()
        keys = [(f"{end:.3f}", colour) for end, colour in zip(ends, ERROR_RAMP, strict=True)]
        keys[-1] = (f"{keys[-1][0]} or more", ERROR_RAMP[-1])
        name = "How far reflectance may be off where it was generated"
        text = "Half the width of the 90 % interval of reflectance, mean of the bands, from yellow (small) to brown"
        yield Layer("error", name, text, _ramped(error, ends, [(*_rgb(c), 220) for c in ERROR_RAMP]), "overlay", keys)
    classes = cog_thumbnail(rasters["quality"])[0]
    table = np.array([(*COLOURS[quality][:3], 190 if quality else 0) for quality in Quality], np.uint8)
    shown = table[np.nan_to_num(classes).astype(np.uint8)]
    keys = [
        (f"{LABELS[quality]} {100 * share:.1f} %", "#{:02x}{:02x}{:02x}".format(*COLOURS[quality][:3]))
        for quality, share in tally.shares.items()
        if quality
    ]
    yield Layer("quality", "Quality classes", "Where each pixel comes from, by colour", shown, "overlay", keys)


def _ramped(values: NDArray[np.float32], ends: Sequence[float], colours: Sequence[Sequence[int]]) -> Pixels:
    """Return values as colours between those of a ramp; transparent where missing."""
    channels = [np.interp(np.nan_to_num(values), ends, channel) for channel in zip(*colours, strict=True)]
    shown = np.stack(channels, -1)
    shown[~np.isfinite(values), 3] = 0
    return (shown + 0.5).astype(np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _first(areas: Areas | None, check: Mapping[str, Any], learned: Learned | None) -> dict[str, str]:
    """Return where the water is and how wrong the map may be; that a copy would be better comes first."""
    checked = {"Self-check": check_line(check)}
    if areas is None:
        flooded = {}
    else:
        interval = " (in brackets: where it lies nine times in ten)" if areas.interval else ""
        flooded = {"Flooded": f"{areas.text}{interval}"}
    past = {"On the place's past": learned.line} if learned is not None and learned.line else {}
    if learned is not None and learned.worse:
        return past | checked | flooded
    return (checked | flooded if worse_than_copying(check) else flooded | checked) | past


def _facts(scene: Scene, tally: Tally, radar: str) -> dict[str, str]:
    facts = {"Area": f"{scene.area.name}, {scene.area.geobox.crs}", "t1, t2": f"{scene.t1}, {scene.t2}"}
    if radar:
        facts["Radar"] = radar
    return facts | {LABELS[quality].capitalize(): f"{100 * share:.1f} %" for quality, share in tally.shares.items()}


def _scenes(scene: Scene) -> Iterator[dict[str, str]]:
    for variable, chosen in scene.scenes.items():
        sensor, _, date = variable.partition("_")
        for held in chosen:
            yield {
                "what": f"{SENSORS.get(sensor, sensor)} {date}",
                "day": str(held.get("time", ""))[:10],
                "platform": str(held.get("platform", "")),
                "orbit": f"{held.get('relative_orbit', '')} {str(held.get('direction', '')).lower()}".strip(),
                "id": str(held.get("id", "")),
            }
