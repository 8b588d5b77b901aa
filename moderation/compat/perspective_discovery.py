"""The discovery document of the Comment Analyzer API, from which Google's client libraries build themselves.

A client that is given its address, `<base>/$discovery/rest?version=v1alpha1`, sends its calls to `<base>`, because the
document says so. It describes what is served here, in our words; names and types are those of Google's API.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from moderation.compat.perspective import ATTRIBUTES

API, VERSION = "commentanalyzer", "v1alpha1"
_SCORE_TYPES = ("SCORE_TYPE_UNSPECIFIED", "PROBABILITY", "STD_DEV_SCORE", "PERCENTILE", "RAW")
_TEXT_TYPES = ("TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT", "HTML")


def discovery_document(base_url: str) -> dict[str, Any]:
    """Return the document of a service at `base_url`, the address that its callers use, JSON-ready.

    Raises:
        ValueError: the address is not absolute.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError(f"base_url is {base_url!r}; expected http(s)://host with an optional path")
    root = f"{parts.scheme}://{parts.netloc}/"
    path = f"{parts.path.strip('/')}/".lstrip("/")
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": f"{API}:{VERSION}",
        "name": API,
        "version": VERSION,
        "title": "Perspective-shaped comment analysis",
        "description": "Scores comments under the attributes of the Perspective API; answered by Wardline.",
        "protocol": "rest",
        "rootUrl": root,
        "servicePath": path,
        "baseUrl": root + path,
        "parameters": _parameters(),
        "resources": {"comments": {"methods": _methods()}},
        "schemas": _schemas(),
    }


def _parameters() -> dict[str, Any]:
    """Return what any call may have in its query. Only the key means something here."""
    return {
        "key": {"type": "string", "location": "query", "description": "API key of this service."},
        "alt": {
            "type": "string",
            "location": "query",
            "enum": ["json"],
            "default": "json",
            "description": "Form of the answer.",
        },
        "prettyPrint": {"type": "boolean", "location": "query", "default": "true", "description": "Not heeded."},
        "quotaUser": {"type": "string", "location": "query", "description": "Not heeded."},
        "fields": {"type": "string", "location": "query", "description": "Not heeded: answers are whole."},
    }


def _methods() -> dict[str, Any]:
    return {
        "analyze": _method("analyze", "AnalyzeComment", "Scores a comment under the requested attributes."),
        "suggestscore": _method("suggestscore", "SuggestCommentScore", "Takes in the scores a caller thinks right."),
    }


def _method(name: str, message: str, description: str) -> dict[str, Any]:
    path = f"{VERSION}/comments:{name}"
    return {
        "id": f"{API}.comments.{name}",
        "path": path,
        "flatPath": path,
        "httpMethod": "POST",
        "parameters": {},
        "parameterOrder": [],
        "request": {"$ref": f"{message}Request"},
        "response": {"$ref": f"{message}Response"},
        "description": description,
    }


def _schemas() -> dict[str, Any]:
    """Return the messages by name."""
    messages = {**_requests(), **_responses(), **_parts()}
    return {name: {"id": name, "type": "object", "properties": fields} for name, fields in messages.items()}


def _requests() -> dict[str, dict[str, Any]]:
    both = {
        "comment": _ref("TextEntry", "The comment."),
        "context": _ref("Context", "What the comment answers; checked and not used."),
        "languages": _list(_text(), "BCP 47 tags of the comment's languages; empty: they are detected."),
        "clientToken": _text("Comes back with the answer."),
        "sessionId": _text("Not used."),
        "communityId": _text("Not used for scores."),
    }
    analyze = {
        "requestedAttributes": _map("AttributeParameters", f"By attribute: {', '.join(ATTRIBUTES)}."),
        "spanAnnotations": _flag("Whether to score each sentence."),
        "doNotStore": _flag("Heeded either way: no comment that is analysed is stored."),
        "dropUnsupportedAttributes": _flag("Leave out attributes that do not know the language."),
    }
    suggest = {"attributeScores": _map("AttributeScores", "The scores that it should have, by a name in capitals.")}
    return {"AnalyzeCommentRequest": both | analyze, "SuggestCommentScoreRequest": both | suggest}


def _responses() -> dict[str, dict[str, Any]]:
    token = {"clientToken": _text("That of the request.")}
    analyze = {
        "attributeScores": _map("AttributeScores", "By attribute, under the name that was asked."),
        "languages": _list(_text(), "The languages the comment was taken to be in."),
        "detectedLanguages": _list(_text(), "The languages found."),
    }
    suggest = {
        "detectedLanguages": _list(_text(), "The languages found."),
        "requestedLanguages": _list(_text(), "The languages of the request."),
    }
    return {"AnalyzeCommentResponse": token | analyze, "SuggestCommentScoreResponse": token | suggest}


def _parts() -> dict[str, dict[str, Any]]:
    """Return the messages that requests and answers are made of."""
    return {
        "TextEntry": {"text": _text(), "type": _choice(_TEXT_TYPES, "HTML is refused.")},
        "Context": {
            "entries": _list({"$ref": "TextEntry"}, "Messages before the comment."),
            "articleAndParentComment": _ref("ArticleAndParentComment", "Not together with entries."),
        },
        "ArticleAndParentComment": {
            "article": _ref("TextEntry", "What is commented on."),
            "parentComment": _ref("TextEntry", "The comment that is replied to."),
        },
        "AttributeParameters": {
            "scoreType": _choice(_SCORE_TYPES, "Only probabilities are given."),
            "scoreThreshold": _number("float", "Leave the attribute out where its summary score is lower."),
        },
        "AttributeScores": {
            "summaryScore": _ref("Score", "Of the whole comment."),
            "spanScores": _list({"$ref": "SpanScore"}, "Of each sentence, or of the whole comment."),
        },
        "SpanScore": {
            "begin": _number("int32", "First UTF-16 code unit.", kind="integer"),
            "end": _number("int32", "One past the last UTF-16 code unit.", kind="integer"),
            "score": _ref("Score", "Of the span."),
        },
        "Score": {"value": _number("float", "In [0, 1]."), "type": _choice(_SCORE_TYPES, "PROBABILITY.")},
    }


def _text(description: str = "UTF-8.") -> dict[str, Any]:
    return {"type": "string", "description": description}


def _choice(values: tuple[str, ...], description: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), "description": description}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _number(form: str, description: str, *, kind: str = "number") -> dict[str, Any]:
    return {"type": kind, "format": form, "description": description}


def _ref(message: str, description: str) -> dict[str, Any]:
    return {"$ref": message, "description": description}


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


def _map(message: str, description: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"$ref": message}, "description": description}
