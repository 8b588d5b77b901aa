"""The table of the bank of known items."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer
from sqlalchemy.orm import Mapped, mapped_column

from moderation.tables import Base, append_only


class BankRow(Base):
    """An item that was put into the bank, or taken out. Append-only; of an entry the latest row counts. No text."""

    __tablename__ = "bank"
    __table_args__ = {"sqlite_autoincrement": True}

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)
    """Ascending in the order of commits (`order_commits` sees to it), so that whoever read up to one misses none."""
    entry: Mapped[str]
    """The same for the same text and head, so that adding twice adds once."""
    action: Mapped[str]
    """`add` or `remove`."""
    head: Mapped[str]
    text_sha256: Mapped[str]
    """Of the canonical text."""
    method: Mapped[str]
    """What made the signature."""
    signature: Mapped[bytes | None]
    """uint16, little endian; NULL for a text without a word."""
    note: Mapped[str | None]
    written_by: Mapped[str]
    created_at: Mapped[datetime]


append_only(Base.metadata.tables["bank"])
