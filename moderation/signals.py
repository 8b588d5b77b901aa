"""The signals: what rules and the bank say about an item, as evidence and as the mildest action they leave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from moderation.decision import Action, Evidence, RegionDecision, strictest

if TYPE_CHECKING:
    from moderation.bank import BankMatch
    from moderation.rules import RuleEffect, RuleMatch, RuleMode
    from retrieval_shared.text import FieldText, NormalisedText

MAX_RULE_EVIDENCE = 3
"""Places of rules shown per head and item."""
_FLOORS = {"escalate": Action.ESCALATE, "reject": Action.REJECT}
_OUTCOMES = {"escalate": "a person decides", "reject": "rejected"}
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


def gather(rules: Iterable[RuleMatch] = (), bank: Iterable[BankMatch] = ()) -> tuple[Signal, ...]:
    """Return one signal per rule and head, in the order of their first places, then one per match of the bank.

    An exact match of the bank rejects, one that is near escalates.
    """
    found: dict[tuple[str, str], Signal] = {}
    for match in rules:
        known = found.get((match.rule, match.head))
        signal = known or Signal("rule", match.rule, match.head, match.effect, match.mode)
        found[match.rule, match.head] = replace(signal, spans=(*signal.spans, (match.start, match.end)))
    entries = (
        Signal(
            "bank", each.entry, each.head, "reject" if each.kind == "exact" else "escalate", similarity=each.similarity
        )
        for each in bank
    )
    return (*found.values(), *entries)


def apply_signals(decision: RegionDecision, signals: Iterable[Signal]) -> RegionDecision:
    """Return the decision at least as strict as its signals ask for, with a reason for each that asks.

    Active signals alone count: `reject` rejects, `escalate` escalates what would be approved or limited, `evidence`
    leaves the action as it is. No action becomes milder, and applying the same signals again changes nothing. A
    decision about an item that could not be scored (`decide_failed`) is made stricter all the same.
    """
    asking = [signal for signal in signals if signal.mode == "active" and signal.effect in _FLOORS]
    asking.sort(key=lambda signal: -_FLOORS[signal.effect].strictness)
    if not asking:
        return decision
    return replace(
        decision,
        action=strictest([decision.action, *(_FLOORS[signal.effect] for signal in asking)]),
        reasons=tuple(dict.fromkeys([*decision.reasons, *map(_reason, asking)])),
    )


def signal_evidence(
    signals: Iterable[Signal], *, text: FieldText, normalised: NormalisedText
) -> dict[str, list[Evidence]]:
    """Return evidence per head, its spans counted in the fields as they were sent; shadow signals give none.

    Of rules the first `MAX_RULE_EVIDENCE` places of each head are shown, with weight 0; a match of the bank is shown as
    the field that holds most of the text, with its similarity as weight.

    Args:
        signals: of this item.
        text: its fields.
        normalised: `normalise(text.text)`.
    """
    evidence: dict[str, list[Evidence]] = {}
    for signal in signals:
        if signal.mode != "active":
            continue
        shown = evidence.setdefault(signal.head, [])
        if signal.source == "bank":
            shown.append(quote(text, 0, len(text.text), weight=signal.similarity, source="bank"))
            continue
        left = MAX_RULE_EVIDENCE - sum(piece.source == "rule" for piece in shown)
        for start, end in signal.spans[: max(0, left)]:
            shown.append(quote(text, *normalised.original_span(start, end), weight=0.0, source="rule"))
    return evidence


def quote(
    text: FieldText, start: int, end: int, *, weight: float, source: Literal["model", "rule", "bank"]
) -> Evidence:  # fmt: skip
    """Return `text.text[start:end]` as evidence, cut to the field that holds most of it."""
    name, first, last = text.locate(start, end)
    offset = next(span.start for span in text.fields if span.name == name)
    quoted = text.text[offset + first : offset + last]
    return Evidence(field=name, start=first, end=last, text=quoted, weight=round(weight, 4), source=source)


def signals_json(signals: Sequence[Signal]) -> list[dict[str, Any]]:
    """Return signals as JSON for the decision log: all that `apply_signals` goes by, and no word of the text."""
    return [{name: getattr(signal, name) for name in _LOGGED} for signal in signals]


def read_signals(rows: Iterable[Mapping[str, Any]]) -> tuple[Signal, ...]:
    """Return signals from the decision log, without their spans."""
    return tuple(Signal(**{name: row[name] for name in _LOGGED}) for row in rows)


def _reason(signal: Signal) -> str:
    if signal.source == "rule":
        origin = f"rule {signal.name}"
    elif signal.effect == "reject":
        origin = f"entry {signal.name} of the bank"
    else:
        origin = f"like entry {signal.name} of the bank, similarity {signal.similarity:.2f}"
    return f"{signal.head}: {origin}: {_OUTCOMES[signal.effect]}"
