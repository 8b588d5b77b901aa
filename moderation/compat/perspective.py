"""The shape of Google's Perspective API (Comment Analyzer v1alpha1): comments:analyze and comments:suggestscore.

Attributes are scored where a head or the profanity list stands for them; others of Perspective's (FLIRTATION, SPAM,
LIKELY_TO_REJECT ...) are refused as unknown, never answered with a number. The `_EXPERIMENTAL` name of an attribute
means the attribute, and is answered under the name that was asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moderation.compat.perspective_error import ErrorType, bad_request, invalid
from moderation.compat.protojson import Message, MessageError, read_message, shown
from moderation.response import offset_in
from retrieval_shared.language import UNDETERMINED

ATTRIBUTES = (
    "TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT", "SEXUALLY_EXPLICIT",
)  # fmt: skip
MAX_TEXT_BYTES = 20 * 1024
"""Of UTF-8; Perspective's documented 20 KB."""
MAX_LANGUAGES = 32
"""More than a comment is written in: the profanity list is searched for each."""
MAX_SUGGESTED = 32
"""Scores of one suggestion."""
_SUGGESTED_NAME = re.compile("[A-Z][A-Z0-9_]{0,63}")
_EXPERIMENTAL = "_EXPERIMENTAL"
_PROBABILITY = "PROBABILITY"
_SCORE_TYPES = frozenset({"", "SCORE_TYPE_UNSPECIFIED", _PROBABILITY})
_TEXT_TYPES = frozenset({"", "TEXT_TYPE_UNSPECIFIED", "PLAIN_TEXT"})

_BOTH = ("comment", "context", "languages", "clientToken", "sessionId", "communityId")
_ANALYZE = (*_BOTH, "requestedAttributes", "spanAnnotations", "doNotStore", "dropUnsupportedAttributes")
_SUGGEST = (*_BOTH, "attributeScores")
_TEXT_ENTRY = ("text", "type")
_CONTEXT = ("entries", "articleAndParentComment")
_ARTICLE_AND_PARENT = ("article", "parentComment")
_PARAMETERS = ("scoreType", "scoreThreshold")
_SCORES = ("summaryScore", "spanScores")
_SPAN_SCORE = ("begin", "end", "score")
_SCORE = ("value", "type")


@dataclass(frozen=True)
class RequestedAttribute:
    """An attribute that a client wants scored."""

    name: str
    """As asked; the answer uses it."""
    attribute: str
    """One of `ATTRIBUTES`."""
    threshold: float | None = None
    """Scores below it are left out of the answer."""


@dataclass(frozen=True)
class AnalyzeRequest:
    """A comment to score. Its context, ids and `doNotStore` are checked and not used: nothing of it is stored."""

    text: str
    attributes: tuple[RequestedAttribute, ...]
    """In the order of the request; none twice."""
    languages: tuple[str, ...] = ()
    """BCP 47 tags as sent, `MAX_LANGUAGES` at most; empty: to be detected."""
    span_annotations: bool = False
    """Whether scores per sentence are wanted."""
    drop_unsupported: bool = False
    """Whether attributes that do not know the language are left out instead of refused."""
    client_token: str = ""


@dataclass(frozen=True)
class SuggestRequest:
    """A score that a client thinks right. Its context, session and scores of single spans are checked and not kept."""

    text: str
    scores: Mapping[str, float]
    """Summary score in [0, 1] by name, at most `MAX_SUGGESTED`.

    Any name in capitals: Coral sends a verdict as APPROVED, DELETED or HIGHLIGHTED. No free text, for it is stored."""
    languages: tuple[str, ...] = ()
    client_token: str = ""
    community_id: str = ""
    """Whose comment it is: the same text elsewhere is another."""


