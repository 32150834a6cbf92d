"""`crgen audit`: score a map against a later image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crgen.cli.console import console, note
from crgen.cli.options import takes
from crgen.pipeline.request import EarthEngine


@takes(EarthEngine, without=("observed_days", "min_coverage", "radar_not_before"))
def audit(
    product: Annotated[Path, typer.Argument(help="The .tif of a product, or its .json.")],
    against: Annotated[
        Path | None,
        typer.Option(
            help="A stack, e.g. of 'crgen pull', with the map's t2 as t1 and a later clear day as t2. (the clearest "
            "day that Earth Engine has by now)"
        ),
    ] = None,
    s1_units: Annotated[Literal["dB", "linear"], typer.Option(help="Unit of the stack's backscatter.")] = "dB",
    s2_scale: Annotated[float, typer.Option(help="Factor from the stack's Sentinel-2 values to reflectance.")] = 1.0,
    s2_offset: Annotated[float, typer.Option(help="Added after that factor; see 'crgen fill'.")] = 0.0,
    clear_threshold: Annotated[float, typer.Option(help="Clear-sky score from which a pixel counts as clear.")] = 0.6,
    **earth_engine: Any,
) -> None:
    """Score a map against a clear Sentinel-2 image of 1 to 20 days later, over ground whose radar stayed.

    The result stands beside the Item as NAME_audit.json, and as a line in the folder's track_record.csv.
    """
    from crgen.pipeline.audit import audit as score

    found = score(
        product,
        against,
        s1_units=s1_units,
        s2_scale=s2_scale,
        s2_offset=s2_offset,
        clear_threshold=clear_threshold,
        earth_engine=EarthEngine(**earth_engine),
    )
    for text in found.notes:
        note(text)
    console.print(found.line)
    console.print(str(found.path))
