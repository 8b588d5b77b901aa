"""Versions of policies: added once, never edited, put in force and taken back, seen by every worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from moderation.database import Database, now
from moderation.document import DocumentError
from moderation.policy_document import list_policies, load_policy
from moderation.policy_store import PolicyStore
from moderation.thresholds import HeadThreshold, Thresholds
from moderation.version_store import UnknownVersionError, VersionConflictError

SHOP = """\
id: shop
version: {version}
heads:
  - {{name: scam, kind: violation, definition: Deceives., default: {{effect: PROHIBITED, severity: {severity}}}}}
regions: {{}}
"""


def shop(version: int, severity: int = 4) -> str:
    return SHOP.format(version=version, severity=severity)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'policies.db'}")
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> PolicyStore:
    return PolicyStore(database, [load_policy("ads-default@1")])


def test_a_version_is_added_once_and_never_edited(store: PolicyStore) -> None:
    added = store.add(shop(1), by="ann")
    assert store.add("# the same\n" + shop(1), by="bob") == added
    with pytest.raises(VersionConflictError, match="shop@1 is there with other content.*make it 2"):
        store.add(shop(1, severity=3), by="ann")
    assert store.get("shop@1") == added
    with pytest.raises(VersionConflictError, match="ads-default@1 is there with other content"):
        store.add(shop(1).replace("id: shop", "id: ads-default"), by="ann")


def test_the_database_itself_refuses_to_change_a_version(store: PolicyStore, database: Database) -> None:
    store.add(shop(1), by="ann")
    store.publish("shop@1", by="ann")
    for statement in ("UPDATE policies SET version = 2", "DELETE FROM policies", "DELETE FROM publications"):
        with pytest.raises(DatabaseError, match="append-only"), database.writer.begin() as connection:
            connection.execute(text(statement))


def test_a_wrong_document_leaves_everything_as_it_was(store: PolicyStore) -> None:
    store.publish(store.add(shop(1), by="ann").ref, by="ann")
    with pytest.raises(DocumentError, match="line 4: heads.0.default.severity: 9"):
        store.add(shop(2, severity=9), by="ann")
    assert [policy.ref for policy in store.all()] == ["ads-default@1", "shop@1"]
    assert store.get("shop").ref == "shop@1"


def test_a_name_means_the_version_in_force_else_the_latest(store: PolicyStore) -> None:
    for version in (1, 2, 10):
        store.add(shop(version), by="ann")
    assert store.get("shop").ref == "shop@10"
    assert store.in_force("shop") is None
    store.publish("shop@2", by="ann")
    assert store.get("shop").ref == "shop@2"
    assert [policy.ref for policy in store.all()] == ["ads-default@1", "shop@1", "shop@2", "shop@10"]


@pytest.mark.parametrize("ref", ["shop@2", "shop@", "shop@x", "", "poker", "shop@" + "9" * 40, "shop@1@1"])
def test_an_unknown_reference_lists_the_known_ones(store: PolicyStore, ref: str) -> None:
    store.add(shop(1), by="ann")
    with pytest.raises(UnknownVersionError, match="known are ads-default@1, shop@1"):
        store.get(ref if ref != "shop@" else "shops@")


def test_going_back_goes_back_through_all_that_was_published(store: PolicyStore) -> None:
    for version in (1, 2, 3):
        store.add(shop(version), by="ann")
        store.publish(f"shop@{version}", by="ann")
    assert store.rollback("shop", by="bob").ref == "shop@2"
    assert store.rollback("shop", by="bob").ref == "shop@1"
    with pytest.raises(VersionConflictError, match="none to go back to"):
        store.rollback("shop", by="bob")
    store.publish("shop@3", by="ann")
    assert store.rollback("shop", by="bob").ref == "shop@1"
    told = [(each.ref, each.action, each.published_by) for each in store.publications("shop")]
    assert told == [
        ("shop@1", "publish", "ann"), ("shop@2", "publish", "ann"), ("shop@3", "publish", "ann"),
        ("shop@2", "rollback", "bob"), ("shop@1", "rollback", "bob"),
        ("shop@3", "publish", "ann"), ("shop@1", "rollback", "bob"),
    ]  # fmt: skip


def test_publishing_what_is_in_force_changes_nothing(store: PolicyStore) -> None:
    store.add(shop(1), by="ann")
    store.publish("shop@1", by="ann")
    store.publish("shop@1", by="bob")
    assert len(store.publications("shop")) == 1


def test_two_workers_see_the_same_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'policies.db'}"
    first, second = (PolicyStore(Database(url), [load_policy("ads-default@1")]) for _ in range(2))
    first.add(shop(1), by="ann")
    assert second.get("shop@1") == first.get("shop@1")
    second.publish("shop@1", by="bob")
    assert first.in_force("shop") == second.in_force("shop") == first.get("shop@1")
    with pytest.raises(VersionConflictError):
        second.add(shop(1, severity=1), by="bob")


def test_a_text_changed_behind_our_back_is_not_believed(store: PolicyStore, database: Database) -> None:
    insert = database.insert("policies")
    row = {"id": "shop", "version": 1, "digest": "0" * 64, "text": shop(1), "added_by": "eve"}
    with database.writer.begin() as connection:
        connection.execute(insert.values(**row, created_at=now()))
    with pytest.raises(DocumentError, match="shop@1: its text in the database is not the one that was added"):
        store.get("shop@1")


def test_thresholds_are_kept_as_they_were(store: PolicyStore) -> None:
    cut = HeadThreshold(escalate=0.123456789, act=0.9, basis="by hand", positives=1, negatives=2)
    thresholds = Thresholds.of(prevalence=0.02, heads={"scam": cut})
    store.remember(thresholds)
    store.remember(thresholds)
    assert store.thresholds(thresholds.id) == thresholds
    assert store.thresholds("thr_0000000000") is None


def test_the_first_publication_of_a_shipped_policy_can_be_taken_back(database: Database) -> None:
    """What was shipped decided before, though nobody had published it."""
    store = PolicyStore(database, list_policies())
    assert store.serve("ads-default").ref == "ads-default@2"
    store.publish("ads-default@1", by="ann")
    assert store.serve("ads-default").ref == "ads-default@1"
    assert store.rollback("ads-default", by="ann").ref == "ads-default@2"
    assert store.serve("ads-default").ref == "ads-default@2"
    with pytest.raises(VersionConflictError, match="none to go back to"):
        store.rollback("ads-default", by="ann")


def test_a_service_decides_by_what_is_published_shipped_or_in_a_file(store: PolicyStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="policy: found 'shop', allowed a file, one of ads-default@1, or a name that"):
        store.serve("shop")
    store.add(shop(1), by="ann")
    store.add(shop(2), by="ann")
    with pytest.raises(ValueError, match="a name that is published"):
        store.serve("shop")
    store.publish("shop@1", by="ann")
    assert [store.serve(named).ref for named in ("shop", "shop@2", "ads-default")] == [
        "shop@1", "shop@2", "ads-default@1",
    ]  # fmt: skip
    file = tmp_path / "own.yaml"
    file.write_text(shop(3), encoding="utf-8")
    assert store.serve(str(file)).ref == "shop@3"
    assert store.get("shop@3").version == 3
