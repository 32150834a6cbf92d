"""`crgen show`: look at a map."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from crgen.cli.console import console, note


def show(
    product: Annotated[Path, typer.Argument(help="The .tif of a product, its .json or its .html.")],
) -> None:
    """Open the page of a product in a browser: images to swipe between, water, error, quality and numbers.

    It is one file that needs no network: send it to others as it is.
    """
    from crgen.errors import OutputError
    from crgen.pipeline.product.outputs import Paths

    paths = Paths(product)
    if not paths.page.is_file():
        why = (
            f"{paths.page.name} is not beside it: it was removed, or crgen 0.1 made the product; make it again with "
            f"'crgen fill --manifest {paths.item.name} --out OUT.tif'"
            if paths.item.is_file()
            else "give a product that crgen made, by its .tif or its .json"
        )
        raise OutputError(f"cannot show {product}: {why}")
    console.print(str(paths.page))
    if not webbrowser.open(paths.page.absolute().as_uri()):
        note("there is no browser here: open that file in one, on any machine")
