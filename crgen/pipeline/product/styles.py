"""How to show the rasters of a product: STAC's render extension for viewers on the web, styles for QGIS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from pystac.extensions.render import Render

from crgen.files import write_partial
from crgen.pipeline.cog.profile import FALSE_COLOUR, TRUE_COLOUR, RasterProfile, composites
from crgen.pipeline.product.outputs import Paths
from crgen.pipeline.tiling.quality import COLOURS, LABELS, Quality

WATER_RAMP = ((0, "#f7fbff", 0), (10, "#c6dbef", 90), (50, "#4292c6", 200), (100, "#08306b", 255))
"""Per cent, colour and opacity."""
ERROR_RAMP = ("#ffffd4", "#fed98e", "#fe9929", "#d95f0e", "#993404")
"""From nothing to twice the mean."""

Statistics = Mapping[str, float]


class Look(NamedTuple):
    """One way to show a raster."""

    name: str
    """``true_colour``, ``false_colour``, ``water``, …"""
    asset: str
    bands: tuple[int, ...]
    """Counted from 1: of red, green and blue, or the one to show."""
    rescale: tuple[tuple[float, float], ...]
    """Stored values, before scale and offset, to show dark and bright, by band."""

    @property
    def style(self) -> str:
        """What the style file is named after."""
        return "true_colour" if self.name == "colour" else self.name


def looks_of(profiles: Mapping[str, RasterProfile], statistics: Mapping[str, Sequence[Statistics]]) -> list[Look]:
    """Return how to show the rasters of a product.

    Args:
        profiles: by the key of their asset.
        statistics: of each band's stored values, alike.
    """
    looks = []
    if "reflectance" in profiles:
        bands, held = profiles["reflectance"].bands, statistics["reflectance"]
        names: dict[tuple[str, ...], str] = {TRUE_COLOUR: "true_colour", FALSE_COLOUR: "false_colour"}
        for composite in composites(bands):
            at = [bands.index(band) for band in composite]
            looks.append(
                Look(
                    names.get(composite, "colour"),
                    "reflectance",
                    tuple(i + 1 for i in at),
                    tuple(_span(held[i]) for i in at),
                )
            )
    if "water" in profiles:
        looks.append(Look("water", "water", (1,), ((0, 100),)))
    if "error" in profiles:
        looks.append(Look("error", "error", (1,), ((0, 2 * statistics["error"][0].get("mean", 0.5)),)))
    if "quality" in profiles:
        looks.append(Look("quality", "quality", (1,), ((0, max(Quality)),)))
    return looks


def renders_of(looks: Sequence[Look]) -> dict[str, Render]:
    """Return the same by STAC's render extension; ``bidx`` names the bands, as titiler has it."""
    colours: dict[str, dict[str, Any]] = {
        "water": {"colormap_name": "blues"},
        "error": {"colormap_name": "ylorbr"},
        "quality": {"colormap": {str(int(q)): list(COLOURS[q]) for q in Quality}, "resampling": "nearest"},
    }
    renders = {}
    for look in looks:
        rescale = None if look.name == "quality" else [list(ends) for ends in look.rescale]
        render = Render.create(assets=[look.asset], rescale=rescale, **colours.get(look.name, {}))
        render.properties["bidx"] = list(look.bands)
        renders[look.name] = render
    return renders


def qml(look: Look, profile: RasterProfile) -> bytes:
    """Return a style that QGIS loads by itself where it stands beside a raster under its name."""
    root = ET.Element("qgis", {"version": "3.28.0", "styleCategories": "Symbology"})
    pipe = ET.SubElement(root, "pipe")
    common = {"opacity": "1", "alphaBand": "-1", "nodataColor": ""}
    spans = [[end * profile.scale + profile.offset for end in ends] for ends in look.rescale]
    if len(look.bands) == 3:
        guns = ("red", "green", "blue")
        bands = {f"{gun}Band": str(band) for gun, band in zip(guns, look.bands, strict=True)}
        renderer = ET.SubElement(pipe, "rasterrenderer", {"type": "multibandcolor", **common, **bands})
        for gun, span in zip(guns, spans, strict=True):
            _stretch(renderer, f"{gun}ContrastEnhancement", span)
    elif look.name == "quality":
        renderer = ET.SubElement(pipe, "rasterrenderer", {"type": "paletted", "band": "1", **common})
        palette = ET.SubElement(renderer, "colorPalette")
        for quality in Quality:
            red, green, blue, alpha = COLOURS[quality]
            entry = {"value": str(int(quality)), "color": f"#{red:02x}{green:02x}{blue:02x}", "alpha": str(alpha)}
            ET.SubElement(palette, "paletteEntry", {**entry, "label": LABELS[quality]})
    elif look.name in ("water", "error"):
        low, high = spans[0]
        ends = {"classificationMin": f"{low:g}", "classificationMax": f"{high:g}"}
        kind = {"type": "singlebandpseudocolor", "band": str(look.bands[0]), **common, **ends}
        shader = ET.SubElement(ET.SubElement(pipe, "rasterrenderer", kind), "rastershader")
        limits = {"minimumValue": f"{low:g}", "maximumValue": f"{high:g}", "classificationMode": "1", "clip": "0"}
        ramp = ET.SubElement(shader, "colorrampshader", {"colorRampType": "INTERPOLATED", **limits})
        for value, colour, alpha in _ramp(look, high):
            said = {"value": f"{value:g}", "label": f"{value:g} {profile.units}"}
            ET.SubElement(ramp, "item", {**said, "color": colour, "alpha": str(alpha)})
    else:
        kind = {"type": "singlebandgray", "grayBand": str(look.bands[0]), "gradient": "BlackToWhite", **common}
        _stretch(ET.SubElement(pipe, "rasterrenderer", kind), "contrastEnhancement", spans[0])
    ET.SubElement(root, "blendMode").text = "0"
    return f"<!DOCTYPE qgis>\n{ET.tostring(root, 'unicode')}\n".encode()


def write_styles(paths: Paths, looks: Sequence[Look], profiles: Mapping[str, RasterProfile]) -> list[tuple[Path, Path]]:
    """Write the styles for QGIS under their hidden names, and return each with its target."""
    return [
        (write_partial(paths.styles[look.style], qml(look, profiles[look.asset])), paths.styles[look.style])
        for look in looks
    ]


def _ramp(look: Look, high: float) -> Iterator[tuple[float, str, int]]:
    if look.name == "water":
        yield from WATER_RAMP
    else:
        for i, colour in enumerate(ERROR_RAMP):
            yield high * i / (len(ERROR_RAMP) - 1), colour, 255


def _stretch(renderer: ET.Element, name: str, span: Sequence[float]) -> None:
    stretch = ET.SubElement(renderer, name)
    for end, value in zip(("minValue", "maxValue"), span, strict=True):
        ET.SubElement(stretch, end).text = f"{value:g}"
    ET.SubElement(stretch, "algorithm").text = "StretchToMinimumMaximum"


def _span(band: Statistics) -> tuple[float, float]:
    """Return what lies within two deviations of the mean, of values that occur."""
    if "mean" not in band:
        return 0.0, 1.0
    low = max(band["minimum"], band["mean"] - 2 * band["stddev"])
    high = min(band["maximum"], band["mean"] + 2 * band["stddev"])
    return low, max(high, low + 1e-9)
