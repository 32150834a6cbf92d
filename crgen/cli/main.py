"""`crgen`: its commands, and the line and exit code when one fails."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Any

import typer

from crgen.cli import audit, batch, doctor, fill, models, pull, scenes, show, train, verify
from crgen.cli.console import console, note
from crgen.errors import CrgenError, CrgenWarning, RequestError

EXIT_CODES = """
Exit codes: 0 done · 1 unexpected error · 2 bad request or option · 3 area · 4 imagery · 5 weights · 6 output ·
7 source · 8 training · 9 some jobs of a batch failed · 10 all that were due failed · 11 another run of the batch ·
130 interrupted (Ctrl-C) · 143 terminated.
"""

app = typer.Typer(
    help="Cloud-free optical maps from Sentinel-1 radar and cloudy Sentinel-2.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("fill")(fill.fill)
app.command("show")(show.show)
app.command("audit")(audit.audit)
app.command("verify")(verify.verify)
app.command("scenes")(scenes.scenes)
app.command("pull")(pull.pull)
app.command("train")(train.train)
app.command("evaluate")(train.evaluate)
app.command("doctor")(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(batch.app, name="batch")


def _show_version(asked: bool) -> None:
    if asked:
        console.print(f"crgen {version('crgen')}")
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
    else:
        # Libraries and GDAL raise what they log; their warnings are not for users.
        logging.basicConfig(handlers=[logging.NullHandler()])
        os.environ.setdefault("CPL_LOG", os.devnull)
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print a warning of crgen's as a note, and any other as Python does."""
    if issubclass(category, CrgenWarning):
        note(str(message))
    else:
        _show_warning_as_python_does(message, category, *where, **more)


_show_warning_as_python_does = warnings.showwarning

STOPPING = (signal.SIGINT, signal.SIGTERM)
PATIENCE = 10.0
"""Seconds for which further signals to stop are ignored after one."""
_last_stop = -math.inf


class Interruption(BaseException):
    """A signal asked the process to stop; not a KeyboardInterrupt, which Typer would swallow."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


def main() -> None:
    """Run the command line, and exit with a documented code."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows no "×" gets "?"
    for number in STOPPING:
        signal.signal(number, _stop)
    try:
        _check_words(sys.argv[1:])
        code = app(standalone_mode=False) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        code = 1  # the reader of the output is gone
    except (Exception, Interruption) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        message, code = explain(error)
        with contextlib.suppress(OSError):
            print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # Discard what cannot be written, or Python would complain once more while it shuts down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


def _check_words(words: Iterable[str]) -> None:
    """Refuse words that are no text in the terminal's encoding: neither GDAL nor JSON can handle such names."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise RequestError(
                f"'{word.encode(errors='replace').decode()}' holds letters that are no text in this terminal's "
                f"encoding ({sys.getfilesystemencoding()}): set LC_ALL=C.UTF-8, or rename what it names"
            ) from None


def explain(error: BaseException) -> tuple[str, int]:
    """Return the line to print for an error, and the exit code."""
    kept = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, CrgenError):
        return "; ".join(filter(None, (str(error), kept))), error.exit_code
    if isinstance(error, Interruption):
        how = "interrupted" if error.signum == signal.SIGINT else "terminated"
        kept = kept or "nothing half-written was left behind, run the same command again"
        return f"{how}; {kept}", 128 + error.signum
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a wrong option, as Typer sees it
        return error.format_message(), error.exit_code
    if isinstance(error, MemoryError):
        return "the memory ran out; run again with a smaller --chunk or fewer --workers", 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; crgen --debug before the command shows where this happened", 1
    return (
        f"unexpected {type(error).__name__}: {error}; this is a bug in crgen, run again with "
        "--debug before the command and report what it prints",
        1,
    )


def _stop(signum: int, frame: FrameType | None) -> None:
    global _last_stop
    now = time.monotonic()
    # People press Ctrl-C twice, and launchers repeat it: that must not interrupt the cleaning up.
    if now - _last_stop > PATIENCE:
        _last_stop = now
        if waiting := sys.modules.get("crgen.gee.connection.retry"):
            waiting.INTERRUPTED.set()  # or threads that wait for Earth Engine would delay the exit
        raise Interruption(signum)
