"""The policy: what each region does about each head; a versioned YAML document, checked and content-hashed."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonschema import Draft202012Validator

from moderation.regions import DEFAULT_REGION, check_region, parent_region

__all__ = [
    "Constraint",
    "Effect",
    "HeadPolicy",
    "Policy",
    "Rule",
    "check_region",
    "list_policies",
    "load_policy",
]

POLICIES = Path(__file__).parent / "policies"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The safe loader; the one in C, where PyYAML has it, is ten times as fast."""
_REF = re.compile(r"(?P<id>[a-z0-9]+(-[a-z0-9]+)*)(@(?P<version>[1-9][0-9]*))?")


class Effect(StrEnum):
    """What a region does about a head, mildest first."""

    ALLOWED = "ALLOWED"
    LIMITED = "LIMITED"
    PROHIBITED = "PROHIBITED"


@dataclass(frozen=True)
class Constraint:
    """One condition of a rule, such as `age` 21, `licence` state, `review` manual."""

    kind: str
    """What sort of condition it is; `docs/policy.md` lists those that decide and those that are only told."""
    value: str | int | None = None
    """Its value; None where the kind says it all (`no_income_claims`)."""

    def __str__(self) -> str:
        """Return `kind:value`, or `kind` alone."""
        return self.kind if self.value is None else f"{self.kind}:{self.value}"


@dataclass(frozen=True)
class Rule:
    """What one region does about one head."""

    effect: Effect
    severity: int
    """1 quality, 2 regulated, 3 serious, 4 critical."""
    constraints: tuple[Constraint, ...] = ()
    on_error: Literal["escalate", "reject", "approve"] = "escalate"
    """The action for an ad that could not be scored."""


@dataclass(frozen=True)
class HeadPolicy:
    """A head of the policy and the rule of every region that has none of its own."""

    name: str
    kind: Literal["topic", "violation", "auxiliary"]
    """topic: the ad promotes it, legal or not; violation: the ad does the bad thing; auxiliary: descriptive."""
    definition: str
    default: Rule
    dsa: tuple[str, ...] = ()
    """Statement categories of the DSA Transparency Database, without their common prefix; our own mapping."""


@dataclass(frozen=True)
class Policy:
    """One immutable version of a policy."""

    id: str
    version: int
    heads: tuple[HeadPolicy, ...]
    regions: Mapping[str, Mapping[str, Rule]]
    """Region -> head -> the rule that replaces the head's default."""
    unsupported_language: Literal["escalate", "flag"] = "escalate"
    """What becomes of an ad that would be approved but is in a language the model does not read: a person decides, or
    the answer only says so."""
    digest: str = ""
    """sha256 of the document as canonical JSON, in hex: comments and layout do not change it, every value does."""

    @property
    def ref(self) -> str:
        """Return id and version, such as `ads-default@1`."""
        return f"{self.id}@{self.version}"

    def head(self, name: str) -> HeadPolicy:
        """Return a head by its name; raise `ValueError` for one the policy does not have."""
        for head in self.heads:
            if head.name == name:
                return head
        raise ValueError(f"head: found {name!r}, policy {self.ref} has {', '.join(head.name for head in self.heads)}")

    def rule(self, head: str, region: str) -> tuple[Rule, str]:
        """Return the rule for a head in a region, and the region that decided.

        That region is the one asked for, else its country (`IN-GJ` -> `IN`), else `default`.

        Raises:
            ValueError: the head or the region is unknown.
        """
        check_region(region)
        default = self.head(head).default
        for candidate in (region, parent_region(region)):
            if candidate is not None and head in self.regions.get(candidate, {}):
                return self.regions[candidate][head], candidate
        return default, DEFAULT_REGION

    def policy_region(self, region: str) -> str:
        """Return the most specific of region, its country and `default` that the policy has any rule for."""
        check_region(region)
        if region in self.regions:
            return region
        parent = parent_region(region)
        return parent if parent is not None and parent in self.regions else DEFAULT_REGION

    def check_heads(self, scored: Iterable[str]) -> None:
        """Raise `ValueError` unless the model's heads are exactly the policy's; call it when both are loaded."""
        found, own = set(scored), {head.name for head in self.heads}
        if found != own:
            raise ValueError(
                f"policy {self.ref}: heads without a rule {sorted(found - own)}, rules without a head of the model "
                f"{sorted(own - found)}; allowed exactly the model's heads (a head to ignore gets effect ALLOWED)"
            )


