"""Requests under keys in the database: who runs, what is kept and how long, on two workers' connections."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from moderation.database import Database
from moderation.idempotency_store import (
    KEPT_FOR,
    LEASE,
    PURGED_AT_ONCE,
    PURGED_EVERY,
    PURGED_PER_REQUEST,
    Answer,
    Attempt,
    IdempotencyStore,
)
from moderation.idempotency_tables import KeptAnswerRow
from moderation.problem import Problem

Stores = tuple[IdempotencyStore, IdempotencyStore]
START = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
ANSWER = Answer(200, (("content-type", "application/json"), ("link", "<a>"), ("link", "<b>")), b'{"quoted": "pills"}')
SECOND = timedelta(seconds=1)


class Clock:
    """A time that passes only when told to."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stores(tmp_path: Path, clock: Clock) -> Iterator[Stores]:
    """Two workers' stores on one file."""
    databases = [Database(f"sqlite:///{tmp_path / 'w.db'}") for _ in range(2)]
    first, second = (IdempotencyStore(database, clock=clock) for database in databases)
    yield first, second
    for database in databases:
        database.close()


def attempt(
    key: str = "k1", *, caller: str = "shop", path: str = "/v1", query: bytes = b"", body: bytes = b"x"
) -> Attempt:
    return Attempt.of(caller=caller, path=path, key=key, query=query, body=body)


def refusal(store: IdempotencyStore, tried: Attempt) -> str:
    with pytest.raises(Problem) as raised:
        store.begin(tried)
    return raised.value.code


def test_the_first_runs_and_every_worker_answers_the_next_as_it_did(stores: Stores) -> None:
    one, two = stores
    first = attempt()
    assert one.begin(first) is None
    assert refusal(two, attempt()) == "idempotency_in_progress"
    assert one.keep(first, ANSWER) is True
    assert two.begin(attempt()) == one.begin(attempt()) == ANSWER


def test_other_content_is_refused_while_the_first_runs_and_after(stores: Stores) -> None:
    one, two = stores
    first = attempt()
    assert one.begin(first) is None
    for _ in range(2):
        assert refusal(two, attempt(body=b"y")) == "idempotency_key_reused"
        assert refusal(two, attempt(query=b"dry_run=1")) == "idempotency_key_reused"
        one.keep(first, ANSWER)


def test_keys_are_of_one_caller_and_one_path(stores: Stores) -> None:
    others = [attempt(), attempt("k2"), attempt(caller="desk"), attempt(path="/v2"), attempt(path="/v1\0k1", key="k1")]
    assert [stores[0].begin(other) for other in others] == [None] * len(others)


