"""The decisions, reviews and verdicts in the database.

`decisions` and `verdicts` are only ever appended to. No text of an item is stored, except in `reviews.text` where the
caller asked for it, and from there it can be erased without touching any decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import Select, Text, cast, func, select
from sqlalchemy.orm import Session

from moderation.database import DEFAULT_URL, Database
from moderation.decision import Action, Context
from moderation.signals import Signal, read_signals
from moderation.tables import DecisionRow, ReviewRow, VerdictRow
from retrieval_shared.language import Language

STATES = ("pending", "decided")
_PAGE_ROWS = 500

# What many rows have in common is read as text, and parsed once for all of them.
_LOGGED = tuple(
    cast(column, Text).label(column.name) if column.name in ("versions", "context") else column
    for column in DecisionRow.__table__.columns
)

Row = Mapping[str, Any]
"""Values of a new row, by column."""


@dataclass(frozen=True)
class LoggedDecision:
    """One item in one region as it was decided; `decide(row.probabilities, region=row.region, ...)` replays it."""

    id: int
    """Rises with time of entry."""
    item_id: str
    text_sha256: str
    region: str
    policy: str
    """Policy reference, such as `ads-default@1`."""
    action: Action
    probabilities: Mapping[str, float]
    """Per head, in [0, 1], as judged for this region; empty where the item could not be scored."""
    context: Context
    versions: Mapping[str, str]
    """What it depends on; `adapter` is the one that judged this region."""
    language: Language | None
    """None where it was not told, as in rows of older releases."""
    degraded: bool
    entries: Sequence[Mapping[str, Any]]
    """The entries without the text of their evidence."""
    signals: tuple[Signal, ...]
    """What rules and the bank found, without its places."""
    reasons: Sequence[str]
    review_id: str | None
    created_at: datetime


@dataclass(frozen=True)
class FiledReview:
    """A review and, once decided, the verdict that counts."""

    review: ReviewRow
    verdict: VerdictRow | None


class Store:
    """A database opened for reading and writing; safe for threads, and for several processes on one file."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        """Open the database, made with its folders and tables where it does not exist.

        Raises:
            ValueError: `url` is no database URL.
            WardlineError: the database cannot be opened or is of another schema version.
        """
        self.database = Database(url)
        self._log_decisions = self.database.insert("decisions")
        self._file_missing = self.database.insert("reviews").on_conflict_do_nothing()

    def close(self) -> None:
        """Give back all connections."""
        self.database.close()

    def append(self, decisions: Sequence[Row], reviews: Sequence[Row]) -> None:
        """Log decisions and file reviews, all or nothing; a review that is there already stays as it is.

        Args:
            decisions: each with all columns of `DecisionRow` but `id`.
            reviews: each with the same columns of `ReviewRow`; a column left out is NULL.
        """
        # Plain inserts, no session: its unit of work costs more than everything else between request and answer.
        with self.database.writer.begin() as connection:
            if reviews:
                connection.execute(self._file_missing, reviews)
            if decisions:
                connection.execute(self._log_decisions, decisions)

    def decision_rows(
        self,
        *,
        policy: str | None = None,
        region: str | None = None,
        since: datetime | None = None,
        after_id: int = 0,
        with_signals: bool = False,
    ) -> Iterator[LoggedDecision]:
        """Yield logged decisions, oldest first, a page at a time; new ones may be appended meanwhile.

        Args:
            policy: only those of this policy reference.
            region: only those for this region.
            since: only those logged at this time or later; needs a time zone.
            after_id: only those with a higher id, to go on where an earlier reading ended.
            with_signals: only those in which a rule or the bank found something.
        """
        # Rows, not objects: a backtest reads a hundred thousand of them.
        chosen = select(*_LOGGED).order_by(DecisionRow.id).limit(_PAGE_ROWS)
        if policy is not None:
            chosen = chosen.where(DecisionRow.policy == policy)
        if region is not None:
            chosen = chosen.where(DecisionRow.region == region)
        if since is not None:
            chosen = chosen.where(DecisionRow.created_at >= since)
        if with_signals:
            chosen = chosen.where(DecisionRow.signals.is_not(None))
        while True:
            with self.database.engine.connect() as connection:
                page = connection.execute(chosen.where(DecisionRow.id > after_id)).all()
            yield from map(_logged, page)
            if len(page) < _PAGE_ROWS:
                return
            after_id = page[-1].id

    def count_decisions(self, *, region: str | None = None, since: datetime | None = None) -> int:
        """Return how many logged decisions `decision_rows` yields for a region and a time."""
        counted = select(func.count()).select_from(DecisionRow)
        if region is not None:
            counted = counted.where(DecisionRow.region == region)
        if since is not None:
            counted = counted.where(DecisionRow.created_at >= since)
        with self.database.engine.connect() as connection:
            return connection.scalar(counted) or 0

    def reviews(
        self, *, state: str | None = None, region: str | None = None, limit: int | None = None
    ) -> Iterator[FiledReview]:
        """Yield reviews as they stand at one moment: pending before decided, then the most urgent, then the oldest.

        Raises:
            ValueError: `state` is none of `pending`, `decided`.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"state: found {state!r}, allowed {', '.join(STATES)}")
        with Session(self.database.engine) as session:
            found = session.execute(_chosen(state, region).limit(limit).execution_options(yield_per=_PAGE_ROWS))
            for review, verdict in found:
                yield FiledReview(review, verdict)

    def review(self, review_id: str) -> ReviewRow | None:
        """Return a review, None where there is none of that id."""
        with Session(self.database.engine) as session:
            return session.get(ReviewRow, review_id)

    def add_verdict(self, verdict: VerdictRow, *, timed: bool) -> bool:
        """Append what a person said and return whether it was new; the latest verdict decides the review.

        Args:
            verdict: of a review that exists.
            timed: whether `created_at` was told. Where it is only the time of entry, a verdict that says the same is
                the same verdict.
        """
        with Session(self.database.writer) as session, session.begin():
            same = select(VerdictRow.id).where(VerdictRow.content_sha256 == verdict.content_sha256)
            if timed:
                same = same.where(VerdictRow.created_at == verdict.created_at)
            if session.scalars(same.limit(1)).first() is not None:
                return False
            review = session.get_one(ReviewRow, verdict.review_id, with_for_update=True)
            session.add(verdict)
            session.flush()
            if review.decided_at is None or verdict.created_at >= review.decided_at:
                review.state, review.final_action = "decided", verdict.action
                review.verdict_id, review.decided_at = verdict.id, verdict.created_at
        return True

    def erase_text(self, *, item_id: str) -> int:
        """Erase the stored text of an item and return in how many reviews it stood; decisions and verdicts stay.

        In SQLite the bytes are overwritten. While another process is in the middle of reading, its journal keeps them
        until the next checkpoint.
        """
        with Session(self.database.writer) as session, session.begin():
            rows = session.scalars(select(ReviewRow).where(ReviewRow.item_id == item_id, ReviewRow.text.is_not(None)))
            erased = rows.all()
            for row in erased:
                row.text = None
        if self.database.engine.dialect.name == "sqlite":
            with self.database.outside_transactions() as raw:  # a checkpoint cannot be in one
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
        return len(erased)


