"""Policies, their differences and what they would have decided, as tables of the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from moderation.command_line import print_plainly
from moderation.policy_diff import differences, language_difference, zone_differences
from moderation.regions import DEFAULT_REGION

if TYPE_CHECKING:
    from moderation.policy import Policy, Rule
    from moderation.replay import Backtest, Difference
    from moderation.version_store import Publication

_WORDS = {"publish": "published", "rollback": "rolled back to", "withdraw": "withdrawn"}
_DIGITS = 12
"""Of a digest, where it is one column of many."""


def print_policies(policies: Iterable[Policy], latest: Mapping[str, Publication | None]) -> None:
    """Print one row per version; `latest` holds the publication in force of each policy."""
    table = Table("policy", "heads", "regions", "digest", "in force")
    for policy in policies:
        last = latest[policy.id]
        since = f"since {_told(last)}" if last is not None and last.ref == policy.ref else ""
        table.add_row(policy.ref, str(len(policy.heads)), str(len(policy.regions)), policy.digest[:_DIGITS], since)
    print_plainly(table)


def print_policy(policy: Policy, publications: Iterable[Publication]) -> None:
    """Print a policy's heads, its groups, its digest, and when it was put in force."""
    table = Table("head", "kind", "default", "severity", "constraints", "regions of their own", title=policy.ref)
    for head in policy.heads:
        own = [region for region, rules in sorted(policy.regions.items()) if head.name in rules]
        rule = head.default
        constraints = ", ".join(map(str, rule.constraints))
        table.add_row(head.name, head.kind, rule.effect.value, str(rule.severity), constraints, " ".join(own))
    print_plainly(table)
    for group, members in policy.groups.items():
        print_plainly(f"group {group}: {' '.join(members)}")
    for each in publications:
        print_plainly(_told(each))
    print_plainly(f"digest {policy.digest}")


def print_changes(before: Policy, after: Policy) -> None:
    """Print the rules, the time zones and the treatment of other languages that differ between two policies."""
    table = Table("region", "head", before.ref, after.ref)
    for change in differences(before, after):
        region = "every other" if change.region == DEFAULT_REGION else change.region
        table.add_row(region, change.head, _rule(change.before), _rule(change.after))
    clocks = Table("region", before.ref, after.ref, title="Time zones")
    for zone in zone_differences(before, after):
        clocks.add_row(zone.region, zone.before or "none", zone.after or "none")
    if not table.row_count:
        print_plainly(f"{before.ref} and {after.ref}: no rule differs")
    for each in (table, clocks):
        if each.row_count:
            print_plainly(each)
    if language := language_difference(before, after):
        print_plainly(f"unsupported_language: {language.before}, then {language.after}")


def print_backtest(report: Backtest) -> None:
    """Print what a policy and thresholds would have decided, beside what was decided."""
    print_plainly(
        f"{report.decisions:,} decisions under {report.policy} and {report.thresholds}: {report.flips:,} flip"
    )
    shown = report.to_json()
    regions = Table("region", "then", "now", "decisions", "", title="Actions by region")
    for row in shown["regions"]:
        flips = "" if row["before"] == row["after"] else "flip"
        regions.add_row(row["region"], row["before"], row["after"], f"{row['decisions']:,}", flips)
    topics = Table("head", "then", "now", "decisions", title="Entries that differ, by head")
    for row in shown["topics"]:
        topics.add_row(row["policy"], row["before"], row["after"], f"{row['decisions']:,}")
    examples = Table("item", "region", "then", "now", "why", title="Examples that flip")
    for flip in report.examples:
        examples.add_row(flip.item_id, flip.region, str(flip.before), str(flip.after), "; ".join(flip.reasons))
    for table in (regions, topics, examples):
        if table.row_count:
            print_plainly(table)


def print_differences(first: Sequence[Difference], decisions: int) -> None:
    """Print the first differences of a replay; `decisions` is how many decisions differ at all."""
    table = Table("decision", "item", "what", "then", "again")
    for each in first:
        table.add_row(str(each.id), each.item_id, each.what, str(each.stored), str(each.found))
    print_plainly(table)
    left = decisions - len({each.id for each in first})
    if left:
        print_plainly(f"and {left:,} decisions more")


def _told(publication: Publication) -> str:
    return f"{publication.created_at:%Y-%m-%d %H:%M} {_WORDS[publication.action]} by {publication.published_by}"


def _rule(rule: Rule | None) -> str:
    if rule is None:
        return "no such head"
    constraints = "".join(f"\n{each}" for each in rule.constraints)
    on_error = "" if rule.on_error == "escalate" else f", on error {rule.on_error}"
    return f"{rule.effect.value}, severity {rule.severity}{on_error}{constraints}"
