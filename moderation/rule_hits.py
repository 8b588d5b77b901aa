"""How often rules were found in stored decisions; of a shadow rule, what was decided without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moderation.decision import Action
from moderation.rules import RuleMode

if TYPE_CHECKING:
    from moderation.review.store import LoggedDecision
    from moderation.rule_set import RuleSet


@dataclass(frozen=True, order=True)
class Hits:
    """Stored decisions in which one rule was found, of one region and action."""

    rule: str
    mode: RuleMode
    region: str
    action: Action
    """What was decided; where the rule is active it had its part in that."""
    decisions: int


@dataclass(frozen=True)
class HitCount:
    """What one version of a set of rules found."""

    decisions: int
    """In which any of its rules was found."""
    hits: tuple[Hits, ...]
    """By rule, mode, region and action."""


def count_hits(rules: RuleSet, rows: Iterable[LoggedDecision]) -> HitCount:
    """Return how often each rule was found; a rule counts once per decision, wherever it was found in it."""
    own = {f"{rules.ref}/{rule.name}": rule.name for rule in rules.rules}
    found: Counter[tuple[str, RuleMode, str, Action]] = Counter()
    decisions = 0
    for row in rows:
        names = {(own[signal.name], signal.mode) for signal in row.signals if signal.name in own}
        decisions += bool(names)
        found.update((name, mode, row.region, row.action) for name, mode in names)
    return HitCount(decisions, tuple(Hits(*kind, count) for kind, count in sorted(found.items())))