def review_id(*, item_id: str, policy: str, region: str) -> str:
    """Return the id of the one review that an item has under a policy in a region: `rev_` and 24 hex digits.

    It follows from its key, so every process gives the same id without asking the database.
    """
    key = "\0".join((item_id, policy, region))
    return f"rev_{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def _chosen(state: str | None, region: str | None) -> Select[ReviewRow, VerdictRow]:
    chosen = select(ReviewRow, VerdictRow).outerjoin(VerdictRow, VerdictRow.id == ReviewRow.verdict_id)
    if state is not None:
        chosen = chosen.where(ReviewRow.state == state)
    if region is not None:
        chosen = chosen.where(ReviewRow.region == region)
    return chosen.order_by(ReviewRow.state.desc(), ReviewRow.priority.desc(), ReviewRow.created_at, ReviewRow.id)


def _language(row: Any) -> Language | None:  # noqa: ANN401 - as above
    if row.language is None or row.language_confidence is None or row.language_supported is None:
        return None
    return Language(row.language, row.language_confidence, row.language_supported)


@lru_cache(maxsize=1_024)
def _context(text: str) -> Context:
    context = orjson.loads(text)
    scheduled, disclosures = context.get("scheduled_at"), context.get("disclosures")
    return Context(
        min_age=context.get("min_age"),
        advertiser_id=context.get("advertiser_id"),
        certificates=frozenset(context.get("certificates", ())),
        disclosures=None if disclosures is None else frozenset(disclosures),
        scheduled_at=datetime.fromisoformat(scheduled) if scheduled else None,
    )


@lru_cache(maxsize=1_024)
def _versions(text: str) -> Mapping[str, str]:
    return MappingProxyType(orjson.loads(text))


def _logged(row: Any) -> LoggedDecision:  # noqa: ANN401 - a row with the table's columns
    return LoggedDecision(
        id=row.id,
        item_id=row.item_id,
        text_sha256=row.text_sha256,
        region=row.region,
        policy=row.policy,
        action=Action(row.action),
        probabilities=row.probabilities,
        context=_context(row.context),
        versions=_versions(row.versions),
        language=_language(row),
        degraded=row.degraded,
        entries=row.entries,
        signals=read_signals(row.signals or ()),
        reasons=row.reasons,
        review_id=row.review_id,
        created_at=row.created_at,
    )
