"""Constraints against what the caller vouches for; the times against hand-computed moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from moderation.constraints import check_times, is_met, quiet_period
from moderation.decision import Context
from moderation.policy import Constraint

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def met(constraint: Constraint, *, at: datetime = NOON, zone: str | None = None, **context: object) -> bool:
    return is_met(constraint, context=Context(**context), at=at, zone=zone, certified=False)  # type: ignore[arg-type]


def test_what_cannot_be_checked_counts_as_met() -> None:
    """Such constraints are told: only the caller can keep them."""
    assert met(Constraint("exclude", "tobacco"))
    assert met(Constraint("time", "campaign_period_only"))
    assert met(Constraint("disclosure", "risk"))


def test_age_and_certificate() -> None:
    assert [met(Constraint("age", 18), min_age=age) for age in (None, 17, 18)] == [False, False, True]
    assert not met(Constraint("licence", "state"))
    assert is_met(Constraint("licence", "state"), context=Context(), at=NOON, zone=None, certified=True)


@pytest.mark.parametrize(
    ("start", "end", "first", "after"),
    [
        ("2026-05-02", "2026-05-03", "2026-05-02T00:00:00", "2026-05-04T00:00:00"),
        ("2026-05-02T08:30:00", "2026-05-02T08:30:00", "2026-05-02T08:30:00", "2026-05-02T08:30:01"),
        ("2026-05-02", "2026-05-02T18:00", "2026-05-02T00:00:00", "2026-05-02T18:00:01"),
        # The night in which the clock is set: the day has 23 hours, and ends when its last second is over.
        ("2026-03-29", "2026-03-29", "2026-03-29T00:00:00", "2026-03-30T00:00:00"),
    ],
)
def test_a_quiet_period_is_closed_at_both_ends(start: str, end: str, first: str, after: str) -> None:
    found = quiet_period(Constraint("quiet_period", start=start, end=end), BERLIN)
    assert [moment.isoformat()[:19] for moment in found] == [first, after]
    assert all(moment.tzinfo is BERLIN for moment in found)


def test_a_quiet_day_follows_the_clock_that_is_set() -> None:
    quiet = Constraint("quiet_period", start="2026-03-29", end="2026-03-29", zone="Europe/Berlin")
    begins, ends = datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)  # 23 hours
    moments = (begins - timedelta(seconds=1), begins, ends - timedelta(seconds=1), ends)
    assert [met(quiet, at=at) for at in moments] == [True, False, False, True]


def test_the_zone_of_the_constraint_comes_before_that_of_the_region() -> None:
    hours = Constraint("hours", start="12:00", end="13:00")
    assert met(hours)  # without any zone: UTC
    assert not met(hours, zone="Asia/Tokyo")
    assert met(Constraint("hours", start="21:00", end="22:00", zone="Asia/Tokyo"), zone="Europe/Berlin")


def test_times_that_cannot_be_read_are_refused() -> None:
    check_times(Constraint("hours", start="22:00", end="06:00"))
    for start, end in (("24:00", "06:00"), ("6:00", "07:00"), ("06:00:00", "07:00"), ("06:00", "06:00")):
        with pytest.raises(ValueError, match="hours: "):
            check_times(Constraint("hours", start=start, end=end))
    for start, end in (("2026-02-30", "2026-03-01"), ("2026-03-02", "2026-03-01"), ("soon", "later")):
        with pytest.raises(ValueError, match="quiet_period: "):
            check_times(Constraint("quiet_period", start=start, end=end))
    with pytest.raises(ValueError, match="hours: start and end must both be given"):
        check_times(Constraint("hours", start="06:00"))
