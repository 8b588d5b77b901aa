"""Policies as YAML documents: read, checked against the schema and beyond it, and content-hashed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jsonschema import Draft202012Validator

from moderation.constraints import TIMED, check_times, quiet_period
from moderation.document import DocumentPath, read_document, read_file
from moderation.policy import Constraint, Effect, HeadPolicy, Policy, Rule
from moderation.regions import COUNTRIES, check_region, parent_region

POLICIES = Path(__file__).parent / "policies"
SCHEMA = POLICIES / "policy.schema.json"
_HINTS = dict.fromkeys(("start", "end"), "write times in quotes, '06:00'")
_UTC = ZoneInfo("UTC")
_REF = re.compile(r"(?P<id>[a-z0-9]+(-[a-z0-9]+)*)(@(?P<version>[1-9][0-9]*))?")


def load_policy(ref_or_path: str | Path = "ads-default") -> Policy:
    """Return a policy, checked against its JSON Schema.

    `ads-default@1` is a shipped version, `ads-default` its latest one; a `Path`, or text that ends in `.yaml` or
    `.yml`, is a file of one's own.

    Raises:
        ValueError: the reference is unknown or the document is wrong; the message names file, line, key and value.
    """
    return _of_file(Path(ref_or_path) if is_file(ref_or_path) else _shipped_path(str(ref_or_path)))


def is_file(ref_or_path: str | Path) -> bool:
    """Return whether a policy is named by its file."""
    return isinstance(ref_or_path, Path) or ref_or_path.endswith((".yaml", ".yml"))


def list_policies() -> tuple[Policy, ...]:
    """Return every shipped version, by id and then version."""
    policies = (_of_file(path) for path in POLICIES.glob("*.yaml"))
    return tuple(sorted(policies, key=lambda policy: (policy.id, policy.version)))


def read_policy(text: str) -> Policy:
    """Return the policy of a YAML text.

    Raises:
        DocumentError: it is none; the message names the first wrong line and the reason.
    """
    document = read_document(text)
    document.check(_validator(), hints=_HINTS)
    policy = _policy(document.values, digest=document.digest)
    for path, reason in _faults(policy, document.values):
        raise document.fault(path, reason)
    return policy


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a document."""
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def _shipped_path(ref: str) -> Path:
    """Return the file of a shipped reference, of the latest version where none is named."""
    versions = {path.stem: path for path in POLICIES.glob("*.yaml")}
    form = _REF.fullmatch(ref)
    if form is not None and form["version"] is None:
        own = [stem for stem in versions if stem.rpartition("@")[0] == ref]
        ref = max(own, key=lambda stem: int(stem.rpartition("@")[2]), default=ref)
    if form is None or ref not in versions:
        raise ValueError(f"policy: found {ref!r}, allowed {', '.join(sorted(versions))} or the path of a .yaml file")
    return versions[ref]


def _of_file(path: Path) -> Policy:
    """Return the policy in a file; every error names the file."""
    policy = read_file(path, read_policy, what="policy")
    if path.parent == POLICIES and path.stem != policy.ref:
        raise ValueError(f"policy {path.name}: id and version say {policy.ref!r}, allowed {path.stem!r}")
    return policy


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(policy_schema())


