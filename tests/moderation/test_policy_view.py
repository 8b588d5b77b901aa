"""Policies as tables: what a comparison tells, and that it tells nothing where nothing differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moderation.policy import Constraint, Effect, HeadPolicy, Policy, Rule
from moderation.policy_view import print_changes

HOURS = Rule(Effect.LIMITED, 2, (Constraint("hours", start="21:00", end="06:00"),))
BEFORE = Policy(
    id="shop",
    version=1,
    heads=(HeadPolicy("gambling", "topic", "Games.", Rule(Effect.PROHIBITED, 3)),),
    regions={"GB": {"gambling": HOURS}},
    zones={"GB": "Europe/London"},
)


def told(after: Policy, capsys: pytest.CaptureFixture[str]) -> str:
    print_changes(BEFORE, after)
    return capsys.readouterr().out


def test_the_same_rules_clocks_and_languages_are_no_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(replace(BEFORE, version=2), capsys) == "shop@1 and shop@2: no rule differs\n"


def test_a_rule_is_told_by_region_and_head(capsys: pytest.CaptureFixture[str]) -> None:
    output = told(replace(BEFORE, regions={}), capsys)
    assert [
        word in output for word in ("GB", "LIMITED, severity 2", "hours:21:00/06:00", "PROHIBITED, severity 3")
    ] == [True] * 4
    assert [word in output for word in ("no rule differs", "Time zones", "unsupported_language")] == [False] * 3


def test_a_clock_that_is_set_and_other_languages_are_told_though_no_rule_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    after = replace(BEFORE, version=2, zones={"GB": "Asia/Tokyo", "FR": "Europe/Paris"}, unsupported_language="flag")
    first, *table, last = told(after, capsys).splitlines()
    assert first == "shop@1 and shop@2: no rule differs"
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table if "│" in line]
    assert rows == [["FR", "none", "Europe/Paris"], ["GB", "Europe/London", "Asia/Tokyo"]]
    assert last == "unsupported_language: escalate, then flag"
