"""The database: appended to and never changed, one review per key from however many processes, text erasable."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from moderation.decision import Action, Context
from moderation.review.store import Store, review_id
from moderation.tables import VerdictRow
from retrieval_shared.errors import WardlineError

AT = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
ROOT = Path(__file__).parents[3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "wardline.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{path}")) as opened:
        yield opened


def decision(item_id: str = "ad-1", **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "item_id": item_id,
        "text_sha256": "0" * 64,
        "region": "DE",
        "policy": "ads-default@1",
        "action": "escalate",
        "probabilities": {"drugs": 0.5},
        "context": {
            "min_age": 18,
            "advertiser_id": "a9",
            "certificates": ["gambling:DE"],
            "scheduled_at": AT.isoformat(),
        },
        "versions": {"policy_set": "ads-default@1"},
        "language": "de",
        "degraded": False,
        "entries": [],
        "reasons": ["why"],
        "review_id": None,
        "created_at": AT,
    }
    return values | changes


def review(item_id: str = "ad-1", **changes: Any) -> dict[str, Any]:
    region = changes.get("region", "DE")
    values: dict[str, Any] = {
        "id": review_id(item_id=item_id, policy="ads-default@1", region=region),
        "item_id": item_id,
        "policy": "ads-default@1",
        "region": region,
        "state": "pending",
        "priority": 1.0,
        "priority_reason": "why",
        "entries": [],
        "reasons": [],
        "probabilities": {"drugs": 0.5},
        "degraded": False,
        "text_sha256": "0" * 64,
        "created_at": AT,
    }
    return values | changes


def verdict(of: dict[str, Any], *, action: str = "reject", at: datetime = AT, content: str = "c1") -> VerdictRow:
    return VerdictRow(
        id=f"ver_{content}_{at.timestamp()}",
        review_id=of["id"],
        content_sha256=content,
        labels={"drugs": 1},
        action=action,
        reviewer="ann",
        created_at=at,
    )


def test_decision_comes_back_ready_to_be_replayed(store: Store) -> None:
    store.append([decision()], [])
    [row] = store.decision_rows()
    assert (row.action, row.probabilities, row.region) == (Action.ESCALATE, {"drugs": 0.5}, "DE")
    assert row.context == Context(
        min_age=18, advertiser_id="a9", certificates=frozenset({"gambling:DE"}), scheduled_at=AT
    )
    assert row.created_at == AT


def test_decisions_are_read_page_by_page_in_order(store: Store) -> None:
    store.append([decision(f"ad-{i}") for i in range(1_201)], [])
    rows = store.decision_rows()
    first = next(rows)
    store.append([decision("later")], [])
    assert [first.item_id, *(row.item_id for row in rows)] == [*(f"ad-{i}" for i in range(1_201)), "later"]
    assert [row.item_id for row in store.decision_rows(after_id=1_200)] == ["ad-1200", "later"]


def test_decisions_are_chosen_by_policy_region_and_time(store: Store) -> None:
    store.append(
        [
            decision("old", created_at=AT - timedelta(days=1)),
            decision("other", policy="mine@2"),
            decision("us", region="US"),
            decision("this"),
        ],
        [],
    )
    chosen = store.decision_rows(policy="ads-default@1", region="DE", since=AT)
    assert [row.item_id for row in chosen] == ["this"]


def test_time_without_zone_is_refused(store: Store) -> None:
    from sqlalchemy.exc import StatementError

    with pytest.raises(StatementError, match="without a time zone"):
        store.append([decision(created_at=datetime(2026, 1, 1))], [])  # noqa: DTZ001 - the mistake


@pytest.mark.parametrize("table", ["decisions", "verdicts"])
@pytest.mark.parametrize("change", ["UPDATE {} SET action = 'approve'", "DELETE FROM {}"])
def test_log_cannot_be_changed(store: Store, path: Path, table: str, change: str) -> None:
    asked = review()
    store.append([decision()], [asked])
    store.add_verdict(verdict(asked), timed=True)
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute(change.format(table))


def test_review_enters_once_and_stays_as_it_entered(store: Store) -> None:
    store.append([], [review(priority=1.0), review(priority=2.0)])
    store.append([decision()], [review(priority=3.0)])
    [filed] = store.reviews()
    assert filed.review.priority == 1.0


def test_review_id_follows_from_its_key_alone() -> None:
    one = review_id(item_id="a", policy="p@1", region="DE")
    assert one == review_id(item_id="a", policy="p@1", region="DE")
    others = [("ap", "@1", "DE"), ("b", "p@1", "DE"), ("a", "p@2", "DE"), ("a", "p@1", "US")]
    assert len({one, *(review_id(item_id=i, policy=p, region=r) for i, p, r in others)}) == 5


def test_everything_is_written_or_nothing(store: Store) -> None:
    from sqlalchemy.exc import IntegrityError

    with pytest.raises(IntegrityError):
        store.append([decision(), decision(region=None)], [review()])
    assert (list(store.decision_rows()), list(store.reviews())) == ([], [])


def test_two_processes_enter_the_same_escalations_once(path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from datetime import UTC, datetime\n"
        "from moderation.review.store import Store, review_id\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "store = Store(sys.argv[2])\n"
        "at = datetime.now(UTC)\n"
        "for i in range(60):\n"
        "    key = dict(item_id=f'ad-{i}', policy='p@1', region='DE')\n"
        "    same = dict(probabilities={}, degraded=False, text_sha256='', entries=[], reasons=[], created_at=at)\n"
        "    rid = review_id(**key)\n"
        "    store.append([dict(**key, **same, action='escalate', context={}, versions={}, review_id=rid)],\n"
        "        [dict(**key, **same, id=rid, state='pending', priority=1.0, priority_reason='')])\n"
        "store.close()\n"
    )
    command = [sys.executable, "-c", program, str(ROOT), f"sqlite:///{path}"]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    writers = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n"] * 2
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    with closing(Store(f"sqlite:///{path}")) as store:
        assert len(list(store.decision_rows())) == 120
        assert sorted(filed.review.item_id for filed in store.reviews()) == sorted(f"ad-{i}" for i in range(60))


def test_reviews_come_pending_first_then_urgent_then_old(store: Store) -> None:
    decided = review("decided", priority=4.0)
    store.append(
        [],
        [
            decided,
            review("new", priority=1.0, created_at=AT + timedelta(hours=1)),
            review("old", priority=1.0),
            review("urgent", priority=2.0, created_at=AT + timedelta(hours=2)),
            review("us", priority=0.5, region="US"),
        ],
    )
    store.add_verdict(verdict(decided), timed=True)
    assert [filed.review.item_id for filed in store.reviews()] == ["urgent", "old", "new", "us", "decided"]
    assert [filed.review.item_id for filed in store.reviews(state="pending", limit=2)] == ["urgent", "old"]
    assert [filed.review.item_id for filed in store.reviews(region="US")] == ["us"]
    with pytest.raises(ValueError, match="state: found 'open', allowed pending, decided"):
        list(store.reviews(state="open"))


def test_latest_verdict_decides_whatever_the_order_of_entry(store: Store) -> None:
    asked = review()
    store.append([], [asked])
    assert store.add_verdict(verdict(asked, action="reject", at=AT, content="c1"), timed=True)
    assert store.add_verdict(verdict(asked, action="limit", at=AT - timedelta(days=1), content="c2"), timed=True)
    [filed] = store.reviews()
    assert (filed.review.state, filed.review.final_action) == ("decided", "reject")
    assert store.add_verdict(verdict(asked, action="approve", at=AT + timedelta(days=1), content="c3"), timed=True)
    [filed] = store.reviews()
    assert filed.verdict is not None
    assert (filed.review.final_action, filed.verdict.content_sha256) == ("approve", "c3")


def test_decisions_are_counted_as_they_are_read(store: Store) -> None:
    later = AT + timedelta(hours=1)
    store.append([decision("a"), decision("b", region="US"), decision("c", created_at=later)], [])
    for wanted, count in (({}, 3), ({"region": "DE"}, 2), ({"since": later}, 1), ({"region": "US", "since": later}, 0)):
        assert store.count_decisions(**wanted) == len(list(store.decision_rows(**wanted))) == count  # type: ignore[arg-type]


def test_same_verdict_is_added_once(store: Store) -> None:
    asked = review()
    store.append([], [asked])
    later = AT + timedelta(hours=1)
    assert store.add_verdict(verdict(asked, at=AT), timed=False)
    assert not store.add_verdict(verdict(asked, at=later), timed=False)
    assert not store.add_verdict(verdict(asked, at=AT), timed=True)
    assert store.add_verdict(verdict(asked, at=later), timed=True)


def test_erased_text_is_gone_from_the_disk_and_the_decision_stays(store: Store, path: Path) -> None:
    secret = "one unmistakable sentence"
    store.append([decision()], [review(text={"body": secret * 500}), review(region="US", text={"body": secret})])
    assert store.erase_text(item_id="ad-1") == 2
    assert [filed.review.text for filed in store.reviews()] == [None, None]
    assert len(list(store.decision_rows())) == 1
    assert not [file.name for file in path.parent.iterdir() if secret.encode() in file.read_bytes()]
    assert store.erase_text(item_id="ad-1") == 0


def test_database_of_another_version_is_left_alone(path: Path) -> None:
    Store(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE schema_version SET version = 99")
        raw.commit()
    with pytest.raises(WardlineError, match="schema version 99, this release reads version 2"):
        Store(f"sqlite:///{path}")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"no database at all, but long enough to look at" * 50)
    with pytest.raises(WardlineError, match=r"x\.db cannot be opened: file is not a database"):
        Store(f"sqlite:///{tmp_path / 'x.db'}")


@pytest.mark.parametrize("url", ["", "no url", "mysql://host/db"])
def test_other_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="url: found"):
        Store(url)


def test_database_in_memory_serves_all_threads() -> None:
    from threading import Thread

    with closing(Store("sqlite://")) as store:
        thread = Thread(target=store.append, args=([decision()], [review()]))
        thread.start()
        thread.join()
        assert len(list(store.decision_rows())) == 1


def test_statements_compile_for_postgresql() -> None:
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateTable

    from moderation.tables import Base

    for table in Base.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=postgresql.dialect())).strip().startswith("CREATE TABLE")
