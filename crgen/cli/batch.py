"""`crgen batch`: scheduled jobs."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from crgen.cli.console import console, duration, print_table

T = TypeVar("T")
app = typer.Typer(help="Watch areas, and make a product of every new acquisition, once.", no_args_is_help=True)

PARTIAL, NONE = 9, 10
"""Exit codes of a run in which some, or all, of the jobs that were due are not done."""

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
JobsPath = Annotated[Path, typer.Argument(help="The jobs file, TOML.", metavar="JOBS.toml")]


@app.command()
def prune(
    folder: Annotated[Path, typer.Argument(help="Folder of products; subfolders are looked through too.")],
    older_than: Annotated[
        str | None, typer.Option(help="Remove products made longer ago, e.g. 90d.", metavar="TIME")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Then the oldest until all fit, e.g. 200GB.", metavar="SIZE")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove products, oldest first; never one that is being made or beside which NAME.pin stands.

    Where the folder has a collection.json, it and index.html are written anew.
    """
    from crgen.batch.jobs.values import parse_duration, parse_size
    from crgen.batch.products.prune import prune as remove_products
    from crgen.errors import RequestError
    from crgen.files import size_text

    if older_than is None and max_size is None:
        raise RequestError("say what is too old or too much: --older-than 90d, --max-size 200GB")
    age, limit = _parsed("--older-than", parse_duration, older_than), _parsed("--max-size", parse_size, max_size)
    judged = remove_products(folder, older_than=age, max_size=limit, dry_run=dry_run)
    gone = "would be removed" if dry_run else "removed"
    for pruned in judged:
        done = f"kept, {pruned.kept}" if pruned.kept else gone
        console.print(f"{pruned.paths.reflectance}: {size_text(pruned.size)}, {pruned.reason}: {done}")
    sizes = [pruned.size for pruned in judged if not pruned.kept]
    console.print(f"{len(sizes)} product{'' if len(sizes) == 1 else 's'}, {size_text(sum(sizes))} {gone}")


def _parsed(flag: str, parse: Callable[[str], T], text: str | None) -> T | None:
    """Return the value of an option, None if it is not given; a text that ``parse`` refuses is a RequestError."""
    from crgen.errors import RequestError

    try:
        return None if text is None else parse(text)
    except ValueError as error:
        raise RequestError(f"{flag}: {error}") from None


@app.command()
def run(
    jobs: JobsPath,
    watch: Annotated[
        str | None, typer.Option(help="Do not end: look for new acquisitions so often, e.g. 15m.", metavar="TIME")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed for good, or came too late.")
    ] = False,
) -> None:
    """Do all jobs that are due, then end; for cron, systemd timers and the like.

    A job that fails for a passing reason is tried again later, by this command or by a later one. Exit code 0: all that
    was due is done; 9: some is not; 10: nothing is; 11: another run works on the file.
    """
    from crgen.batch.jobs.values import parse_duration
    from crgen.batch.schedule.scheduler import Scheduler

    poll = _parsed("--watch", parse_duration, watch)
    seconds = None if poll is None else poll.total_seconds()
    summary = Scheduler(jobs, tell=_say, poll=seconds, retry_failed=retry_failed).run()
    if summary.failures:
        raise typer.Exit(PARTIAL if summary.counts["done"] else NONE)


@app.command()
def check(jobs: JobsPath) -> None:
    """Check a jobs file and everything it names; prints a line, with its number, for every error."""
    from crgen.batch.check import problems_of
    from crgen.errors import RequestError

    found, problems = problems_of(jobs)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr, flush=True)
    if problems:
        raise typer.Exit(RequestError.exit_code)
    console.print(f"{jobs}: {len(found)} job{'s' if len(found) > 1 else ''}, all well")


@app.command()
def plan(jobs: JobsPath, as_json: AsJson = False) -> None:
    """Say what would run now and what it would cost; makes nothing."""
    from crgen.batch.dry_run import plan_jobs
    from crgen.files import size_text

    planned = plan_jobs(jobs)
    if as_json:
        _print_json([asdict(one) for one in planned])
        return
    rows = [("job", "t1", "t2", "pixels", "windows", "time", "requests", "download", "EECU-h", "what")]
    for one in planned:
        cost = (f"{one.pixels:,}", f"{one.windows:,}", duration(one.seconds)) if one.windows else ("", "", "")
        compute = "not known yet" if one.eecu_hours is None else f"{one.eecu_hours:.2g}"
        asked = (f"{one.requests:,}", size_text(one.download), compute) if one.requests else ("", "", "")
        rows.append((one.job, str(one.t1 or ""), str(one.t2 or ""), *cost, *asked, one.what))
    print_table(rows)
    due = [one for one in planned if one.windows]
    windows, seconds = sum(one.windows for one in due), sum(one.seconds for one in due)
    console.print(f"{len(due)} of {len(planned)} jobs would run: {windows:,} windows, about {duration(seconds)} in all")


@app.command()
def status(jobs: JobsPath, as_json: AsJson = False) -> None:
    """Say what became of every job."""
    from crgen.batch.jobs.jobs_file import read_jobs
    from crgen.batch.schedule.journal import Journal, is_scheduled, journal_of

    file, scheduled = read_jobs(jobs), is_scheduled(jobs)
    with Journal(journal_of(jobs), look_only=True) as journal:
        rows, runs = journal.jobs(), journal.runs()
    states = []
    for job in file.job:
        row: Any = rows.get(job.name, {})
        mine = [run for run in runs if run["job"] == job.name and run["status"] != "dropped"]
        last: Any = mine[-1] if mine else {}
        status = row.get("status", "new")
        state = {
            "job": job.name,
            "status": "stopped" if status == "running" and not scheduled else status,
            "reason": row.get("reason", ""),
            "attempts": row.get("attempts", 0),
            "retry_at": _moment(row.get("retry_at")),
            "changed_at": _moment(row.get("changed_at")),
            "t1": last.get("t1"),
            "t2": last.get("t2"),
            "product": row.get("product"),
            "products": sum(run["status"] == "done" for run in mine),
            "log": row.get("log"),
        }
        states.append(state)
    if as_json:
        _print_json(states)
        return
    lines = [("job", "status", "t2", "products", "since (UTC)", "more")]
    for one in states:
        retry = f"attempt {one['attempts'] + 1} after {one['retry_at']}: " if one["status"] == "retry" else ""
        more = retry + str(one["reason"] or one["product"] or "")
        lines.append((one["job"], one["status"], one["t2"] or "", str(one["products"]), one["changed_at"] or "", more))
    print_table(lines)


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1, default=str))


def _say(kind: str, **details: Any) -> None:
    """Print an event of the scheduler in a line."""
    text = ", ".join(f"{name} {value}" for name, value in details.items() if name not in ("job", "run") and value)
    moment = datetime.datetime.now(datetime.UTC).strftime("%H:%M:%SZ")
    print(f"{moment} {details.get('job', '')}: {kind}{'; ' if text else ''}{text}", file=sys.stderr, flush=True)
