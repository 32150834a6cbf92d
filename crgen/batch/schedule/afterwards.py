"""What follows finished products, in a process of its own: retention, listings, metrics, notifications, audits."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from crgen.batch.jobs.job import JobsFile
from crgen.batch.products.audits import audit_products
from crgen.batch.products.collection import write_listing
from crgen.batch.products.deliver import deliver_listing
from crgen.batch.products.prune import prune
from crgen.batch.schedule import ledger
from crgen.batch.schedule.journal import Journal, journal_of
from crgen.batch.tell.json_log import ROOT, open_log
from crgen.batch.tell.metrics import write_metrics
from crgen.batch.tell.notify import notify
from crgen.errors import CrgenError, SourceError

NOTIFY_FOR = 7 * 86400.0
"""Seconds for which sending a message is tried again."""
AUDIT_PATIENCE = 20.0
"""Seconds after which an audit gives up on Earth Engine: audits can wait, but the end of the batch waits for them."""


def look_after(jobs: Path, file: JobsFile, changes: int) -> None:
    """Remove old products, bring listings and metrics up to date, send messages, and audit products.

    What fails is logged, stops nothing else, and is tried again next time: the journal tells what is owed.

    Args:
        jobs: the jobs file.
        file: its content.
        changes: the journal's count of changes when this began.
    """
    if file.log is not None:
        log = open_log(file.log.file, "afterwards")
    else:
        logging.basicConfig(format="%(message)s")  # to standard error
        log = logging.getLogger(ROOT)
        log.setLevel(logging.INFO)
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
                asked = {job.name for job in file.job}
                rows = {name: row for name, row in journal.jobs().items() if name in asked}
                write_metrics(Path(file.metrics.textfile), rows, [r for r in journal.runs() if r["job"] in asked])
        except CrgenError as error:
            log.error(str(error))
            well = False
        if well:
            journal.listed(changes)
        if file.notify is not None:
            _notify(file.notify.urls, journal)
        _audit(file, log)


def _list(folder: Path, file: JobsFile, journal: Journal, log: logging.Logger) -> None:
    """Apply the retention to a folder of products, and list what stays."""
    if not folder.is_dir():
        return
    if (rules := file.retention) is not None:
        unfinished = {Path(run["product"]) for run in journal.runs() if run["status"] == "pending"}
        for pruned in prune(folder, older_than=rules.older_than, max_size=rules.max_size, unfinished=unfinished):
            fields = {"product": str(pruned.paths.reflectance), "size": pruned.size, "reason": pruned.reason}
            done = f"kept: {pruned.kept}" if pruned.kept else "removed"
            log.info(f"{pruned.paths.reflectance.name} {done}", extra=fields)
    write_listing(folder)
    if file.deliver is not None:
        deliver_listing(folder, file.deliver.to, file.deliver.storage_options)


def _notify(urls: list[str], journal: Journal) -> None:
    """Send the messages that are owed, each at least once: a process killed after sending sends it again."""
    for message in journal.untold():
        title = f"crgen: {message['job']} {message['kind']}"
        body = f"{message['body']}\n\nmessage {message['id']}"
        picture = Path(message["picture"]) if message["picture"] else None
        told = notify(urls, message["kind"], title, body, picture=picture, told=message["told"])
        late = ledger.utc() > message["made_at"] + NOTIFY_FOR
        journal.told(message["id"], told, over=late or len(told) >= len(urls))


def _audit(file: JobsFile, log: logging.Logger) -> None:
    """Score products of Earth Engine against later images; while the service is away, all of them next time."""
    for job in file.job:
        if job.source != "gee":
            continue
        options = replace(job.earth_engine(), patience=AUDIT_PATIENCE)
        try:
            for product, result in audit_products(Path(job.out) / job.name, options, ledger.today()):
                fields = {"job": job.name, "product": str(product)}
                if isinstance(result, str):
                    log.error(result, extra=fields)
                else:
                    log.info(f"audited {result.line}", extra=fields)
        except CrgenError as error:
            log.error(str(error))
            if isinstance(error, SourceError) and error.transient:
                return
