"""One ad under the shipped policy, region by region: effects, constraints, licences, and an election's quiet period.

The expectations come from the table of the guideline, the matrix in the data folder, and the documents that the policy
cites; none is read from the policy.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from moderation.decision import Action, Context, Entry, decide
from moderation.policy import Constraint, Effect
from moderation.policy_document import load_policy
from moderation.thresholds import HeadThreshold, Thresholds

POLICY = load_policy("ads-default@2")
CUT = HeadThreshold(escalate=0.4, act=0.8, basis="by hand", positives=1, negatives=1)
THRESHOLDS = Thresholds.of(prevalence=0.02, heads=dict.fromkeys([head.name for head in POLICY.heads], CUT))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EU = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
EU_POLITICAL = (
    Constraint("verification", "advertiser_identity"),
    Constraint("disclosure", "eu_political_ad_label"),
    Constraint("targeting", "explicit_consent_no_profiling_on_special_categories"),
    Constraint("sponsor", "no_third_country_in_last_3_months"),
)
# The ad that every head fires on. Effect (P prohibited, F fully limited, L limited), severity, and what is done about
# it: r rejected, l limited, e a person is asked. The ten regions; Gujarat; the Netherlands for the EU; Switzerland for
# the default.
MATRIX = """
                US  DE  FR  GB  IN  IN-GJ ID  TR  BR  JP  AE  NL  CH
drugs           L3e P4r P4r P4r P4r P4r   P4r P4r P4r P4r P4r L4e L4e
weapons         L3e L3e P4r P4r P4r P4r   P4r P4r P4r P4r P4r L4e L4e
alcohol_tobacco L2l L2l L2l L2l P3r P4r   P3r P3r L2l L2l P3r L3e L3e
gambling        L2l F2r L2l L2l P3r P3r   P4r P4r L2l P3r P4r L3e L3e
sexual          L2l L2l L2l L2l P3r P3r   P4r P3r L2l L2l P4r L3e L3e
political       L2e L2e L3e L2e L3e L3e   L3e L3e L3l L3e P4r L2e L3e
pressure        P2r P2r P2r P2r P2r P2r   L2l P2r P2r P2r L2l P2r P2r
sensational     L1l L1l L1l L1l L1l L1l   L1l L1l L1l L1l L1l L1l L1l
counterfeit     P3r P3r P3r P3r P3r P3r   P3r P3r P3r P3r P3r P3r P3r
misinformation  P3r P3r P3r P3r P3r P3r   P3r P3r P3r P3r P3r P3r P3r
harassment      P3r P3r P3r P3r P3r P3r   P3r P3r P3r P3r P3r P3r P3r
scam            P4r P4r P4r P4r P4r P4r   P4r P4r P4r P4r P4r P4r P4r
hate            P4r P4r P4r P4r P4r P4r   P4r P4r P4r P4r P4r P4r P4r
violence        P4r P4r P4r P4r P4r P4r   P4r P4r P4r P4r P4r P4r P4r
self_harm       P4r P4r P4r P4r P4r P4r   P4r P4r P4r P4r P4r P4r P4r
"""
REGIONS, *LINES = (line.split() for line in MATRIX.strip().splitlines())
ACTIONS = {"r": Action.REJECT, "l": Action.LIMIT, "e": Action.ESCALATE}


def entries(region: str, context: Context = Context(), at: datetime = NOW) -> dict[str, Entry]:  # noqa: B008 - frozen
    """What the region does about the ad that every head fires on, by head."""
    decided = decide(
        dict.fromkeys(THRESHOLDS.heads, 0.95),
        region=region, policy=POLICY, thresholds=THRESHOLDS, context=context, at=at,
    )  # fmt: skip
    return {entry.policy: entry for entry in decided.entries}


def holding(*certificates: str, age: int | None = 21) -> Context:
    return Context(min_age=age, certificates=frozenset(certificates))


@pytest.mark.parametrize("region", REGIONS)
def test_the_same_ad_in_every_region(region: str) -> None:
    """By whoever vouches for nothing."""
    found = entries(region)
    for head, *cells in LINES:
        effect, severity, action = cells[REGIONS.index(region)]
        entry = found[head]
        assert (head, entry.effect[0], entry.severity, entry.action) == (head, effect, int(severity), ACTIONS[action])
    assert set(found) == {head for head, *_ in LINES} | {"toxic"}
    assert (found["toxic"].effect, found["toxic"].action) == (Effect.ALLOWED, Action.APPROVE)


def typed(text: str) -> Constraint:
    """A constraint of the matrix, `kind:value` or `kind`; ages are numbers."""
    kind, _, value = text.partition(":")
    return Constraint(kind, (int(value) if kind == "age" else value) if value else None)


def test_decisions_carry_the_effects_and_typed_constraints_of_the_region_matrix(data_dir: Path) -> None:
    """Two things the matrix has no word for: that only licensed gambling runs in Germany, and when Brazil is quiet."""
    lines = (data_dir / "moderation/ads/regions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {(row["region"], row["head"]): row for row in map(json.loads, lines)}
    ten = [region for region in REGIONS if region not in {"IN-GJ", "NL", "CH"}]
    assert set(rows) == {(region, head) for region in ten for head, *_ in LINES}
    for region in ten:
        found = entries(region, holding("gambling:DE"))
        for head, *_ in LINES:
            entry, row = found[head], rows[region, head]
            told = tuple(item for item in entry.constraints if item.kind != "quiet_period")
            assert (entry.effect, entry.severity) == (row["effect"], row["severity"])
            assert told == tuple(map(typed, row["constraints"]))
            assert (told == entry.constraints) is ((region, head) != ("BR", "political"))


@pytest.mark.parametrize("region", EU.split())
def test_political_ads_in_the_eu(region: str) -> None:
    """A state without a rule of its own has the EU's; Germany's says the same, France's has a time limit beside it."""
    entry = entries(region)["political"]
    own = region if region in {"DE", "FR"} else "EU"
    assert (entry.effect, entry.action) == (Effect.LIMITED, Action.ESCALATE)
    assert f"LIMITED by the rule of {own}: a person decides, asked for by verification:" in entry.reason
    if region != "FR":
        assert entry.constraints == EU_POLITICAL
    else:
        assert entry.constraints == (
            *EU_POLITICAL[:3], Constraint("time", "no_paid_electoral_ads_6_months_before_election"),
        )  # fmt: skip