def test_of_many_at_once_one_runs(stores: Stores) -> None:
    """The unique key decides, also when what it finds has expired."""
    barrier = Barrier(8)
    outcomes: list[str] = []

    def send(store: IdempotencyStore) -> None:
        barrier.wait(10)
        try:
            outcomes.append("runs" if store.begin(attempt()) is None else "answered")
        except Problem as problem:
            outcomes.append(problem.code)

    threads = [Thread(target=send, args=(stores[i % 2],)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["idempotency_in_progress"] * 7 + ["runs"]


def test_a_lease_ends_by_itself_and_what_comes_late_is_not_kept(stores: Stores, clock: Clock) -> None:
    """A worker that died blocks its key no longer; one that was only slow does not answer for another."""
    one, two = stores
    slow, next_one = attempt(), attempt(body=b"other")
    assert one.begin(slow) is None
    clock.at = START + LEASE - SECOND
    assert refusal(two, attempt()) == "idempotency_in_progress"
    clock.at = START + LEASE
    assert two.begin(next_one) is None
    assert one.keep(slow, Answer(200, (), b"late")) is False
    one.release(slow)
    assert refusal(one, attempt(body=b"other")) == "idempotency_in_progress"
    assert two.keep(next_one, ANSWER) is True
    assert one.begin(attempt(body=b"other")) == ANSWER


def test_a_lease_that_is_given_back_is_free_at_once(stores: Stores) -> None:
    one, two = stores
    failed = attempt()
    one.release(failed)  # not held yet: changes nothing
    assert one.begin(failed) is None
    one.release(failed)
    assert two.begin(attempt(body=b"other")) is None


def test_a_kept_answer_is_not_released(stores: Stores) -> None:
    one, two = stores
    done = attempt()
    assert one.begin(done) is None
    one.keep(done, ANSWER)
    one.release(done)
    assert two.begin(attempt()) == ANSWER


def test_an_answer_is_forgotten_after_a_day(stores: Stores, clock: Clock) -> None:
    one, two = stores
    first = attempt()
    assert one.begin(first) is None
    clock.at = START + 10 * SECOND
    one.keep(first, ANSWER)
    clock.at += KEPT_FOR - SECOND
    assert two.begin(attempt()) == ANSWER
    clock.at += SECOND
    assert two.begin(attempt(body=b"other")) is None


def test_what_has_expired_is_deleted_a_few_rows_at_a_time(stores: Stores, clock: Clock, tmp_path: Path) -> None:
    store = stores[0]
    for number in range(PURGED_PER_REQUEST + 3):
        each = attempt(f"old-{number}")
        store.begin(each)
        store.keep(each, ANSWER)
    running = attempt("running")
    clock.at = START + KEPT_FOR - SECOND
    assert store.purge(100) == 0
    assert store.begin(running) is None
    clock.at = START + KEPT_FOR
    assert rows(tmp_path) == PURGED_PER_REQUEST + 4
    assert refusal(store, attempt("running")) == "idempotency_in_progress"
    assert rows(tmp_path) == 4
    assert (store.purge(2), store.purge(100), rows(tmp_path)) == (2, 1, 1)


def test_each_worker_deletes_once_an_hour_so_many_at_a_time(
    stores: Stores, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first time at once; and where there may be more, the next call goes on."""
    monkeypatch.setattr("moderation.idempotency_store.PURGED_AT_ONCE", 4)
    one, two = stores
    clock.at = START - KEPT_FOR
    for number in range(10):
        each = attempt(f"old-{number}")
        one.begin(each)
        one.keep(each, ANSWER)
    clock.at = START
    assert (one.purge_is_due, two.purge_is_due) == (True, True)
    assert [one.purge_when_due() for _ in range(4)] == [4, 4, 2, 0]
    assert (one.purge_is_due, two.purge_is_due, rows(tmp_path)) == (False, True, 0)
    last = attempt("last")
    one.begin(last)
    one.keep(last, Answer(200, (), b""))
    clock.at = START + PURGED_EVERY - SECOND
    assert (one.purge_is_due, one.purge_when_due()) == (False, 0)
    clock.at = START + KEPT_FOR
    assert (one.purge_is_due, one.purge_when_due(), rows(tmp_path)) == (True, 1, 0)
    assert (one.purge_is_due, two.purge_when_due()) == (False, 0)


def test_of_many_threads_one_deletes(stores: Stores) -> None:
    purged: list[int] = []
    store = stores[0]
    store.purge = lambda limit: purged.append(limit) or 0  # type: ignore[method-assign,func-returns-value]
    barrier = Barrier(8)

    def call() -> None:
        barrier.wait(10)
        store.purge_when_due()

    threads = [Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert purged == [PURGED_AT_ONCE]


def rows(tmp_path: Path) -> int:
    connection = sqlite3.connect(tmp_path / "w.db")
    found: int = connection.execute("SELECT count(*) FROM idempotency").fetchone()[0]
    connection.close()
    return found


def test_the_request_is_not_stored_and_the_answer_only_compressed(stores: Stores, tmp_path: Path) -> None:
    first = attempt("secret-key", path="/secret-path", query=b"key=secret-query", body=b"secret-body")
    stores[0].begin(first)
    answer = Answer(200, (), b"buy cheap pills " * 1000)
    stores[0].keep(first, answer)
    connection = sqlite3.connect(tmp_path / "w.db")
    [row] = connection.execute("SELECT * FROM idempotency").fetchall()
    connection.close()
    assert "secret" not in str(row)
    assert "pills" not in str(row)
    assert max(len(each) for each in row if isinstance(each, bytes)) < 200
    assert stores[1].begin(
        attempt("secret-key", path="/secret-path", query=b"key=secret-query", body=b"secret-body")
    ) == (answer)


def test_the_table_compiles_for_postgresql() -> None:
    table = KeptAnswerRow.metadata.tables["idempotency"]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    text = str(CreateTable(table).compile(dialect=dialect))
    assert "body BYTEA" in text
    assert "expires_at TIMESTAMP WITH TIME ZONE NOT NULL" in text
