"""The shape of OpenAI's moderation endpoint: what comes in at `POST /v1/moderations`, and what goes out.

All thirteen categories of its schema are always answered. Those that no head stands for are false, 0.0, applied to no
input, and are named in `unscored_categories`, so that 0.0 is never read as safe. Heads beyond its categories follow as
`ads/<head>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moderation import schema, strict_json
from moderation.decision import Action, Decision, RegionDecision
from moderation.problem import Problem
from moderation.strict_json import JsonError, whole

CATEGORIES: Mapping[str, str | None] = {
    "harassment": "harassment",
    "harassment/threatening": None,
    "hate": "hate",
    "hate/threatening": None,
    "illicit": None,
    "illicit/violent": None,
    "self-harm": "self_harm",
    "self-harm/intent": None,
    "self-harm/instructions": None,
    "sexual": "sexual",
    "sexual/minors": None,
    "violence": "violence",
    "violence/graphic": None,
}
"""OpenAI's category -> the head that stands for it; None: none does."""
OWN_PREFIX = "ads/"


class OpenAIError(Exception):
    """A refusal in OpenAI's envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})
        self.status = status
        self.message = message
        self.code = code
        self.param = param

    def document(self) -> dict[str, Any]:
        """The envelope, as OpenAI's own client reads it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def error_of(problem: Problem) -> OpenAIError:
    """The problem in OpenAI's envelope."""
    code = "invalid_api_key" if problem.status == 401 else problem.code
    return OpenAIError(int(problem.status), problem.detail, code=code, headers=problem.headers)


@dataclass(frozen=True)
class ModerationRequest:
    """What a client asked for."""

    texts: tuple[str, ...]
    """One per result."""
    model: str | None
    region: str | None
    policy_set: str | None


def parse(body: bytes) -> ModerationRequest:
    """Return the request in a body.

    `input` is a text, a list of texts (a result for each) or a list of text parts (one result for all). Keys that this
    service does not know are left alone, as OpenAI leaves them. Half surrogate pairs become U+FFFD.

    Raises:
        OpenAIError: the body is not of that shape; images are refused, never left out silently.
    """
    try:
        document = strict_json.read(body)
    except JsonError as error:
        message = f"We could not parse the JSON body of your request. {error}."
        raise OpenAIError(400, message, code="invalid_json") from error
    if not isinstance(document, dict):
        raise OpenAIError(400, f"The body is {_named(document)}; expected an object.", code="invalid_type")
    if "input" not in document:
        raise OpenAIError(400, "Missing required parameter: 'input'.", code="missing_required_parameter", param="input")
    optional = {name: _optional(document, name) for name in ("model", "region", "policy_set")}
    return ModerationRequest(texts=_texts(document["input"]), **optional)


def _optional(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise OpenAIError(400, f"'{name}' is {_named(value)}; expected a string.", code="invalid_type", param=name)
    return None if value is None else whole(value)


def _texts(given: object) -> tuple[str, ...]:
    if isinstance(given, str):
        return (whole(given),)
    if not isinstance(given, list) or not given:
        found = "an empty array" if given == [] else _named(given)
        message = f"'input' is {found}; expected a string, or an array of strings or of text parts."
        raise OpenAIError(400, message, code="invalid_type", param="input")
    if all(isinstance(part, str) for part in given):
        if len(given) > schema.MAX_ITEMS:
            message = f"'input' has {len(given)} strings; at most {schema.MAX_ITEMS} are allowed."
            raise OpenAIError(400, message, code="array_above_max_length", param="input")
        return tuple(whole(part) for part in given)
    return ("\n".join(_part(part, i) for i, part in enumerate(given)),)


def _part(part: object, i: int) -> str:
    at = f"input[{i}]"
    if not isinstance(part, dict):
        message = f"'{at}' is {_named(part)}; strings and parts cannot stand in one array."
        raise OpenAIError(400, message, code="invalid_type", param=at)
    kind = part.get("type")
    if kind == "image_url":
        message = f"'{at}' is an image; this service reads text. Send its text parts alone."
        raise OpenAIError(400, message, code="unsupported_content_type", param=at)
    if kind != "text" or not isinstance(part.get("text"), str):
        message = f"'{at}' must be of the form {{'type': 'text', 'text': '...'}}."
        raise OpenAIError(400, message, code="invalid_value", param=at)
    return whole(part["text"])


def render(decisions: Sequence[Decision], *, id_: str, model: str, heads: Sequence[str]) -> dict[str, Any]:
    """Return the answer: one result per decision, each about one region.

    Args:
        decisions: in the order of the texts.
        id_: of the answer.
        model: what decided.
        heads: the heads of the model.
    """
    return {"id": id_, "model": model, "results": [_result(decision, heads) for decision in decisions]}


def _result(decision: Decision, heads: Sequence[str]) -> dict[str, Any]:
    region = next(iter(decision.decisions), None)  # none for a text without any text
    named = {**CATEGORIES, **{f"{OWN_PREFIX}{head}": head for head in heads if head not in CATEGORIES.values()}}
    scored = {name: head if head in decision.probabilities else None for name, head in named.items()}
    entries = region.entries if region is not None else ()
    flagged = {entry.policy for entry in entries if entry.action is not Action.APPROVE}
    return {
        "flagged": region is not None and region.action is not Action.APPROVE,
        "categories": {name: head in flagged for name, head in scored.items()},
        "category_scores": {
            name: decision.probabilities[head] if head is not None else 0.0 for name, head in scored.items()
        },
        "category_applied_input_types": {name: ["text"] if head is not None else [] for name, head in scored.items()},
        "unscored_categories": [name for name, head in scored.items() if head is None],
        "decision": _decision(region) if region is not None else None,
        "versions": dict(decision.versions),
    }


def _decision(region: RegionDecision) -> dict[str, Any]:
    return {
        "region": region.region,
        "action": str(region.action),
        "reasons": list(region.reasons),
        "review_id": region.review_id,
        "degraded": region.degraded,
    }


def _named(value: object) -> str:
    """Return a JSON type's name, with its article."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
