"""Opening databases: new ones, older ones that are brought up to date, and those of another version."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from moderation.database import BUSY_TIMEOUT_S, Database, _use_wal, now, order_commits
from moderation.tables import MIGRATIONS, SCHEMA_VERSION
from retrieval_shared.errors import WardlineError


def columns(database: Database) -> dict[str, list[str]]:
    inspector = inspect(database.engine)
    tables = inspector.get_table_names()
    return {table: sorted(each["name"] for each in inspector.get_columns(table)) for table in tables}


def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(tmp_path: Path) -> None:
    fresh = Database(f"sqlite:///{tmp_path / 'fresh.db'}")
    wanted = columns(fresh)
    fresh.close()
    path = tmp_path / "old.db"
    Database(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as old:  # as version 1 was
        for table in ("policies", "publications", "rule_sets", "rule_publications", "thresholds"):
            old.execute(f"DROP TABLE {table}")
        for column in ("language_confidence", "language_supported", "signals"):
            old.execute(f"ALTER TABLE decisions DROP COLUMN {column}")
        old.execute("UPDATE schema_version SET version = 1")
        old.execute(
            "INSERT INTO decisions (item_id, text_sha256, region, policy, action, probabilities, context, versions, "
            "degraded, entries, reasons, created_at) VALUES "
            "('a1', '', 'DE', 'p@1', 'approve', '{}', '{}', '{}', 0, '[]', '[]', '2026-11-21 00:00:00')"
        )
    old.close()
    database = Database(f"sqlite:///{path}")
    assert columns(database) == wanted
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT item_id, language_supported FROM decisions").all() == [("a1", None)]
        assert connection.exec_driver_sql("SELECT version FROM schema_version").scalar() == SCHEMA_VERSION
    database.close()


def test_every_older_version_has_a_way_to_the_present_one() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))


def test_a_newer_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    Database(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as newer:
        newer.execute("UPDATE schema_version SET version = 99")
    newer.close()
    with pytest.raises(WardlineError, match=f"has schema version 99, this release reads version {SCHEMA_VERSION}"):
        Database(f"sqlite:///{path}")


@pytest.mark.parametrize(("dialect", "locks"), [("postgresql", 1), ("sqlite", 0)])
def test_writers_to_postgresql_take_turns(dialect: str, locks: int) -> None:
    told: list[str] = []
    connection: Any = SimpleNamespace(dialect=SimpleNamespace(name=dialect), exec_driver_sql=told.append)
    order_commits(connection, "bank")
    assert told == ["LOCK TABLE bank IN SHARE ROW EXCLUSIVE MODE"] * locks


class BusyCursor:
    """Refuses so many times, then takes the statement."""

    def __init__(self, refusals: int, code: int = sqlite3.SQLITE_BUSY) -> None:
        self.refusals, self.code = refusals, code
        self.told: list[str] = []

    def execute(self, statement: str) -> None:
        self.told.append(statement)
        if len(self.told) <= self.refusals:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error


def test_who_opens_a_new_file_together_with_others_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    cursor = BusyCursor(2)
    _use_wal(cursor)
    assert (cursor.told, len(paused)) == (["PRAGMA journal_mode=WAL"] * 3, 2)
    with pytest.raises(sqlite3.OperationalError):
        _use_wal(BusyCursor(1, sqlite3.SQLITE_READONLY))
    times = iter([0.0, BUSY_TIMEOUT_S - 1.0, BUSY_TIMEOUT_S + 1.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    endless = BusyCursor(99)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        _use_wal(endless)
    assert len(endless.told) == 2


def test_an_error_that_is_logged_quotes_no_value(tmp_path: Path) -> None:
    """What is written may hold a text that was kept for reviewers."""
    database = Database(f"sqlite:///{tmp_path / 'w.db'}")
    with pytest.raises(SQLAlchemyError) as failed, database.writer.begin() as connection:
        connection.execute(database.insert("thresholds").values(id=None, document={"x": "SECRET"}, created_at=now()))
    assert "SECRET" not in str(failed.value)
    database.close()