def parse_analyze(body: bytes) -> AnalyzeRequest:
    """Return the request in a body of comments:analyze.

    Raises:
        PerspectiveError: with status 400; its details name the error type.
    """
    try:
        message = read_message(body, _ANALYZE)
        _check_unused(message)
        return AnalyzeRequest(
            text=_comment(message),
            attributes=_requested(message),
            languages=_languages(message),
            span_annotations=message.flag("spanAnnotations"),
            drop_unsupported=message.flag("dropUnsupportedAttributes"),
            client_token=message.string("clientToken"),
        )
    except MessageError as error:
        raise bad_request(error) from error


def parse_suggest(body: bytes) -> SuggestRequest:
    """Return the request in a body of comments:suggestscore.

    Raises:
        PerspectiveError: with status 400; its details name the error type.
    """
    try:
        message = read_message(body, _SUGGEST)
        _check_unused(message)
        return SuggestRequest(
            text=_comment(message),
            scores=_suggested(message),
            languages=_languages(message),
            client_token=message.string("clientToken"),
            community_id=message.string("communityId"),
        )
    except MessageError as error:
        raise bad_request(error) from error


def render_analyze(
    request: AnalyzeRequest,
    summary: Mapping[str, float],
    spans: Sequence[tuple[int, int, Mapping[str, float]]],
    detected: Sequence[str],
) -> dict[str, Any]:
    """Return the answer of comments:analyze.

    Offsets go out in UTF-16 code units, end exclusive: Google's reference says of SpanScore that its values are "the
    UTF-16 codepoint range".

    Args:
        request: what was asked. Each of its attributes must be in `summary` and in every span's scores.
        summary: attribute -> score of the whole comment, in [0, 1].
        spans: (first code point, one past the last, scores by attribute) per sentence; used only where the request
            wants spans. Without any, the answer has one span, the whole comment, with the summary score.
        detected: tags of the languages found.
    """
    found = list(determined(detected))
    wanted = spans if request.span_annotations else ()
    places = [
        (offset_in(request.text, start, unit="utf16"), offset_in(request.text, end, unit="utf16"), scores)
        for start, end, scores in wanted or [(0, len(request.text), summary)]
    ]
    rendered: dict[str, Any] = {}
    for each in request.attributes:
        if each.threshold is not None and summary[each.attribute] < each.threshold:
            continue
        rendered[each.name] = {
            "spanScores": [
                {"begin": begin, "end": end, "score": _score(scores[each.attribute])} for begin, end, scores in places
            ],
            "summaryScore": _score(summary[each.attribute]),
        }
    answer: dict[str, Any] = {"attributeScores": rendered} if rendered else {}
    answer |= {"languages": list(request.languages) or found, "detectedLanguages": found}
    return answer | ({"clientToken": request.client_token} if request.client_token else {})


def render_suggest(request: SuggestRequest, detected: Sequence[str] = ()) -> dict[str, Any]:
    """Return the answer of comments:suggestscore; Coral counts it as lost unless its token comes back."""
    named = {
        "clientToken": request.client_token,
        "detectedLanguages": list(determined(detected)),
        "requestedLanguages": list(request.languages),
    }
    return {name: value for name, value in named.items() if value}


