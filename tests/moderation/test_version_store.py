"""What every kind of versioned document has in common beyond policies: withdrawing, and several names in force."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from moderation.database import Database
from moderation.rule_store import RuleStore
from moderation.version_store import UnknownVersionError, VersionConflictError

RULES = """\
id: {name}
version: {version}
rules:
  - {{name: sure-win, head: gambling, kind: terms, terms: [sure win], effect: escalate, mode: active}}
"""


def rules(name: str, version: int) -> str:
    return RULES.format(name=name, version=version)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RuleStore]:
    database = Database(f"sqlite:///{tmp_path / 'rules.db'}")
    yield RuleStore(database)
    database.close()


def in_force(store: RuleStore) -> list[str]:
    return [each.ref for each in store.all_in_force()]


def test_of_every_name_the_version_published_last_is_in_force(store: RuleStore) -> None:
    for name, version in (("shop", 1), ("shop", 2), ("bets", 1), ("idle", 1)):
        store.add(rules(name, version), by="ann")
    assert in_force(store) == []
    for ref in ("shop@2", "bets@1", "shop@1"):
        store.publish(ref, by="ann")
    assert in_force(store) == ["bets@1", "shop@1"]


def test_what_is_withdrawn_is_not_in_force_and_can_be_brought_back(store: RuleStore) -> None:
    for version in (1, 2):
        store.add(rules("shop", version), by="ann")
        store.publish(f"shop@{version}", by="ann")
    assert store.withdraw("shop", by="bob").ref == "shop@2"
    assert (store.in_force("shop"), in_force(store)) == (None, [])
    with pytest.raises(VersionConflictError, match="shop: no version is in force, so there is none to withdraw"):
        store.withdraw("shop", by="bob")
    assert store.rollback("shop", by="bob").ref == "shop@2"
    assert store.rollback("shop", by="bob").ref == "shop@1"
    assert [each.action for each in store.publications("shop")] == [
        "publish", "publish", "withdraw", "rollback", "rollback",
    ]  # fmt: skip


def test_after_a_pause_there_is_no_going_back_into_it(store: RuleStore) -> None:
    store.add(rules("shop", 1), by="ann")
    store.publish("shop@1", by="ann")
    store.withdraw("shop", by="ann")
    store.publish("shop@1", by="ann")
    with pytest.raises(VersionConflictError, match="none to go back to"):
        store.rollback("shop", by="ann")
    assert in_force(store) == ["shop@1"]


def test_an_unknown_reference_says_that_none_is_known(store: RuleStore) -> None:
    with pytest.raises(UnknownVersionError, match="rules: found 'shop@1', known are none"):
        store.get("shop@1")


@pytest.mark.parametrize("ref", ["shop@01", "shop@\u0661", "shop@+1", "shop@1 ", "shop@1@1"])
def test_a_version_is_written_in_one_way(store: RuleStore, ref: str) -> None:
    store.add(rules("shop", 1), by="ann")
    with pytest.raises(UnknownVersionError, match="known are shop@1"):
        store.get(ref)


def test_of_many_at_once_each_goes_back_one_version(tmp_path: Path) -> None:
    """Three workers, each with a connection of its own."""
    stores = [RuleStore(Database(f"sqlite:///{tmp_path / 'rules.db'}")) for _ in range(3)]
    for version in range(1, 7):
        stores[0].add(rules("shop", version), by="ann")
        stores[0].publish(f"shop@{version}", by="ann")
    start = Barrier(3)

    def go_back(store: RuleStore) -> str:
        start.wait()
        return store.rollback("shop", by="bob").ref

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(go_back, stores)) == ["shop@3", "shop@4", "shop@5"]
    assert [in_force(each) for each in stores] == [["shop@3"]] * 3


def test_what_is_published_by_many_at_once_is_published_once(tmp_path: Path) -> None:
    stores = [RuleStore(Database(f"sqlite:///{tmp_path / 'rules.db'}")) for _ in range(3)]
    stores[0].add(rules("shop", 1), by="ann")
    start = Barrier(3)

    def publish(store: RuleStore) -> str:
        start.wait()
        return store.publish("shop@1", by="bob").ref

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(publish, stores)) == ["shop@1"] * 3
    assert len(stores[0].publications("shop")) == 1
