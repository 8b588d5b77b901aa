"""Policies as YAML documents: read, checked against the schema and beyond it, and content-hashed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from jsonschema import Draft202012Validator

from moderation.constraints import TIMED, check_times, quiet_period
from moderation.policy import Constraint, Effect, HeadPolicy, Policy, Rule
from moderation.regions import COUNTRIES, check_region

POLICIES = Path(__file__).parent / "policies"
SCHEMA = POLICIES / "policy.schema.json"
MAX_BYTES = 1024 * 1024
"""Of one document."""
_MAX_NODES, _MAX_DEPTH = 100_000, 32


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, dates left as text; the one in C, where PyYAML has it, is ten times as fast."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_REF = re.compile(r"(?P<id>[a-z0-9]+(-[a-z0-9]+)*)(@(?P<version>[1-9][0-9]*))?")

Path_ = tuple[str | int, ...]
"""Keys and positions from the document's root to a value."""


class PolicyError(ValueError):
    """A document is no policy; the message names the line and the reason."""


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
        PolicyError: it is none; the message names the first wrong line and the reason.
    """
    document, lines = _parsed(text)
    _check_schema(document, lines)
    policy = _policy(document)
    for path, reason in _faults(policy, document):
        raise PolicyError(f"line {_line(lines, path)}: {_shown(path)}: {reason}")
    return policy


def canonical(text: str) -> str:
    """Return the document of a YAML text as JSON: the same for any two texts of the same values."""
    document, _ = _parsed(text)
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


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
    try:
        policy = read_policy(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"policy: found {str(path)!r}, which cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise PolicyError(f"policy {path.name}: {error}") from error
    if path.parent == POLICIES and path.stem != policy.ref:
        raise ValueError(f"policy {path.name}: id and version say {policy.ref!r}, allowed {path.stem!r}")
    return policy


def _parsed(text: str) -> tuple[Any, Mapping[Path_, int]]:
    """Return the document of a YAML text and the line of every value."""
    size = len(text.encode("utf-8", "replace"))
    if size > MAX_BYTES:
        raise PolicyError(f"line 1: document: {size} bytes, allowed {MAX_BYTES}")
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=_Loader)
        lines: dict[Path_, int] = {(): 1}
        if node is not None:
            _locate(node, (), lines)
        return yaml.load(text, Loader=_Loader), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise PolicyError(f"line {mark.line + 1 if mark else 1}: no YAML: {reason}") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"line 1: no YAML: {error}") from error
    except ValueError as error:  # a date such as 2026-13-40 is refused as it is made
        raise error if isinstance(error, PolicyError) else PolicyError(f"line 1: no YAML: {error}") from error


def _check_events(text: str) -> None:
    """Raise `PolicyError` on what unfolds: aliases, and more values or deeper ones than any policy has."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise PolicyError(f"line {line}: alias *{event.anchor}: write the value out")
        if count > _MAX_NODES:
            raise PolicyError(f"line {line}: document: more than {_MAX_NODES} values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise PolicyError(f"line {line}: document: nested deeper than {_MAX_DEPTH}")


def _locate(node: yaml.Node, path: Path_, lines: dict[Path_, int]) -> None:
    """Note the line of a node and of all below; raise `PolicyError` on a key given twice or not text."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _locate(value, (*path, i), lines)
    elif isinstance(node, yaml.MappingNode):
        counts = Counter(key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value)
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a collection"
                raise PolicyError(f"line {line}: key {shown!r} is not text; write it in quotes (region 'NO', not NO)")
            if counts[key.value] > 1:
                raise PolicyError(f"line {line}: key {key.value!r} is given {counts[key.value]} times, allowed once")
            _locate(value, (*path, key.value), lines)
            lines[*path, key.value] = line


def _line(lines: Mapping[Path_, int], path: Path_) -> int:
    """Return the line of a value, of the nearest above where it stands in no line of its own."""
    while path not in lines:
        path = path[:-1]
    return lines[path]


def _shown(path: Path_) -> str:
    return ".".join(map(str, path)) or "document"


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(policy_schema())


def _check_schema(document: object, lines: Mapping[Path_, int]) -> None:
    """Raise `PolicyError` that names the first line the schema refuses."""
    found = [(_line(lines, tuple(error.absolute_path)), tuple(error.absolute_path), error.message)
             for error in _validator().iter_errors(document)]  # fmt: skip
    if found:
        line, path, message = min(found, key=lambda fault: (fault[0], _shown(fault[1])))
        if path and path[-1] in {"start", "end"}:
            message = f"{message}: write times in quotes, '06:00'"
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise PolicyError(f"line {line}: {_shown(path)}: {message[:300]}{more}")


def _policy(document: Mapping[str, Any]) -> Policy:
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
    content = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Policy(
        id=document["id"],
        version=int(document["version"]),
        heads=heads,
        regions=regions,
        groups={group: tuple(members) for group, members in document.get("groups", {}).items()},
        zones=dict(document.get("zones", {})),
        unsupported_language=document.get("unsupported_language", "escalate"),
        digest=hashlib.sha256(content.encode()).hexdigest(),
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    """Return a rule of a document that the schema takes."""
    return Rule(
        effect=Effect(rule["effect"]),
        severity=int(rule["severity"]),  # JSON Schema takes 3.0 for an integer
        constraints=tuple(
            Constraint(
                kind=item["kind"], value=item.get("value"), values=tuple(item.get("values", ())),
                start=item.get("start"), end=item.get("end"), zone=item.get("zone"),
            )
            for item in rule.get("constraints", ())
        ),
        on_error=rule.get("on_error", "escalate"),
    )  # fmt: skip


def _faults(policy: Policy, document: Mapping[str, Any]) -> Iterator[tuple[Path_, str]]:
    """Yield what the schema cannot see: path and reason."""
    names = [head.name for head in policy.heads]
    for i, name in enumerate(names):
        if names.index(name) < i:
            yield ("heads", i, "name"), f"{name!r} is given {names.count(name)} times, allowed once"
    yield from _faults_of_groups(policy)
    yield from _faults_of_zones(policy)
    for region, rules in document["regions"].items():
        if region not in policy.groups and (reason := _unknown(region)):
            yield ("regions", region), f"{reason}, or a group of this policy"
        for name in rules:
            if name not in names:
                yield ("regions", region, name), f"unknown head {name!r}, allowed {', '.join(names)}"
    for i, head in enumerate(policy.heads):
        yield from _faults_of_rule(policy, head.default, ("heads", i, "default"), regions=None)
    for region, rules in policy.regions.items():
        for name, rule in rules.items():
            members = _members(policy, region)
            yield from _faults_of_rule(policy, rule, ("regions", region, name), regions=members)
    yield from _overlaps(policy)


def _unknown(region: str) -> str | None:
    """Return why a region is none, None where it is one."""
    try:
        check_region(region)
    except ValueError as error:
        return str(error)
    return None


def _faults_of_groups(policy: Policy) -> Iterator[tuple[Path_, str]]:
    for group, members in policy.groups.items():
        if group in COUNTRIES:
            yield ("groups", group), f"{group!r} is a country of ISO 3166-1; a group needs another name"
        for i, member in enumerate(members):
            if member not in policy.groups and (reason := _unknown(member)):
                yield ("groups", group, i), f"{reason}, or a group of this policy"
    for group in policy.groups:
        chain = _cycle(policy, group, (group,))
        if chain is not None:
            yield ("groups", group), f"groups hold each other: {' > '.join(chain)}"


def _cycle(policy: Policy, group: str, chain: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the chain of groups that leads from the first back to it."""
    for member in policy.groups.get(group, ()):
        if member == chain[0]:
            return (*chain, member)
        if member in policy.groups and member not in chain:
            found = _cycle(policy, member, (*chain, member))
            if found is not None:
                return found
    return None


def _faults_of_zones(policy: Policy) -> Iterator[tuple[Path_, str]]:
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


def _faults_of_rule(
    policy: Policy, rule: Rule, path: Path_, *, regions: Sequence[str] | None
) -> Iterator[tuple[Path_, str]]:
    """Yield the faults of one rule's constraints; `regions` None: those of all regions without a rule of their own."""
    counts = Counter(item.kind for item in rule.constraints)
    periods = []
    for i, item in enumerate(rule.constraints):
        at = (*path, "constraints", i)
        if item.kind in {"age", "hours", "advertisers"} and counts[item.kind] > 1:
            yield at, f"{item.kind} is given {counts[item.kind]} times, allowed once"
        if item.kind not in TIMED or (item.start is None and item.end is None):
            continue
        try:
            check_times(item)
        except ValueError as error:
            yield at, str(error)
            continue
        if item.zone is not None and not _is_zone(item.zone):
            yield at, f"zone: found {item.zone!r}, allowed an IANA time zone such as 'Asia/Kolkata'"
        elif item.zone is None and (missing := _without_zone(policy, regions)):
            yield at, f"{item.kind}: no time zone for {missing}: name it under zones, or here as zone"
        if item.kind == "quiet_period":
            periods.append((at, item))
    for (_, before), (at, after) in pairwise(sorted(periods, key=lambda period: quiet_period(period[1], _UTC))):
        if quiet_period(after, _UTC)[0] < quiet_period(before, _UTC)[1]:
            yield at, f"overlapping rules: {before} and {after}"


_UTC = ZoneInfo("UTC")


def _without_zone(policy: Policy, regions: Sequence[str] | None) -> str:
    """Return the regions whose time zone the policy does not know, as they are told."""
    if regions is None:
        return "all regions"
    return ", ".join(region for region in regions if policy.zone(region) is None)


def _overlaps(policy: Policy) -> Iterator[tuple[Path_, str]]:
    """Yield the heads that two groups, as near to a region as each other, both rule."""
    for region in dict.fromkeys(member for group in policy.groups for member in _members(policy, group)):
        if _unknown(region):
            continue
        ruled: set[str] = set()
        for level in policy.levels(region):
            here = [(name, head) for name in level for head in policy.regions.get(name, {}) if head not in ruled]
            for head, count in Counter(head for _, head in here).items():
                both = [name for name, other in here if other == head]
                if count > 1:
                    yield ("regions", both[1], head), f"overlapping rules: {' and '.join(both)} both hold {region}"
            ruled |= {head for _, head in here}
