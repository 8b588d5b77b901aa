"""Priorities, by hand."""

from __future__ import annotations

import pytest

from moderation.decision import Action, Entry, RegionDecision
from moderation.policy import Effect
from moderation.review.priority import UNSCORED, Priority, closeness, priority


def entry(head: str, *, severity: int, probability: float, threshold: float, action: Action = Action.ESCALATE) -> Entry:
    return Entry(head, Effect.PROHIBITED, probability, severity, threshold, "thr_1", action, (), (), "why")


def decision(*entries: Entry, degraded: bool = False) -> RegionDecision:
    return RegionDecision("DE", "DE", Action.ESCALATE, entries, (), degraded)


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [(0.4, 0.4, 0.5), (0.7, 0.4, 0.75), (1.0, 0.4, 1.0), (0.5, 0.0, 0.75), (1.0, 1.0, 1.0), (0.1, 0.4, 0.5)],
)
def test_closeness_runs_from_a_half_to_one(probability: float, threshold: float, expected: float) -> None:
    assert closeness(probability, threshold) == pytest.approx(expected)


def test_the_weightiest_head_counts_and_says_why() -> None:
    mild = entry("sensational", severity=1, probability=1.0, threshold=0.5)
    grave = entry("drugs", severity=4, probability=0.7, threshold=0.4)
    assert priority(decision(mild, grave)) == Priority(3.0, "drugs: severity 4 x closeness 0.75")


def test_only_heads_that_ask_for_a_person_count() -> None:
    limited = entry("gambling", severity=4, probability=1.0, threshold=0.5, action=Action.LIMIT)
    asking = entry("pressure", severity=1, probability=0.5, threshold=0.5)
    assert priority(decision(limited, asking)).value == 0.5


def test_without_a_head_it_is_that_of_a_critical_suspicion() -> None:
    suspicion = entry("drugs", severity=4, probability=0.4, threshold=0.4)
    assert priority(decision(degraded=True)) == Priority(UNSCORED, "not scored")
    assert priority(decision()).reason == "no single head asks for a person"
    assert priority(decision(suspicion)).value == UNSCORED
