"""Decisions: hand-computed cases, properties over random inputs, and every input that is refused."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.decision import (
    Action,
    Context,
    Decision,
    Evidence,
    RegionDecision,
    adapter_key,
    decide,
    decide_failed,
    escalate_unsupported,
    strictest,
    versions_in,
    with_evidence,
)
from moderation.policy import Constraint, Effect, HeadPolicy, Policy, Rule
from moderation.policy_document import load_policy
from moderation.thresholds import HeadThreshold, Thresholds
from retrieval_shared.language import Language

REVIEW = Constraint("review", "manual")
AGE = Constraint("age", 21)
LICENCE = Constraint("licence", "state")
TOLD = Constraint("exclude", "tobacco")

RULES = {
    "scam": Rule(Effect.PROHIBITED, 4),
    "alcohol": Rule(Effect.LIMITED, 2, (AGE, TOLD)),
    "gambling": Rule(Effect.LIMITED, 2, (AGE, LICENCE)),
    "political": Rule(Effect.LIMITED, 3, (REVIEW, LICENCE)),
    "toxic": Rule(Effect.ALLOWED, 1),
}
POLICY = Policy(
    id="shop",
    version=3,
    heads=tuple(HeadPolicy(name, "topic", f"{name}.", rule) for name, rule in RULES.items()),
    regions={
        "IN": {"gambling": Rule(Effect.PROHIBITED, 3), "alcohol": Rule(Effect.LIMITED, 2, (LICENCE,))},
        "IN-GA": {"gambling": Rule(Effect.LIMITED, 2, (LICENCE,))},
    },
    digest="0" * 64,
)
CUT = HeadThreshold(escalate=0.4, act=0.8, basis="by hand", positives=1, negatives=1)
THRESHOLDS = Thresholds.of(prevalence=0.02, heads=dict.fromkeys(RULES, CUT))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADULT = Context(min_age=21, certificates=frozenset({"gambling:US"}))


def run(context: Context = Context(), *, region: str = "US", **probabilities: float) -> RegionDecision:  # noqa: B008
    return decide(probabilities, region=region, policy=POLICY, thresholds=THRESHOLDS, context=context, at=NOW)


def test_nothing_fires_below_the_escalate_threshold() -> None:
    decision = run(scam=0.3999, alcohol=0.0)
    assert (decision.action, decision.entries, decision.degraded) == (Action.APPROVE, (), False)
    assert decision.reasons == ("no head reached its escalate threshold",)


@pytest.mark.parametrize(
    ("head", "probability", "context", "action", "why"),
    [
        ("scam", 0.4, Context(), Action.ESCALATE, "a person decides"),
        ("scam", 0.7999, ADULT, Action.ESCALATE, "a person decides"),
        ("scam", 0.8, ADULT, Action.REJECT, "rejected"),
        ("alcohol", 0.5, ADULT, Action.ESCALATE, "a person decides"),
        ("alcohol", 0.8, ADULT, Action.LIMIT, "limited"),
        ("alcohol", 0.8, Context(min_age=20), Action.LIMIT, "limited; not met: age:21"),
        ("gambling", 1.0, ADULT, Action.LIMIT, "limited"),
        ("gambling", 1.0, Context(), Action.LIMIT, "limited; not met: age:21, licence:state"),
        ("gambling", 1.0, replace(ADULT, min_age=None), Action.LIMIT, "limited; not met: age:21"),
        (
            "gambling",
            1.0,
            replace(ADULT, certificates=frozenset({"gambling:DE", "scam:US", "gambling:US-NJ"})),
            Action.LIMIT,
            "limited; not met: licence:state",
        ),
        (
            "political",
            0.9,
            ADULT,
            Action.ESCALATE,
            "a person decides, asked for by review:manual; not met: licence:state",
        ),
        ("toxic", 0.5, Context(), Action.APPROVE, "nothing to do"),
        ("toxic", 0.9, Context(), Action.APPROVE, "nothing to do"),
    ],
)
def test_one_head_by_hand(head: str, probability: float, context: Context, action: Action, why: str) -> None:
    decision = decide({head: probability}, region="US", policy=POLICY, thresholds=THRESHOLDS, context=context, at=NOW)
    (entry,) = decision.entries
    assert (decision.action, entry.action) == (action, action)
    assert entry.reason.endswith(f": {why}")
    assert entry.threshold == (0.8 if probability >= 0.8 else 0.4)
    assert entry.constraints == RULES[head].constraints


def test_an_entry_tells_everything_about_its_rule() -> None:
    decision = run(ADULT, scam=0.91)
    (entry,) = decision.entries
    assert (entry.policy, entry.effect, entry.severity, entry.probability) == ("scam", Effect.PROHIBITED, 4, 0.91)
    assert (entry.threshold_id, entry.evidence) == (THRESHOLDS.id, ())
    assert decision.reasons == ("scam: probability 0.910 >= act 0.800; PROHIBITED by default: rejected",)
    assert decision.review_id is None


def test_the_strictest_entry_wins_and_comes_first() -> None:
    decision = run(ADULT, toxic=0.99, alcohol=0.9, political=0.85, scam=0.8)
    assert decision.action is Action.REJECT
    assert [entry.policy for entry in decision.entries] == ["scam", "political", "alcohol", "toxic"]
    assert len(decision.reasons) == 4


def test_equal_actions_are_ordered_by_severity_then_probability() -> None:
    decision = run(ADULT, gambling=0.5, alcohol=0.6, scam=0.4, political=0.41)
    assert [entry.policy for entry in decision.entries] == ["scam", "political", "alcohol", "gambling"]


def test_sub_region_falls_back_to_its_country_head_by_head() -> None:
    goa = run(region="IN-GA", gambling=0.9, alcohol=0.9, scam=0.9)
    reasons = {entry.policy: entry.reason for entry in goa.entries}
    assert (goa.region, goa.policy_region) == ("IN-GA", "IN-GA")
    assert "by the rule of IN-GA:" in reasons["gambling"]
    assert "by the rule of IN:" in reasons["alcohol"]
    assert "by default:" in reasons["scam"]
    gujarat = run(region="IN-GJ", gambling=0.9)
    assert (gujarat.region, gujarat.policy_region, gujarat.action) == ("IN-GJ", "IN", Action.REJECT)
    assert run(region="FR", gambling=0.9).policy_region == "default"


@pytest.mark.parametrize(
    ("head", "region", "certificate", "met"),
    [
        ("alcohol", "IN-GJ", "alcohol:IN", True),  # the country's rule asked, the country's licence answers
        ("alcohol", "IN-GJ", "alcohol:IN-GJ", True),
        ("gambling", "IN-GA", "gambling:IN", False),  # the state's own rule wants the state's licence
        ("gambling", "IN-GA", "gambling:IN-GA", True),
        ("gambling", "FR", "gambling:FR", True),  # the default rule wants the licence of the region asked for
    ],
)
def test_which_certificate_meets_a_licence(head: str, region: str, certificate: str, met: bool) -> None:
    context = Context(min_age=21, certificates=frozenset({certificate}))
    (entry,) = run(context, region=region, **{head: 0.9}).entries
    assert ("not met" not in entry.reason) is met


def test_numpy_scores_become_plain_floats() -> None:
    (entry,) = decide(
        {"scam": np.float32(0.9)},  # type: ignore[dict-item]  # what a model returns
        region="US",
        policy=POLICY,
        thresholds=THRESHOLDS,
        context=Context(),
        at=NOW,
    ).entries
    assert type(entry.probability) is float
    assert [type(p) for p in run(scam=np.float32(0.5)).probabilities.values()] == [float]


def test_a_decision_keeps_the_probabilities_it_was_made_from() -> None:
    scores = {"scam": 0.91, "toxic": 0.0}
    decision = run(**scores)
    assert decision.probabilities == scores
    assert decide_failed(region="US", policy=POLICY, reason="").probabilities == {}
    assert (decision.adapter, decision.is_fallback) == ("", False)  # who judged is not for the policy to say


@pytest.mark.parametrize(
    ("region", "adapter", "fallback"),
    [
        ("ID", "region:ID", False),
        ("ID", "task:moderation", True),
        ("IN-GJ", "region:IN-GJ", False),
        ("IN-GJ", "region:IN", True),
        ("IN", "", False),  # nobody judged
    ],
)
def test_another_regions_adapter_or_none_is_a_fallback(region: str, adapter: str, fallback: bool) -> None:
    assert replace(run(region=region), adapter=adapter).is_fallback is fallback


def test_versions_of_one_region_name_the_adapter_that_judged_it() -> None:
    general, own, state = "task:moderation@1a", "region:ID@2b", "region:IN@3c"
    slots = {"ID": "region:ID", "IN-GJ": "region:IN", "DE": "task:moderation", "FR": ""}
    regions = tuple(replace(run(region=region), adapter=slot) for region, slot in slots.items())
    versions = {"adapter": general, "adapter:region:ID": own, "adapter:region:IN": state, "policy_set": "shop@3"}
    decision = Decision("a", "ok", None, None, regions, {}, None, versions)
    assert [versions_in(decision, region) for region in regions] == [
        {"adapter": adapter, "policy_set": "shop@3"} for adapter in (own, state, general, general)
    ]
    assert decision.versions is versions
    assert len(versions) == 4  # as it was
    older = replace(decision, versions={"policy_set": "shop@3"})
    assert versions_in(older, regions[0]) == {"policy_set": "shop@3"}


def test_the_key_of_an_adapter() -> None:
    assert [adapter_key(slot) for slot in ("task:moderation", "region:IN-GJ", "")] == [
        "adapter", "adapter:region:IN-GJ", "adapter",
    ]  # fmt: skip


@pytest.mark.parametrize("probability", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_probability_that_is_none_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"probabilities\['scam'\]: found .*, allowed a number in \[0, 1\]"):
        run(scam=probability)


def test_an_unknown_head_region_or_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match="head: found 'poker', policy shop@3 has"):
        run(poker=0.0)
    with pytest.raises(ValueError, match="region: found 'UK'"):
        run(region="UK")
    few = Thresholds.of(prevalence=0.02, heads={"toxic": CUT})
    with pytest.raises(ValueError, match=f"thresholds {few.id}: none for head 'scam', found toxic"):
        decide({"scam": 0.0}, region="US", policy=POLICY, thresholds=few, context=Context(), at=NOW)


@pytest.mark.parametrize("age", [-1, 121, 18.0, "18", True, math.nan])
def test_a_wrong_age_is_refused(age: object) -> None:
    with pytest.raises(ValueError, match="min_age: found .*, allowed a whole number from 0 to 120"):
        Context(min_age=age)  # type: ignore[arg-type]


@pytest.mark.parametrize("certificate", ["gambling", "gambling:", ":DE", "Gambling:DE", "gambling:XX", "gambling:de"])
def test_a_wrong_certificate_is_refused(certificate: str) -> None:
    with pytest.raises(ValueError, match="(certificates|region): found .*, allowed"):
        Context(certificates=frozenset({certificate}))


def test_an_ad_that_was_not_scored_is_escalated_and_marked() -> None:
    decision = decide_failed(region="IN-GJ", policy=POLICY, reason="the model gave no number")
    assert (decision.action, decision.degraded, decision.entries) == (Action.ESCALATE, True, ())
    assert decision.reasons == ("not scored: the model gave no number",)
    assert (decision.region, decision.policy_region) == ("IN-GJ", "IN")
    with pytest.raises(ValueError, match="region: found 'XX'"):
        decide_failed(region="XX", policy=POLICY, reason="")


@pytest.mark.parametrize(
    ("choices", "action"),
    [
        (("approve", "approve"), Action.APPROVE),
        (("approve", "escalate"), Action.ESCALATE),
        (("reject", "escalate"), Action.REJECT),
    ],
)
def test_the_strictest_on_error_counts(choices: tuple[str, str], action: Action) -> None:
    heads = tuple(
        HeadPolicy(f"head{index}", "topic", "", Rule(Effect.PROHIBITED, 1, on_error=choice))  # type: ignore[arg-type]
        for index, choice in enumerate(choices)
    )
    policy = replace(POLICY, heads=heads, regions={})
    assert decide_failed(region="US", policy=policy, reason="").action is action


def test_strictest_orders_the_actions() -> None:
    assert [action.strictness for action in (Action.APPROVE, Action.LIMIT, Action.ESCALATE, Action.REJECT)] == [
        0,
        1,
        2,
        3,
    ]
    assert strictest([Action.LIMIT, Action.REJECT, Action.ESCALATE]) is Action.REJECT
    assert strictest([]) is Action.APPROVE


def test_evidence_is_added_to_heads_that_fired_and_decides_nothing() -> None:
    evidence = Evidence(field="body", start=0, end=6, text="casino", weight=1.0, source="rule")
    decision = run(alcohol=0.9, gambling=0.1)
    richer = with_evidence(decision, {"alcohol": [evidence], "gambling": [evidence], "unheard_of": [evidence]})
    assert [entry.evidence for entry in richer.entries] == [(evidence,)]
    assert replace(richer, entries=decision.entries) == decision
    assert with_evidence(richer, {"alcohol": [evidence]}).entries[0].evidence == (evidence, evidence)


heads = st.sampled_from(sorted(RULES))
unit = st.floats(0, 1)
scores = st.dictionaries(heads, unit)
regions = st.sampled_from(["US", "IN", "IN-GA", "IN-GJ", "FR"])
contexts = st.builds(
    Context,
    min_age=st.none() | st.integers(0, 120),
    certificates=st.frozensets(st.sampled_from(["gambling:US", "alcohol:IN", "political:FR", "gambling:IN-GA"])),
)


@given(scores, regions, contexts)
def test_strictest_wins_over_the_heads_one_by_one(scores: dict[str, float], region: str, context: Context) -> None:
    alone = [run(context, region=region, **{head: value}).action for head, value in scores.items()]
    assert run(context, region=region, **scores).action is strictest(alone)


@given(scores, heads, unit, regions, contexts)
def test_another_head_never_loosens(
    scores: dict[str, float], head: str, value: float, region: str, context: Context
) -> None:
    rest = {name: score for name, score in scores.items() if name != head}
    with_head, without = run(context, region=region, **rest, **{head: value}), run(context, region=region, **rest)
    assert with_head.action.strictness >= without.action.strictness


@given(heads, unit, unit, regions, contexts)
def test_a_higher_probability_never_frees_an_ad(head: str, a: float, b: float, region: str, context: Context) -> None:
    low = run(context, region=region, **{head: min(a, b)})
    high = run(context, region=region, **{head: max(a, b)})
    assert len(high.entries) >= len(low.entries)
    if POLICY.rule(head, region)[0].effect is Effect.LIMITED:
        # a person is asked about what is unsure, so escalate may become limit, but never approve
        assert high.action.strictness >= min(low.action.strictness, Action.LIMIT.strictness)
    else:
        assert high.action.strictness >= low.action.strictness


@given(scores, regions, contexts, st.integers(0, 120))
def test_a_stricter_context_never_loosens(scores: dict[str, float], region: str, context: Context, age: int) -> None:
    """Vouching for less (a lower age, no licences) never gives a milder action nor fewer unmet constraints."""
    lower = None if context.min_age is None else min(age, context.min_age)
    less = run(Context(min_age=lower), region=region, **scores)
    more = run(context, region=region, **scores)
    assert less.action.strictness >= more.action.strictness
    unmet = {entry.policy for entry in less.entries if "not met" in entry.reason}
    assert unmet >= {entry.policy for entry in more.entries if "not met" in entry.reason}


@given(scores, regions, contexts)
def test_deciding_changes_nothing_it_was_given_and_repeats(
    scores: dict[str, float], region: str, context: Context
) -> None:
    before = copy.deepcopy((scores, POLICY, THRESHOLDS, context))
    assert run(context, region=region, **scores) == run(context, region=region, **scores)
    assert (scores, POLICY, THRESHOLDS, context) == before


@pytest.mark.parametrize(
    ("supported", "confidence", "rule", "expected"),
    [
        (False, 0.95, "escalate", Action.ESCALATE),
        (False, 0.95, "flag", Action.APPROVE),
        (False, 0.40, "escalate", Action.APPROVE),
        (True, 0.95, "escalate", Action.APPROVE),
    ],
)
def test_unread_language_goes_to_a_person(
    supported: bool, confidence: float, rule: Literal["escalate", "flag"], expected: Action
) -> None:
    policy = replace(load_policy(), unsupported_language=rule)
    approved = RegionDecision("DE", "DE", Action.APPROVE, (), ("no head reached its escalate threshold",), False)
    language = Language(code="xx", confidence=confidence, supported=supported)
    decided = escalate_unsupported(approved, language=language, policy=policy)
    assert decided.action is expected
    assert ("not one the model reads" in decided.reasons[-1]) is (expected is Action.ESCALATE)


def test_unread_language_never_softens() -> None:
    rejected = RegionDecision("DE", "DE", Action.REJECT, (), ("gambling",), False)
    language = Language(code="xx", confidence=1.0, supported=False)
    assert escalate_unsupported(rejected, language=language, policy=load_policy()) == rejected
