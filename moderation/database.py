"""The database: SQLite in one file, or PostgreSQL; several processes may write to it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

# Imported for their tables, which are made with the others.
from moderation import bank_tables, idempotency_tables, rate_limit_tables  # noqa: F401
from moderation.tables import MIGRATIONS, SCHEMA_VERSION, Base, SchemaRow
from retrieval_shared.errors import WardlineError

DEFAULT_URL = "sqlite:///var/wardline.db"
BUSY_TIMEOUT_S = 30
_BUSY_PAUSE_S = 0.01
_WRITES = "wardline_writes"


class Database:
    """A database opened for reading and writing; safe for threads, and for several processes on one file."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        """Open the database, made with its folders and tables where it does not exist.

        Raises:
            ValueError: `url` is no database URL.
            WardlineError: the database cannot be opened or is of another schema version.
        """
        self.engine = _engine(url)
        self.writer = self.engine.execution_options(**{_WRITES: True})
        """The engine for transactions that write: they take their lock as they begin."""
        try:
            with self.writer.begin() as connection:
                self._prepare(connection)
        except WardlineError:
            self.close()
            raise
        except SQLAlchemyError as error:
            self.close()
            shown = self.engine.url.render_as_string(hide_password=True)
            raise WardlineError(f"database {shown} cannot be opened: {_cause(error)}") from error

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()

    def insert(self, table: str) -> Any:  # noqa: ANN401 - one of two dialects' Insert
        """Return an INSERT into a table, in the database's own dialect."""
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(Base.metadata.tables[table])

    @contextmanager
    def outside_transactions(self) -> Iterator[Any]:
        """Give the driver's own connection, which is in no transaction."""
        raw = self.engine.raw_connection()
        try:
            yield raw
        finally:
            raw.close()

    def _prepare(self, connection: Connection) -> None:
        """Make what is missing, and what is older newer; raise `WardlineError` before touching a version not known."""
        Base.metadata.create_all(connection, tables=[Base.metadata.tables["schema_version"]])
        version = self.insert("schema_version").values(id=1, version=SCHEMA_VERSION)
        connection.execute(version.on_conflict_do_nothing())
        found = connection.scalar(select(SchemaRow.version).with_for_update())
        while found in MIGRATIONS:
            for statement in MIGRATIONS[found]:
                connection.exec_driver_sql(statement)
            found += 1
            connection.execute(update(SchemaRow).values(version=found))
        if found != SCHEMA_VERSION:
            raise WardlineError(
                f"database {self.engine.url.render_as_string(hide_password=True)} has schema version {found}, "
                f"this release reads version {SCHEMA_VERSION}"
            )
        Base.metadata.create_all(connection)


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"url: found {url!r}, expected a database URL such as {DEFAULT_URL!r}") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"url: found {parsed.get_backend_name()!r}, allowed sqlite or postgresql")
    # A backtest reads five JSON values in each of a hundred thousand rows, a request writes six for each region; orjson
    # takes a fifth of json's time. Errors are logged, and what is written may hold a text that was kept for reviewers.
    options: dict[str, Any] = {
        "json_serializer": lambda value: orjson.dumps(value).decode(),
        "json_deserializer": orjson.loads,
        "hide_parameters": True,
    }
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, **options)
    in_memory = parsed.database in (None, "", ":memory:")
    if not in_memory:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    # a database in memory lives in one connection, which all threads then share
    engine = (
        create_engine(parsed, poolclass=StaticPool, connect_args={"check_same_thread": False}, **options)
        if in_memory
        else create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S}, **options)
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's connection
    # Transactions begin where SQLAlchemy says so (_on_begin), not where the driver guesses.
    connection.isolation_level = None
    cursor = connection.cursor()
    _use_wal(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _use_wal(cursor: Any) -> None:  # noqa: ANN401 - the driver's cursor
    """Switch a new file to the write-ahead log; whoever else opens it at that moment is waited for.

    For this one statement SQLite waits for nobody, whatever its timeout.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE_S)
        else:
            return


def _on_begin(connection: Connection) -> None:
    # A writer takes its lock at once: one that starts as a reader fails, without waiting, when another got ahead of it.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def order_commits(connection: Connection, table: str) -> None:
    """Let no two writers of a table overlap, so that rows are committed in the order of their numbers.

    SQLite has one writer at a time anyway. In PostgreSQL a row of a lower number could come to light after one of a
    higher number was read, and would never be followed; readers are not held up.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
