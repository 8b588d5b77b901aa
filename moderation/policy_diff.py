"""What changes for whom between two policies: rules per region and head, time zones, languages that are not read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from moderation.policy import Policy, Rule, UnsupportedLanguage, constraint_json
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


@dataclass(frozen=True)
class ZoneChange:
    """A region whose time zone differs, so that the times of its rules do."""

    region: str
    before: str | None
    """IANA time zone; None: the first policy knows none."""
    after: str | None


@dataclass(frozen=True)
class LanguageChange:
    """That what becomes of an ad in a language the model does not read differs."""

    before: UnsupportedLanguage
    after: UnsupportedLanguage


def differences(before: Policy, after: Policy) -> list[RuleChange]:
    """Return every rule that differs, by region and head; what groups rule is told for each of their regions."""
    heads = dict.fromkeys(head.name for policy in (before, after) for head in policy.heads)
    regions = sorted({region for policy in (before, after) for region in _named_regions(policy)})
    changes = []
    for region in (DEFAULT_REGION, *regions):
        old, new = _rules(before, region), _rules(after, region)
        changes += [
            RuleChange(region, head, old.get(head), new.get(head)) for head in heads if old.get(head) != new.get(head)
        ]
    return changes


def zone_differences(before: Policy, after: Policy) -> list[ZoneChange]:
    """Return every region whose time zone differs, by region; a zone of a constraint's own is told with its rule."""
    regions = sorted({region for policy in (before, after) for region in (*_named_regions(policy), *policy.zones)})
    zones = (ZoneChange(region, before.zone(region), after.zone(region)) for region in regions)
    return [zone for zone in zones if zone.before != zone.after]


def language_difference(before: Policy, after: Policy) -> LanguageChange | None:
    """Return how what becomes of languages that the model does not read differs, None where it does not."""
    if before.unsupported_language == after.unsupported_language:
        return None
    return LanguageChange(before.unsupported_language, after.unsupported_language)


def comparison(before: Policy, after: Policy) -> dict[str, Any]:
    """Return what changes between two policies as JSON."""
    language = language_difference(before, after)
    return {
        "before": before.ref,
        "after": after.ref,
        "changes": [change.to_json() for change in differences(before, after)],
        "zones": [asdict(zone) for zone in zone_differences(before, after)],
        "unsupported_language": None if language is None else asdict(language),
    }


def rule_json(rule: Rule | None) -> dict[str, Any] | None:
    """Return a rule as JSON."""
    if rule is None:
        return None
    return {**asdict(rule), "constraints": [constraint_json(constraint) for constraint in rule.constraints]}


def _named_regions(policy: Policy) -> set[str]:
    """Return the regions a policy names, itself or in a group."""
    named = set(policy.regions).union(*policy.groups.values())
    return named - set(policy.groups)


def _rules(policy: Policy, region: str) -> dict[str, Rule]:
    """Return the rule of each head that holds in a region."""
    if region == DEFAULT_REGION:
        return {head.name: head.default for head in policy.heads}
    return {head: rule for head, (rule, _) in policy.in_region(region).rules.items()}
