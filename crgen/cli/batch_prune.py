"""`crgen batch prune`: old products taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crgen.cli.console import console


def prune(
    folder: Annotated[Path, typer.Argument(help="Folder of products; folders in it are looked through too.")],
    older_than: Annotated[
        str | None, typer.Option(help="Take away products made longer ago, e.g. 90d.", metavar="TIME")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Then the oldest until all fit, e.g. 200GB.", metavar="SIZE")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
) -> None:
    """Take away products, oldest first; never one that is being made or beside which NAME.pin stands.

    Where the folder has a collection.json, it and index.html are made anew.
    """
    from crgen.batch.dates import parse_duration
    from crgen.batch.prune import prune as take_away
    from crgen.batch.size import parse_size
    from crgen.errors import RequestError
    from crgen.pipeline.files import size_text

    if older_than is None and max_size is None:
        raise RequestError("say what is too old or too much: --older-than 90d, --max-size 200GB")
    try:
        age = None if older_than is None else parse_duration(older_than)
    except ValueError as error:
        raise RequestError(f"--older-than: {error}") from None
    try:
        limit = None if max_size is None else parse_size(max_size)
    except ValueError as error:
        raise RequestError(f"--max-size: {error}") from None
    judged = take_away(folder, older_than=age, max_size=limit, dry_run=dry_run)
    for pruned in judged:
        done = f"kept, {pruned.kept}" if pruned.kept else "would go" if dry_run else "gone"
        console.print(
            f"{pruned.paths.reflectance}: {size_text(pruned.size)}, {pruned.reason}: {done}",
            highlight=False,
            markup=False,
        )
    went = [pruned for pruned in judged if not pruned.kept]
    total = size_text(sum(pruned.size for pruned in went))
    noun = "product" if len(went) == 1 else "products"
    console.print(f"{len(went)} {noun}, {total} {'would go' if dry_run else 'gone'}", highlight=False)
