"""What is to do besides the maps, in a process of its own: retention, lists of products, metrics, notifications."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from crgen.batch.jobs.job import JobsFile
from crgen.batch.products.collection import update_collection
from crgen.batch.products.deliver import deliver_listing
from crgen.batch.products.index import write_index
from crgen.batch.products.prune import prune
from crgen.batch.schedule.state import State
from crgen.batch.tell.json_log import RunLogger, open_log
from crgen.batch.tell.metrics import Counts, write_metrics
from crgen.batch.tell.notify import Event, notify
from crgen.errors import CrgenError
from crgen.pipeline.product.outputs import Paths


def do_chores(file: JobsFile, events: Sequence[Event], name: str) -> None:
    """Take old products away, bring the lists of products and the metrics up to date, and tell people.

    What fails is logged, and holds up nothing.

    Args:
        file: the jobs file.
        events: what to tell people of.
        name: of the scheduler, for the log.
    """
    log = open_log(None if file.log is None or file.log.file == "-" else Path(file.log.file), name)
    for folder in sorted({Path(job.out) for job in file.job}):
        try:
            if folder.is_dir():
                if file.retention is not None:
                    _retain(folder, file, log)
                update_collection(folder)
                write_index(folder)
                if file.deliver is not None:
                    deliver_listing(folder, file.deliver.to, file.deliver.storage_options)
        except CrgenError as error:
            log.error(str(error))
    try:
        if file.metrics is not None:
            write_metrics(Path(file.metrics.textfile), counts_of(file))
    except CrgenError as error:
        log.error(str(error))
    if file.notify is not None:
        for event in events:
            notify(file.notify.urls, event)


def _retain(folder: Path, file: JobsFile, log: RunLogger) -> None:
    assert file.retention is not None
    state = State(file.state.url)
    unfinished = {Path(run["product"]) for run in state.runs() if run["status"] == "pending"}
    state.close()
    rules = file.retention
    for pruned in prune(folder, older_than=rules.older_than, max_size=rules.max_size, unfinished=unfinished):
        said = log.of(product=str(pruned.paths.reflectance), size=pruned.size, reason=pruned.reason)
        said.info(f"kept: {pruned.kept}" if pruned.kept else "taken away")


def counts_of(file: JobsFile) -> Counts:
    """Return what the state knows, for the metrics."""
    state = State(file.state.url)
    asked = {job.name for job in file.job}
    rows = {name: row for name, row in state.jobs().items() if name in asked}
    runs = [run for run in state.runs() if run["job"] in asked]
    state.close()
    done = {run["job"]: run for run in sorted(runs, key=lambda r: r["finished_at"] or 0) if run["status"] == "done"}
    return Counts(
        jobs=Counter(row["status"] for row in rows.values()),
        runs=Counter(run["status"] for run in runs),
        leases=sum(row["owner"] is not None for row in rows.values()),
        newest_product=max((run["finished_at"] for run in done.values()), default=None),
        last_success={name: row["changed_at"] for name, row in rows.items() if row["status"] == "done"},
        seconds={name: run["seconds"] for name, run in done.items()},
        windows={name: run["windows"] for name, run in done.items()},
        size={name: _size(Path(run["product"])) for name, run in done.items()},
    )


def _size(product: Path) -> int:
    return sum(path.stat().st_size for path in Paths(product).all if path.exists())