def test_the_eu_is_27_states_and_no_neighbour() -> None:
    assert POLICY.groups == {"EU": tuple(EU.split())}
    assert len(EU.split()) == 27
    for neighbour in ("CH", "NO", "IS", "LI", "GB", "UA", "TR"):
        assert "by the rule of EU" not in entries(neighbour)["political"].reason
    # The union rules politics alone.
    assert "by default" in entries("NL")["gambling"].reason


@pytest.mark.parametrize(
    ("region", "severity", "rule"),
    [("IN-GJ", 4, "IN-GJ"), ("IN", 3, "IN"), ("IN-MH", 3, "IN"), ("IN-GA", 3, "IN")],
)
def test_alcohol_in_india_and_in_dry_gujarat(region: str, severity: int, rule: str) -> None:
    """Whatever the advertiser holds; and Gujarat has a rule for nothing else."""
    for context in (Context(), holding(f"alcohol_tobacco:{region}", "alcohol_tobacco:IN", age=25)):
        entry = entries(region, context)["alcohol_tobacco"]
        assert (entry.effect, entry.action, entry.severity) == (Effect.PROHIBITED, Action.REJECT, severity)
        assert f"PROHIBITED by the rule of {rule}: rejected" in entry.reason
    gambling = entries(region)["gambling"]
    assert "by the rule of IN:" in gambling.reason