def load_policy(ref_or_path: str | Path = "ads-default") -> Policy:
    """Return a policy, checked against its JSON Schema.

    `ads-default@1` is a shipped version, `ads-default` its latest one; a `Path`, or text that ends in `.yaml` or
    `.yml`, is a file of one's own.

    Raises:
        ValueError: the reference is unknown or the document is wrong; the message names file, key and found value.
    """
    if isinstance(ref_or_path, Path) or ref_or_path.endswith((".yaml", ".yml")):
        return _read(Path(ref_or_path))
    return _read(_shipped_path(ref_or_path))


def list_policies() -> tuple[Policy, ...]:
    """Return every shipped version, by id and then version."""
    policies = (_read(path) for path in POLICIES.glob("*.yaml"))
    return tuple(sorted(policies, key=lambda policy: (policy.id, policy.version)))


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


def _read(path: Path) -> Policy:
    """Return the policy in a file; every error names the file."""
    try:
        document = _checked(_parse(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"policy: found {str(path)!r}, which cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"policy {path.name}: {error}") from error
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    policy = _policy(document, digest=hashlib.sha256(canonical.encode()).hexdigest())
    if path.parent == POLICIES and path.stem != policy.ref:
        raise ValueError(f"policy {path.name}: id and version say {policy.ref!r}, allowed {path.stem!r}")
    return policy


def _parse(text: str) -> object:
    """Return the document of a YAML text; raise `ValueError` on a key given twice or not text."""
    nodes, seen = [yaml.compose(text, Loader=_LOADER)], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias; it was checked where it stands
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_keys([key for key, _ in node.value])
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    return yaml.load(text, Loader=_LOADER)


def _check_keys(keys: Sequence[yaml.Node]) -> None:
    """Raise `ValueError` on the keys of one mapping if one is given twice or is not text."""
    for key in keys:
        line = key.start_mark.line + 1
        if key.tag != "tag:yaml.org,2002:str":
            raise ValueError(f"line {line}: key {key.value!r} is not text; write it in quotes (region 'NO', not NO)")
        count = sum(key.value == other.value for other in keys)
        if count > 1:
            raise ValueError(f"line {line}: key {key.value!r} is given {count} times, allowed once")


def _checked(document: object) -> Mapping[str, Any]:
    """Return the document; raise `ValueError` that names the first wrong key, by the schema or beyond it."""
    errors = sorted(_validator().iter_errors(document), key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        at = ".".join(str(part) for part in errors[0].absolute_path) or "document"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ValueError(f"{at}: {errors[0].message}{more}")
    if not isinstance(document, dict):  # the schema has said so already; this tells the type checker
        raise ValueError("document: allowed a mapping")
    names = [head["name"] for head in document["heads"]]
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"heads: {name!r} is given {count} times, allowed once")
    for region, rules in document["regions"].items():
        check_region(region)
        for name in rules:
            if name not in names:
                raise ValueError(f"regions.{region}: unknown head {name!r}, allowed {', '.join(names)}")
    return document


@cache
def _validator() -> Draft202012Validator:
    """Return the validator of `policy.schema.json`."""
    schema = json.loads((POLICIES / "policy.schema.json").read_text(encoding="utf-8"))
    return Draft202012Validator(schema)


def _policy(document: Mapping[str, Any], *, digest: str) -> Policy:
    """Return the policy of a checked document."""
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
        unsupported_language=document.get("unsupported_language", "escalate"),
        digest=digest,
    )


def _rule(rule: Mapping[str, Any]) -> Rule:
    """Return a rule of a checked document."""
    return Rule(
        effect=Effect(rule["effect"]),
        severity=int(rule["severity"]),  # JSON Schema takes 3.0 for an integer
        constraints=tuple(Constraint(item["kind"], item.get("value")) for item in rule.get("constraints", ())),
        on_error=rule.get("on_error", "escalate"),
    )
