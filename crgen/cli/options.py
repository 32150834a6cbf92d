"""Options about Earth Engine that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from crgen.gee.fetch.arrays import Pull

PANEL = "Earth Engine"

Project = Annotated[
    str | None,
    typer.Option(help="Cloud project. (EE_PROJECT_ID, or what the credentials say)", rich_help_panel=PANEL),
]
Credentials = Annotated[
    Path | None,
    typer.Option(help="Service account's JSON key. (what 'earthengine authenticate' stored)", rich_help_panel=PANEL),
]
SearchDays = Annotated[
    int, typer.Option(help="Days around a date within which acquisitions serve it.", rich_help_panel=PANEL)
]
ObservedDays = Annotated[
    int,
    typer.Option(help="Days around t2 within which an optical image counts as observed.", rich_help_panel=PANEL),
]
MinCoverage = Annotated[
    float,
    typer.Option(help="Share of the area that radar, and the optical image of t1, must cover.", rich_help_panel=PANEL),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Do not keep fetched tiles for later runs.", rich_help_panel=PANEL)
]


def fetching(pull: Pull, kept: int) -> dict[str, str]:
    """Return what a dry run says of fetching tiles, of which ``kept`` are on disk, by heading."""
    from crgen.files import size_text

    requests = len(pull) - kept
    return {
        "tiles": f"{len(pull):,} of up to {pull.side} × {pull.side} px, {kept:,} here already",
        "requests": f"{requests:,} for pixels, {pull.settings.concurrency} at once at most",
        "download": f"{size_text(pull.bytes * requests / len(pull))} uncompressed, kept in {pull.folder}",
    }


def was_named(context: typer.Context, option: str) -> bool:
    """Say whether a person named an option, so that its value is not just the default."""
    origin = context.get_parameter_source(option)
    return origin is not None and origin.name == "COMMANDLINE"