@pytest.mark.parametrize(
    ("region", "context", "action", "unmet"),
    [
        # In Germany only who is on the regulator's list runs at all.
        ("DE", Context(), Action.REJECT, "age:18, licence:national_regulator_whitelist"),
        ("DE", holding(age=18), Action.REJECT, "licence:national_regulator_whitelist"),
        ("DE", holding("gambling:DE", age=17), Action.REJECT, "age:18"),
        ("DE", holding("gambling:DE", age=None), Action.REJECT, "age:18"),
        ("DE", holding("gambling:FR", "political:DE", age=18), Action.REJECT, "licence:national_regulator_whitelist"),
        ("DE", holding("gambling:DE", age=18), Action.LIMIT, ""),
        # A certificate for the country covers its states, since the country's rule applies there.
        ("DE-BY", holding("gambling:DE", age=18), Action.LIMIT, ""),
        ("DE-BY", holding("gambling:DE-BY", age=18), Action.LIMIT, ""),
        ("DE", holding("gambling:DE-BY", age=18), Action.REJECT, "licence:national_regulator_whitelist"),
        # Elsewhere what is missing is told.
        ("US", Context(), Action.LIMIT, "age:21, licence:state"),
        ("US", holding("gambling:US", age=20), Action.LIMIT, "age:21"),
        ("US", holding("gambling:US", age=21), Action.LIMIT, ""),
        ("GB", holding(age=18), Action.LIMIT, "licence:national_regulator"),
        ("BR", holding("gambling:BR", age=18), Action.LIMIT, ""),
        # Where the default rule applies a person is asked, certificate or not.
        ("NL", holding(age=21), Action.ESCALATE, "licence:national_regulator"),
        ("NL", holding("gambling:NL", age=21), Action.ESCALATE, ""),
        # What is prohibited stays so.
        ("IN", holding("gambling:IN", age=21), Action.REJECT, ""),
        ("AE", holding("gambling:AE", age=21), Action.REJECT, ""),
    ],
)
def test_gambling_with_and_without_a_certificate(region: str, context: Context, action: Action, unmet: str) -> None:
    entry = entries(region, context)["gambling"]
    assert entry.action is action
    assert entry.reason.partition("; not met: ")[2] == unmet
    blocked = region == "DE" and action is Action.REJECT
    assert (entry.effect is Effect.FULLY_LIMITED) is blocked


BRASILIA = timezone(timedelta(hours=-3))
"""Brazil's clock; it has not been put forward in summer since 2019."""
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (datetime(2026, 10, 2, 3, 0, 0, tzinfo=UTC), datetime(2026, 10, 6, 2, 59, 59, tzinfo=UTC)),
        (datetime(2026, 10, 23, 3, 0, 0, tzinfo=UTC), datetime(2026, 10, 27, 2, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_elections_quiet_period_at_its_first_and_last_second(first: datetime, last: datetime) -> None:
    """From 0:00:00 two days before the vote to 23:59:59 the day after, by the clock of Brasília."""
    assert (first.astimezone(BRASILIA).time().isoformat(), last.astimezone(BRASILIA).time().isoformat()) == (
        "00:00:00", "23:59:59",
    )  # fmt: skip
    quiet = [first, first + SECOND, last - SECOND, last, last + timedelta(microseconds=999_999)]
    for moment, action in [
        (first - SECOND, Action.LIMIT), *((moment, Action.REJECT) for moment in quiet), (last + SECOND, Action.LIMIT),
    ]:  # fmt: skip
        for at in (moment, moment.astimezone(BRASILIA), moment.astimezone(timezone(timedelta(hours=9)))):
            assert (at, entries("BR", at=at)["political"].action) == (at, action)
            assert entries("BR-SP", at=at)["political"].action is action
            # An ad that is scheduled runs then, whenever it is asked about.
            assert entries("BR", Context(scheduled_at=at))["political"].action is action


def test_a_quiet_period_blocks_politics_in_its_region_alone() -> None:
    during = datetime(2026, 10, 4, 12, tzinfo=UTC)
    found = entries("BR", at=during)
    assert found["political"].effect is Effect.FULLY_LIMITED
    assert found["political"].reason.endswith("may not run; not met: quiet_period:2026-10-02/2026-10-05")
    assert found["gambling"].action is Action.LIMIT
    assert {region: entries(region, at=during)["political"].action for region in ("US", "NL", "PT")} == dict.fromkeys(
        ("US", "NL", "PT"), Action.ESCALATE
    )
