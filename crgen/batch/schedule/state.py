"""What schedulers remember, in SQLite or PostgreSQL: the state of every job, its leases, and every run it had.

A lease is an owner and a counter that the owner moves. Others watch the counter by their own monotonic clock and take
an owner whose counter stands still for dead, so that a clock that is set neither ends a lease nor prolongs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from crgen.errors import OutputError, RequestError
from crgen.files import told_after

T = TypeVar("T")

VERSION = 1
BUSY = 15.0
"""Seconds SQLite waits for another's write."""
PATIENCE = 120.0
"""Seconds after which a state that cannot be used is an error."""
LOCK = 0x63726765
"""Key of the PostgreSQL advisory lock under which jobs are claimed."""

tables = sa.MetaData()
about = sa.Table("crgen_batch", tables, sa.Column("version", sa.Integer, primary_key=True))
job = sa.Table(
    "crgen_job",
    tables,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("definition", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("lost", sa.Integer, nullable=False, default=0),
    sa.Column("failed_at", sa.Float),
    sa.Column("retry_at", sa.Float),
    sa.Column("settled", sa.Boolean, nullable=False, default=False),
    sa.Column("identity", sa.String),
    sa.Column("product", sa.String),
    sa.Column("owner", sa.String),
    sa.Column("beat", sa.Integer, nullable=False, default=0),
    sa.Column("project", sa.String),
    sa.Column("device", sa.String),
    sa.Column("log", sa.String),
    sa.Column("changed_at", sa.Float),
)
run = sa.Table(
    "crgen_run",
    tables,
    sa.Column("job", sa.String, primary_key=True),
    sa.Column("identity", sa.String, primary_key=True),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("t1", sa.String),
    sa.Column("t2", sa.String),
    sa.Column("product", sa.String, nullable=False),
    sa.Column("manifest", sa.JSON),
    sa.Column("found_at", sa.Float, nullable=False),
    sa.Column("finished_at", sa.Float),
    sa.Column("seconds", sa.Float),
    sa.Column("windows", sa.Integer),
)
Row = Mapping[str, Any]


class State:
    """The database.

    Args:
        url: of SQLite or PostgreSQL, as SQLAlchemy writes it.

    Raises:
        RequestError: if the URL names no database crgen knows.
        OutputError: if it cannot be used, or was made by a newer crgen.
    """

    def __init__(self, url: str, *, patience: float = PATIENCE) -> None:
        self.patience = patience
        try:
            address = make_url(url)
            if address.drivername in ("postgresql", "postgres"):
                address = address.set(drivername="postgresql+psycopg")
            self.shown = address.render_as_string(hide_password=True)
            self.sqlite = address.get_backend_name() == "sqlite"
            if not self.sqlite and address.get_backend_name() != "postgresql":
                raise RequestError(f"state.url {self.shown} is neither SQLite nor PostgreSQL")
            options: dict[str, Any] = (
                {"connect_args": {"timeout": min(BUSY, patience)}} if self.sqlite else {"pool_pre_ping": True}
            )
            self.engine = sa.create_engine(address, **options)
        except (ArgumentError, NoSuchModuleError):
            raise RequestError("state.url is not a database's URL: write sqlite:///FILE or postgresql://…") from None
        except ModuleNotFoundError as error:
            raise RequestError(f"state.url needs {error.name}: pip install 'crgen[batch]'") from None
        if self.sqlite:
            if address.database:
                self._make_folder(Path(address.database).parent)
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_immediate)
        self.do(self._create)

    def do(self, work: Callable[[sa.Connection], T]) -> T:
        """Do ``work`` in one transaction; again, if the database is busy or away, until patience ends.

        Raises:
            OutputError: if it cannot be done in time.
        """
        end, wait = time.monotonic() + self.patience, 0.05
        with told_after(f"waiting for the state {self.shown}, which is busy or away"):
            while True:
                try:
                    with self.engine.begin() as connection:
                        return work(connection)
                except DBAPIError as error:
                    passing = isinstance(error, OperationalError) or error.connection_invalidated
                    if not passing or time.monotonic() + wait > end:
                        reason = " ".join(str(error.orig).split())
                        raise OutputError(f"cannot use the state {self.shown}: {reason}", transient=passing) from None
                    time.sleep(wait)
                    wait = min(2 * wait, 5.0)

    def alone(self, connection: sa.Connection) -> None:
        """Let no other scheduler claim until the transaction ends; SQLite's transactions are alone anyway."""
        if not self.sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))

    def jobs(self) -> dict[str, Row]:
        """Return every job's row, by name."""
        return self.do(jobs_in)

    def runs(self, name: str | None = None) -> list[Row]:
        """Return the runs of one job or of all, oldest first."""
        query = sa.select(run).order_by(run.c.found_at, run.c.job)
        if name is not None:
            query = query.where(run.c.job == name)
        return self.do(lambda connection: [dict(row) for row in connection.execute(query).mappings()])

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()

    def _create(self, connection: sa.Connection) -> None:
        self.alone(connection)
        tables.create_all(connection)
        version = connection.execute(sa.select(about.c.version)).scalar()
        if version is None:
            connection.execute(about.insert().values(version=VERSION))
        elif version != VERSION:
            raise OutputError(
                f"the state {self.shown} is of version {version}, this crgen keeps version {VERSION}: "
                "use the crgen that made it, or name another state.url"
            )

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the state {self.shown}: {error.strerror}") from error


def jobs_in(connection: sa.Connection) -> dict[str, Row]:
    """Return every job's row, by name."""
    return {row["name"]: dict(row) for row in connection.execute(sa.select(job)).mappings()}


def upsert(connection: sa.Connection, table: sa.Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Change the row of ``key``, or make it."""
    here = sa.and_(*(table.c[name] == value for name, value in key.items()))
    if not connection.execute(table.update().where(here).values(**values)).rowcount:
        connection.execute(table.insert().values(**key, **values))


def held(name: str, owner: str) -> sa.ColumnElement[bool]:
    """Return the condition that a job is leased to ``owner``."""
    return sa.and_(job.c.name == name, job.c.owner == owner)


def beat(state: State, owner: str, names: Sequence[str]) -> set[str]:
    """Renew leases; return the names of those that are lost."""

    def work(connection: sa.Connection) -> set[str]:
        mine = sa.and_(job.c.owner == owner, job.c.name.in_(names))
        connection.execute(job.update().where(mine).values(beat=job.c.beat + 1))
        kept = connection.execute(sa.select(job.c.name).where(mine)).scalars()
        return set(names) - set(kept)

    return state.do(work) if names else set()


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin as _begin_immediate says
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
