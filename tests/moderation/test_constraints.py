"""Constraints against what the caller vouches for; the times against hand-computed moments."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from moderation.constraints import check_times, is_met, quiet_period
from moderation.decision import Action, Context, decide
from moderation.policy import Constraint, Effect, HeadPolicy, Policy, Rule
from moderation.thresholds import HeadThreshold, Thresholds

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
        ("2026-05-02 08:30", "2026-05-02 18:00:30", "2026-05-02T08:30:00", "2026-05-02T18:00:31"),
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
    for moment in ("20261121", "2026-W47-6", "2026-325", "2026-11-21T8", "2026-11-21 24:00", "2026-11-21T08:00:00.5",
                   "2026-11-21T08:00Z", "2026-11-21\n", "2026-11-2١"):  # fmt: skip
        for start, end in (("2026-11-20", moment), (moment, "2026-11-30")):
            with pytest.raises(ValueError, match=re.escape(f"quiet_period: found {moment!r}, allowed a date such as")):
                check_times(Constraint("quiet_period", start=start, end=end))
    with pytest.raises(ValueError, match="hours: start and end must both be given"):
        check_times(Constraint("hours", start="06:00"))


# ---- What a decision makes of them

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AGE, LICENCE, TOLD = Constraint("age", 21), Constraint("licence", "state"), Constraint("exclude", "tobacco")
CUT = HeadThreshold(escalate=0.4, act=0.8, basis="by hand", positives=1, negatives=1)
FIRST, LAST = datetime(2026, 5, 2, 0, 0, 0), datetime(2026, 5, 3, 23, 59, 59)  # noqa: DTZ001 - of the region's clock
KOLKATA = timezone(timedelta(hours=5, minutes=30))
QUIET = Constraint("quiet_period", start="2026-05-02", end="2026-05-03T23:59:59")
HOURS = Constraint("hours", start="21:00", end="06:00", zone="Europe/Berlin")
LISTED = Constraint("advertisers", values=("a1",))
TIMELY = Policy(
    id="timely",
    version=1,
    heads=(
        HeadPolicy("political", "topic", "Politics.", Rule(Effect.LIMITED, 3, (QUIET, LICENCE))),
        HeadPolicy("gambling", "topic", "Games.", Rule(Effect.FULLY_LIMITED, 2, (AGE, LICENCE, TOLD))),
        HeadPolicy("alcohol", "topic", "Drinks.", Rule(Effect.LIMITED, 2, (LISTED,))),
    ),
    regions={"DE": {"gambling": Rule(Effect.FULLY_LIMITED, 2, (HOURS, Constraint("disclosure", "risk")))}},
    zones={"IN": "Asia/Kolkata"},
)
TIMELY_CUTS = Thresholds.of(prevalence=0.02, heads=dict.fromkeys([head.name for head in TIMELY.heads], CUT))


def timely(
    head: str, probability: float = 0.9, *, region: str = "IN", at: datetime = NOW, **context: object
) -> tuple[Action, Effect, str]:
    (entry,) = decide(
        {head: probability}, region=region, policy=TIMELY, thresholds=TIMELY_CUTS,
        context=Context(**context), at=at,  # type: ignore[arg-type]
    ).entries  # fmt: skip
    return entry.action, entry.effect, entry.reason.rpartition(": ")[2]


@pytest.mark.parametrize(
    ("moment", "action"),
    [
        (FIRST - timedelta(seconds=1), Action.LIMIT),
        (FIRST, Action.REJECT),
        (LAST, Action.REJECT),
        (LAST + timedelta(microseconds=999_999), Action.REJECT),
        (LAST + timedelta(seconds=1), Action.LIMIT),
    ],
)
def test_a_quiet_period_holds_from_its_first_to_its_last_second_of_the_regions_clock(
    moment: datetime, action: Action
) -> None:
    at = moment.replace(tzinfo=KOLKATA)
    assert timely("political", at=at)[0] is action
    assert timely("political", at=at.astimezone(UTC), region="IN-GJ")[0] is action
    # Where the ad is scheduled, that time counts, not the time of asking.
    assert timely("political", at=NOW, scheduled_at=at)[0] is action


def test_a_quiet_period_in_force_is_told_and_an_unsure_head_still_asks_a_person() -> None:
    at = FIRST.replace(tzinfo=KOLKATA)
    assert timely("political", at=at)[1:] == (
        Effect.FULLY_LIMITED, "quiet_period:2026-05-02/2026-05-03T23:59:59, licence:state",
    )  # fmt: skip
    assert timely("political", 0.5, at=at)[:2] == (Action.ESCALATE, Effect.LIMITED)


@pytest.mark.parametrize(
    ("context", "found"),
    [
        ({}, (Action.REJECT, Effect.FULLY_LIMITED, "age:21, licence:state")),
        ({"min_age": 21}, (Action.REJECT, Effect.FULLY_LIMITED, "licence:state")),
        ({"min_age": 21, "certificates": frozenset({"gambling:IN"})}, (Action.LIMIT, Effect.LIMITED, "limited")),
    ],
)
def test_fully_limited_runs_only_where_everything_that_can_be_checked_is_met(
    context: dict[str, object], found: tuple[Action, Effect, str]
) -> None:
    action, effect, why = timely("gambling", **context)
    assert (action, effect) == found[:2]
    assert why.endswith(found[2].rpartition(": ")[2])


def test_only_listed_advertisers_may_run() -> None:
    assert timely("alcohol")[0] is Action.REJECT
    assert timely("alcohol", advertiser_id="a2")[0] is Action.REJECT
    assert timely("alcohol", advertiser_id="a1")[0] is Action.LIMIT


@pytest.mark.parametrize(
    ("hour", "disclosures", "action"),
    [
        (20, {"risk"}, Action.REJECT),  # 20:00 in Berlin, an hour early
        (21, {"risk"}, Action.LIMIT),
        (5, {"risk", "other"}, Action.LIMIT),
        (6, {"risk"}, Action.REJECT),
        (21, set(), Action.REJECT),
        (21, None, Action.LIMIT),  # not told, so not checked
    ],
)
def test_hours_across_midnight_and_disclosures(hour: int, disclosures: set[str] | None, action: Action) -> None:
    at = datetime(2026, 11, 21, hour, tzinfo=timezone(timedelta(hours=1)))
    told = None if disclosures is None else frozenset(disclosures)
    assert timely("gambling", region="DE", at=at, disclosures=told)[0] is action


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="scheduled_at: found 2026-05-02T00:00:00 without a time zone"):
        Context(scheduled_at=FIRST)


@pytest.mark.parametrize("moment", ["0001-12-31T23:59:59+14:00", "9999-01-01T00:00:00-14:00"])
def test_a_time_that_some_zone_cannot_tell_is_refused(moment: str) -> None:
    """Else it would overflow only where a rule asks for the time there."""
    with pytest.raises(ValueError, match="found the year 1?9{0,4}, allowed 2 to 9998"):
        Context(scheduled_at=datetime.fromisoformat(moment))
    with pytest.raises(ValueError, match="allowed 2 to 9998"):
        check_times(Constraint("quiet_period", start="0001-12-31", end="9999-12-31"))
    edge = Constraint("quiet_period", start="0002-01-01", end="9998-12-31")
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert not met(edge, zone=zone)
        for at in ("0002-01-01T00:00:00+14:00", "9998-12-31T23:59:59-14:00"):
            met(edge, zone=zone, at=datetime.fromisoformat(at))