def determined(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags that name a language."""
    return tuple(tag for tag in tags if tag != UNDETERMINED)


# ---- reading


def _comment(message: Message) -> str:
    comment = message.message("comment", _TEXT_ENTRY)
    text = _text(comment) if comment is not None else ""
    if not text.strip():
        raise invalid(ErrorType.COMMENT_EMPTY, "Comment must be non-empty.")
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise invalid(ErrorType.COMMENT_TOO_LONG, "Comment text too long.")
    _check_context(message.message("context", _CONTEXT))
    return text


def _text(entry: Message) -> str:
    kind = entry.string("type")
    if kind == "HTML":
        raise invalid(ErrorType.INVALID_REQUEST, "Currently, only 'PLAIN_TEXT' comments are supported")
    if kind not in _TEXT_TYPES:
        raise invalid(ErrorType.INVALID_REQUEST, "Unknown text type")
    return entry.string("text")


def _check_context(context: Message | None) -> None:
    if context is None:
        return
    entries = context.messages("entries", _TEXT_ENTRY)
    article = context.message("articleAndParentComment", _ARTICLE_AND_PARENT)
    if entries and article is not None:
        message = "Context can have either entries or article_and_parent_comment, but both fields were populated."
        raise invalid(ErrorType.INVALID_REQUEST, message)
    parts = [article.message(name, _TEXT_ENTRY) for name in _ARTICLE_AND_PARENT] if article else []
    for entry in (*entries, *parts):
        if entry is not None:
            _text(entry)


def _check_unused(message: Message) -> None:
    """Read the fields that a request may have and nothing here looks at, so that a wrong type is refused as ever."""
    message.flag("doNotStore")
    message.string("sessionId")
    message.string("communityId")


def _requested(message: Message) -> tuple[RequestedAttribute, ...]:
    requested = message.mapping("requestedAttributes", _PARAMETERS)
    if not requested:
        raise invalid(ErrorType.NO_REQUESTED_ATTRIBUTES, "Missing requested_attributes")
    return tuple(_attribute(name, parameters) for name, parameters in requested.items())


def _attribute(name: str, parameters: Message) -> RequestedAttribute:
    attribute = name.removesuffix(_EXPERIMENTAL)
    if attribute not in ATTRIBUTES:
        raise invalid(ErrorType.INVALID_REQUEST, f"Unknown requested attribute: {shown(name)}")
    _check_score_type(parameters.string("scoreType"), name)
    return RequestedAttribute(name, attribute, parameters.number("scoreThreshold"))


def _check_score_type(kind: str, name: str) -> None:
    if kind not in _SCORE_TYPES:
        message = f"Requested score type {shown(kind)} is not supported by attribute {shown(name)}"
        raise invalid(ErrorType.INVALID_REQUEST, message)


def _suggested(message: Message) -> dict[str, float]:
    given = message.mapping("attributeScores", _SCORES)
    if not given:
        raise invalid(ErrorType.INVALID_REQUEST, "Missing attribute_scores")
    if len(given) > MAX_SUGGESTED:
        told = f"Found {len(given)} attribute_scores; at most {MAX_SUGGESTED} are allowed"
        raise invalid(ErrorType.INVALID_REQUEST, told)
    found: dict[str, float] = {}
    for place, (name, scores) in enumerate(given.items(), start=1):
        if not _SUGGESTED_NAME.fullmatch(name):  # not repeated: it may be any text, and refusals may be kept
            told = f"Attribute {place} of attribute_scores must have a name of 1 to 64 of A-Z, 0-9, _, first a letter"
            raise invalid(ErrorType.INVALID_REQUEST, told)
        summary = scores.message("summaryScore", _SCORE)
        spans = scores.messages("spanScores", _SPAN_SCORE)
        if summary is None and not spans:
            raise invalid(ErrorType.INVALID_REQUEST, f"Attribute scores of {shown(name)} must not be empty")
        for span in spans:
            if span.number("begin") is None or span.number("end") is None:
                raise invalid(ErrorType.INVALID_REQUEST, f"A span score of {shown(name)} has no begin or no end")
            _suggested_score(span.message("score", _SCORE), name)
        if summary is not None:
            found[name] = _suggested_score(summary, name)
    return found


def _suggested_score(score: Message | None, name: str) -> float:
    value = score.number("value") if score is not None else None
    if score is None or value is None or not 0 <= value <= 1:
        raise invalid(ErrorType.INVALID_REQUEST, f"A score of {shown(name)} must have a value from 0 to 1")
    _check_score_type(score.string("type"), name)
    return value


def _languages(message: Message) -> tuple[str, ...]:
    tags = tuple(tag.strip() for tag in message.strings("languages") if tag.strip())
    if len(tags) > MAX_LANGUAGES:
        told = f"Found {len(tags)} languages; at most {MAX_LANGUAGES} are allowed"
        raise invalid(ErrorType.INVALID_REQUEST, told)
    return tags


# ---- writing


def _score(value: float) -> dict[str, Any]:
    return {"value": float(value), "type": _PROBABILITY}
