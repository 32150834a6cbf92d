"""Metrics in Prometheus' text format, for node_exporter's textfile collector.

Ages are left to the query, which knows the time: ``time() - crgen_newest_product_timestamp_seconds``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crgen.errors import OutputError, RequestError
from crgen.pipeline.product.outputs import Paths


def write_metrics(path: Path, jobs: Mapping[str, Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> None:
    """Write the metrics atomically.

    Args:
        path: a ``.prom`` file in the folder that node_exporter's textfile collector reads.
        jobs: rows of the journal's jobs, by name.
        runs: rows of the journal's runs of these jobs.

    Raises:
        OutputError: if it cannot be written; an older file then stays as it was.
        RequestError: if the extra ``batch`` is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile
    except ImportError:
        raise RequestError("metrics need prometheus-client: pip install 'crgen[batch]'") from None
    registry = CollectorRegistry()

    def gauge(name: str, about: str, values: Mapping[str, float], label: str) -> None:
        made = Gauge(f"crgen_{name}", about, [label], registry=registry)
        for of, value in values.items():
            made.labels(of).set(value)

    def number(name: str, about: str, value: float) -> None:
        Gauge(f"crgen_{name}", about, registry=registry).set(value)

    finished = sorted((run for run in runs if run["status"] == "done"), key=lambda run: run["finished_at"] or 0.0)
    last = {run["job"]: run for run in finished}
    current = {name: row["changed_at"] for name, row in jobs.items() if row["status"] == "done" and row["changed_at"]}
    gauge("jobs", "Jobs by state.", Counter(row["status"] for row in jobs.values()), "state")
    gauge("runs", "Runs so far by state.", Counter(run["status"] for run in runs), "state")
    if finished and (moment := finished[-1]["finished_at"]):
        number("newest_product_timestamp_seconds", "When the newest product was finished.", moment)
    gauge("job_last_success_timestamp_seconds", "When a job was last up to date.", current, "job")
    seconds = {job: run["seconds"] or 0.0 for job, run in last.items()}
    windows = {job: run["windows"] or 0 for job, run in last.items()}
    gauge("job_run_seconds", "How long a job's last finished run took.", seconds, "job")
    gauge("job_run_windows", "Windows computed in a job's last finished run.", windows, "job")
    sizes = {job: sum(p.stat().st_size for p in Paths(Path(r["product"])).all if p.exists()) for job, r in last.items()}
    gauge("job_product_bytes", "Size of a job's last product.", sizes, "job")
    number("metrics_timestamp_seconds", "When these metrics were written.", time.time())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise OutputError(f"cannot write the metrics {path}: {error.strerror}; choose another file") from None
