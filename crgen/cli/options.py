"""Options of a fill on the command line: made from the fields that declare them."""

from __future__ import annotations

import datetime
import functools
import inspect
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crgen.pipeline.request import EarthEngine, options_of

if TYPE_CHECKING:
    from crgen.gee.fetch.arrays import Pull
    from crgen.pipeline.source.imagery import Scene

AS_TEXT: dict[Any, Any] = {datetime.date | None: str | None, tuple[str, ...] | None: str | None}
"""Types that the command line takes as text; :func:`~crgen.pipeline.request.read` reads it."""


def takes(*kinds: type, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that dataclasses declare; it is called with those that a person named, by field."""
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


def fetching(pull: Pull, kept: int) -> dict[str, str]:
    """Return what a dry run says of fetching tiles, of which ``kept`` are on disk, by heading."""
    from crgen.files import size_text

    requests = len(pull) - kept
    return {
        "tiles": f"{len(pull):,} of up to {pull.side} × {pull.side} px, {kept:,} here already",
        "requests": f"{requests:,} for pixels, {pull.settings.concurrency} at once at most",
        "download": f"{size_text(pull.bytes * requests / len(pull))} uncompressed, kept in {pull.folder}",
    }


def past_line(scene: Scene) -> str:
    """Return what a dry run says of the other looks at the place; empty where there are none."""
    from crgen.files import size_text
    from crgen.pipeline.source.stack import past_days

    days = past_days(scene.stack)
    if not days:
        return ""
    text = f"{len(days)} looks from {days[0]} to {days[-1]}"
    if scene.lessons is None or scene.pull is None:
        return text
    weights = [layer.dtype.itemsize for layer in scene.pull.layers]
    copied = [w for w, layer in zip(weights, scene.pull.layers, strict=True) if not layer.name.endswith(("_t1", "_t2"))]
    requests = len(scene.lessons) + len(scene.pull) * len(copied) // len(weights)
    size = scene.lessons.bytes + scene.pull.bytes * sum(copied) // sum(weights)
    return f"{text}, {len(copied)} of them fetched whole; adds {requests:,} requests, {size_text(size)}"
