"""The document of the route in the shape of OpenAI's moderation endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moderation.compat.openai import CATEGORIES, OWN_PREFIX, OpenAIError
from moderation.decision import Action
from moderation.openapi.dialect import OPENAI
from moderation.openapi.operation import Content, Operation, json_body
from moderation.schema import MAX_ITEMS

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": _TEXT}
_REQUEST: Mapping[str, Any] = {
    "title": "ModerationRequest",
    "description": "What else is sent is left alone, as OpenAI leaves it.",
    "type": "object",
    "required": ["input"],
    "properties": {
        "input": {
            "description": "A text; texts, with a result for each; or parts of one text. Images are refused.",
            "anyOf": [
                _TEXT,
                {**_TEXTS, "minItems": 1, "maxItems": MAX_ITEMS},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "text"],
                        "properties": {"type": {"const": "text"}, "text": _TEXT},
                    },
                },
            ],
        },
        "model": {**_TEXT_OR_NULL, "description": "Not heeded: the model that is served answers."},
        "region": {**_TEXT_OR_NULL, "description": "Whose rules decide; left out: that of the settings."},
        "policy_set": {**_TEXT_OR_NULL, "description": "The policy that decides; left out: the one in force."},
    },
}


def _closed(title: str, description: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "title": title,
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _by_category(value: Mapping[str, Any]) -> dict[str, Any]:
    own = f"OpenAI's categories, and heads beyond them as `{OWN_PREFIX}<head>`."
    return {"type": "object", "description": own, "required": list(CATEGORIES), "additionalProperties": value}


_DECISION = _closed(
    "ModerationDecision",
    "What the region's policy does about the text.",
    {
        "region": _TEXT,
        "action": {"enum": [str(action) for action in Action]},
        "reasons": _TEXTS,
        "review_id": _TEXT_OR_NULL,
        "degraded": {"type": "boolean"},
    },
)
_RESULT = _closed(
    "ModerationResult",
    "What was found in one text.",
    {
        "flagged": {"type": "boolean"},
        "categories": _by_category({"type": "boolean"}),
        "category_scores": _by_category({"type": "number", "minimum": 0, "maximum": 1}),
        "category_applied_input_types": _by_category({"type": "array", "items": {"const": "text"}}),
        "unscored_categories": {**_TEXTS, "description": "For which no head stands: their 0.0 does not mean safe."},
        "decision": {"anyOf": [_DECISION, {"type": "null"}]},
        "versions": {"type": "object", "additionalProperties": _TEXT},
    },
)
_RESPONSE = _closed(
    "Moderation",
    "One result per text.",
    {"id": _TEXT, "model": _TEXT, "results": {"type": "array", "items": _RESULT}},
)

_SCORES = {name: 0.002 for name, head in CATEGORIES.items() if head is not None} | {"harassment": 0.93}
_SCORED = _SCORES | {"ads/gambling": 0.001}
_MODERATED = {
    "id": "modr-0c3f5c5b5d3e4c0d9a4ff8f4b8f6a1c2",
    "model": "moderation@1",
    "results": [
        {
            "flagged": True,
            "categories": {name: name == "harassment" for name in {**CATEGORIES, **_SCORED}},
            "category_scores": dict.fromkeys(CATEGORIES, 0.0) | _SCORED,
            "category_applied_input_types": {name: [] for name in CATEGORIES} | {name: ["text"] for name in _SCORED},
            "unscored_categories": [name for name in CATEGORIES if name not in _SCORED],
            "decision": {
                "region": "US",
                "action": "reject",
                "reasons": ["harassment: probability 0.930 >= act 0.720; PROHIBITED by the default rule: reject"],
                "review_id": None,
                "degraded": False,
            },
            "versions": {"policy_set": "ads-default@2", "thresholds": "thr_888cb6acca"},
        }
    ],
}

MODERATIONS = Operation(
    id="createModeration",
    summary="Moderate texts as OpenAI does",
    dialect=OPENAI,
    body=json_body(
        _REQUEST,
        {
            "a text": {"input": "You are an idiot", "model": "omni-moderation-latest"},
            "texts for a region": {"input": ["Fresh bread", "Free bets"], "region": "DE"},
            "parts": {"input": [{"type": "text", "text": "Fresh bread"}]},
        },
    ),
    answer=Content(_RESPONSE, {"flagged": _MODERATED}),
    answered="One result per text.",
    refused=("invalid_json", "unknown_policy_set", "queue_unavailable", "overloaded"),
    refused_by_dialect={
        error.code: error
        for error in (
            OpenAIError(400, "The body is an array; expected an object.", code="invalid_type"),
            OpenAIError(400, "Missing required parameter: 'input'.", code="missing_required_parameter", param="input"),
            OpenAIError(
                400,
                f"'input' has 300 strings; at most {MAX_ITEMS} are allowed.",
                code="array_above_max_length",
                param="input",
            ),
            OpenAIError(
                400,
                "'input[0]' is an image; this service reads text. Send its text parts alone.",
                code="unsupported_content_type",
                param="input[0]",
            ),
            OpenAIError(
                400,
                "'input[0]' must be of the form {'type': 'text', 'text': '...'}.",
                code="invalid_value",
                param="input[0]",
            ),
        )
    },
)
OPERATIONS = (MODERATIONS,)
