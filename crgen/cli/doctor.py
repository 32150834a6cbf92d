"""`crgen doctor`: check what a map needs, and say how to get what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from crgen.cli.console import console
from crgen.cli.options import takes
from crgen.pipeline.request import EarthEngine

ENOUGH = 5e9
"""Free bytes below which a disk counts as low."""


@takes(EarthEngine, without=("search_days", "observed_days", "min_coverage", "radar_not_before", "keep_tiles"))
def doctor(**earth_engine: Any) -> None:
    """Check everything 'crgen fill' needs: Earth Engine, the device to compute on, and room on the disks.

    Exit code 7 if Earth Engine cannot be used or its tiles cannot be kept; the lines above say what to do.
    """
    from crgen.errors import OutputError
    from crgen.files import check_writable, free_space, size_text
    from crgen.gee.doctor import examine
    from crgen.gee.fetch.cache import TileCache, default_folder
    from crgen.model.device import pick_device
    from crgen.pipeline.source.earthengine.settings import connection_settings

    usable = True
    for check in examine(connection_settings(EarthEngine(**earth_engine))):
        usable &= check.ok
        _say("ok" if check.ok else "missing", check.name, check.text)
    device = pick_device("auto")
    if device == "cpu":
        _say("slow", "device", "no GPU that PyTorch can use: maps are made on the CPU, some windows a second")
    else:
        _say("ok", "device", device)
    cache = default_folder()
    for name, folder in (("disk", Path.cwd()), ("tiles", cache)):
        try:
            check_writable(folder)
        except OutputError as error:
            usable &= folder != cache
            advice = ", with CRGEN_CACHE" if folder == cache else ""
            _say("missing", name, f"{error}{advice}")
            continue
        free = free_space(folder)
        kept = f", {size_text(TileCache(cache).size())} of tiles kept there" if folder == cache else ""
        advice = "" if free > ENOUGH else "; little room: free some, or set CRGEN_CACHE to another disk"
        _say("ok" if free > ENOUGH else "low", name, f"{size_text(free)} free in {folder}{kept}{advice}")
    if not usable:
        raise typer.Exit(7)


def _say(state: str, name: str, text: str) -> None:
    console.print(f"{state:8} {name:12} {text}")
