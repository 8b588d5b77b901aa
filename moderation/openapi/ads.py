"""The document of the routes of ads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from moderation import schema
from moderation.openapi.json_schema import schema_of
from moderation.openapi.operation import Content, Operation, json_body
from moderation.response import ModerateResponse

_EXAMPLE_AD = {
    "id": "ad-1",
    "fields": {"title": "Bet £10, get £30", "body": "Free bets on any match. 18+"},
    "regions": ["GB", "AE"],
    "context": {"min_age": 18, "certificates": ["gambling:GB"]},
}
_SIMPLE_AD = {"id": "ad-2", "fields": {"text": "Fresh bread every morning"}, "regions": ["DE"], "language": "en"}


class LimitsResponse(BaseModel):
    """What a request may hold."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_body_bytes: int
    max_items: int
    max_field_characters: int
    max_regions: int
    """Of one item."""
    fields: list[str]
    """The texts that an item may have."""
    max_tokens_per_chunk: int
    long_text: str
    """What is done with a text of more tokens."""
    max_waiting_requests: int
    """More are refused with 503 `overloaded`."""
    languages: list[str]
    """Codes of the languages that the model reads."""
    heads: list[str]
    """What the model looks for."""


_GB = {
    "region": "GB",
    "action": "limit",
    "review_id": None,
    "policy_region": "GB",
    "adapter": "task:moderation@5d1a06c27f3e",
    "adapter_fallback": True,
    "reasons": ["gambling: probability 0.995 >= act 0.803; LIMITED by the rule of GB: limited"],
    "degraded": False,
    "entries": [
        {
            "policy": "gambling",
            "effect": "LIMITED",
            "probability": 0.995,
            "severity": 2,
            "threshold": {"value": 0.803, "id": "thr_888cb6acca"},
            "action": "limit",
            "reason": "probability 0.995 >= act 0.803; LIMITED by the rule of GB: limited",
            "evidence": [
                {
                    "field": "title",
                    "start": 0,
                    "end": 16,
                    "text": "Bet £10, get £30",
                    "weight": 0.35,
                    "source": "model",
                }
            ],
            "constraints": [{"kind": "age", "value": 18}, {"kind": "licence", "value": "national_regulator"}],
        }
    ],
    "signals": [],
}
_WHY_AE = "probability 0.998 >= act 0.803; PROHIBITED by the rule of AE: rejected"
_AE = {
    **_GB,
    "region": "AE",
    "action": "reject",
    "policy_region": "AE",
    "adapter": "region:AE@c90b7e41d8f2",
    "adapter_fallback": False,
    "reasons": [f"gambling: {_WHY_AE}"],
    "entries": [
        {
            "policy": "gambling",
            "effect": "PROHIBITED",
            "probability": 0.998,
            "severity": 3,
            "threshold": {"value": 0.803, "id": "thr_888cb6acca"},
            "action": "reject",
            "reason": _WHY_AE,
            "evidence": [],
            "constraints": [],
        }
    ],
}
_DECIDED = {
    "id": "mod_5f1c2a7be0a94d7f8a55c1f0c6d2b9e4",
    "results": [
        {
            "id": "ad-1",
            "status": "ok",
            "language": {"code": "en", "confidence": 0.97, "supported": True},
            "decisions": [_GB, _AE],
            "obfuscation": {"score": 0.0, "transforms": []},
            "duplicates": None,
            "degraded": False,
            "truncated": False,
            "versions": {
                "policy_set": "ads-default@2",
                "thresholds": "thr_888cb6acca",
                "adapter": "task:moderation@5d1a06c27f3e",
                "adapter:region:AE": "region:AE@c90b7e41d8f2",
            },
        },
        {"id": "ad-2", "status": "error", "error": {"code": "empty_text", "message": "fields: no field has any text"}},
    ],
    "usage": {"items": 1, "tokens": 18},
}
_LIMITS = {
    "max_body_bytes": schema.MAX_BODY_BYTES,
    "max_items": schema.MAX_ITEMS,
    "max_field_characters": schema.MAX_FIELD_CHARACTERS,
    "max_regions": schema.MAX_REGIONS,
    "fields": list(schema.FIELDS),
    "max_tokens_per_chunk": 256,
    "long_text": "read in overlapping chunks, the highest probability counts; never cut",
    "max_waiting_requests": 64,
    "languages": ["de", "en", "es", "fr"],
    "heads": ["alcohol_tobacco", "gambling", "scam"],
}

MODERATE = Operation(
    id="moderateAds",
    summary="Decide ads",
    body=json_body(
        schema.request_schema(),
        {
            "one ad": {"items": [_SIMPLE_AD]},
            "with what the advertiser vouches for": {"items": [_EXAMPLE_AD], "explain": "spans"},
        },
    ),
    answer=Content(schema_of(ModerateResponse), {"decided": _DECIDED}),
    answered="One result per item, in the order of the request; an item that cannot be used has an error instead.",
    refused=(
        "invalid_encoding",
        "invalid_json",
        "invalid_request",
        "unknown_field",
        "empty_batch",
        "too_many_items",
        "unknown_policy_set",
        "queue_unavailable",
        "overloaded",
    ),
)
LIMITS = Operation(
    id="getLimits",
    summary="Show the limits",
    answer=Content(schema_of(LimitsResponse), {"limits": _LIMITS}),
    answered="The limits of a request to `/v1/ads:moderate`.",
)
OPERATIONS = (MODERATE, LIMITS)
