"""What follows the maps, in a process of its own: retention, lists of products, metrics, news to people, audits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from crgen.batch.jobs.job import JobsFile
from crgen.batch.products.audits import audit_products
from crgen.batch.products.collection import update_collection
from crgen.batch.products.deliver import deliver_listing
from crgen.batch.products.index import write_index
from crgen.batch.products.prune import prune
from crgen.batch.schedule import ledger
from crgen.batch.schedule.journal import Journal, journal_of
from crgen.batch.tell.json_log import RunLogger, open_log
from crgen.batch.tell.metrics import Counts, write_metrics
from crgen.batch.tell.notify import Event, notify
from crgen.errors import CrgenError, SourceError
from crgen.pipeline.product.outputs import Paths

TELL_FOR = 7 * 86400.0
"""Seconds after which who could not be reached is not tried any more."""
AUDIT_PATIENCE = 20.0
"""Seconds after which an audit gives up on Earth Engine: it can wait, and who started the batch waits for its end."""


def look_after(jobs: Path, file: JobsFile, changes: int) -> None:
    """Take old products away, bring lists and metrics up to date, tell people, and score maps.

    What fails is logged, holds up nothing, and is done again next time; the journal says what is owed.

    Args:
        jobs: the jobs file.
        file: what it says.
        changes: how often the journal had changed when this was begun.
    """
    log = open_log(None if file.log is None or file.log.file == "-" else Path(file.log.file), "afterwards")
    with Journal(journal_of(jobs)) as journal:
        well = True
        for folder in sorted({Path(job.out) for job in file.job}):
            try:
                _list(folder, file, journal, log)
            except CrgenError as error:
                log.error(str(error))
                well = False
        try:
            if file.metrics is not None:
                write_metrics(Path(file.metrics.textfile), counts_of(file, journal))
        except CrgenError as error:
            log.error(str(error))
            well = False
        if well:
            journal.listed(changes)
        if file.notify is not None:
            _tell(file.notify.urls, journal)
        _audit(file, log)


def _audit(file: JobsFile, log: RunLogger) -> None:
    """Score maps of Earth Engine against what has come since; where it is away, all of them next time."""
    for job in file.job:
        if job.source != "gee":
            continue
        options = replace(job.earth_engine(), patience=AUDIT_PATIENCE)
        try:
            for product, result in audit_products(Path(job.out) / job.name, options, ledger.today()):
                said = log.of(job=job.name, product=str(product))
                said.error(result) if isinstance(result, str) else said.info(f"audited {result.line}")
        except CrgenError as error:
            log.error(str(error))
            if isinstance(error, SourceError) and error.transient:
                return


def _list(folder: Path, file: JobsFile, journal: Journal, log: RunLogger) -> None:
    if not folder.is_dir():
        return
    if (rules := file.retention) is not None:
        unfinished = {Path(run["product"]) for run in journal.runs() if run["status"] == "pending"}
        for pruned in prune(folder, older_than=rules.older_than, max_size=rules.max_size, unfinished=unfinished):
            said = log.of(product=str(pruned.paths.reflectance), size=pruned.size, reason=pruned.reason)
            said.info(f"kept: {pruned.kept}" if pruned.kept else "taken away")
    update_collection(folder)
    write_index(folder)
    if file.deliver is not None:
        deliver_listing(folder, file.deliver.to, file.deliver.storage_options)


def _tell(urls: list[str], journal: Journal) -> None:
    """Tell everybody who was not told yet: at least once, for who dies between telling and noting tells again."""
    for message in journal.untold():
        title = f"crgen: {message['job']} {message['kind']}"
        body = f"{message['body']}\n\nmessage {message['id']}"
        picture = Path(message["picture"]) if message["picture"] else None
        told = notify(urls, Event(message["kind"], message["job"], title, body, picture), message["told"])
        late = ledger.utc() > message["made_at"] + TELL_FOR
        journal.told(message["id"], told, over=late or len(told) >= len(urls))


def counts_of(file: JobsFile, journal: Journal) -> Counts:
    """Return what the journal knows, for the metrics."""
    asked = {job.name for job in file.job}
    rows = {name: row for name, row in journal.jobs().items() if name in asked}
    runs = [run for run in journal.runs() if run["job"] in asked]
    done = {run["job"]: run for run in sorted(runs, key=lambda r: r["finished_at"] or 0) if run["status"] == "done"}
    return Counts(
        jobs=Counter(row["status"] for row in rows.values()),
        runs=Counter(run["status"] for run in runs),
        newest_product=max((run["finished_at"] for run in done.values()), default=None),
        last_success={name: row["changed_at"] for name, row in rows.items() if row["status"] == "done"},
        seconds={name: run["seconds"] for name, run in done.items()},
        windows={name: run["windows"] for name, run in done.items()},
        size={
            name: sum(p.stat().st_size for p in Paths(Path(r["product"])).all if p.exists()) for name, r in done.items()
        },
    )
