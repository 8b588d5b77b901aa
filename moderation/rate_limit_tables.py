"""The table of what callers have used of their rates."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from moderation.tables import Base


class UsedRateRow(Base):
    """What one caller has used: all there is to know of its token bucket is when it will be full again."""

    __tablename__ = "rate_limits"

    caller: Mapped[str] = mapped_column(primary_key=True)
    """Name of an API key; there are no more rows than keys."""
    full_at_ns: Mapped[int] = mapped_column(BigInteger)
    """When its bucket will be full, if it does not call until then: nanoseconds since 1970."""
