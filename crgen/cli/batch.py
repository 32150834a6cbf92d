"""`crgen batch`: scheduled jobs."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from crgen.cli import batch_prune

app = typer.Typer(help="Watch areas, and turn every new acquisition into a product once.", no_args_is_help=True)
app.command("prune")(batch_prune.prune)

PARTIAL, NONE = 9, 10
"""Exit codes of a run in which some, or all, of the jobs that were due are not done."""

JobsPath = Annotated[Path, typer.Argument(help="The jobs file, TOML.", metavar="JOBS.toml")]


@app.command()
def run(
    jobs: JobsPath,
    watch: Annotated[
        str | None, typer.Option(help="Do not end: look for new acquisitions so often, e.g. 15m.", metavar="TIME")
    ] = None,
) -> None:
    """Do all jobs that are due, then end; for cron, systemd timers and the like.

    A job that fails for a passing reason waits and is tried again, by this command or by a later one. Exit code 0: all
    that was due is done; 9: some is not; 10: nothing is.
    """
    from crgen.batch.dates import parse_duration
    from crgen.batch.scheduler import Scheduler, forkserver

    poll = None
    if watch is not None:
        try:
            poll = parse_duration(watch).total_seconds()
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--watch") from None
    summary = Scheduler(jobs, tell=_say, poll=poll, processes=forkserver("crgen.cli")).run()
    if summary.failures:
        raise typer.Exit(PARTIAL if summary.counts["done"] else NONE)


def _say(kind: str, **details: Any) -> None:
    text = ", ".join(f"{name} {value}" for name, value in details.items() if name != "job" and value)
    moment = datetime.datetime.now(datetime.UTC).strftime("%H:%M:%SZ")
    print(f"{moment} {details.get('job', '')}: {kind}{'; ' if text else ''}{text}", file=sys.stderr, flush=True)
