"""Signals: one per rule or entry, never a milder action, reasons that name their rule, evidence in the sent text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.bank import BankMatch
from moderation.decision import Action, Evidence, RegionDecision, decide_failed
from moderation.policy import Effect, HeadPolicy, Policy, Rule
from moderation.rule_set import read_rule_set
from moderation.rules import RuleMatch, RuleSignal
from moderation.signals import (
    MAX_RULE_EVIDENCE,
    Signal,
    apply_signals,
    gather,
    read_signals,
    signals_json,
    with_places,
)
from retrieval_shared.text import join_fields, normalise

ESCALATE = Signal("rule", "shop@3/sure-win", "gambling", "escalate")
REJECT = Signal("rule", "shop@3/fake-pass", "scam", "reject")
EXACT = Signal("bank", "bank_1", "scam", "reject")
NEAR = Signal("bank", "bank_2", "scam", "escalate", similarity=0.873)
TOLD = Signal("rule", "lexicon", "gambling", "evidence")
SHADOW = Signal("rule", "shop@3/new", "drugs", "reject", mode="shadow")

signals = st.builds(
    Signal,
    source=st.sampled_from(["rule", "bank"]),
    name=st.sampled_from(["shop@1/a", "shop@1/b"]),
    head=st.sampled_from(["scam", "drugs"]),
    effect=st.sampled_from(["evidence", "escalate", "reject"]),
    mode=st.sampled_from(["active", "shadow"]),
    similarity=st.floats(0, 1),
)


PROHIBITING = HeadPolicy("scam", "violation", "Deceives.", Rule(Effect.PROHIBITED, 1))
POLICY = Policy(
    "shop",
    1,
    (PROHIBITING, replace(PROHIBITING, name="drugs"), replace(PROHIBITING, name="gambling")),
    regions={
        "AT": {"scam": Rule(Effect.LIMITED, 1)},
        "BE": {"scam": Rule(Effect.FULLY_LIMITED, 1)},
        "CH": {"scam": Rule(Effect.ALLOWED, 1)},
    },
)


def apply(decision: RegionDecision, given_signals: Sequence[Signal]) -> RegionDecision:
    return apply_signals(decision, given_signals, policy=POLICY)


def decided(action: Action, *reasons: str) -> RegionDecision:
    return RegionDecision("DE", "default", action, entries=(), reasons=reasons or ("by hand",), degraded=False)


def test_a_rule_gives_one_signal_per_head_with_all_its_places() -> None:
    matches = [
        RuleMatch("gambling", "sure win", 0, 8, rule="shop@3/sure-win", effect="escalate"),
        RuleMatch("scam", "pass", 9, 13, rule="shop@3/fake-pass", effect="reject", mode="shadow"),
        RuleMatch("gambling", "sure win", 20, 28, rule="shop@3/sure-win", effect="escalate"),
        *RuleSignal.of({"casino": "gambling", "vodka": "alcohol_tobacco"}).find("casino vodka"),
    ]
    assert gather(matches) == (
        Signal("rule", "shop@3/sure-win", "gambling", "escalate", spans=((0, 8), (20, 28))),
        Signal("rule", "shop@3/fake-pass", "scam", "reject", "shadow", spans=((9, 13),)),
        Signal("rule", "lexicon", "gambling", "evidence", spans=((0, 6),)),
        Signal("rule", "lexicon", "alcohol_tobacco", "evidence", spans=((7, 12),)),
    )


def test_the_bank_rejects_the_same_and_escalates_the_like() -> None:
    matches = [BankMatch("bank_1", "scam", 1.0, "exact"), BankMatch("bank_2", "drugs", 1.0, "near")]
    assert gather(bank=matches) == (
        Signal("bank", "bank_1", "scam", "reject"),
        Signal("bank", "bank_2", "drugs", "escalate"),
    )
    assert gather() == ()


@pytest.mark.parametrize(
    ("action", "given_signals", "expected"),
    [
        (Action.APPROVE, [], Action.APPROVE),
        (Action.APPROVE, [TOLD, SHADOW], Action.APPROVE),
        (Action.APPROVE, [ESCALATE], Action.ESCALATE),
        (Action.LIMIT, [ESCALATE], Action.ESCALATE),
        (Action.ESCALATE, [ESCALATE], Action.ESCALATE),
        (Action.REJECT, [ESCALATE], Action.REJECT),
        (Action.APPROVE, [REJECT], Action.REJECT),
        (Action.APPROVE, [ESCALATE, REJECT], Action.REJECT),
        (Action.APPROVE, [EXACT], Action.REJECT),
        (Action.LIMIT, [NEAR], Action.ESCALATE),
        (Action.LIMIT, [TOLD, SHADOW], Action.LIMIT),
    ],
)
def test_an_action_by_hand(action: Action, given_signals: list[Signal], expected: Action) -> None:
    assert apply(decided(action), given_signals).action is expected


def test_reasons_name_rule_and_version_strictest_first() -> None:
    found = apply(decided(Action.LIMIT, "as before"), [NEAR, TOLD, ESCALATE, SHADOW, REJECT, EXACT])
    assert found.reasons == (
        "as before",
        "scam: rule shop@3/fake-pass: rejected",
        "scam: entry bank_1 of the bank: rejected",
        "scam: like entry bank_2 of the bank, similarity 0.87: a person decides",
        "gambling: rule shop@3/sure-win: a person decides",
    )


def test_a_signal_that_changes_no_action_still_gives_its_reason() -> None:
    assert apply(decided(Action.REJECT), [ESCALATE]).reasons[1:] == (
        "gambling: rule shop@3/sure-win: a person decides",
    )


@given(st.sampled_from(Action), st.lists(signals, max_size=6))
def test_no_action_becomes_milder_and_a_second_time_changes_nothing(action: Action, drawn: list[Signal]) -> None:
    before = decided(action)
    after = apply(before, drawn)
    assert after.action.strictness >= action.strictness
    assert apply(after, drawn) == after
    assert apply(before, drawn[::-1]).action is after.action
    active = [signal for signal in drawn if signal.mode == "active"]
    assert replace(apply(before, active), signals=()) == replace(after, signals=())
    if not any(signal.effect != "evidence" for signal in active):
        assert (after.action, after.reasons) == (before.action, before.reasons)


def test_signals_decide_where_the_model_could_not() -> None:
    lenient = Rule(Effect.PROHIBITED, 1, on_error="approve")
    policy = Policy("shop", 1, (HeadPolicy("scam", "violation", "Deceives.", lenient),), regions={})
    failed = decide_failed(region="DE", policy=policy, reason="out of memory")
    assert failed.action is Action.APPROVE
    found = apply_signals(failed, [REJECT], policy=policy)
    assert (found.action, found.degraded) == (Action.REJECT, True)
    assert found.reasons == ("not scored: out of memory", "scam: rule shop@3/fake-pass: rejected")


def test_evidence_quotes_the_fields_as_they_were_sent() -> None:
    rules = read_rule_set(
        "{id: shop, version: 3, rules: [{name: sure-win, head: gambling, kind: terms, terms: [sure win, casino], "
        "effect: escalate, mode: active}]}"
    )
    text = join_fields({"title": "\u200bC\u0430sino 🎰", "body": "Play now: sure-w1n!"})
    normalised = normalise(text.text)
    found = gather(rules.find(normalised.canonical, "en", "DE"), [BankMatch("bank_2", "scam", 0.87654, "near")])
    assert [each.evidence for each in with_places(found, text=text, normalised=normalised)] == [
        (
            Evidence("title", 1, 7, "C\u0430sino", 0.0, "rule"),
            Evidence("body", 10, 18, "sure-w1n", 0.0, "rule"),
        ),
        (Evidence("body", 0, 19, "Play now: sure-w1n!", 0.8765, "bank"),),
    ]


def test_only_the_first_places_of_active_rules_are_shown() -> None:
    text = join_fields({"text": "casino " * 5})
    spans = tuple((start, start + 6) for start in range(0, 35, 7))
    places = {"rule": "shop@3/a", "mode": "shadow"}, {"rule": "shop@3/b", "mode": "active"}
    given_signals = gather(
        RuleMatch("gambling", "casino", start, end, effect="escalate", **each)
        for start, end in spans
        for each in places
    )
    shadow, active = with_places(given_signals, text=text, normalised=normalise(text.text))
    assert shadow.evidence == ()
    assert [(piece.start, piece.end) for piece in active.evidence] == list(spans[:MAX_RULE_EVIDENCE])


@pytest.mark.parametrize(
    ("region", "exact", "near", "rule"),
    [
        ("DE", Action.REJECT, Action.ESCALATE, Action.REJECT),
        ("AT", Action.ESCALATE, Action.ESCALATE, Action.REJECT),
        ("BE", Action.ESCALATE, Action.ESCALATE, Action.REJECT),
        ("CH", Action.APPROVE, Action.APPROVE, Action.REJECT),
    ],
)
def test_the_policy_says_what_follows_from_the_bank_and_a_rule_says_it_itself(
    region: str, exact: Action, near: Action, rule: Action
) -> None:
    clean = replace(decided(Action.APPROVE), region=region)
    assert [apply(clean, [each]).action for each in (EXACT, NEAR, REJECT)] == [exact, near, rule]


def test_the_decision_carries_what_was_found_shadow_rules_too() -> None:
    assert apply(decided(Action.APPROVE), [SHADOW, TOLD]).signals == (SHADOW, TOLD)


@given(st.lists(signals, max_size=4))
def test_the_log_keeps_all_that_a_decision_goes_by(drawn: list[Signal]) -> None:
    kept: list[dict[str, Any]] = json.loads(json.dumps(signals_json(drawn)))
    assert read_signals(kept) == tuple(drawn)
    assert apply(decided(Action.APPROVE), read_signals(kept)) == apply(decided(Action.APPROVE), drawn)


def test_the_log_keeps_no_places() -> None:
    (kept,) = signals_json([Signal("rule", "shop@3/a", "scam", "reject", spans=((0, 3),))])
    assert kept == {
        "source": "rule", "name": "shop@3/a", "head": "scam", "effect": "reject", "mode": "active", "similarity": 1.0,
    }  # fmt: skip
