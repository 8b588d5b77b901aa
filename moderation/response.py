"""The JSON that goes out of `POST /v1/ads:moderate`: decisions, with evidence offsets in the caller's unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from moderation.decision import Decision, Entry, Evidence, ItemError, RegionDecision, versions_in
from moderation.item import Item
from moderation.policy import constraint_json
from moderation.schema import OffsetUnit
from moderation.signals import Signal
from retrieval_shared.language import Language
from retrieval_shared.text import Obfuscation

ActionName = Literal["approve", "limit", "escalate", "reject"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LanguageResponse(_Closed):
    """The language found, or told, and whether the model was trained and measured on it."""

    code: str
    confidence: float
    supported: bool


class ThresholdResponse(_Closed):
    """The probability from which the entry's action holds, and the threshold set it stands in."""

    value: float
    id: str


class EvidenceResponse(_Closed):
    """A part of a field of the ad as it was sent; `start` and `end` count in the request's `offset_unit`."""

    field: str
    start: int
    end: int
    text: str
    weight: float
    source: Literal["model", "rule", "bank"]


class ConstraintResponse(_Closed):
    """What must hold for the ad to run in the region: the caller applies it."""

    kind: str
    value: str | int | None = None
    values: list[str] | None = None
    start: str | None = None
    end: str | None = None
    zone: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, render: SerializerFunctionWrapHandler) -> dict[str, object]:
        rendered: dict[str, object] = render(self)
        return {name: value for name, value in rendered.items() if value is not None or name == "value"}


class EntryResponse(_Closed):
    """One policy that the ad touches in one region."""

    policy: str
    effect: Literal["ALLOWED", "LIMITED", "FULLY_LIMITED", "PROHIBITED"]
    probability: float
    severity: int
    threshold: ThresholdResponse
    action: ActionName
    reason: str
    evidence: list[EvidenceResponse]
    constraints: list[ConstraintResponse]


class SignalResponse(_Closed):
    """What a rule of one's own or the bank found; `reasons` tell what followed."""

    source: Literal["rule", "bank"]
    name: str
    head: str
    effect: Literal["evidence", "escalate", "reject"]
    similarity: float
    evidence: list[EvidenceResponse]


class RegionResponse(_Closed):
    """What is to be done with the ad in one region.

    `adapter` is the `name@version` of the adapter that judged it, null where nothing was scored. `adapter_fallback`
    says that it is not the region's own but, for want of one, its country's or that of no region.
    """

    region: str
    action: ActionName
    review_id: str | None
    policy_region: str
    adapter: str | None
    adapter_fallback: bool
    reasons: list[str]
    degraded: bool
    entries: list[EntryResponse]
    signals: list[SignalResponse]


class ObfuscationResponse(_Closed):
    """How much the text was disguised, 0 to 1, and by which transforms."""

    score: float
    transforms: list[str]


class DuplicatesResponse(_Closed):
    """Near-duplicates of the ad; not looked for yet, so always null."""

    cluster: str
    nearest: list[dict[str, str | float]]


class OkResult(_Closed):
    """An item that was decided."""

    id: str
    status: Literal["ok"] = "ok"
    language: LanguageResponse | None
    decisions: list[RegionResponse]
    obfuscation: ObfuscationResponse | None
    duplicates: DuplicatesResponse | None = None
    degraded: bool
    truncated: bool
    versions: dict[str, str]


class ErrorResponse(_Closed):
    """Why an item has no decision; the code is stable."""

    code: str
    message: str


class ErrorResult(_Closed):
    """An item that could not be decided; it must not run."""

    id: str | None
    status: Literal["error"] = "error"
    error: ErrorResponse


class UsageResponse(_Closed):
    """What the request cost: items scored, and tokens read."""

    items: int
    tokens: int


class ModerateResponse(_Closed):
    """The answer: one result per item, in the order of the request."""

    id: str
    results: list[OkResult | ErrorResult]
    usage: UsageResponse


