"""The tables of the database: policies, decision log, review queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    event,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_VERSION = 2
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE decisions ADD COLUMN language_confidence FLOAT",
        "ALTER TABLE decisions ADD COLUMN language_supported BOOLEAN",
        "ALTER TABLE decisions ADD COLUMN signals JSON",
    ),
}
"""Version -> what makes the next one of it; tables that are new are made anyway."""


class UtcTime(TypeDecorator[datetime]):
    """A time with its zone, kept in UTC; SQLite itself knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the interface
        """Return the time in UTC; raise `ValueError` for one without a zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"time: found {value.isoformat()} without a time zone")
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the interface
        """Return the time with its zone."""
        return value and (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))


class Base(DeclarativeBase):
    """The tables of one database."""

    type_annotation_map = {
        datetime: UtcTime(),
        str: Text(),
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }


class SchemaRow(Base):
    """The one row that says which tables these are."""

    __tablename__ = "schema_version"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]


class DocumentColumns(Base):
    """One immutable version of a document. Append-only."""

    __abstract__ = True
    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    digest: Mapped[str]
    """Of its values."""
    text: Mapped[str]
    """The document as it was sent, with its comments."""
    added_by: Mapped[str]
    created_at: Mapped[datetime]


class PublicationColumns(Base):
    """Which version of a document was put in force, when and by whom. Append-only; the latest one counts."""

    __abstract__ = True
    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    name: Mapped[str]
    """The document's id."""
    version: Mapped[int]
    action: Mapped[str]
    """`publish`, `rollback` or `withdraw`."""
    published_by: Mapped[str]
    created_at: Mapped[datetime]


class PolicyRow(DocumentColumns):
    """A version of a policy."""

    __tablename__ = "policies"


class PublicationRow(PublicationColumns):
    """A publication of a policy."""

    __tablename__ = "publications"
    __table_args__ = (Index("ix_publications_name", "name", "number"), {"sqlite_autoincrement": True})


class RuleSetRow(DocumentColumns):
    """A version of a set of rules."""

    __tablename__ = "rule_sets"


class RulePublicationRow(PublicationColumns):
    """A publication of a set of rules."""

    __tablename__ = "rule_publications"
    __table_args__ = (Index("ix_rule_publications_name", "name", "number"), {"sqlite_autoincrement": True})


class ThresholdsRow(Base):
    """One set of thresholds that decided. Append-only."""

    __tablename__ = "thresholds"

    id: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class DecisionRow(Base):
    """One item in one region as it was decided, approvals included. Append-only; holds no text of the item."""

    __tablename__ = "decisions"
    __table_args__ = (Index("ix_decisions_item_id", "item_id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    item_id: Mapped[str]
    text_sha256: Mapped[str]
    region: Mapped[str]
    policy: Mapped[str]
    action: Mapped[str]
    probabilities: Mapped[dict[str, Any]]
    context: Mapped[dict[str, Any]]
    versions: Mapped[dict[str, Any]]
    language: Mapped[str | None]
    language_confidence: Mapped[float | None]
    language_supported: Mapped[bool | None]
    degraded: Mapped[bool]
    entries: Mapped[list[Any]]
    signals: Mapped[list[Any] | None]
    """What rules and the bank found, shadow rules too; NULL where that is nothing."""
    reasons: Mapped[list[Any]]
    review_id: Mapped[str | None]
    created_at: Mapped[datetime]


class ReviewRow(Base):
    """One question to a person: what to do with an item in a region. There is one per item, policy and region."""

    __tablename__ = "reviews"
    __table_args__ = (
        UniqueConstraint("item_id", "policy", "region"),
        Index("ix_reviews_order", "state", "priority", "created_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str]
    policy: Mapped[str]
    region: Mapped[str]
    state: Mapped[str]
    """`pending`, or `decided` once there is a verdict."""
    priority: Mapped[float]
    priority_reason: Mapped[str]
    entries: Mapped[list[Any]]
    reasons: Mapped[list[Any]]
    probabilities: Mapped[dict[str, Any]]
    language: Mapped[str | None]
    degraded: Mapped[bool]
    text_sha256: Mapped[str]
    text: Mapped[dict[str, Any] | None]
    """The item's fields, only where the caller asked to keep them; erased by setting it to NULL."""
    created_at: Mapped[datetime]
    final_action: Mapped[str | None]
    """What the person said; it outranks the machine."""
    verdict_id: Mapped[str | None]
    decided_at: Mapped[datetime | None]


class VerdictRow(Base):
    """What a person said about a review. Append-only; the latest one counts."""

    __tablename__ = "verdicts"
    __table_args__ = (Index("ix_verdicts_content", "content_sha256"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    review_id: Mapped[str] = mapped_column(ForeignKey("reviews.id"), index=True)
    content_sha256: Mapped[str]
    """Of everything but the time: two rows of the same content are one verdict told twice."""
    labels: Mapped[dict[str, Any]]
    """Head -> 1 it applies, 0 it does not."""
    action: Mapped[str]
    reviewer: Mapped[str]
    note: Mapped[str | None]
    created_at: Mapped[datetime]


def append_only(table: Table) -> None:
    """Let SQLite itself refuse changes; in PostgreSQL grant the service INSERT and SELECT alone."""
    for verb in ("UPDATE", "DELETE"):
        trigger = DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
            f"BEGIN SELECT RAISE(ABORT, '{table.name} is append-only'); END"
        )
        event.listen(table, "after_create", trigger.execute_if(dialect="sqlite"))


for _name in ("decisions", "verdicts", "policies", "publications", "rule_sets", "rule_publications", "thresholds"):
    append_only(Base.metadata.tables[_name])
