"""The priority of a review: how bad it would be, times how close to certain it is.

    priority  = max over the entries that ask for a person of  severity x closeness
    closeness = (1 + (p - t) / (1 - t)) / 2        p: probability, t: the threshold it passed

Severity is the policy's (1 quality, 2 regulated, 3 serious, 4 critical). Closeness is 1/2 at the threshold and 1 at
certainty, so a critical suspicion at its threshold (2) equals a certain regulated one, and priorities lie in (0, 4].
The formula is our own and unmeasured; reach, age and backlog are not in it. The queue keeps the sum in words beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from moderation.decision import Action, Entry, RegionDecision

UNSCORED = 2.0
"""Priority where no head's probability stands behind the escalation: that of a critical suspicion at its threshold."""


@dataclass(frozen=True)
class Priority:
    """How urgent a review is, and why."""

    value: float
    """In (0, 4]; higher is more urgent."""
    reason: str
    """The sum in words."""


def priority(decision: RegionDecision) -> Priority:
    """Return the priority of an escalated decision.

    A scoring failure, or a language the model does not read, has no probability to weigh: `UNSCORED`.
    """
    asking = [entry for entry in decision.entries if entry.action is Action.ESCALATE]
    if not asking:
        return Priority(UNSCORED, "not scored" if decision.degraded else "no single head asks for a person")
    top = max(asking, key=_weight)
    return Priority(
        round(_weight(top), 4),
        f"{top.policy}: severity {top.severity} x closeness {closeness(top.probability, top.threshold):.2f}",
    )


def closeness(probability: float, threshold: float) -> float:
    """Return 1/2 at the threshold and 1 at certainty, linear between.

    >>> closeness(0.4, 0.4), closeness(0.7, 0.4), closeness(1.0, 1.0)
    (0.5, 0.75, 1.0)
    """
    if threshold >= 1:
        return 1.0
    return (1 + max(0.0, probability - threshold) / (1 - threshold)) / 2


def _weight(entry: Entry) -> float:
    return entry.severity * closeness(entry.probability, entry.threshold)
