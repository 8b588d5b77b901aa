"""The decision: probabilities in, one action per region out, with reasons; pure, so any of them can be replayed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from moderation.constraints import BLOCKING, REVIEWED, check_year, is_met
from moderation.policy import Constraint, Effect, Policy, RegionRules, Rule
from moderation.regions import DEFAULT_REGION, check_region
from moderation.thresholds import HeadThreshold, Thresholds

if TYPE_CHECKING:
    from moderation.signals import Signal
    from retrieval_shared.language import Language
    from retrieval_shared.text import Obfuscation

_CERTIFICATE = re.compile(r"(?P<head>[a-z][a-z0-9_]*):(?P<region>.+)")
SURE_LANGUAGE = 0.7
"""Confidence from which an identified language is believed."""
_NOTHING_FIRED = "no head reached its escalate threshold"
_ADAPTER = "adapter"


class Action(StrEnum):
    """What happens to the ad, mildest first."""

    APPROVE = "approve"
    LIMIT = "limit"
    ESCALATE = "escalate"
    REJECT = "reject"

    @property
    def strictness(self) -> int:
        """Return 0 for approve up to 3 for reject."""
        return _STRICTNESS[self]


_STRICTNESS = {action: place for place, action in enumerate(Action)}


def strictest(actions: Iterable[Action]) -> Action:
    """Return the strictest action: reject > escalate > limit > approve; approve when there is none."""
    return max(actions, key=lambda action: action.strictness, default=Action.APPROVE)


@dataclass(frozen=True)
class Evidence:
    """A stretch of the original text that speaks for a head."""

    field: str
    start: int
    """First code point, counted in the field as it was sent."""
    end: int
    """One past the last code point."""
    text: str
    weight: float
    """In [0, 1]; comparable within one entry only."""
    source: Literal["model", "rule", "bank"]


@dataclass(frozen=True)
class Context:
    """What the caller vouches for about one ad."""

    min_age: int | None = None
    """The youngest age the ad is delivered to; None: not restricted."""
    advertiser_id: str | None = None
    certificates: frozenset[str] = frozenset()
    """Licences held, each `head:region`, such as `gambling:DE`."""
    disclosures: frozenset[str] | None = None
    """Disclosures the ad carries, such as `responsible_gambling`; None: not told, so not checked."""
    scheduled_at: datetime | None = None
    """When the ad runs, with a time zone; None: now."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for an age outside 0-120 or a certificate that is not `head:region`."""
        age = self.min_age
        if age is not None and (isinstance(age, bool) or not isinstance(age, int) or not 0 <= age <= 120):
            raise ValueError(f"min_age: found {age!r}, allowed a whole number from 0 to 120")
        for certificate in self.certificates:
            form = _CERTIFICATE.fullmatch(certificate)
            if form is None:
                raise ValueError(f"certificates: found {certificate!r}, allowed 'head:region', such as 'gambling:DE'")
            check_region(form["region"])
        if self.scheduled_at is not None and self.scheduled_at.tzinfo is None:
            raise ValueError(f"scheduled_at: found {self.scheduled_at.isoformat()} without a time zone")
        if self.scheduled_at is not None:
            check_year(self.scheduled_at)


@dataclass(frozen=True)
class Entry:
    """One head that fired in one region."""

    policy: str
    """The head's name."""
    effect: Effect
    """What holds for this ad now: `FULLY_LIMITED` where constraints keep it from running, else the rule's."""
    probability: float
    severity: int
    threshold: float
    """The threshold that was passed: `act` where the rule acted by itself, else `escalate`."""
    threshold_id: str
    action: Action
    constraints: tuple[Constraint, ...]
    """All constraints of the rule; under `limit` the caller has to keep every one of them."""
    evidence: tuple[Evidence, ...]
    reason: str


@dataclass(frozen=True)
class RegionDecision:
    """What one region's policy does about one ad."""

    region: str
    policy_region: str
    """The most specific region whose rules applied: the region, its country, or `default`."""
    action: Action
    entries: tuple[Entry, ...]
    """Strictest first."""
    reasons: tuple[str, ...]
    degraded: bool
    review_id: str | None = None
    signals: tuple[Signal, ...] = ()
    """What rules of one's own and the bank found, shadow rules too; `apply_signals` says what follows from them."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Per head, in [0, 1], as judged for this region; empty where the item could not be scored."""
    adapter: str = ""
    """The slot it was judged under, such as `region:IN` for `IN-GJ`, or `task:moderation` where the region has none;
    empty where the item was not scored."""

    @property
    def is_fallback(self) -> bool:
        """Return whether it was judged under the adapter of its country, or of no region, for want of its own."""
        return self.adapter not in ("", f"region:{self.region}")


