"""The bank: edited copies are found and other ads of the topic are not, and two workers follow each other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from moderation.bank import FOLLOW_EVERY_S, NEAR, BankMatch, StoredBank
from moderation.database import Database
from retrieval_shared.text import normalise

AD = (
    "Win big tonight at our new online casino. Deposit 20 dollars and get 100 free spins on every slot machine. "
    "Fast payouts, friendly dealers and a welcome bonus for each new player. Join now, the offer ends on Sunday."
)
SENTENCES = AD.split(". ")
EDITED = {
    "a word changed": AD.replace("friendly", "charming"),
    "a word left out": AD.replace("online ", ""),
    "the price changed": AD.replace("20 dollars", "35 dollars").replace("100", "250"),
    "sentences re-ordered": ". ".join([SENTENCES[2], SENTENCES[0], SENTENCES[3], SENTENCES[1]]),
    "in capitals": AD.upper(),
    "with other signs": AD.replace(". ", "!!! ").replace(",", " -"),
}
OTHERS = (
    "The old casino on the harbour is now a museum. Guided tours every Sunday at noon, tickets at the door.",
    "Play poker with friends this weekend: free entry, no stakes, snacks included. Sign up at the community hall.",
    "Spin class at our new gym! Deposit your bag, get a free towel and train tonight with friendly coaches.",
    "Our online slots have new bonus rounds. Sign up today and collect fifty spins, payouts within the hour.",
)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'bank.db'}"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def bank(database: Database) -> StoredBank:
    return StoredBank(database)


def test_the_same_text_is_exact(bank: StoredBank) -> None:
    entry = bank.add(AD, "gambling", by="ann")
    assert bank.nearest(AD) == (BankMatch(entry, "gambling", 1.0, "exact"),)


@pytest.mark.parametrize("edit", EDITED)
def test_an_edited_copy_is_near(bank: StoredBank, edit: str) -> None:
    entry = bank.add(AD, "gambling", by="ann")
    (match,) = bank.nearest(EDITED[edit])
    assert (match.entry, match.head, match.kind) == (entry, "gambling", "near")
    assert NEAR <= match.similarity <= 1


@pytest.mark.parametrize("other", OTHERS)
def test_another_ad_of_the_topic_is_not(bank: StoredBank, other: str) -> None:
    bank.add(AD, "gambling", by="ann")
    assert bank.nearest(other) == ()


def test_a_disguised_copy_is_the_same_once_it_is_canonical(bank: StoredBank) -> None:
    bank.add(AD.replace("casino", "c\u200basin\u043e"), "gambling", by="ann")
    assert [match.kind for match in bank.nearest(normalise(AD.replace("Win", "W\u0456n")).canonical)] == ["exact"]


def test_every_head_tells_its_nearest_entry(bank: StoredBank) -> None:
    gambling = bank.add(AD, "gambling", by="ann")
    bank.add(EDITED["a word changed"], "gambling", by="ann")
    scam = bank.add(EDITED["a word changed"], "scam", by="ann")
    found = bank.nearest(AD)
    assert [(match.entry, match.head, match.kind) for match in found] == [
        (gambling, "gambling", "exact"), (scam, "scam", "near"),
    ]  # fmt: skip


def test_the_threshold_decides_what_is_near(database: Database) -> None:
    StoredBank(database).add(AD, "gambling", by="ann")
    strict, loose = StoredBank(database, threshold=1.0), StoredBank(database, threshold=0.05)
    assert strict.nearest(EDITED["a word changed"]) == ()
    assert [match.kind for match in strict.nearest(EDITED["the price changed"])] == ["near"]
    assert [match.kind for match in loose.nearest(OTHERS[0])] == ["near"]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(database: Database, threshold: float) -> None:
    with pytest.raises(ValueError, match=r"threshold: found .*, allowed a number in \(0, 1\]"):
        StoredBank(database, threshold=threshold)


@pytest.mark.parametrize("similarity", [-0.1, 1.1, float("nan")])
def test_a_similarity_out_of_range_is_refused(similarity: float) -> None:
    with pytest.raises(ValueError, match=r"similarity: found .*, allowed a number in \[0, 1\]"):
        BankMatch("bank_1", "scam", similarity, "near")


def test_an_empty_bank_knows_nothing(bank: StoredBank) -> None:
    assert bank.nearest(AD) == ()
    assert bank.nearest("") == ()
    assert bank.entries() == ()


def test_a_text_without_a_word_is_found_exactly_only(bank: StoredBank) -> None:
    bank.add("🎰🎰🎰", "gambling", by="ann")
    bank.add(AD, "gambling", by="ann")
    assert [match.kind for match in bank.nearest("🎰🎰🎰")] == ["exact"]
    assert bank.nearest("🎰") == ()


def test_adding_twice_adds_once_and_adding_again_after_removal_adds(bank: StoredBank, database: Database) -> None:
    entry = bank.add(AD, "gambling", by="ann")
    assert bank.add(AD, "gambling", by="bob") == entry
    assert count(database) == 1
    bank.remove(entry, by="bob")
    assert bank.nearest(AD) == bank.nearest(EDITED["a word changed"]) == bank.entries() == ()
    assert bank.add(AD, "gambling", by="cy") == entry
    assert [match.kind for match in bank.nearest(AD)] == ["exact"]
    assert [match.kind for match in bank.nearest(EDITED["a word changed"])] == ["near"]
    assert count(database) == 3


def test_what_is_not_in_the_bank_cannot_be_removed(bank: StoredBank) -> None:
    entry = bank.add(AD, "gambling", by="ann")
    bank.remove(entry, by="ann")
    for absent in (entry, "bank_0"):
        with pytest.raises(LookupError, match=f"entry: found '{absent}', which is not in the bank"):
            bank.remove(absent, by="ann")


def test_entries_tell_who_added_them_and_why(bank: StoredBank) -> None:
    first = bank.add(AD, "gambling", by="ann", note="seen 90 times")
    second = bank.add(OTHERS[0], "scam", by="bob")
    told = [(each.id, each.head, each.added_by, each.note) for each in bank.entries()]
    assert told == [(first, "gambling", "ann", "seen 90 times"), (second, "scam", "bob", None)]
    assert all(each.created_at <= datetime.now(UTC) for each in bank.entries())


def test_no_row_holds_the_text(bank: StoredBank, database: Database) -> None:
    bank.add(AD, "gambling", by="ann")
    with database.engine.connect() as connection:
        (row,) = connection.execute(text("SELECT * FROM bank")).all()
    assert not any("casino" in str(value) for value in row)


def test_two_workers_follow_additions_and_removals(url: str) -> None:
    clock = Clock()
    first, second = (StoredBank(Database(url), clock=clock) for _ in range(2))
    entry = first.add(AD, "gambling", by="ann")
    assert [match.kind for match in first.nearest(AD)] == ["exact"], "the worker that added it knows it at once"
    assert second.nearest(AD) == (), "the other one has not looked yet"
    clock.at += FOLLOW_EVERY_S
    assert [match.entry for match in second.nearest(AD)] == [entry]
    assert [match.entry for match in second.nearest(EDITED["a word changed"])] == [entry]
    other = second.add(OTHERS[0], "scam", by="bob")
    second.remove(entry, by="bob")
    assert second.nearest(AD) == ()
    clock.at += FOLLOW_EVERY_S
    assert first.nearest(AD) == first.nearest(EDITED["a word changed"]) == ()
    assert [match.entry for match in first.nearest(OTHERS[0])] == [other]
    assert [each.id for each in first.entries()] == [each.id for each in second.entries()] == [other]


def test_threads_of_one_worker_may_add_and_search_at_once(url: str) -> None:
    bank = StoredBank(Database(url))
    ads = [f"{word} {AD} {word}" for word in ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")]

    def add_and_search(ad: str) -> bool:
        entry = bank.add(ad, "gambling", by="ann")
        return (entry, "exact") in [(match.entry, match.kind) for match in bank.nearest(ad)]

    with ThreadPoolExecutor(max_workers=3) as pool:
        assert all(pool.map(add_and_search, ads))
    assert len(bank.entries()) == len(ads)


def test_a_worker_that_starts_later_reads_all_of_it(url: str) -> None:
    first = StoredBank(Database(url))
    entries = [first.add(ad, "gambling", by="ann") for ad in (AD, *OTHERS)]
    first.remove(entries[1], by="ann")
    later = StoredBank(Database(url))
    assert [each.id for each in later.entries()] == [entries[0], *entries[2:]]
    assert [later.nearest(ad)[0].entry for ad in (AD, *OTHERS[1:])] == [entries[0], *entries[2:]]


def test_where_the_table_cannot_be_read_the_bank_answers_from_what_it_knows(database: Database) -> None:
    clock = Clock()
    bank = StoredBank(database, clock=clock)
    bank.add(AD, "gambling", by="ann")
    with database.writer.begin() as connection:
        connection.execute(text("ALTER TABLE bank RENAME TO away"))
    clock.at += FOLLOW_EVERY_S
    assert [match.kind for match in bank.nearest(AD)] == ["exact"]
    with pytest.raises(DatabaseError):
        bank.add(OTHERS[0], "scam", by="ann")


def test_a_signature_of_another_method_is_not_compared(bank: StoredBank, database: Database) -> None:
    bank.add(AD, "gambling", by="ann")
    with database.writer.begin() as connection:
        row = dict(connection.execute(text("SELECT * FROM bank")).mappings().one())
        changed = {**row, "number": 2, "method": "older", "created_at": datetime.now(UTC)}
        connection.execute(database.insert("bank").values(**changed))
    assert [match.kind for match in StoredBank(database).nearest(AD)] == ["exact"]
    assert StoredBank(database).nearest(EDITED["a word changed"]) == ()


def test_the_database_itself_refuses_to_change_a_row(bank: StoredBank, database: Database) -> None:
    bank.add(AD, "gambling", by="ann")
    for statement in ("UPDATE bank SET head = 'scam'", "DELETE FROM bank"):
        with pytest.raises(DatabaseError, match="append-only"), database.writer.begin() as connection:
            connection.execute(text(statement))


def count(database: Database) -> int:
    with database.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM bank")).scalar_one())
