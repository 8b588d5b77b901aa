"""Stored decisions made again: under what made them, to show that they hold, or under another policy.

Decisions are pure, so no model runs: the decision log holds the probabilities, the context and the language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from moderation.decision import Action, RegionDecision, decide, decide_failed, escalate_unsupported
from moderation.policy import Policy
from moderation.policy_store import PolicyStore
from moderation.review.queue import entry_json
from moderation.signals import apply_signals
from moderation.thresholds import Thresholds
from moderation.version_store import UnknownVersionError

if TYPE_CHECKING:
    from moderation.review.store import LoggedDecision

NOT_SCORED = "not scored: "


@dataclass(frozen=True)
class Difference:
    """A stored decision that did not come out again, or whose policy is not known here any more."""

    id: int
    item_id: str
    what: str
    """What differs: `action`, `entries`, `reasons`, `policy` or `thresholds`."""
    stored: object
    found: object


@dataclass(frozen=True)
class Flip:
    """A stored decision that another policy would make otherwise."""

    id: int
    item_id: str
    region: str
    before: Action
    after: Action
    reasons: tuple[str, ...]
    """Of the new decision."""


@dataclass
class Backtest:
    """What another policy, or other thresholds, would have decided."""

    policy: str
    thresholds: str
    decisions: int = 0
    regions: dict[str, Counter[tuple[Action, Action]]] = field(default_factory=dict)
    """Region -> (action then, action now) -> how many."""
    topics: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    """Head -> (effect and action then, effect and action now) -> how many, where they differ; `-` for none."""
    examples: list[Flip] = field(default_factory=list)
    """The first flips of every kind."""

    @property
    def flips(self) -> int:
        """How many decisions come out otherwise."""
        return sum(
            count for found in self.regions.values() for (before, after), count in found.items() if before != after
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return {
            "policy": self.policy,
            "thresholds": self.thresholds,
            "decisions": self.decisions,
            "flips": self.flips,
            "regions": [
                {"region": region, "before": str(before), "after": str(after), "decisions": count}
                for region, found in sorted(self.regions.items())
                for (before, after), count in sorted(found.items())
            ],
            "topics": [
                {"policy": head, "before": before, "after": after, "decisions": count}
                for head, found in sorted(self.topics.items())
                for (before, after), count in sorted(found.items())
            ],
            "examples": [asdict(flip) for flip in self.examples],
        }


def decide_again(row: LoggedDecision, *, policy: Policy, thresholds: Thresholds) -> RegionDecision:
    """Return what a policy and thresholds make of a stored decision; rules and bank find what they found then.

    Raises:
        ValueError: they lack a head that was scored.
    """
    if not row.probabilities:
        reason = next((text.removeprefix(NOT_SCORED) for text in row.reasons if text.startswith(NOT_SCORED)), "")
        failed = decide_failed(region=row.region, policy=policy, reason=reason)
        return apply_signals(failed, row.signals, policy=policy)
    found = decide(
        row.probabilities, region=row.region, policy=policy, thresholds=thresholds, context=row.context,
        at=row.created_at,
    )  # fmt: skip
    if row.language is not None:
        found = escalate_unsupported(found, language=row.language, policy=policy)
    return apply_signals(found, row.signals, policy=policy)


def replay(rows: Iterable[LoggedDecision], policies: PolicyStore) -> Iterable[Difference]:
    """Yield every stored decision that its own policy and thresholds do not make again, word for word.

    Evidence is not compared: it is found in the text, which the log does not hold.
    """
    known: dict[str, Thresholds | None] = {}
    for row in rows:
        name = row.versions.get("thresholds", "")
        if name not in known:
            known[name] = policies.thresholds(name)
        thresholds = known[name]
        try:
            policy = policies.get(row.policy)
        except UnknownVersionError:
            yield Difference(row.id, row.item_id, "policy", row.policy, None)
            continue
        if policy.digest[:12] != row.versions.get("policy_digest", policy.digest[:12]):
            yield Difference(row.id, row.item_id, "policy", row.versions["policy_digest"], policy.digest[:12])
        elif thresholds is None:
            yield Difference(row.id, row.item_id, "thresholds", name, None)
        else:
            found = decide_again(row, policy=policy, thresholds=thresholds)
            yield from _differences(row, found)


def _differences(row: LoggedDecision, found: RegionDecision) -> Iterable[Difference]:
    pairs: Mapping[str, tuple[object, object]] = {
        "action": (row.action, found.action),
        "entries": (_without_evidence(row.entries), _without_evidence([entry_json(entry) for entry in found.entries])),
        "reasons": (tuple(row.reasons), found.reasons),
    }
    for what, (stored, again) in pairs.items():
        if stored != again:
            yield Difference(row.id, row.item_id, what, stored, again)


def _without_evidence(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != "evidence"} for entry in entries]


def backtest(rows: Iterable[LoggedDecision], *, policy: Policy, thresholds: Thresholds, examples: int = 20) -> Backtest:
    """Return what a policy and thresholds make of stored decisions, beside what was decided.

    Args:
        rows: the stored decisions.
        policy: the policy to try.
        thresholds: the thresholds to try.
        examples: flips shown of each kind (region, action then, action now), at most.

    Raises:
        ValueError: policy or thresholds lack a head that was scored.
    """
    report = Backtest(policy=policy.ref, thresholds=thresholds.id)
    for row in rows:
        found = decide_again(row, policy=policy, thresholds=thresholds)
        report.decisions += 1
        counts = report.regions.setdefault(row.region, Counter())
        kind = (row.action, found.action)
        counts[kind] += 1
        if row.action is not found.action and counts[kind] <= examples:
            report.examples.append(Flip(row.id, row.item_id, row.region, *kind, found.reasons))
        before = {entry["policy"]: f"{entry['effect']} {entry['action']}" for entry in row.entries}
        after = {entry.policy: f"{entry.effect} {entry.action}" for entry in found.entries}
        for head in before.keys() | after.keys():
            was, now = before.get(head, "-"), after.get(head, "-")
            if was != now:
                report.topics.setdefault(head, Counter())[was, now] += 1
    return report
