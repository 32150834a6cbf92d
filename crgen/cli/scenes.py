"""`crgen scenes`: which acquisitions would serve an area and two dates, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crgen.cli.console import console, note, print_table
from crgen.cli.options import takes
from crgen.pipeline.request import EarthEngine, parse_bands, parse_date

if TYPE_CHECKING:
    from crgen.gee.choose.choice import Candidate
    from crgen.gee.choose.passes import Pass

HEAD = ("for", "taken", "day", "days", "from", "orbit", "area", "clear", "by", "scenes", "why not")


@takes(EarthEngine, without=("keep_tiles",))
def scenes(
    aoi: Annotated[str, typer.Option(help="Area: GeoJSON or other vector file, or west,south,east,north in degrees.")],
    t2: Annotated[str, typer.Option(help="Day to map, YYYY-MM-DD.")],
    t1: Annotated[str | None, typer.Option(help="Day of the earlier images, YYYY-MM-DD. (none: t2 alone)")] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of the area's file, where several hold polygons.")] = None,
    weights: Annotated[str, typer.Option(help="Whose bands are needed.")] = "base",
    bands: Annotated[
        str | None, typer.Option(help="Sentinel-2 bands to make of them, as 'crgen fill' takes them.")
    ] = None,
    crs: Annotated[str | None, typer.Option(help="Grid, e.g. EPSG:32650. (the area's UTM zone)")] = None,
    picture: Annotated[Path | None, typer.Option(help="A .png of the footprints to make.")] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="A .json with the choice to make, for 'crgen fill --manifest'.")
    ] = None,
    **earth_engine: Any,
) -> None:
    """Choose acquisitions from Earth Engine; fetches no pixels.

    Prints every candidate, whether it was taken, and why not; then coverage, clear share and notes. Column 'by' names
    the source of the clear share: 'score' is Cloud Score+, over the area; 'scene' the metadata, of the whole scene.
    """
    from crgen.errors import OutputError
    from crgen.files import check_writable, write_whole
    from crgen.gee.choose.find import refuse_shortfall
    from crgen.pipeline.source.area import with_layer
    from crgen.pipeline.source.channels import channels_of
    from crgen.pipeline.source.earthengine.scenes import scenes_for, wanted_of
    from crgen.pipeline.source.earthengine.settings import connection_settings, rules_of

    for path, ending in ((picture, ".png"), (manifest, ".json")):
        if path is not None:
            if path.suffix.lower() != ending:
                raise OutputError(f"'{path}' must end in {ending}")
            check_writable(path.parent)
    options = EarthEngine(**earth_engine)
    channels = channels_of(weights, parse_bands(bands))
    days = {"t1": parse_date(t1, "t1"), "t2": parse_date(t2, "t2")}
    area, wanted = wanted_of(channels, aoi=with_layer(aoi, layer), crs=crs, alone=True, **days)
    choice = scenes_for(options, channels, area, wanted, strict=False)
    if choice.candidates:
        print_table([HEAD, *(row(candidate) for candidate in choice.candidates)])
    for name, share in choice.manifest.coverage.items():
        text = f"{name}: {100 * share:.1f} % of the area" if share else f"{name}: none"
        text += clear_text([c.overpass for c in choice.candidates if c.taken and c.variable == name])
        console.print(text)
    for text in (*area.notes, *choice.manifest.notes):
        note(text)
    if picture is not None:
        from crgen.gee.footprints import draw_footprints  # Matplotlib takes a second to load

        draw_footprints(picture, choice)
    refuse_shortfall(connection_settings(options), choice, rules_of(options))
    if manifest is not None:
        write_whole(manifest, choice.manifest.to_json().encode())
    for path in filter(None, (picture, manifest)):
        console.print(str(path))


def clear_text(taken: Sequence[Pass]) -> str:
    """Return the clear share of the passes taken for a variable, with its source; empty if it is unknown."""
    known = [(overpass.clear, overpass.coverage) for overpass in taken if overpass.clear is not None]
    if not known:
        return ""
    share = sum(clear * coverage for clear, coverage in known) / sum(coverage for _, coverage in known)
    sources = {by for overpass in taken for by in overpass.clear_by}
    names = {"score": "Cloud Score+", "scene": "the scenes' metadata"}
    return f", {100 * share:.0f} % clear by {' and '.join(names[by] for by in names if by in sources)}"


def row(candidate: Candidate) -> tuple[str, ...]:
    """Return the cells of a candidate, in the order of :data:`HEAD`."""
    overpass, first = candidate.overpass, candidate.overpass.first
    return (
        candidate.variable,
        "yes" if candidate.taken else "no",
        first.day.isoformat(),
        str(candidate.days_apart),
        first.platform,
        f"{first.relative_orbit} {first.direction.lower()}",
        f"{100 * overpass.coverage:.1f} %",
        "" if overpass.clear is None else f"{100 * overpass.clear:.0f} %",
        "both" if len(overpass.clear_by) > 1 else "".join(overpass.clear_by),
        str(len(overpass.scenes)),
        candidate.why,
    )
