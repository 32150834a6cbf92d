"""The journal of a jobs file: what was found, tried, made, given up and told, in a SQLite file beside it.

One scheduler at a time writes it, under a lock that ends with its process; others may read it meanwhile. It has no
write-ahead log, and must be on a disk whose locks work. The state that version 0.1.0 kept there is taken over.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from crgen.errors import BusyError, OutputError

Row = Mapping[str, Any]

VERSION = 2
BUSY = 30.0
"""Seconds to wait while another process writes."""
LETTING_GO = 2.0
"""Seconds to wait for the lock: :func:`is_scheduled` holds it for a moment."""

TABLES = (
    "CREATE TABLE crgen_batch (version INTEGER PRIMARY KEY, changes INTEGER NOT NULL DEFAULT 0, "
    "listed INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE crgen_job (name TEXT PRIMARY KEY, definition TEXT NOT NULL, status TEXT NOT NULL, "
    "reason TEXT NOT NULL DEFAULT '', attempts INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, "
    "failed_at REAL, retry_at REAL, settled INTEGER NOT NULL DEFAULT 0, identity TEXT, product TEXT, log TEXT, "
    "changed_at REAL)",
    "CREATE TABLE crgen_run (job TEXT NOT NULL, identity TEXT NOT NULL, status TEXT NOT NULL, "
    "reason TEXT NOT NULL DEFAULT '', t1 TEXT, t2 TEXT, product TEXT NOT NULL, manifest TEXT, found_at REAL NOT NULL, "
    "finished_at REAL, seconds REAL, windows INTEGER, PRIMARY KEY (job, identity))",
    "CREATE TABLE crgen_message (id TEXT PRIMARY KEY, kind TEXT NOT NULL, job TEXT NOT NULL, body TEXT NOT NULL, "
    "picture TEXT, made_at REAL NOT NULL, told TEXT NOT NULL DEFAULT '[]', over INTEGER NOT NULL DEFAULT 0)",
)
"""``job``: the state of each. ``run``: every product that was due, with its frozen scenes. ``message``: what people are
to be told, and who has been. ``batch``: the count of changes, and the count up to which listings and metrics are."""


def journal_of(jobs: Path) -> Path:
    """Return where the journal of a jobs file is."""
    return jobs.absolute().with_suffix(".sqlite")


@contextlib.contextmanager
def scheduling(jobs: Path) -> Iterator[None]:
    """Hold the lock of a jobs file, as its one scheduler.

    Raises:
        BusyError: if another process holds it.
        OutputError: if there can be no lock beside the file.
    """
    lock = FileLock(jobs.absolute().with_suffix(".lock"), timeout=LETTING_GO, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"another `crgen batch run` works on {jobs} at this moment; wait for it, or stop it", transient=True
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or "its disk has no locks"
        raise OutputError(
            f"cannot lock {lock.lock_file}: {reason}; keep the jobs file in a writable folder on a local disk"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_scheduled(jobs: Path) -> bool:
    """Say whether a scheduler holds the lock of a jobs file now, as far as can be told."""
    lock = jobs.absolute().with_suffix(".lock")
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0, fallback_to_soft=False):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True


class Journal:
    """The journal, open.

    Args:
        path: the file.
        look_only: change nothing; a file that does not exist reads as empty.

    Raises:
        OutputError: if it cannot be used, or was made by a newer crgen.
    """

    def __init__(self, path: Path, *, look_only: bool = False) -> None:
        self.path = path
        with self._explained():
            self._open(":memory:" if look_only and not path.exists() else f"{path.absolute().as_uri()}?mode=rwc")
            version = self._version()
            if version not in (None, 1, VERSION):
                raise OutputError(
                    f"the journal {path} is of version {version}, this crgen keeps version {VERSION}: use the crgen "
                    "that made it, or move it away"
                )
            if look_only:  # version 1 has the same columns, and more
                if version is None:
                    self._open(":memory:")
                    self._create()
                return
            self.do("PRAGMA journal_mode = DELETE")
            self.do("PRAGMA synchronous = EXTRA")
            with self.change():
                if version is None:
                    self._create()
                elif version == 1:
                    self._take_over()
                self._complete()

    def _open(self, address: str) -> None:
        self._db = sqlite3.connect(address, uri=True, timeout=BUSY, isolation_level=None)
        self._db.row_factory = sqlite3.Row

    def _version(self) -> int | None:
        if not self.rows("SELECT 1 FROM sqlite_master WHERE name = 'crgen_batch'"):
            return None
        return int(self.rows("SELECT version FROM crgen_batch")[0]["version"])

    def _create(self) -> None:
        for table in TABLES:
            self.do(table)
        self.do("INSERT INTO crgen_batch (version) VALUES (?)", VERSION)

    def _complete(self) -> None:
        """Add the column that tells when a product is made once more, which was not there from the beginning."""
        if not self.rows("SELECT 1 FROM pragma_table_info('crgen_run') WHERE name = 'improve_at'"):
            self.do("ALTER TABLE crgen_run ADD COLUMN improve_at REAL")

    def _take_over(self) -> None:
        """Copy the tables of version 1 without the columns that told which scheduler held which lease."""
        for name in ("batch", "job", "run"):
            self.do(f"ALTER TABLE crgen_{name} RENAME TO old_{name}")
        self._create()
        for name in ("job", "run"):
            columns = ", ".join(row["name"] for row in self.rows(f"PRAGMA table_info(crgen_{name})"))
            self.do(f"INSERT INTO crgen_{name} ({columns}) SELECT {columns} FROM old_{name}")
        for name in ("batch", "job", "run"):
            self.do(f"DROP TABLE old_{name}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self._db.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            passing = isinstance(error, sqlite3.OperationalError)
            help = "" if passing else "; move it away: maps that stand are not made again"
            raise OutputError(f"cannot use the journal {self.path}: {error}{help}", transient=passing) from None

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Make all changes of the block, or none: one transaction.

        Raises:
            OutputError: if it cannot be written.
        """
        with self._explained(), self._db:  # commits, or rolls back after any exception
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def do(self, statement: str, *values: Any) -> int:
        """Execute a statement, within :meth:`change`; return how many rows it changed."""
        return self._db.execute(statement, values).rowcount

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Return what a query finds."""
        with self._explained():
            return [dict(row) for row in self._db.execute(query, values)]

    def put(self, table: str, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Update the row of ``key``, or insert it; within :meth:`change`."""
        changes, where = ", ".join(f"{n} = ?" for n in values), " AND ".join(f"{n} = ?" for n in key)
        if not self.do(f"UPDATE crgen_{table} SET {changes} WHERE {where}", *values.values(), *key.values()):
            both = {**key, **values}
            marks = ", ".join("?" * len(both))
            self.do(f"INSERT INTO crgen_{table} ({', '.join(both)}) VALUES ({marks})", *both.values())

    def jobs(self) -> dict[str, Row]:
        """Return the row of every job, by name."""
        return {row["name"]: row for row in self.rows("SELECT * FROM crgen_job")}

    def runs(self, job: str | None = None) -> list[Row]:
        """Return the products that were due to one job, or to all, oldest first, with their manifests."""
        found = self.rows("SELECT * FROM crgen_run WHERE job = coalesce(?, job) ORDER BY found_at, job", job)
        return [{"improve_at": None} | row | {"manifest": json.loads(row["manifest"] or "null")} for row in found]

    def changes(self) -> tuple[int, int]:
        """Return the count of changes, and the count up to which listings and metrics are."""
        [row] = self.rows("SELECT changes, listed FROM crgen_batch")
        return row["changes"], row["listed"]

    def listed(self, change: int) -> None:
        """Note the count of changes up to which listings and metrics are."""
        with self.change():
            self.do("UPDATE crgen_batch SET listed = ?", change)

    def message(self, kind: str, job: str, body: str, picture: str | None, now: float) -> None:
        """Note a message that is to be sent; within :meth:`change`."""
        values = {"kind": kind, "job": job, "body": body, "picture": picture, "made_at": now}
        self.put("message", {"id": uuid.uuid4().hex[:12]}, values)

    def untold(self) -> list[Row]:
        """Return the messages that not every URL has had, oldest first; ``told`` are the digests of those that have."""
        found = self.rows("SELECT * FROM crgen_message WHERE NOT over ORDER BY made_at")
        return [row | {"told": set(json.loads(row["told"]))} for row in found]

    def told(self, message: str, told: Collection[str], *, over: bool) -> None:
        """Note the digests of the URLs that have had a message, and whether it is not sent any more."""
        with self.change():
            self.do("UPDATE crgen_message SET told = ?, over = ? WHERE id = ?", json.dumps(sorted(told)), over, message)
