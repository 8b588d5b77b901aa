"""Metrics: what is counted for each decision, and that labels have an end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moderation.decision import Action, Decision, Entry, ItemError, RegionDecision
from moderation.metrics import ModerationMetrics
from moderation.policy import Effect
from retrieval_shared.language import Language


def entry(policy: str, action: Action) -> Entry:
    """An entry of a policy with an action."""
    return Entry(
        policy=policy,
        effect=Effect.LIMITED,
        probability=0.9,
        severity=2,
        threshold=0.5,
        threshold_id="thr_1",
        action=action,
        constraints=(),
        evidence=(),
        reason="",
    )


def region(name: str, *entries: Entry, policy_region: str = "default", degraded: bool = False) -> RegionDecision:
    """A region's decision with these entries."""
    action = entries[0].action if entries else Action.APPROVE
    return RegionDecision(name, policy_region, action, entries, (), degraded)


def decision(*regions: RegionDecision, supported: bool = True) -> Decision:
    """A decided item."""
    return Decision(
        id="a",
        status="ok",
        error=None,
        language=Language("de", 0.9, supported),
        decisions=regions,
        probabilities={"gambling": 0.91, "scam": 0.01},
        obfuscation=None,
        versions={},
    )


def value(metrics: ModerationMetrics, name: str, **labels: str) -> float | None:
    """The value of a sample."""
    return metrics.registry.get_sample_value(name, labels)


def test_decisions_are_counted_per_policy_region_and_action() -> None:
    """An approval without any policy counts as 'none'; two entries of one region count apart."""
    metrics = ModerationMetrics()
    hit = region("DE", entry("gambling", Action.LIMIT), entry("scam", Action.ESCALATE), policy_region="DE")
    metrics.count(decision(hit, region("FR")))
    name = "wardline_decisions_total"
    assert value(metrics, name, policy="gambling", region="DE", action="limit") == 1
    assert value(metrics, name, policy="scam", region="DE", action="escalate") == 1
    assert value(metrics, name, policy="none", region="default", action="approve") == 1


def test_regions_that_the_policy_does_not_know_share_one_label() -> None:
    """A caller cannot fill the memory by naming many regions."""
    metrics = ModerationMetrics()
    metrics.count(decision(*(region(f"DE-{i}") for i in range(50))))
    assert value(metrics, "wardline_decisions_total", policy="none", region="default", action="approve") == 50


def test_failures_languages_and_errors_are_counted() -> None:
    """A degraded item is a scoring failure, once, in however many regions."""
    metrics = ModerationMetrics()
    metrics.count(decision(region("DE", degraded=True), region("FR", degraded=True)))
    metrics.count(replace(decision(region("DE")), degraded=True))
    metrics.count(decision(region("DE"), supported=False))
    metrics.count(replace(decision(), status="error", error=ItemError("empty_text", "")))
    assert value(metrics, "wardline_scoring_failures_total") == 2
    assert value(metrics, "wardline_unsupported_language_total") == 1
    assert value(metrics, "wardline_item_errors_total", code="empty_text") == 1


def test_probabilities_fall_into_their_buckets() -> None:
    """One item, two heads, one observation each."""
    metrics = ModerationMetrics()
    metrics.count(decision(region("DE")))
    assert value(metrics, "wardline_probability_bucket", head="scam", le="0.02") == 1
    assert value(metrics, "wardline_probability_bucket", head="gambling", le="0.9") == 0
    assert value(metrics, "wardline_probability_bucket", head="gambling", le="0.95") == 1


def test_an_item_is_observed_once_with_its_first_regions_probabilities() -> None:
    """Whatever the number of its regions, and whatever another adapter says in another of them."""
    metrics = ModerationMetrics()
    first = replace(region("DE"), probabilities={"gambling": 0.91, "scam": 0.01}, adapter="task:moderation")
    others = [replace(region(f"ID-{i}"), probabilities={"gambling": 0.3}, adapter="region:ID") for i in range(9)]
    metrics.count(decision(first, *others))
    assert value(metrics, "wardline_probability_count", head="gambling") == 1
    assert value(metrics, "wardline_probability_sum", head="gambling") == pytest.approx(0.91)


def test_a_stage_is_measured_also_when_it_fails() -> None:
    """A slow failure is the one worth seeing."""
    metrics = ModerationMetrics()
    with pytest.raises(KeyError), metrics.stage("score"):
        raise KeyError
    with metrics.stage("score"):
        pass
    assert value(metrics, "wardline_stage_seconds_count", stage="score") == 2
