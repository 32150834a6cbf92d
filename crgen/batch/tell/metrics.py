"""What Prometheus is told: a textfile for node_exporter's collector, written whole or not at all.

Ages are left to the one who asks, who knows the time: ``time() - crgen_newest_product_timestamp_seconds``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crgen.errors import OutputError


@dataclass(frozen=True)
class Counts:
    """What is known when the metrics are written; times are seconds since 1970."""

    jobs: Mapping[str, int]
    """Jobs by state."""
    runs: Mapping[str, int]
    """Runs by state, over all time."""
    newest_product: float | None = None
    """When the newest product was finished."""
    last_success: Mapping[str, float] = field(default_factory=dict)
    """By job: when its last product was finished, or found to be still the newest."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By job: how long its last finished run took."""
    windows: Mapping[str, int] = field(default_factory=dict)
    """By job: windows computed in its last finished run."""
    size: Mapping[str, int] = field(default_factory=dict)
    """By job: bytes of its last product."""


def write_metrics(path: Path, counts: Counts) -> None:
    """Write the metrics.

    Args:
        path: a ``.prom`` file in the folder that node_exporter's textfile collector reads.
        counts: what is known.

    Raises:
        OutputError: if it cannot be written; an older file stays as it was.
    """
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, about: str, values: Mapping[str, float], label: str) -> None:
        made = Gauge(f"crgen_{name}", about, [label], registry=registry)
        for of, value in values.items():
            made.labels(of).set(value)

    def one(name: str, about: str, value: float) -> None:
        Gauge(f"crgen_{name}", about, registry=registry).set(value)

    gauge("jobs", "Jobs by state.", counts.jobs, "state")
    gauge("runs", "Runs so far by state.", counts.runs, "state")
    if counts.newest_product is not None:
        one("newest_product_timestamp_seconds", "When the newest product was finished.", counts.newest_product)
    gauge("job_last_success_timestamp_seconds", "When a job was last up to date.", counts.last_success, "job")
    gauge("job_run_seconds", "How long a job's last finished run took.", counts.seconds, "job")
    gauge("job_run_windows", "Windows computed in a job's last finished run.", counts.windows, "job")
    gauge("job_product_bytes", "Size of a job's last product.", counts.size, "job")
    one("metrics_timestamp_seconds", "When these metrics were written.", time.time())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise OutputError(f"cannot write the metrics {path}: {error.strerror}; choose another file") from None