def render_error(identifier: str | None, error: ItemError) -> ErrorResult:
    """The result of an item that could not be decided."""
    return ErrorResult(id=identifier, error=ErrorResponse(code=error.code, message=error.message))


def render_decision(decision: Decision, item: Item, *, offset_unit: OffsetUnit) -> OkResult | ErrorResult:
    """The result of a decided item; `item` holds the texts that evidence offsets are counted in."""
    if decision.error is not None:
        return render_error(decision.id, decision.error)
    return OkResult(
        id=decision.id,
        language=_render_language(decision.language),
        decisions=[_render_region(region, decision, item.fields, offset_unit) for region in decision.decisions],
        obfuscation=_render_obfuscation(decision.obfuscation),
        degraded=decision.degraded,
        truncated=decision.truncated,
        versions=dict(decision.versions),
    )


def _render_language(found: Language | None) -> LanguageResponse | None:
    if found is None:
        return None
    return LanguageResponse(code=found.code, confidence=found.confidence, supported=found.supported)


def _render_obfuscation(found: Obfuscation | None) -> ObfuscationResponse | None:
    if found is None:
        return None
    return ObfuscationResponse(score=found.score, transforms=list(found.transforms))


def _render_region(
    region: RegionDecision, decision: Decision, fields: Mapping[str, str], unit: OffsetUnit
) -> RegionResponse:
    return RegionResponse(
        region=region.region,
        action=region.action.value,
        review_id=region.review_id,
        policy_region=region.policy_region,
        adapter=versions_in(decision, region).get("adapter") if region.adapter else None,
        adapter_fallback=region.is_fallback,
        reasons=list(region.reasons),
        degraded=region.degraded,
        entries=[_render_entry(entry, fields, unit) for entry in region.entries],
        signals=[_render_signal(each, fields, unit) for each in region.signals if each.mode == "active"],
    )


def _render_entry(entry: Entry, fields: Mapping[str, str], unit: OffsetUnit) -> EntryResponse:
    return EntryResponse(
        policy=entry.policy,
        effect=entry.effect.value,
        probability=entry.probability,
        severity=entry.severity,
        threshold=ThresholdResponse(value=entry.threshold, id=entry.threshold_id),
        action=entry.action.value,
        reason=entry.reason,
        evidence=_render_places(entry.evidence, fields, unit),
        constraints=[ConstraintResponse.model_validate(constraint_json(each)) for each in entry.constraints],
    )


def _render_signal(signal: Signal, fields: Mapping[str, str], unit: OffsetUnit) -> SignalResponse:
    return SignalResponse(
        source=signal.source,
        name=signal.name,
        head=signal.head,
        effect=signal.effect,
        similarity=signal.similarity,
        evidence=_render_places(signal.evidence, fields, unit),
    )


def _render_places(parts: Sequence[Evidence], fields: Mapping[str, str], unit: OffsetUnit) -> list[EvidenceResponse]:
    return [_render_evidence(part, fields.get(part.field, ""), unit) for part in parts]


def _render_evidence(part: Evidence, text: str, unit: OffsetUnit) -> EvidenceResponse:
    return EvidenceResponse(
        field=part.field,
        start=offset_in(text, part.start, unit=unit),
        end=offset_in(text, part.end, unit=unit),
        text=part.text,
        weight=part.weight,
        source=part.source,
    )


def offset_in(text: str, index: int, *, unit: OffsetUnit) -> int:
    """The offset of code point `index` of `text`, counted in `unit`.

    Example:
        >>> offset_in("\N{GRINNING FACE}\N{LATIN SMALL LETTER E WITH ACUTE}x", 2, unit="utf16")
        3
        >>> offset_in("\N{GRINNING FACE}\N{LATIN SMALL LETTER E WITH ACUTE}x", 2, unit="byte")
        6
    """
    match unit:
        case "utf16":
            return len(text[:index].encode("utf-16-le", "surrogatepass")) // 2
        case "byte":
            return len(text[:index].encode("utf-8", "surrogatepass"))
        case _:
            return index
