"""The table of answers that are kept for requests sent again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from moderation.tables import Base


class KeptAnswerRow(Base):
    """A request under an Idempotency-Key: running while `status` is NULL, else with its answer."""

    __tablename__ = "idempotency"

    id: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of caller, path and key: the key alone could be of any caller, and a path can be too long to index."""
    content_sha256: Mapped[str]
    """Of the query and the body; neither is kept."""
    lease: Mapped[str]
    """Who runs the request: of two that took it, one after the other's time was up, only the second may answer."""
    expires_at: Mapped[datetime] = mapped_column(index=True)
    """When the lease ends, or when the answer is forgotten."""
    status: Mapped[int | None]
    headers: Mapped[list[Any] | None]
    """Pairs of name and value."""
    body: Mapped[bytes | None]
    """Compressed with zlib. It can quote an item's text, as evidence does."""
