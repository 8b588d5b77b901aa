"""Constraints of a rule against what the caller vouches for: met, not met, or not met by anything the caller can do."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from moderation.policy import Constraint

if TYPE_CHECKING:
    from moderation.decision import Context

CERTIFIED = frozenset({"licence", "certificate"})
"""Met by a certificate for the head in the region."""
REVIEWED = frozenset({"review", "verification"})
"""Ask for a person."""
TIMED = frozenset({"hours", "quiet_period"})
"""Speak of times, and need a time zone."""
BLOCKING = frozenset({"quiet_period", "advertisers"})
"""Where one is not met the ad may not run now, whatever the caller does."""

YEARS = range(2, 9999)
"""The first and the last year of the calendar are left out: some time zone would put their ends outside of it."""
_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?P<time>[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)?", re.ASCII)
"""Of all that ISO 8601 allows one form, so that no other length or calendar is taken for a date without a time."""


def check_year(moment: datetime) -> None:
    """Raise `ValueError` for a moment that not every time zone could tell."""
    if moment.year not in YEARS:
        raise ValueError(f"found the year {moment.year}, allowed {YEARS.start} to {YEARS.stop - 1}")


def check_times(constraint: Constraint) -> None:
    """Raise `ValueError` where the times of an `hours` or `quiet_period` constraint cannot be read or are none."""
    if constraint.start is None or constraint.end is None:
        raise ValueError(f"{constraint.kind}: start and end must both be given")
    if constraint.kind == "hours":
        for moment in (constraint.start, constraint.end):
            if not _TIME_OF_DAY.fullmatch(moment):
                raise ValueError(f"hours: found {moment!r}, allowed a time of day such as '06:00'")
        if constraint.start == constraint.end:
            raise ValueError(f"hours: start and end are both {constraint.start}; leave the constraint out")
        return
    first, after = quiet_period(constraint, ZoneInfo("UTC"))
    if first >= after:
        raise ValueError(f"quiet_period: ends at {constraint.end}, before it begins at {constraint.start}")


def quiet_period(constraint: Constraint, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the first moment of a quiet period and the first one after it.

    A date alone means its first moment at the start and its last second at the end. A time's own second belongs to the
    period, at both ends.

    Raises:
        ValueError: start or end is neither a date nor a date with a time, or is at the ends of the calendar.
    """
    first = _moment(str(constraint.start), time.min, zone)
    last = _moment(str(constraint.end), time(23, 59, 59), zone)
    # Counted in the zone's own clock, so that the period ends with its second even where the clock is set.
    return first, last + timedelta(seconds=1)


def _moment(text: str, without_time: time, zone: ZoneInfo) -> datetime:
    form = _DATE.fullmatch(text)
    try:
        found = datetime.fromisoformat(text) if form is not None else None
    except ValueError:  # 30 February
        found = None
    if form is None or found is None:
        raise ValueError(
            f"quiet_period: found {text!r}, allowed a date such as '2026-11-21', or one with a time of the region's "
            "clock such as '2026-11-21T18:00', without an offset"
        )
    if form["time"] is None:
        found = datetime.combine(found, without_time)
    check_year(found)
    return found.replace(tzinfo=zone)


def is_met(constraint: Constraint, *, context: Context, at: datetime, zone: str | None, certified: bool) -> bool:
    """Return whether a constraint is known to be met; kinds that cannot be checked are.

    Args:
        constraint: the constraint.
        context: what the caller vouches for.
        at: when the ad runs, with a time zone.
        zone: IANA name of the region's time zone; the constraint's own comes first.
        certified: whether the caller holds a certificate for the head in the region.
    """
    match constraint.kind:
        case "age":
            return context.min_age is not None and context.min_age >= int(constraint.value or 0)
        case "licence" | "certificate":
            return certified
        case "advertisers":
            return context.advertiser_id is not None and context.advertiser_id in constraint.values
        case "hours" | "quiet_period" if constraint.start is not None:
            clock = ZoneInfo(constraint.zone or zone or "UTC")
            local = at.astimezone(clock)
            if constraint.kind == "hours":
                return _in_hours(constraint, local)
            first, after = quiet_period(constraint, clock)
            return not first <= local < after
        case "disclosure" if context.disclosures is not None:
            return str(constraint.value) in context.disclosures
        case _:
            return True


def _in_hours(constraint: Constraint, local: datetime) -> bool:
    now, start, end = local.strftime("%H:%M"), str(constraint.start), str(constraint.end)
    return start <= now < end if start < end else now >= start or now < end
