"""The bank: items known to be bad, found again when they come back word for word or nearly so."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
import structlog
from sqlalchemy import Row, select
from sqlalchemy.exc import SQLAlchemyError

from moderation.bank_tables import BankRow
from moderation.database import Database, now, order_commits
from moderation.minhash import METHOD, SignatureIndex, signature
from retrieval_shared.text import normalise

log = structlog.get_logger()

NEAR = 0.8
"""Similarity from which a text counts as nearly an entry."""
FOLLOW_EVERY_S = 1.0
"""How late a worker may hear of what another one added or removed."""


@dataclass(frozen=True)
class BankMatch:
    """An entry of the bank that a text is, or is like."""

    entry: str
    head: str
    """What the entry was found guilty of."""
    similarity: float
    """In [0, 1]: 1 the same, 0 nothing in common."""
    kind: Literal["exact", "near"]

    def __post_init__(self) -> None:
        """Raise `ValueError` for a similarity outside [0, 1]."""
        if not 0 <= self.similarity <= 1:
            raise ValueError(f"similarity: found {self.similarity}, allowed a number in [0, 1]")


class Bank(Protocol):
    """Items known to be bad."""

    def nearest(self, text: str) -> tuple[BankMatch, ...]:
        """Return the nearest entry of every head that has one near enough, nearest first.

        Args:
            text: canonical (`normalise`).
        """


@dataclass(frozen=True)
class BankEntry:
    """An item in the bank; of its text there is only a hash and a signature."""

    id: str
    head: str
    text_sha256: str
    note: str | None
    added_by: str
    created_at: datetime


class StoredBank:
    """The bank of one database: exact by the hash of the canonical text, nearly exact by MinHash.

    Every worker keeps the signatures in memory and follows the table: what one adds or removes the others heed within
    `FOLLOW_EVERY_S`, the one itself at once. Safe for threads.
    """

    def __init__(
        self, database: Database, *, threshold: float = NEAR, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the bank.

        Args:
            database: opened.
            threshold: similarity from which a text counts as near, in (0, 1].
            clock: seconds, from any moment.

        Raises:
            ValueError: the threshold is out of range.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold: found {threshold}, allowed a number in (0, 1]")
        self._database = database
        self._threshold = threshold
        self._clock = clock
        self._reading = Lock()  # one thread at a time reads the table; the others search meanwhile
        self._number = 0  # the last row that was read
        self._lock = Lock()  # over all below
        self._entries: dict[str, BankEntry] = {}
        self._by_text: dict[str, list[BankEntry]] = {}
        self._index = SignatureIndex()
        self.follow()

    def nearest(self, text: str) -> tuple[BankMatch, ...]:
        """Return the nearest entry of every head that has one near enough, nearest first.

        Args:
            text: canonical (`normalise`).
        """
        self._follow_when_due()
        own = signature(text) if len(self._index) else None
        with self._lock:
            same = self._by_text.get(_sha256(text), ())
            near = [] if own is None else self._index.near(own, self._threshold)
            alike = [(self._entries[entry], similarity) for entry, similarity in near]
        best = {entry.head: BankMatch(entry.id, entry.head, 1.0, "exact") for entry in same}
        for entry, similarity in alike:
            if entry.head not in best or similarity > best[entry.head].similarity:
                best[entry.head] = BankMatch(entry.id, entry.head, similarity, "near")
        return tuple(sorted(best.values(), key=lambda match: (-match.similarity, match.kind, match.head)))

    def add(self, text: str, head: str, *, by: str, note: str | None = None) -> str:
        """Add an item and return the id of its entry; one that is there already stays as it is.

        Args:
            text: the item's text, in canonical form or not; only its hash and its signature are kept.
            head: what it is guilty of.
            by: who adds it.
            note: why, for people.
        """
        canonical = normalise(text).canonical
        digest = _sha256(canonical)
        entry = "bank_" + hashlib.sha256(f"{head}\n{digest}".encode()).hexdigest()[:24]
        self.follow()
        if entry not in self._entries:
            own = signature(canonical)
            self._append(
                entry=entry, action="add", head=head, text_sha256=digest, method=METHOD,
                signature=None if own is None else own.astype("<u2").tobytes(), note=note, written_by=by,
            )  # fmt: skip
        return entry

    def remove(self, entry: str, *, by: str, note: str | None = None) -> None:
        """Take an entry out of the bank; its rows stay in the table.

        Raises:
            LookupError: it is not in the bank.
        """
        self.follow()
        known = self._entries.get(entry)
        if known is None:
            raise LookupError(f"entry: found {entry!r}, which is not in the bank")
        self._append(
            entry=entry, action="remove", head=known.head, text_sha256=known.text_sha256, method=METHOD,
            signature=None, note=note, written_by=by,
        )  # fmt: skip

    def entries(self) -> tuple[BankEntry, ...]:
        """Return what is in the bank, in the order in which it was added."""
        self.follow()
        with self._lock:
            return tuple(self._entries.values())

    def follow(self) -> None:
        """Read what was added and removed since the last time."""
        self._followed_at = self._clock()  # at once, so that no other thread finds it due
        with self._reading:
            unread = select(BankRow.__table__).where(BankRow.number > self._number).order_by(BankRow.number)
            with self._database.engine.connect() as connection:
                rows = connection.execute(unread).all()
            with self._lock:
                for row in rows:
                    self._heed(row)

    def _follow_when_due(self) -> None:
        """Follow the table; where it cannot be read the bank answers from what it knows, and tries again later."""
        if self._clock() < self._followed_at + FOLLOW_EVERY_S:
            return
        try:
            self.follow()
        except SQLAlchemyError as error:
            log.warning("bank not followed", number=self._number, reason=str(error))

    def _heed(self, row: Row[Any]) -> None:
        """Take in one row; the latest of an entry counts."""
        known = self._entries.pop(row.entry, None)
        if known is not None:
            self._index.drop(row.entry)
            left = [each for each in self._by_text.pop(known.text_sha256) if each.id != row.entry]
            if left:
                self._by_text[known.text_sha256] = left
        if row.action == "add":
            entry = BankEntry(row.entry, row.head, row.text_sha256, row.note, row.written_by, row.created_at)
            self._entries[entry.id] = entry
            self._by_text[entry.text_sha256] = [*self._by_text.get(entry.text_sha256, ()), entry]
            if row.signature is not None and row.method == METHOD:
                self._index.put(entry.id, np.frombuffer(row.signature, dtype="<u2"))
        self._number = row.number

    def _append(self, **row: object) -> None:
        with self._database.writer.begin() as connection:
            order_commits(connection, BankRow.__tablename__)
            connection.execute(self._database.insert("bank").values(**row, created_at=now()))
        self.follow()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