@dataclass(frozen=True)
class ItemError:
    """Why one item could not be judged."""

    code: str
    message: str


@dataclass(frozen=True)
class Decision:
    """The result for one item: one decision per region, or an error."""

    id: str
    status: Literal["ok", "error"]
    error: ItemError | None
    language: Language | None
    decisions: tuple[RegionDecision, ...]
    probabilities: Mapping[str, float]
    """Those of the first region."""
    obfuscation: Obfuscation | None
    versions: Mapping[str, str]
    """What it depends on; `versions_in` tells what one of its regions does."""
    truncated: bool = False
    degraded: bool = False
    text_sha256: str = field(default="", repr=False)
    decided_at: datetime | None = None
    """When it was decided; what the rules that speak of times went by where the ad is not scheduled."""


@dataclass(frozen=True)
class _Verdict:
    """What a rule that acts by itself comes to, and why."""

    action: Action
    effect: Effect
    why: str


def decide(
    probabilities: Mapping[str, float],
    *,
    region: str,
    policy: Policy,
    thresholds: Thresholds,
    context: Context,
    at: datetime,
) -> RegionDecision:
    """Return what a region's policy does about an ad with these probabilities.

    Per head with probability p: below `escalate` nothing; from `escalate` a person decides; from `act` the rule acts by
    itself: PROHIBITED rejects; LIMITED limits, or escalates where it has a `review` or `verification` constraint;
    ALLOWED approves, on either side of `act`, since no answer of a person could change it. The strictest entry wins.
    Constraints reject what is not PROHIBITED: a quiet period in force and an advertiser who is not listed under
    LIMITED too, any that is not met under FULLY_LIMITED. So under LIMITED a surer probability may turn escalate into
    limit: a person is asked about what is unsure.

    Args:
        probabilities: per head, calibrated, in [0, 1]. A head that was not scored fires nothing (`Policy.check_heads`).
        region: ISO 3166-1 alpha-2 or ISO 3166-2 code.
        policy: the policy to apply.
        thresholds: the two cuts per head.
        context: what the caller vouches for.
        at: when the ad runs, where the context does not say; with a time zone.

    Raises:
        ValueError: an unknown region or head, a head without threshold, a probability that is NaN or outside [0, 1].
    """
    here = policy.in_region(region)
    when, entries = context.scheduled_at or at, []
    for head, probability in probabilities.items():
        if head not in here.rules:
            policy.head(head)  # says what is known
        threshold = _threshold(thresholds, head)
        if not 0 <= probability <= 1:  # nor is NaN
            raise ValueError(f"probabilities[{head!r}]: found {probability}, allowed a number in [0, 1]")
        if probability >= threshold.escalate:
            cuts = threshold, thresholds.id
            entries.append(_entry(head, probability, cuts, region=region, here=here, context=context, at=when))
    entries.sort(key=lambda entry: (-entry.action.strictness, -entry.severity, -entry.probability, entry.policy))
    return RegionDecision(
        region=region,
        policy_region=here.policy_region,
        action=strictest(entry.action for entry in entries),
        entries=tuple(entries),
        reasons=tuple(entry.reason for entry in entries) or (_NOTHING_FIRED,),
        degraded=False,
        probabilities={head: float(probability) for head, probability in probabilities.items()},
    )


def decide_failed(*, region: str, policy: Policy, reason: str) -> RegionDecision:
    """Return the decision about an ad that could not be scored: the strictest `on_error` of the region's rules.

    Raises:
        ValueError: the region is unknown.
    """
    return RegionDecision(
        region=region,
        policy_region=policy.policy_region(region),
        action=strictest(Action(policy.rule(head.name, region)[0].on_error) for head in policy.heads),
        entries=(),
        reasons=(f"not scored: {reason}",),
        degraded=True,
    )


def escalate_unsupported(decision: RegionDecision, *, language: Language, policy: Policy) -> RegionDecision:
    """Return the decision, escalated where it would approve an ad in a language the model does not read.

    A text that cannot be judged goes to a person and is never silently let through; a policy with
    `unsupported_language: flag` keeps the action. An identification less sure than `SURE_LANGUAGE` changes nothing: on
    a few words the identifier is often wrong, and an ad that the model does read is judged.
    """
    unread = not language.supported and language.confidence >= SURE_LANGUAGE
    if not unread or policy.unsupported_language == "flag" or decision.action is not Action.APPROVE:
        return decision
    reason = f"language {language.code} is not one the model reads: a person decides"
    kept = () if decision.reasons == (_NOTHING_FIRED,) else decision.reasons
    return replace(decision, action=Action.ESCALATE, reasons=(*kept, reason))


