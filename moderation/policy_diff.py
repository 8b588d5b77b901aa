"""What changes for whom between two policies: the rules in force per region and head, side by side."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from moderation.policy import Policy, Rule, constraint_json
from moderation.regions import DEFAULT_REGION


@dataclass(frozen=True)
class RuleChange:
    """A head whose rule differs in a region."""

    region: str
    """`default`: every region that neither policy names."""
    head: str
    before: Rule | None
    """None: the first policy does not have the head."""
    after: Rule | None

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON."""
        return {
            "region": self.region,
            "policy": self.head,
            "before": rule_json(self.before),
            "after": rule_json(self.after),
        }


def differences(before: Policy, after: Policy) -> list[RuleChange]:
    """Return every rule that differs, by region and head; what groups rule is told for each of their regions."""
    heads = dict.fromkeys(head.name for policy in (before, after) for head in policy.heads)
    regions = sorted({region for policy in (before, after) for region in _named_regions(policy)})
    changes = []
    for region in (DEFAULT_REGION, *regions):
        for head in heads:
            rules = [_rule(policy, head, region) for policy in (before, after)]
            if rules[0] != rules[1]:
                changes.append(RuleChange(region, head, *rules))
    return changes


def comparison(before: Policy, after: Policy) -> dict[str, Any]:
    """Return what changes between two policies as JSON."""
    changes = [change.to_json() for change in differences(before, after)]
    return {"before": before.ref, "after": after.ref, "changes": changes}


def rule_json(rule: Rule | None) -> dict[str, Any] | None:
    """Return a rule as JSON."""
    if rule is None:
        return None
    return {**asdict(rule), "constraints": [constraint_json(constraint) for constraint in rule.constraints]}


def _named_regions(policy: Policy) -> set[str]:
    """Return the regions a policy names, itself or in a group."""
    named = set(policy.regions).union(*policy.groups.values())
    return named - set(policy.groups)


def _rule(policy: Policy, head: str, region: str) -> Rule | None:
    if head not in {each.name for each in policy.heads}:
        return None
    return policy.head(head).default if region == DEFAULT_REGION else policy.rule(head, region)[0]
