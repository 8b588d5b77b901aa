"""The document of the routes in the shape of Google's Perspective API; its messages are those of its discovery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moderation.compat.perspective_discovery import VERSION, discovery_document
from moderation.compat.perspective_error import ErrorType, PerspectiveError, bad_request, invalid
from moderation.compat.protojson import MessageError
from moderation.openapi.dialect import PERSPECTIVE
from moderation.openapi.operation import Content, Operation, json_body

_DISCOVERY = discovery_document("http://127.0.0.1:3000/")
_MESSAGES: Mapping[str, Mapping[str, Any]] = _DISCOVERY["schemas"]


def message_schema(name: str, *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON Schema of a message of the discovery document, in which a reference is a name.

    Args:
        name: of the message.
        required: fields that are never left out; the discovery document does not tell them.
    """
    fields = {field: _schema(told) for field, told in _MESSAGES[name]["properties"].items()}
    more: dict[str, Any] = {"required": list(required)} if required else {}
    return {"title": name, "type": "object", "additionalProperties": False, "properties": fields, **more}


def _schema(told: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: _schema(value) if isinstance(value, Mapping) else value for key, value in told.items()
    }
    if "$ref" not in found:
        return found
    message = message_schema(found.pop("$ref"))
    return {"allOf": [message], **found} if found else message


_COMMENT = {"comment": {"text": "What kind of idiot name is foo? Sorry, I like your name."}, "languages": ["en"]}
_TOKEN = "comment-17"  # noqa: S105 - a client's word for its own request


def _score(value: float) -> dict[str, Any]:
    return {"value": value, "type": "PROBABILITY"}


_ANALYZED = {
    "attributeScores": {
        "TOXICITY": {
            "spanScores": [
                {"begin": 0, "end": 31, "score": _score(0.92)},
                {"begin": 32, "end": 56, "score": _score(0.04)},
            ],
            "summaryScore": _score(0.78),
        }
    },
    "languages": ["en"],
    "detectedLanguages": ["en"],
}
_SUGGESTED = {"clientToken": _TOKEN, "detectedLanguages": ["en"], "requestedLanguages": ["en"]}
_OF_BOTH: Mapping[str, PerspectiveError] = {
    "invalid_message": bad_request(MessageError("Invalid value at 'comment': expected an object.", field="comment")),
    ErrorType.COMMENT_EMPTY: invalid(ErrorType.COMMENT_EMPTY, "Comment must be non-empty."),
    ErrorType.COMMENT_TOO_LONG: invalid(ErrorType.COMMENT_TOO_LONG, "Comment text too long."),
}

ANALYZE = Operation(
    id="analyzeComment",
    summary="Score a comment",
    dialect=PERSPECTIVE,
    any_media_type=True,
    body=json_body(
        message_schema("AnalyzeCommentRequest", required=("comment", "requestedAttributes")),
        {
            "toxicity": {**_COMMENT, "requestedAttributes": {"TOXICITY": {}}},
            "per sentence": {**_COMMENT, "requestedAttributes": {"TOXICITY": {}}, "spanAnnotations": True},
        },
    ),
    answer=Content(
        message_schema("AnalyzeCommentResponse", required=("languages", "detectedLanguages")), {"scored": _ANALYZED}
    ),
    answered="The scores, by attribute.",
    refused=("overloaded", "scoring_failed"),
    refused_by_dialect={
        **_OF_BOTH,
        ErrorType.NO_REQUESTED_ATTRIBUTES: invalid(ErrorType.NO_REQUESTED_ATTRIBUTES, "Missing requested_attributes"),
        ErrorType.INVALID_REQUEST: invalid(ErrorType.INVALID_REQUEST, "Unknown requested attribute: FLIRTATION"),
        ErrorType.LANGUAGE_DETECTION_FAILED: invalid(ErrorType.LANGUAGE_DETECTION_FAILED, "Unable to detect language"),
        ErrorType.LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE: invalid(
            ErrorType.LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE,
            "Attribute TOXICITY does not support request languages: xx",
            languageNotSupportedByAttributeError={"requestedLanguages": ["xx"], "attribute": "TOXICITY"},
        ),
    },
)
SUGGEST = Operation(
    id="suggestCommentScore",
    summary="Suggest a score for a comment",
    dialect=PERSPECTIVE,
    body=json_body(
        message_schema("SuggestCommentScoreRequest", required=("comment", "attributeScores")),
        {
            "too mild": {
                **_COMMENT,
                "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.9}}},
                "clientToken": _TOKEN,
            }
        },
    ),
    answer=Content(message_schema("SuggestCommentScoreResponse"), {"taken in": _SUGGESTED}),
    answered="The suggestion waits for a reviewer.",
    refused=("overloaded", "queue_unavailable"),
    refused_by_dialect={
        **_OF_BOTH,
        ErrorType.INVALID_REQUEST: invalid(ErrorType.INVALID_REQUEST, "Missing attribute_scores"),
    },
)
DISCOVERY = Operation(
    id="getDiscoveryDocument",
    summary="Describe these routes to Google's API clients",
    dialect=PERSPECTIVE,
    scope=None,
    limited=False,
    parameters=(
        {
            "name": "version",
            "in": "query",
            "description": "Not heeded: there is one.",
            "schema": {"type": "string", "enum": [VERSION]},
        },
    ),
    answer=Content(
        {
            "type": "object",
            "required": ["rootUrl", "servicePath", "resources", "schemas"],
            "properties": {"rootUrl": {"type": "string", "format": "uri"}, "servicePath": {"type": "string"}},
        },
        {"at its usual address": _DISCOVERY},
    ),
    answered="The discovery document, with the address at which it was asked for.",
)
OPERATIONS = (ANALYZE, SUGGEST, DISCOVERY)
