"""The answer: the documented shape, and evidence offsets in each unit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from moderation.decision import Action, Decision, Entry, Evidence, ItemError, RegionDecision
from moderation.item import Item
from moderation.policy import Constraint, Effect
from moderation.response import ErrorResult, ModerateResponse, OkResult, UsageResponse, offset_in, render_decision
from moderation.schema import OffsetUnit
from moderation.signals import Signal
from retrieval_shared.language import Language
from retrieval_shared.text import Obfuscation

TEXT = "\U0001f37a B\u00e4r 5\u20ac"  # emoji: 1 code point, 2 UTF-16 units, 4 bytes
ITEM = Item(id="ad-1", fields={"body": TEXT}, regions=("DE",))
VERSIONS = {
    "policy_set": "ads-default@1", "adapter": "task:moderation@a1", "adapter:region:DE": "region:DE@b2",
}  # fmt: skip


def decided() -> Decision:
    """A decision with everything in it; the evidence is the word after the emoji."""
    evidence = Evidence(field="body", start=2, end=5, text="B\u00e4r", weight=0.7, source="model")
    entry = Entry(
        policy="alcohol_tobacco",
        effect=Effect.LIMITED,
        probability=0.91,
        severity=2,
        threshold=0.62,
        threshold_id="thr_7",
        action=Action.LIMIT,
        constraints=(Constraint("age", 18), Constraint("no_income_claims", None)),
        evidence=(evidence,),
        reason="age 18 is not met",
    )
    found = Signal("rule", "shop@1/beer", "alcohol_tobacco", "evidence", evidence=(replace(evidence, source="rule"),))
    signals = (found, Signal("rule", "shop@1/new", "scam", "reject", mode="shadow"))
    region = RegionDecision(
        "DE", "DE", Action.LIMIT, (entry,), ("alcohol_tobacco: age 18",), False, "rev_1", signals,
        probabilities={"alcohol_tobacco": 0.91}, adapter="region:DE",
    )  # fmt: skip
    return Decision(
        id="ad-1",
        status="ok",
        error=None,
        language=Language("de", 0.98, True),
        decisions=(region,),
        probabilities={"alcohol_tobacco": 0.91},
        obfuscation=Obfuscation(0.8, ("zero_width", "leet")),
        versions=VERSIONS,
    )


SHOWN_SIGNAL = {
    "source": "rule", "name": "shop@1/beer", "head": "alcohol_tobacco", "effect": "evidence", "similarity": 1.0,
    "evidence": [{"field": "body", "start": 2, "end": 5, "text": "B\u00e4r", "weight": 0.7, "source": "rule"}],
}  # fmt: skip
"""The active one of the two; a shadow rule is not told."""


def rendered(unit: OffsetUnit = "codepoint") -> dict[str, Any]:
    """The decision as the client sees it."""
    loaded: dict[str, Any] = json.loads(render_decision(decided(), ITEM, offset_unit=unit).model_dump_json())
    return loaded


def test_the_shape_is_the_documented_one() -> None:
    """Every member, by name and value."""
    assert rendered() == {
        "id": "ad-1",
        "status": "ok",
        "language": {"code": "de", "confidence": 0.98, "supported": True},
        "decisions": [
            {
                "region": "DE",
                "action": "limit",
                "review_id": "rev_1",
                "policy_region": "DE",
                "adapter": "region:DE@b2",
                "adapter_fallback": False,
                "reasons": ["alcohol_tobacco: age 18"],
                "degraded": False,
                "entries": [
                    {
                        "policy": "alcohol_tobacco",
                        "effect": "LIMITED",
                        "probability": 0.91,
                        "severity": 2,
                        "threshold": {"value": 0.62, "id": "thr_7"},
                        "action": "limit",
                        "reason": "age 18 is not met",
                        "evidence": [
                            {
                                "field": "body",
                                "start": 2,
                                "end": 5,
                                "text": "B\u00e4r",
                                "weight": 0.7,
                                "source": "model",
                            }
                        ],
                        "constraints": [{"kind": "age", "value": 18}, {"kind": "no_income_claims", "value": None}],
                    }
                ],
                "signals": [SHOWN_SIGNAL],
            }
        ],
        "obfuscation": {"score": 0.8, "transforms": ["zero_width", "leet"]},
        "duplicates": None,
        "degraded": False,
        "truncated": False,
        "versions": VERSIONS,
    }


@pytest.mark.parametrize(
    ("region", "slot", "adapter", "fallback"),
    [
        ("DE", "region:DE", "region:DE@b2", False),
        ("DE-BY", "region:DE", "region:DE@b2", True),
        ("US", "task:moderation", "task:moderation@a1", True),
        ("US", "", None, False),
    ],
)
def test_a_region_tells_the_adapter_that_judged_it(region: str, slot: str, adapter: str | None, fallback: bool) -> None:
    """A state without an adapter of its own says so; where nothing was scored, nobody judged."""
    made = decided()
    judged = replace(made.decisions[0], region=region, adapter=slot)
    result = render_decision(replace(made, decisions=(judged,)), ITEM, offset_unit="codepoint")
    assert isinstance(result, OkResult)
    assert (result.decisions[0].adapter, result.decisions[0].adapter_fallback) == (adapter, fallback)


@pytest.mark.parametrize(("unit", "start", "end"), [("codepoint", 2, 5), ("utf16", 3, 6), ("byte", 5, 9)])
def test_evidence_is_counted_in_the_unit_asked_for(unit: OffsetUnit, start: int, end: int) -> None:
    """A client cuts its own string with these numbers and gets the evidence's text."""
    part = rendered(unit)["decisions"][0]["entries"][0]["evidence"][0]
    assert (part["start"], part["end"]) == (start, end)
    if unit == "utf16":
        assert TEXT.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le") == part["text"]
    if unit == "byte":
        assert TEXT.encode()[start:end].decode() == part["text"]


@pytest.mark.parametrize(
    "text", ["", "plain", "\u05e9\u05dc\u05d5\u05dd", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "e\u0301\ufffd\x00"]
)
def test_offsets_agree_with_the_encodings_at_every_place(text: str) -> None:
    """Zero maps to zero, the end to the encoded length, and every step between to its prefix."""
    for index in range(len(text) + 1):
        assert offset_in(text, index, unit="codepoint") == index
        assert offset_in(text, index, unit="utf16") == len(text[:index].encode("utf-16-le")) // 2
        assert offset_in(text, index, unit="byte") == len(text[:index].encode())


def test_an_items_error_is_a_result_of_its_own_form() -> None:
    """No decision, no empty list that could be taken for an approval."""
    failed = Decision(
        id="ad-2",
        status="error",
        error=ItemError("empty_text", "no text"),
        language=None,
        decisions=(),
        probabilities={},
        obfuscation=None,
        versions={},
    )
    result = render_decision(failed, ITEM, offset_unit="byte")
    assert isinstance(result, ErrorResult)
    answer = ModerateResponse(id="mod_1", results=[result], usage=UsageResponse(items=0, tokens=0))
    assert json.loads(answer.model_dump_json()) == {
        "id": "mod_1",
        "results": [{"id": "ad-2", "status": "error", "error": {"code": "empty_text", "message": "no text"}}],
        "usage": {"items": 0, "tokens": 0},
    }
