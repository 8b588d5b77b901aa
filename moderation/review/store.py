"""The database of decisions, reviews and verdicts: SQLite in one file, or PostgreSQL; several processes may write.

`decisions` and `verdicts` are only ever appended to. No text of an item is stored, except in `reviews.text` where the
caller asked for it, and from there it can be erased without touching any decision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, create_engine, event, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from moderation.decision import Action, Context
from moderation.review.tables import SCHEMA_VERSION, Base, DecisionRow, ReviewRow, SchemaRow, VerdictRow
from retrieval_shared.errors import WardlineError

DEFAULT_URL = "sqlite:///var/wardline.db"
STATES = ("pending", "decided")
BUSY_TIMEOUT_S = 30
_PAGE_ROWS = 500
_WRITES = "wardline_writes"

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
    """Per head, in [0, 1]; empty where the item could not be scored."""
    context: Context
    versions: Mapping[str, str]
    language: str | None
    degraded: bool
    entries: Sequence[Mapping[str, Any]]
    """The entries without the text of their evidence."""
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
        self._engine = _engine(url)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._log_decisions = _insert(self._engine, "decisions")
        self._file_missing = _insert(self._engine, "reviews").on_conflict_do_nothing()
        try:
            with self._writer.begin() as connection:
                self._prepare(connection)
        except WardlineError:
            self.close()
            raise
        except SQLAlchemyError as error:
            self.close()
            shown = self._engine.url.render_as_string(hide_password=True)
            raise WardlineError(f"database {shown} cannot be opened: {_cause(error)}") from error

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()

    def append(self, decisions: Sequence[Row], reviews: Sequence[Row]) -> None:
        """Log decisions and file reviews, all or nothing; a review that is there already stays as it is.

        Args:
            decisions: each with all columns of `DecisionRow` but `id`.
            reviews: each with the same columns of `ReviewRow`; a column left out is NULL.
        """
        # Plain inserts, no session: its unit of work costs more than everything else between request and answer.
        with self._writer.begin() as connection:
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
    ) -> Iterator[LoggedDecision]:
        """Yield logged decisions, oldest first, a page at a time; new ones may be appended meanwhile.

        Args:
            policy: only those of this policy reference.
            region: only those for this region.
            since: only those logged at this time or later; needs a time zone.
            after_id: only those with a higher id, to go on where an earlier reading ended.
        """
        chosen = select(DecisionRow).order_by(DecisionRow.id).limit(_PAGE_ROWS)
        if policy is not None:
            chosen = chosen.where(DecisionRow.policy == policy)
        if region is not None:
            chosen = chosen.where(DecisionRow.region == region)
        if since is not None:
            chosen = chosen.where(DecisionRow.created_at >= since)
        while True:
            with Session(self._engine) as session:
                page = session.scalars(chosen.where(DecisionRow.id > after_id)).all()
            yield from map(_logged, page)
            if len(page) < _PAGE_ROWS:
                return
            after_id = page[-1].id

    def reviews(
        self, *, state: str | None = None, region: str | None = None, limit: int | None = None
    ) -> Iterator[FiledReview]:
        """Yield reviews as they stand at one moment: pending before decided, then the most urgent, then the oldest.

        Raises:
            ValueError: `state` is none of `pending`, `decided`.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"state: found {state!r}, allowed {', '.join(STATES)}")
        with Session(self._engine) as session:
            found = session.execute(_chosen(state, region).limit(limit).execution_options(yield_per=_PAGE_ROWS))
            for review, verdict in found:
                yield FiledReview(review, verdict)

    def review(self, review_id: str) -> ReviewRow | None:
        """Return a review, None where there is none of that id."""
        with Session(self._engine) as session:
            return session.get(ReviewRow, review_id)

    def add_verdict(self, verdict: VerdictRow, *, timed: bool) -> bool:
        """Append what a person said and return whether it was new; the latest verdict decides the review.

        Args:
            verdict: of a review that exists.
            timed: whether `created_at` was told. Where it is only the time of entry, a verdict that says the same is
                the same verdict.
        """
        with Session(self._writer) as session, session.begin():
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
        with Session(self._writer) as session, session.begin():
            rows = session.scalars(select(ReviewRow).where(ReviewRow.item_id == item_id, ReviewRow.text.is_not(None)))
            erased = rows.all()
            for row in erased:
                row.text = None
        if self._engine.dialect.name == "sqlite":
            raw = self._engine.raw_connection()  # outside a transaction, which a checkpoint cannot be in
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
            finally:
                raw.close()
        return len(erased)

    def _prepare(self, connection: Connection) -> None:
        """Make what is missing; raise `WardlineError` before touching a database of another version."""
        Base.metadata.create_all(connection, tables=[Base.metadata.tables["schema_version"]])
        version = _insert(self._engine, "schema_version").values(id=1, version=SCHEMA_VERSION)
        connection.execute(version.on_conflict_do_nothing())
        found = connection.scalar(select(SchemaRow.version))
        if found != SCHEMA_VERSION:
            raise WardlineError(
                f"database {self._engine.url.render_as_string(hide_password=True)} has schema version {found}, "
                f"this release reads version {SCHEMA_VERSION}"
            )
        Base.metadata.create_all(connection)


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


def _logged(row: DecisionRow) -> LoggedDecision:
    context = row.context
    scheduled = context.get("scheduled_at")
    return LoggedDecision(
        id=row.id,
        item_id=row.item_id,
        text_sha256=row.text_sha256,
        region=row.region,
        policy=row.policy,
        action=Action(row.action),
        probabilities=row.probabilities,
        context=Context(
            min_age=context.get("min_age"),
            advertiser_id=context.get("advertiser_id"),
            certificates=frozenset(context.get("certificates", ())),
            disclosures=None if context.get("disclosures") is None else frozenset(context["disclosures"]),
            scheduled_at=datetime.fromisoformat(scheduled) if scheduled else None,
        ),
        versions=row.versions,
        language=row.language,
        degraded=row.degraded,
        entries=row.entries,
        reasons=row.reasons,
        review_id=row.review_id,
        created_at=row.created_at,
    )


def _insert(engine: Engine, table: str) -> Any:  # noqa: ANN401 - one of two dialects' Insert
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(Base.metadata.tables[table])


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ValueError(f"url: found {url!r}, expected a database URL such as {DEFAULT_URL!r}") from error
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ValueError(f"url: found {parsed.get_backend_name()!r}, allowed sqlite or postgresql")
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed)
    in_memory = parsed.database in (None, "", ":memory:")
    if not in_memory:
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)
    # a database in memory lives in one connection, which all threads then share
    engine = (
        create_engine(parsed, poolclass=StaticPool, connect_args={"check_same_thread": False})
        if in_memory
        else create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's connection
    # Transactions begin where SQLAlchemy says so (_on_begin), not where the driver guesses.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    # A writer takes its lock at once: one that starts as a reader fails, without waiting, when another got ahead of it.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


def _cause(error: SQLAlchemyError) -> str:
    return str(getattr(error, "orig", None) or error)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)
