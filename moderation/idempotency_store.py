"""The requests under idempotency keys in the database: which are running, and how the others were answered."""

from __future__ import annotations

import hashlib
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from sqlalchemy import and_, bindparam, delete, select, update

from moderation.database import Database, now
from moderation.idempotency_tables import KeptAnswerRow
from moderation.problem import Problem
from moderation.tables import UtcTime

KEPT_FOR = timedelta(hours=24)
LEASE = timedelta(seconds=150)
"""How long a request may run: longer than the 120 s after which BentoML gives it up. A crash blocks its key so long."""
PURGED_PER_REQUEST = 16
PURGED_AT_ONCE = 1_000
PURGED_EVERY = timedelta(hours=1)
"""How often a worker purges to which no requests with keys come; what nobody asks for again is so forgotten, too."""


@dataclass(frozen=True)
class Answer:
    """An answer as it is kept."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Pairs of name and value."""
    body: bytes


@dataclass(frozen=True)
class Attempt:
    """One sending of a request under a key."""

    id: str
    """SHA-256 of caller, path and key, in hex."""
    content_sha256: str
    """Of the query and the body, in hex."""
    lease: str
    """Tells this sending from every other one."""

    @classmethod
    def of(cls, *, caller: str, path: str, key: str, query: bytes = b"", body: bytes) -> Attempt:
        """The attempt of `caller` (name of its API key) to POST `body` to `path` under `key`."""
        where = _digest(caller.encode(), path.encode("utf-8", "surrogatepass"), key.encode())
        return cls(where, _digest(query, body), uuid.uuid4().hex)


# Statements are made once: making one takes several times as long as what SQLite then does.
_UNANSWERED = {"status": None, "headers": None, "body": None}
_FIND = select(KeptAnswerRow.content_sha256, KeptAnswerRow.status, KeptAnswerRow.headers, KeptAnswerRow.body).where(
    KeptAnswerRow.id == bindparam("of")
)
# An attempt that has its lease still, and no answer yet.
_HELD = and_(
    KeptAnswerRow.id == bindparam("of"), KeptAnswerRow.lease == bindparam("by"), KeptAnswerRow.status.is_(None)
)
_KEEP = update(KeptAnswerRow).where(_HELD)
_RELEASE = delete(KeptAnswerRow).where(_HELD)
# Rows that another worker has its hands on are left to it: two that waited for each other would wait for ever.
_EXPIRED = (
    select(KeptAnswerRow.id)
    .where(KeptAnswerRow.expires_at <= bindparam("at"))
    .order_by(KeptAnswerRow.expires_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_PURGE = delete(KeptAnswerRow).where(KeptAnswerRow.id.in_(_EXPIRED))


class IdempotencyStore:
    """The running and the answered requests of one database; workers share nothing else."""

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = now) -> None:
        """Take a database.

        Args:
            database: the one of all workers.
            clock: returns the time, with its zone; those of all workers should agree to a few seconds.
        """
        self._database = database
        self._clock = clock
        self._purge_at = clock()
        self._guard = Lock()
        take = database.insert("idempotency")
        # The unique id decides who is first; what has expired is free for the next. The count of rows is the answer,
        # and not every driver keeps that of an INSERT unasked.
        self._take = take.on_conflict_do_update(
            index_elements=["id"],
            set_={name: take.excluded[name] for name in ("content_sha256", "lease", "expires_at", *_UNANSWERED)},
            where=KeptAnswerRow.expires_at <= bindparam("at", type_=UtcTime()),
        ).execution_options(preserve_rowcount=True)

    def begin(self, attempt: Attempt) -> Answer | None:
        """Return the kept answer, or None: then the request is this attempt's to run, for `LEASE`.

        Deletes up to `PURGED_PER_REQUEST` rows that have expired.

        Raises:
            Problem: `idempotency_key_reused` for other content, `idempotency_in_progress` while another attempt runs.
        """
        at = self._clock()
        values = {"id": attempt.id, "content_sha256": attempt.content_sha256, "lease": attempt.lease}
        with self._database.writer.begin() as connection:
            taken = connection.execute(self._take, {**values, **_UNANSWERED, "expires_at": at + LEASE, "at": at})
            runs = taken.rowcount == 1
            found = None if runs else connection.execute(_FIND, {"of": attempt.id}).one_or_none()
            connection.execute(_PURGE, {"at": at, "most": PURGED_PER_REQUEST})
        if runs:
            return None
        if found is not None and found.content_sha256 != attempt.content_sha256:
            detail = "the key was sent before with another query or body; each request needs a key of its own"
            raise Problem("idempotency_key_reused", detail)
        if found is None or found.status is None:  # None: given back between the two statements
            detail = "the first request under this key is not answered yet; send it again later"
            raise Problem("idempotency_in_progress", detail, {"Retry-After": "1"})
        return Answer(found.status, tuple((name, value) for name, value in found.headers), zlib.decompress(found.body))

    def keep(self, attempt: Attempt, answer: Answer) -> bool:
        """Keep the answer for `KEPT_FOR`; return False where the lease had ended and another attempt took over."""
        kept = {"status": answer.status, "headers": list(answer.headers), "body": zlib.compress(answer.body)}
        held = {"of": attempt.id, "by": attempt.lease}
        with self._database.writer.begin() as connection:
            return connection.execute(_KEEP, {**held, **kept, "expires_at": self._clock() + KEPT_FOR}).rowcount == 1

    def release(self, attempt: Attempt) -> None:
        """Give the lease back: the next attempt runs. Changes nothing where it is not held, or the answer is kept."""
        with self._database.writer.begin() as connection:
            connection.execute(_RELEASE, {"of": attempt.id, "by": attempt.lease})

    @property
    def purge_is_due(self) -> bool:
        """Whether `purge_when_due` would delete now; takes no database."""
        return self._clock() >= self._purge_at

    def purge_when_due(self) -> int:
        """Delete up to `PURGED_AT_ONCE` rows that have expired, once in `PURGED_EVERY`; return how many.

        Where there may be more of them the next call goes on. The first call, at the start, always deletes.
        """
        with self._guard:
            if not self.purge_is_due:
                return 0
            self._purge_at = self._clock() + PURGED_EVERY
        purged = self.purge(PURGED_AT_ONCE)
        if purged == PURGED_AT_ONCE:
            with self._guard:
                self._purge_at = self._clock()
        return purged

    def purge(self, limit: int) -> int:
        """Delete up to `limit` rows that have expired, the oldest first; return how many."""
        with self._database.writer.begin() as connection:
            return connection.execute(_PURGE, {"at": self._clock(), "most": limit}).rowcount


def _digest(*parts: bytes) -> str:
    # In each use one part at most can hold the byte 0, so that no two uses join to the same bytes.
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
