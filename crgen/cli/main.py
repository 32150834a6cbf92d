"""`crgen`: the commands, and what happens when one fails."""

from __future__ import annotations

import contextlib
import logging
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from crgen.cli import fill, models, train
from crgen.cli.console import console
from crgen.errors import CrgenError

EXIT_CODES = """
Exit codes: 0 done · 1 unexpected error · 2 bad request or option · 3 area · 4 imagery · 5 weights · 6 output ·
7 source · 8 training · 130 interrupted.
"""

INTERRUPTED = 130

app = typer.Typer(
    help="Cloud-free optical maps from Sentinel-1 radar and cloudy Sentinel-2.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fill")(fill.fill)
app.command("train")(train.train)
app.command("evaluate")(train.evaluate)
app.add_typer(models.app, name="models")


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"crgen {version('crgen')}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback when something fails.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Cloud-free optical maps from Sentinel-1 radar and cloudy Sentinel-2."""
    if debug:
        logging.basicConfig(level=logging.DEBUG)


def main() -> None:
    """Run the command line and leave with a documented exit code."""
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False)
    except CrgenError as error:
        code = _failed(str(error), error.exit_code)
        if debug:
            raise
    except KeyboardInterrupt:
        code = _failed("interrupted; nothing half-written was left behind, run the same command again", INTERRUPTED)
    except typer.Abort:
        code = _failed("interrupted", INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            code = _failed(error.format_message(), error.exit_code)
        elif debug:
            raise
        else:
            code = _failed(
                f"unexpected {type(error).__name__}: {error}; this is a bug in crgen, run again with "
                "--debug before the command and report what it prints",
                1,
            )
    sys.stdout.flush()
    sys.exit(code or 0)


def _failed(message: str, code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    return code
