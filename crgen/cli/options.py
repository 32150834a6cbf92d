"""Options of a fill on the command line, made from the dataclasses that declare them; and lines of dry runs."""

from __future__ import annotations

import datetime
import functools
import inspect
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crgen.pipeline.request import EarthEngine, options_of

if TYPE_CHECKING:
    import xarray as xr

    from crgen.gee.fetch.arrays import Pull

AS_TEXT: dict[Any, Any] = {datetime.date | None: str | None, tuple[str, ...] | None: str | None}
"""Types that the command line takes as text, for :func:`~crgen.pipeline.request.read` to parse."""


def takes(*kinds: type, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that dataclasses declare to a command; it gets those that were given, by the field's name."""
    declared = [(f, t, kind) for kind in kinds for f, t in options_of(kind) if f.name not in without]
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for f, type_, kind in declared:
        flag = f.metadata["flag"] or "--" + f.name.replace("_", "-")
        panel = "Earth Engine" if kind is EarthEngine else None
        described = typer.Option(flag, help=f.metadata["help"], rich_help_panel=panel)
        parameters.append(
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=False if type_ is bool else f.default,
                annotation=Annotated[AS_TEXT.get(type_, type_), described],
            )
        )

    def give(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()

        @functools.wraps(command)
        def call(context: typer.Context, **values: Any) -> None:
            for f, *_ in declared:
                value, origin = values.pop(f.name), context.get_parameter_source(f.name)
                if origin is not None and origin.name == "COMMANDLINE":
                    values[f.name] = False if f.default is True else value
            command(**values)

        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*parameters, *(p.replace(kind=p.KEYWORD_ONLY) for p in own if p.kind != p.VAR_KEYWORD)]
        )
        return call

    return give


def fetching(pulls: Sequence[Pull]) -> dict[str, str]:
    """Return the fields of a dry run about tiles to fetch; empty without any."""
    from crgen.files import size_text
    from crgen.gee.fetch.compute import compute_text

    if not pulls:
        return {}
    missing = [job for pull in pulls for job in pull.missing()]
    compute = pulls[0].fetcher.meter.estimate((job.layer, job.tile) for job in missing)
    tiles, side, settings = sum(map(len, pulls)), pulls[0].tiling.side, pulls[0].settings
    return {
        "tiles": f"{tiles:,} of up to {side} × {side} px, {tiles - len(missing):,} here already",
        "requests": f"{len(missing):,} for pixels, {settings.concurrency} at once at most",
        "download": f"{size_text(sum(job.bytes for job in missing))} uncompressed, kept in {pulls[0].folder}",
        "compute": compute_text(compute) if missing else "",
    }


def past_line(stack: xr.Dataset, whole: Pull | None = None, lessons: Pull | None = None) -> str:
    """Return the line of a dry run about earlier images of the place; empty without any.

    Args:
        stack: the Stack.
        whole: the tiles of the whole area; None for a local stack.
        lessons: the tiles from which the past is learned; None for a local stack.
    """
    from crgen.files import size_text
    from crgen.pipeline.source.stack import past_days

    days = past_days(stack)
    if not days:
        return ""
    text = f"{len(days)} looks from {days[0]} to {days[-1]}"
    if whole is None or lessons is None:
        return text
    copied = [layer.dtype.itemsize for layer in whole.layers if not layer.name.endswith(("_t1", "_t2"))]
    requests = len(lessons) + len(whole) * len(copied) // len(whole.layers)
    size = lessons.bytes + whole.bytes * sum(copied) // sum(layer.dtype.itemsize for layer in whole.layers)
    return f"{text}, {len(copied)} of them fetched whole; {requests:,} of the tiles, {size_text(size)}"


def water_line(water: Pull | None, when: str) -> str:
    """Return the line of a dry run about tiles of water occurrence, which are fetched ``when``; empty without any."""
    from crgen.files import size_text

    if water is None:
        return ""
    tiles = len(water.missing())
    return f"up to {tiles:,} tiles ({size_text(water.bytes)}) {when}, of how often there was water (JRC)"
