"""The state that version 0.1.0 kept for several schedulers, as it lay on the disk."""

import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DUMP = Path(__file__).with_name("state_of_0_1_0.sql")
"""What version 0.1.0 left of six jobs: it was stopped, killed, and could not do some."""
JOB = {"reason": "", "attempts": 0, "lost": 0, "settled": 0, "beat": 1}
RUN = {"reason": ""}


def old_state(path: Path, *, jobs: Sequence[Mapping[str, Any]] = (), runs: Sequence[Mapping[str, Any]] = ()) -> None:
    """Leave the state of a jobs file, part of it in a write-ahead log, as a scheduler does that is killed.

    Args:
        path: the jobs file.
        jobs: in place of those of the dump, as are ``runs``, if any of both are given.
        runs: their products.
    """
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "state"
        db = sqlite3.connect(file, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(DUMP.read_text().replace("{home}", str(path.parent)))
        if jobs or runs:
            db.executescript("DELETE FROM crgen_job; DELETE FROM crgen_run")
        for table, rows, usual in (("crgen_job", jobs, JOB), ("crgen_run", runs, RUN)):
            for row in ({**usual, **row} for row in rows):
                marks = ", ".join("?" * len(row))
                db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
        for ending in ("", "-wal"):
            shutil.copy(f"{file}{ending}", f"{path.with_suffix('.sqlite')}{ending}")
        db.close()
