"""What changes between two policies: hand-made pairs, and the two shipped versions."""

from __future__ import annotations

import json
from dataclasses import replace

from moderation.policy import Constraint, Effect, HeadPolicy, Policy, Rule
from moderation.policy_diff import (
    LanguageChange,
    RuleChange,
    ZoneChange,
    comparison,
    differences,
    language_difference,
    rule_json,
    zone_differences,
)
from moderation.policy_document import load_policy
from moderation.regions import DEFAULT_REGION

STRICT, MILD = Rule(Effect.PROHIBITED, 3), Rule(Effect.LIMITED, 2, (Constraint("age", 18),))
GAMBLING, ALCOHOL = (HeadPolicy(name, "topic", f"{name}.", STRICT) for name in ("gambling", "alcohol"))
BEFORE = Policy(
    id="shop", version=1, heads=(GAMBLING, ALCOHOL), regions={"DE": {"gambling": MILD}}, groups={}, zones={}
)  # fmt: skip


def test_a_policy_does_not_differ_from_itself() -> None:
    """Nor from another version of the same rules, whatever is said of them in words."""
    reworded = replace(BEFORE, version=2, heads=(replace(GAMBLING, definition="Games.", dsa=("X",)), ALCOHOL))
    assert differences(BEFORE, BEFORE) == differences(BEFORE, reworded) == []


def test_a_default_rule_changes_where_no_region_has_one_of_its_own() -> None:
    after = replace(BEFORE, heads=(replace(GAMBLING, default=MILD), replace(ALCOHOL, default=MILD)))
    assert differences(BEFORE, after) == [
        RuleChange(DEFAULT_REGION, "gambling", STRICT, MILD),
        RuleChange(DEFAULT_REGION, "alcohol", STRICT, MILD),
        RuleChange("DE", "alcohol", STRICT, MILD),
    ]


def test_a_rule_that_is_added_or_taken_away_is_told_by_what_holds_instead() -> None:
    after = replace(BEFORE, regions={"IN-GJ": {"alcohol": MILD}})
    assert differences(BEFORE, after) == [
        RuleChange("DE", "gambling", MILD, STRICT), RuleChange("IN-GJ", "alcohol", STRICT, MILD),
    ]  # fmt: skip
    assert differences(after, BEFORE) == [
        RuleChange("DE", "gambling", STRICT, MILD), RuleChange("IN-GJ", "alcohol", MILD, STRICT),
    ]  # fmt: skip


def test_a_state_named_by_one_policy_is_told_by_its_countrys_rule_in_the_other() -> None:
    after = replace(BEFORE, regions={**BEFORE.regions, "DE-BY": {"gambling": STRICT}})
    assert differences(BEFORE, after) == [RuleChange("DE-BY", "gambling", MILD, STRICT)]


def test_what_a_group_rules_is_told_for_each_of_its_regions_and_never_for_the_group() -> None:
    """Germany has a rule of its own; the group within the group counts too."""
    after = replace(
        BEFORE,
        regions={**BEFORE.regions, "EEA": {"gambling": MILD}},
        groups={"EEA": ("EU", "NO"), "EU": ("DE", "AT")},
    )
    assert differences(BEFORE, after) == [
        RuleChange("AT", "gambling", STRICT, MILD), RuleChange("NO", "gambling", STRICT, MILD),
    ]  # fmt: skip


def test_one_more_constraint_or_another_severity_is_a_change() -> None:
    for rule in (replace(MILD, severity=3), replace(MILD, constraints=()), replace(MILD, on_error="reject")):
        after = replace(BEFORE, regions={"DE": {"gambling": rule}})
        assert differences(BEFORE, after) == [RuleChange("DE", "gambling", MILD, rule)]


def test_a_head_of_one_policy_alone_has_no_rule_in_the_other() -> None:
    after = replace(BEFORE, heads=(GAMBLING,))
    assert differences(BEFORE, after) == [
        RuleChange(DEFAULT_REGION, "alcohol", STRICT, None), RuleChange("DE", "alcohol", STRICT, None),
    ]  # fmt: skip
    assert [change.before for change in differences(after, BEFORE)] == [None, None]


HOURS = Rule(Effect.LIMITED, 2, (Constraint("hours", start="21:00", end="06:00"),))


def test_a_zone_is_told_for_every_region_whose_clock_it_changes() -> None:
    """Scotland follows Great Britain, Northern Ireland has a zone of its own, France gets one, Spain loses one."""
    before = replace(
        BEFORE,
        regions={"GB": {"gambling": HOURS}, "GB-SCT": {"alcohol": STRICT}, "GB-NIR": {"alcohol": STRICT}},
        zones={"GB": "Europe/London", "GB-NIR": "Europe/Belfast", "ES": "Europe/Madrid", "IN": "Asia/Kolkata"},
    )
    zones = {"GB": "Asia/Tokyo", "GB-NIR": "Europe/Belfast", "FR": "Europe/Paris", "IN": "Asia/Kolkata"}
    after = replace(before, zones=zones)
    assert differences(before, after) == []
    assert zone_differences(before, after) == [
        ZoneChange("ES", "Europe/Madrid", None), ZoneChange("FR", None, "Europe/Paris"),
        ZoneChange("GB", "Europe/London", "Asia/Tokyo"), ZoneChange("GB-SCT", "Europe/London", "Asia/Tokyo"),
    ]  # fmt: skip
    assert zone_differences(before, before) == []
    assert comparison(before, after)["zones"][1] == {"region": "FR", "before": None, "after": "Europe/Paris"}


def test_what_becomes_of_other_languages_is_told() -> None:
    flag = replace(BEFORE, unsupported_language="flag")
    assert language_difference(BEFORE, flag) == LanguageChange("escalate", "flag")
    assert language_difference(flag, flag) is None
    assert comparison(flag, BEFORE)["unsupported_language"] == {"before": "flag", "after": "escalate"}


def test_a_comparison_is_json() -> None:
    after = replace(BEFORE, version=2, heads=(GAMBLING,), regions={})
    assert json.loads(json.dumps(comparison(BEFORE, after))) == {
        "before": "shop@1",
        "after": "shop@2",
        "changes": [
            {"region": "default", "policy": "alcohol", "before": rule_json(STRICT), "after": None},
            {
                "region": "DE",
                "policy": "gambling",
                "before": {
                    "effect": "LIMITED", "severity": 2, "constraints": [{"kind": "age", "value": 18}],
                    "on_error": "escalate",
                },
                "after": {"effect": "PROHIBITED", "severity": 3, "constraints": [], "on_error": "escalate"},
            },
            {"region": "DE", "policy": "alcohol", "before": rule_json(STRICT), "after": None},
        ],
        "zones": [],
        "unsupported_language": None,
    }  # fmt: skip
    assert rule_json(None) is None


def test_the_second_shipped_version_changes_what_its_head_says() -> None:
    """25 states of the EU without a rule of their own, gambling in Germany, alcohol in Gujarat, elections in Brazil."""
    changes = differences(load_policy("ads-default@1"), load_policy("ads-default@2"))
    single = {(change.region, change.head) for change in changes if change.region in {"DE", "IN-GJ", "BR"}}
    assert single == {("DE", "gambling"), ("IN-GJ", "alcohol_tobacco"), ("BR", "political")}
    others = [change for change in changes if (change.region, change.head) not in single]
    assert (len(others), {change.head for change in others}) == (25, {"political"})
