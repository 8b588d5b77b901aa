"""The policy: what each region does about each head, one immutable version of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal

from moderation.regions import DEFAULT_REGION, check_region, parent_region

UnsupportedLanguage = Literal["escalate", "flag"]
"""What becomes of an ad that would be approved but is in a language the model does not read: a person decides, or the
answer only says so."""


class Effect(StrEnum):
    """What a region does about a head, mildest first."""

    ALLOWED = "ALLOWED"
    LIMITED = "LIMITED"
    """It runs under constraints; which of them are not known to be met is told."""
    FULLY_LIMITED = "FULLY_LIMITED"
    """It runs only where every constraint that can be checked is met; until then it is rejected."""
    PROHIBITED = "PROHIBITED"


@dataclass(frozen=True)
class Constraint:
    """One condition of a rule, such as `age` 21, `licence` state, `hours` from 06:00 to 21:00."""

    kind: str
    """What sort of condition it is; `docs/policy.md` lists those that decide and those that are only told."""
    value: str | int | None = None
    """Its value; None where the kind says it all (`no_income_claims`)."""
    values: tuple[str, ...] = ()
    """The ids of an allow-list."""
    start: str | None = None
    """Where a time begins: `HH:MM`, or a date with or without a time."""
    end: str | None = None
    """Where it ends; a time of day before `start` is one of the next day."""
    zone: str | None = None
    """IANA time zone of both; None: the region's."""

    def __str__(self) -> str:
        """Return the kind, with its value where it has one, such as `age:18` or `hours:06:00/21:00`."""
        if self.start is not None:
            return f"{self.kind}:{self.start}/{self.end}"
        if self.values:
            return f"{self.kind}:{','.join(self.values)}"
        return self.kind if self.value is None else f"{self.kind}:{self.value}"


def constraint_json(constraint: Constraint) -> dict[str, str | int | list[str] | None]:
    """Return a constraint as JSON: kind and value, and of the other keys those that are given."""
    told = {
        "values": list(constraint.values),
        "start": constraint.start,
        "end": constraint.end,
        "zone": constraint.zone,
    }
    given: dict[str, str | int | list[str] | None] = {name: value for name, value in told.items() if value}  # type: ignore[misc]
    return {"kind": constraint.kind, "value": constraint.value, **given}


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
class RegionRules:
    """What holds in one region."""

    rules: Mapping[str, tuple[Rule, str]]
    """Head -> its rule, and the region or group that decided, `default` where none did; every head of the policy."""
    policy_region: str
    """The nearest region or group that the policy has any rule for, else `default`."""
    zone: str | None
    """IANA time zone, where the policy knows one."""


@dataclass(frozen=True)
class Policy:
    """One immutable version of a policy."""

    id: str
    version: int
    heads: tuple[HeadPolicy, ...]
    regions: Mapping[str, Mapping[str, Rule]]
    """Region or group -> head -> the rule that replaces the head's default."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Group -> its regions and groups."""
    zones: Mapping[str, str] = field(default_factory=dict)
    """Region -> IANA time zone, for rules that speak of times."""
    unsupported_language: UnsupportedLanguage = "escalate"
    digest: str = ""
    """sha256 of the document as canonical JSON, in hex: comments and layout do not change it, every value does."""

    @property
    def ref(self) -> str:
        """Return id and version, such as `ads-default@1`."""
        return f"{self.id}@{self.version}"

    def head(self, name: str) -> HeadPolicy:
        """Return a head by its name; raise `ValueError` for one the policy does not have."""
        try:
            return self._heads[name]
        except KeyError:
            known = ", ".join(self._heads)
            raise ValueError(f"head: found {name!r}, policy {self.ref} has {known}") from None

    def rule(self, head: str, region: str) -> tuple[Rule, str]:
        """Return the rule for a head in a region, and the region or group that decided.

        That is the nearest of `levels` that rules the head, else `default`.

        Raises:
            ValueError: the head or the region is unknown.
        """
        self.head(head)
        return self.in_region(region).rules[head]

    def policy_region(self, region: str) -> str:
        """Return the nearest of `levels` that the policy has any rule for, else `default`."""
        return self.in_region(region).policy_region

    def in_region(self, region: str) -> RegionRules:
        """Return everything that holds in a region; worked out once, since every item asks again.

        Raises:
            ValueError: the region is unknown.
        """
        check_region(region)
        # One entry per name of the policy and per country: the codes of sub-regions that callers make up are many.
        key = region if region in self._named else parent_region(region) or region
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._in_region(key)
        return found

    def levels(self, region: str) -> tuple[tuple[str, ...], ...]:
        """Return where a rule is looked for, nearest first: the region, its country, their groups, the groups of those.

        Raises:
            ValueError: the region is unknown.
        """
        check_region(region)
        country = parent_region(region)
        levels: list[tuple[str, ...]] = [(region,), *([(country,)] if country is not None else [])]
        seen = {name for level in levels for name in level}
        inner = tuple(seen)
        while inner := self._groups_of(inner, without=seen):
            levels.append(inner)
            seen |= set(inner)
        return tuple(levels)

    def zone(self, region: str) -> str | None:
        """Return the time zone of a region, else of its country, None where the policy names neither."""
        return self.zones.get(region) or self.zones.get(parent_region(region) or "")

    def check_heads(self, scored: Iterable[str]) -> None:
        """Raise `ValueError` unless the model's heads are exactly the policy's; call it when both are loaded."""
        found, own = set(scored), set(self._heads)
        if found != own:
            raise ValueError(
                f"policy {self.ref}: heads without a rule {sorted(found - own)}, rules without a head of the model "
                f"{sorted(own - found)}; allowed exactly the model's heads (a head to ignore gets effect ALLOWED)"
            )

    @cached_property
    def _heads(self) -> Mapping[str, HeadPolicy]:
        return {head.name: head for head in self.heads}

    @cached_property
    def _found(self) -> dict[str, RegionRules]:
        return {}

    @cached_property
    def _named(self) -> frozenset[str]:
        return frozenset(self.regions).union(self.zones, *self.groups.values())

    @cached_property
    def _holding(self) -> Mapping[str, Sequence[str]]:
        """Region or group -> the groups that hold it; few, where all groups together may hold very many."""
        found: dict[str, list[str]] = {}
        for group, members in self.groups.items():
            for member in members:
                found.setdefault(member, []).append(group)
        return found

    @cached_property
    def _place(self) -> Mapping[str, int]:
        return {group: i for i, group in enumerate(self.groups)}

    def _groups_of(self, names: Iterable[str], *, without: Collection[str]) -> tuple[str, ...]:
        """Return the groups that hold one of these names, in the order of the policy."""
        found = {group for name in names for group in self._holding.get(name, ()) if group not in without}
        return tuple(sorted(found, key=self._place.__getitem__))

    def _in_region(self, region: str) -> RegionRules:
        rules = {head.name: (head.default, DEFAULT_REGION) for head in self.heads}
        levels = self.levels(region)
        for level in reversed(levels):
            for name in level:
                rules.update({head: (rule, name) for head, rule in self.regions.get(name, {}).items()})
        nearest = next((name for level in levels for name in level if name in self.regions), DEFAULT_REGION)
        return RegionRules(rules=rules, policy_region=nearest, zone=self.zone(region))
