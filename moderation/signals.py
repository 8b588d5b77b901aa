"""The signals: what rules and the bank say about an item, as evidence and as the mildest action they leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from moderation.decision import Action, Evidence, RegionDecision, strictest
from moderation.policy import Effect, Policy

if TYPE_CHECKING:
    from moderation.bank import BankMatch
    from moderation.rules import RuleEffect, RuleMatch, RuleMode
    from retrieval_shared.text import FieldText, NormalisedText

MAX_RULE_EVIDENCE = 3
"""Places shown per rule and head."""
_FLOORS = {"escalate": Action.ESCALATE, "reject": Action.REJECT}
_OUTCOMES = {Action.ESCALATE: "a person decides", Action.REJECT: "rejected"}
_LOGGED = ("source", "name", "head", "effect", "mode", "similarity")


@dataclass(frozen=True)
class Signal:
    """What one rule or one entry of the bank says about an item."""

    source: Literal["rule", "bank"]
    name: str
    """`id@version/name` of the rule, `lexicon`, or the id of the bank's entry."""
    head: str
    effect: RuleEffect
    mode: RuleMode = "active"
    similarity: float = 1.0
    """To the bank's entry, in [0, 1]; 1 for a rule."""
    spans: tuple[tuple[int, int], ...] = ()
    """Where the rule's places begin and end, in code points of the canonical text; none for the bank."""
    evidence: tuple[Evidence, ...] = ()
    """What it found in the fields as they were sent, where that was asked for."""


def gather(rules: Iterable[RuleMatch] = (), bank: Iterable[BankMatch] = ()) -> tuple[Signal, ...]:
    """Return one signal per rule and head, in the order of their first places, then one per match of the bank.

    Of a rule the first `MAX_RULE_EVIDENCE` places are kept, which are those that are shown.

    An exact match of the bank rejects, one that is near escalates.
    """
    found: dict[tuple[str, str], Signal] = {}
    for match in rules:
        known = found.get((match.rule, match.head))
        signal = known or Signal("rule", match.rule, match.head, match.effect, match.mode)
        if len(signal.spans) < MAX_RULE_EVIDENCE:
            found[match.rule, match.head] = replace(signal, spans=(*signal.spans, (match.start, match.end)))
    entries = (
        Signal(
            "bank", each.entry, each.head, "reject" if each.kind == "exact" else "escalate", similarity=each.similarity
        )
        for each in bank
    )
    return (*found.values(), *entries)


def apply_signals(decision: RegionDecision, signals: Sequence[Signal], *, policy: Policy) -> RegionDecision:
    """Return the decision with its signals, at least as strict as they ask for, with a reason for each that asks.

    Active signals alone count. Of a rule: `reject` rejects, `escalate` escalates what would be approved or limited,
    `evidence` leaves the action as it is. The bank says what an item is, and the policy what follows: where it
    prohibits the head an exact match rejects, where it limits the head a person decides, where it allows the head
    nothing does. No action becomes milder, and applying the same signals again changes nothing. A decision about an
    item that could not be scored (`decide_failed`) is made stricter all the same.
    """
    if not signals:
        return decision
    rules = policy.in_region(decision.region).rules
    floors = [
        (signal, _floor(signal, rules[signal.head][0].effect if signal.head in rules else None)) for signal in signals
    ]
    asking = [(signal, floor) for signal, floor in floors if floor is not None]
    asking.sort(key=lambda each: -each[1].strictness)
    return replace(
        decision,
        action=strictest([decision.action, *(floor for _, floor in asking)]),
        reasons=tuple(dict.fromkeys([*decision.reasons, *(_reason(signal, floor) for signal, floor in asking)])),
        signals=tuple(signals),
    )


def with_places(signals: Iterable[Signal], *, text: FieldText, normalised: NormalisedText) -> tuple[Signal, ...]:
    """Return the signals with evidence, its spans counted in the fields as they were sent; shadow signals get none.

    Of a rule the first `MAX_RULE_EVIDENCE` places are shown, with weight 0; a match of the bank is shown as the field
    that holds most of the text, with its similarity as weight.

    Args:
        signals: of this item.
        text: its fields.
        normalised: `normalise(text.text)`.
    """
    return tuple(
        signal if signal.mode == "shadow" else replace(signal, evidence=_places(signal, text, normalised))
        for signal in signals
    )


def _places(signal: Signal, text: FieldText, normalised: NormalisedText) -> tuple[Evidence, ...]:
    if signal.source == "bank":
        return (quote(text, 0, len(text.text), weight=signal.similarity, source="bank"),)
    spans = (normalised.original_span(start, end) for start, end in signal.spans)
    return tuple(quote(text, start, end, weight=0.0, source="rule") for start, end in spans)


def quote(
    text: FieldText, start: int, end: int, *, weight: float, source: Literal["model", "rule", "bank"]
) -> Evidence:  # fmt: skip
    """Return `text.text[start:end]` as evidence, cut to the field that holds most of it."""
    name, first, last = text.locate(start, end)
    offset = next(span.start for span in text.fields if span.name == name)
    quoted = text.text[offset + first : offset + last]
    return Evidence(field=name, start=first, end=last, text=quoted, weight=round(weight, 4), source=source)


def signals_json(signals: Sequence[Signal]) -> list[dict[str, Any]]:
    """Return signals as JSON for the decision log: all that `apply_signals` goes by, and nothing of the text."""
    return [{name: getattr(signal, name) for name in _LOGGED} for signal in signals]


def read_signals(rows: Iterable[Mapping[str, Any]]) -> tuple[Signal, ...]:
    """Return signals from the decision log, without their places."""
    return tuple(Signal(**{name: row[name] for name in _LOGGED}) for row in rows)


def _floor(signal: Signal, effect: Effect | None) -> Action | None:
    """Return the mildest action that a signal leaves where the policy does this about its head; None: any."""
    if signal.mode == "shadow" or signal.effect == "evidence":
        return None
    if signal.source == "bank" and effect is Effect.ALLOWED:
        return None
    if signal.source == "bank" and effect is not Effect.PROHIBITED:
        return Action.ESCALATE
    return _FLOORS[signal.effect]


def _reason(signal: Signal, floor: Action) -> str:
    if signal.source == "rule":
        origin = f"rule {signal.name}"
    elif signal.similarity == 1 and signal.effect == "reject":
        origin = f"entry {signal.name} of the bank"
    else:
        origin = f"like entry {signal.name} of the bank, similarity {signal.similarity:.2f}"
    return f"{signal.head}: {origin}: {_OUTCOMES[floor]}"
