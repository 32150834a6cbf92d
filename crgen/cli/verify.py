"""`crgen verify`: check a product's files against their digests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from crgen.cli.console import console, note


def verify(
    product: Annotated[Path, typer.Argument(help="The .tif of a product, or its .json.")],
) -> None:
    """Check a product's files, byte by byte, against the digests in its STAC Item.

    Finds truncation, missing tiles and flipped bits, and says where. Exit code 6 if there are any.
    """
    from crgen.errors import OutputError
    from crgen.pipeline.verify import verify as check

    damaged = False
    for path, problems, said in check(product):
        if said:
            note(f"{path}: {said}")
        elif not problems:
            console.print(f"{path}: whole")
        for problem in problems:
            damaged = True
            print(f"error: {path}: {problem}", file=sys.stderr, flush=True)
    if damaged:
        raise typer.Exit(OutputError.exit_code)
