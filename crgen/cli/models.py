"""`crgen models`: list weights, and show their cards."""

from __future__ import annotations

from typing import Annotated

import typer

from crgen.cli.console import console

app = typer.Typer(help="List trained weights and show their cards.", invoke_without_command=True)


@app.callback()
def models(context: typer.Context) -> None:
    """List the weights that are shipped with crgen, and those in the cache folder."""
    if context.invoked_subcommand is not None:
        return
    from crgen.errors import WeightsError
    from crgen.model.find import SHIPPED, cache_folder, known_weights, read_card

    for name, path in known_weights().items():
        origin = "shipped" if path.parent == SHIPPED else "cached"
        try:
            card = read_card(path)
        except WeightsError as error:
            console.print(f"{name:16} {origin:8} cannot be used: {error}")
            continue
        channels = f"{'/'.join(card.config.pols)} + {'/'.join(card.config.bands)}"
        size = path.stat().st_size / 1e6
        console.print(f"{name:16} {origin:8} {size:5.1f} MB  {channels}  {card.trained_on}")
    console.print(f"more weights go into {cache_folder()}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name or path of the weights.")]) -> None:
    """Print the card of some weights as JSON."""
    from crgen.model.find import find_weights, read_card

    console.print_json(read_card(find_weights(name)).model_dump_json())