def with_evidence(decision: RegionDecision, evidence: Mapping[str, Sequence[Evidence]]) -> RegionDecision:
    """Return the decision with evidence added to its entries, per head.

    Evidence of a head that did not fire is left out, and no action changes: a lexicon match or a look-alike alone never
    decides anything.
    """
    entries = tuple(
        replace(entry, evidence=entry.evidence + tuple(evidence.get(entry.policy, ()))) for entry in decision.entries
    )
    return replace(decision, entries=entries)


def adapter_key(slot: str) -> str:
    """Return the key of `Decision.versions` that names the adapter of a slot.

    >>> adapter_key("task:moderation"), adapter_key("region:ID")
    ('adapter', 'adapter:region:ID')
    """
    return f"{_ADAPTER}:{slot}" if slot.startswith("region:") else _ADAPTER


def versions_in(decision: Decision, region: RegionDecision) -> dict[str, str]:
    """Return what the decision about one region depends on; of the adapters, `adapter` names the one that judged it.

    Where nothing was scored, or by an older release, it is the one the decision names.
    """
    versions = {name: value for name, value in decision.versions.items() if not name.startswith(f"{_ADAPTER}:")}
    judged = decision.versions.get(adapter_key(region.adapter))
    return versions if judged is None else versions | {_ADAPTER: judged}


def _threshold(thresholds: Thresholds, head: str) -> HeadThreshold:
    """Return the head's thresholds; raise `ValueError` when there are none."""
    if head not in thresholds.heads:
        raise ValueError(f"thresholds {thresholds.id}: none for head {head!r}, found {', '.join(thresholds.heads)}")
    return thresholds.heads[head]


def _verdict(rule: Rule, *, certain: bool, unmet: Sequence[Constraint]) -> _Verdict:
    """Return the action of one rule on a head that fired; `certain` when the probability reached `act`."""
    if rule.effect is Effect.ALLOWED:
        return _Verdict(Action.APPROVE, rule.effect, "nothing to do")
    if not certain:
        return _Verdict(Action.ESCALATE, rule.effect, "a person decides")
    if rule.effect is Effect.PROHIBITED:
        return _Verdict(Action.REJECT, rule.effect, "rejected")
    listed = f"; not met: {', '.join(map(str, unmet))}" if unmet else ""
    if any(rule.effect is Effect.FULLY_LIMITED or item.kind in BLOCKING for item in unmet):
        return _Verdict(Action.REJECT, Effect.FULLY_LIMITED, f"may not run{listed}")
    for_a_person = tuple(item for item in rule.constraints if item.kind in REVIEWED)
    if for_a_person:
        asked = ", ".join(map(str, for_a_person))
        return _Verdict(Action.ESCALATE, Effect.LIMITED, f"a person decides, asked for by {asked}{listed}")
    return _Verdict(Action.LIMIT, Effect.LIMITED, f"limited{listed}")


def _entry(
    head: str,
    probability: float,
    cuts: tuple[HeadThreshold, str],
    *,
    region: str,
    here: RegionRules,
    context: Context,
    at: datetime,
) -> Entry:
    """Return the entry of a head that fired; `cuts` are its thresholds and the id of the set they stand in."""
    rule, rule_region = here.rules[head]
    threshold, threshold_id = cuts
    # a licence of the country covers its sub-region only where the country's rule applies there
    certified = not context.certificates.isdisjoint({f"{head}:{region}", f"{head}:{rule_region}"})
    unmet = tuple(
        item
        for item in rule.constraints
        if not is_met(item, context=context, at=at, zone=here.zone, certified=certified)
    )
    certain = probability >= threshold.act
    name, value = ("act", threshold.act) if certain else ("escalate", threshold.escalate)
    verdict = _verdict(rule, certain=certain, unmet=unmet)
    where = f"{rule.effect} by " + ("default" if rule_region == DEFAULT_REGION else f"the rule of {rule_region}")
    return Entry(
        policy=head,
        effect=verdict.effect,
        probability=float(probability),
        severity=rule.severity,
        threshold=value,
        threshold_id=threshold_id,
        action=verdict.action,
        constraints=rule.constraints,
        evidence=(),
        reason=f"{head}: probability {probability:.3f} >= {name} {value:.3f}; {where}: {verdict.why}",
    )
