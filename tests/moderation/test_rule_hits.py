"""Counting where rules were found: once per decision, and only those of the version asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from moderation.decision import Action
from moderation.rule_hits import HitCount, Hits, count_hits
from moderation.rule_set import read_rule_set
from moderation.signals import Signal

RULES = read_rule_set(
    "{id: shop, version: 1, rules: [{name: a, head: scam, kind: terms, terms: [x], effect: reject, mode: active}]}"
)
ACTIVE = Signal("rule", "shop@1/a", "scam", "reject")
SHADOW = Signal("rule", "shop@1/a", "scam", "reject", mode="shadow")


def row(region: str, action: Action, *signals: Signal) -> Any:
    return SimpleNamespace(region=region, action=action, signals=signals)


def test_a_rule_counts_once_per_decision() -> None:
    rows = [
        row("DE", Action.REJECT, ACTIVE, ACTIVE),
        row("DE", Action.REJECT, ACTIVE, Signal("bank", "shop@1/b", "scam", "reject")),
        row("AT", Action.APPROVE, SHADOW),
        row("AT", Action.APPROVE, Signal("rule", "shop@2/a", "scam", "reject")),
    ]
    assert count_hits(RULES, rows) == HitCount(
        3, (Hits("a", "active", "DE", Action.REJECT, 2), Hits("a", "shadow", "AT", Action.APPROVE, 1))
    )


def test_nothing_found_is_nothing() -> None:
    assert count_hits(RULES, []) == HitCount(0, ())