def _policy(document: Mapping[str, Any], *, digest: str) -> Policy:
    """Return the policy of a document that the schema takes."""
    heads = tuple(
        HeadPolicy(
            name=head["name"],
            kind=head["kind"],
            definition=head["definition"],
            default=_rule(head["default"]),
            dsa=tuple(head.get("dsa", ())),
        )
        for head in document["heads"]
    )
    regions = {
        region: {head: _rule(rule) for head, rule in rules.items()} for region, rules in document["regions"].items()
    }
    return Policy(
        id=document["id"],
        version=int(document["version"]),
        heads=heads,
        regions=regions,
        groups={group: tuple(members) for group, members in document.get("groups", {}).items()},
        zones=dict(document.get("zones", {})),
        unsupported_language=document.get("unsupported_language", "escalate"),
        digest=digest,
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    """Return a rule of a document that the schema takes."""
    return Rule(
        effect=Effect(rule["effect"]),
        severity=int(rule["severity"]),  # JSON Schema takes 3.0 for an integer
        constraints=tuple(
            Constraint(
                kind=item["kind"], value=_whole(item.get("value")), values=tuple(item.get("values", ())),
                start=item.get("start"), end=item.get("end"), zone=item.get("zone"),
            )
            for item in rule.get("constraints", ())
        ),
        on_error=rule.get("on_error", "escalate"),
    )  # fmt: skip


def _whole(value: str | float | None) -> str | int | None:
    """Return a value as it is told, 18 also where the document says 18.0."""
    return int(value) if isinstance(value, float) else value


def _faults(policy: Policy, document: Mapping[str, Any]) -> Iterator[tuple[DocumentPath, str]]:
    """Yield what the schema cannot see: path and reason."""
    names = [head.name for head in policy.heads]
    yield from _faults_of_heads(policy)
    yield from _faults_of_groups(policy)
    yield from _faults_of_zones(policy)
    for region, rules in document["regions"].items():
        if region not in policy.groups and (reason := _unknown(region)):
            yield ("regions", region), f"{reason}, or a group of this policy"
        for name in rules:
            if name not in names:
                yield ("regions", region, name), f"unknown head {name!r}, allowed {', '.join(names)}"
    for i, head in enumerate(policy.heads):
        yield from _faults_of_rule(head.default, ("heads", i, "default"), without_zone="all regions")
    for region, rules in policy.regions.items():
        without_zone = _without_zone(policy, region)
        for name, rule in rules.items():
            yield from _faults_of_rule(rule, ("regions", region, name), without_zone=without_zone)
    yield from _overlaps(policy)


def _faults_of_heads(policy: Policy) -> Iterator[tuple[DocumentPath, str]]:
    names = [head.name for head in policy.heads]
    for i, head in enumerate(policy.heads):
        if names.index(head.name) < i:
            yield ("heads", i, "name"), f"{head.name!r} is given {names.count(head.name)} times, allowed once"
        yield from _repeated(head.dsa, ("heads", i, "dsa"))


def _repeated(values: Sequence[str], path: DocumentPath) -> Iterator[tuple[DocumentPath, str]]:
    """Yield what a list holds twice."""
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value in seen:
            yield (*path, i), f"{value!r} is given twice, allowed once"
        seen.add(value)


def _unknown(region: str) -> str | None:
    """Return why a region is none, None where it is one."""
    try:
        check_region(region)
    except ValueError as error:
        return str(error)
    return None


def _faults_of_groups(policy: Policy) -> Iterator[tuple[DocumentPath, str]]:
    for group, members in policy.groups.items():
        if group in COUNTRIES:
            yield ("groups", group), f"{group!r} is a country of ISO 3166-1; a group needs another name"
        yield from _repeated(members, ("groups", group))
        for i, member in enumerate(members):
            if member not in policy.groups and (reason := _unknown(member)):
                yield ("groups", group, i), f"{reason}, or a group of this policy"
    if chain := _cycle(policy.groups):
        yield ("groups", chain[0]), f"groups hold each other: {' > '.join(chain)}"


def _cycle(groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return a chain of groups that leads back to its first, empty where there is none; looks at each group once."""
    done: set[str] = set()
    for start in groups:
        chain, left = [start], [iter(groups[start])]
        while chain:
            member = next((each for each in left[-1] if each in groups and each not in done), None)
            if member is None:
                done.add(chain.pop())
                left.pop()
            elif member in chain:
                return (*chain[chain.index(member) :], member)
            else:
                chain.append(member)
                left.append(iter(groups[member]))
    return ()


def _faults_of_zones(policy: Policy) -> Iterator[tuple[DocumentPath, str]]:
    for region, zone in policy.zones.items():
        if reason := _unknown(region):
            yield ("zones", region), reason
        if not _is_zone(zone):
            yield ("zones", region), f"found {zone!r}, allowed an IANA time zone such as 'Asia/Kolkata'"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _members(policy: Policy, name: str) -> tuple[str, ...]:
    """Return the regions of a group, its groups' too; of a region itself."""
    if name not in policy.groups:
        return (name,)
    found: dict[str, None] = {}
    left, seen = [name], set()
    while left:
        group = left.pop()
        if group in seen:
            continue
        seen.add(group)
        for member in policy.groups[group]:
            if member in policy.groups:
                left.append(member)
            else:
                found[member] = None
    return tuple(found)


def _faults_of_rule(rule: Rule, path: DocumentPath, *, without_zone: str) -> Iterator[tuple[DocumentPath, str]]:
    """Yield the faults of one rule's constraints; `without_zone`: its regions whose time zone is not known."""
    counts = Counter(item.kind for item in rule.constraints)
    periods = []
    for i, item in enumerate(rule.constraints):
        at = (*path, "constraints", i)
        if item.kind in {"age", "hours", "advertisers"} and counts[item.kind] > 1:
            yield at, f"{item.kind} is given {counts[item.kind]} times, allowed once"
        yield from _repeated(item.values, (*at, "values"))
        if item.kind not in TIMED or (item.start is None and item.end is None):
            continue
        try:
            check_times(item)
        except ValueError as error:
            yield at, str(error)
            continue
        if item.zone is not None and not _is_zone(item.zone):
            yield at, f"zone: found {item.zone!r}, allowed an IANA time zone such as 'Asia/Kolkata'"
        elif item.zone is None and without_zone:
            yield at, f"{item.kind}: no time zone for {without_zone}: name it under zones, or here as zone"
        if item.kind == "quiet_period":
            periods.append((at, item))
    for (_, before), (at, after) in pairwise(sorted(periods, key=lambda period: quiet_period(period[1], _UTC))):
        if quiet_period(after, _UTC)[0] < quiet_period(before, _UTC)[1]:
            yield at, f"overlapping rules: {before} and {after}"


def _without_zone(policy: Policy, name: str) -> str:
    """Return the regions of a group, or the region itself, whose time zone is not known, as they are told."""
    return ", ".join(region for region in _members(policy, name) if policy.zone(region) is None)


def _overlaps(policy: Policy) -> Iterator[tuple[DocumentPath, str]]:
    """Yield the heads that two groups, as near to a region as each other, both rule."""
    holding: dict[str, list[str]] = {}
    for group, members in policy.groups.items():
        for member in members:
            holding.setdefault(member, []).append(group)
    seen = set()
    for region, groups in holding.items():
        # Regions without rules of their own, in the same groups and the same country, have the same rules.
        alike = (region if region in policy.regions else None, parent_region(region), *groups)
        if region in policy.groups or alike in seen or _unknown(region):
            continue
        seen.add(alike)
        ruled: set[str] = set()
        for level in policy.levels(region):
            here = [(name, head) for name in level for head in policy.regions.get(name, {}) if head not in ruled]
            for head, count in Counter(head for _, head in here).items():
                both = [name for name, other in here if other == head]
                if count > 1:
                    yield ("regions", both[1], head), f"overlapping rules: {' and '.join(both)} both hold {region}"
            ruled |= {head for _, head in here}
