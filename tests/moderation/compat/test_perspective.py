"""Perspective's shape: the requests its clients send, each refusal, and the answer they read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from moderation.compat.perspective import (
    ATTRIBUTES,
    MAX_LANGUAGES,
    MAX_SUGGESTED,
    MAX_TEXT_BYTES,
    AnalyzeRequest,
    RequestedAttribute,
    parse_analyze,
    parse_suggest,
    render_analyze,
    render_suggest,
)
from moderation.compat.perspective_error import ErrorType, PerspectiveError

TOXICITY = RequestedAttribute("TOXICITY", "TOXICITY")
ERROR = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"


def body(**fields: object) -> bytes:
    """A body that is right but for the fields given; None leaves one out."""
    whole = {"comment": {"text": "hi there"}, "requestedAttributes": {"TOXICITY": {}}} | fields
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


def refusal(sent: bytes) -> dict[str, Any]:
    """The error object that answers a body."""
    with pytest.raises(PerspectiveError) as caught:
        parse_analyze(sent)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.document()["error"]
    return error


# ---- what clients send


def test_coral_talk_plugin() -> None:
    """Talk 4: SEVERE_TOXICITY unless told otherwise, and doNotStore out of the environment, where it is a string."""
    request = parse_analyze(
        json.dumps(
            {
                "comment": {"text": "You are a fool."},
                "languages": ["en"],
                "doNotStore": "true",
                "requestedAttributes": {"TOXICITY": {}, "SEVERE_TOXICITY": {}},
            },
            indent=2,
        ).encode()
    )
    assert request == AnalyzeRequest(
        text="You are a fool.",
        attributes=(TOXICITY, RequestedAttribute("SEVERE_TOXICITY", "SEVERE_TOXICITY")),
        languages=("en",),
    )
    answer = render_analyze(request, {"TOXICITY": 0.91, "SEVERE_TOXICITY": 0.84}, (), ["en"])
    assert answer["attributeScores"]["SEVERE_TOXICITY"]["summaryScore"]["value"] > 0.8


@pytest.mark.parametrize("languages", [["EN"], "EN"])
def test_coral_feedback(languages: object) -> None:
    """A moderator's verdict comes as the name of the attribute; Talk counts it as lost without its own token."""
    sent = {
        "comment": {"text": "You are a fool."},
        "context": {"entries": [{"text": json.dumps({"url": "https://news.example/1", "Coral_comment_id": "c1"})}]},
        "attributeScores": {"DELETED": {"summaryScore": {"value": 1}}},
        "languages": languages,
        "communityId": "Coral:https://talk.example/",
        "clientToken": "comment:c1",
    }
    request = parse_suggest(json.dumps(sent).encode())
    assert request.scores == {"DELETED": 1.0}
    assert request.community_id == "Coral:https://talk.example/"
    assert render_suggest(request) == {"clientToken": "comment:c1", "requestedLanguages": ["EN"]}


def test_sloria_client() -> None:
    """perspective-api-client: names in upper case out of an array, doNotStore true, no languages."""
    sent = body(requestedAttributes={"TOXICITY": {}, "THREAT": {}}, doNotStore=True)
    request = parse_analyze(sent)
    assert request.languages == ()
    assert [each.name for each in request.attributes] == ["TOXICITY", "THREAT"]


def test_conversation_ai_moderator() -> None:
    sent = body(context={"entries": []}, languages=["en"], spanAnnotations=True, clientToken="agent_request7")
    request = parse_analyze(sent)
    assert request.span_annotations
    assert request.client_token == "agent_request7"


def test_snake_case() -> None:
    sent = {
        "comment": {"text": "hi"},
        "requested_attributes": {"INSULT": {"score_type": "PROBABILITY", "score_threshold": 0.5}},
        "span_annotations": True,
        "do_not_store": True,
        "client_token": "t",
        "session_id": "s",
        "community_id": "c",
        "drop_unsupported_attributes": True,
    }
    assert parse_analyze(json.dumps(sent).encode()) == AnalyzeRequest(
        text="hi",
        attributes=(RequestedAttribute("INSULT", "INSULT", 0.5),),
        span_annotations=True,
        drop_unsupported=True,
        client_token="t",
    )


def test_the_quickstart_command_of_perspective() -> None:
    """Its JSON has names without quotes, and Google reads it."""
    sent = b"""{comment: {text: "what kind of idiot name is foo?"},
          languages: ["en"],
          requestedAttributes: {TOXICITY:{}} }"""
    assert parse_analyze(sent) == AnalyzeRequest("what kind of idiot name is foo?", (TOXICITY,), languages=("en",))


def test_the_feedback_example_of_perspective() -> None:
    """Its JSON has a comma before a closing brace."""
    sent = b"""{
      "comment": {"text": "Get busy living, or get busy dying."},
      "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0}},},
      "communityId": "/forum/movies", "clientToken": "comment-53922"}"""
    request = parse_suggest(sent)
    assert request.scores == {"TOXICITY": 0.0}
    assert request.text == "Get busy living, or get busy dying."
    assert render_suggest(request) == {"clientToken": "comment-53922"}


@pytest.mark.parametrize("languages", [None, [], "", [""], ["", " "]])
def test_without_languages_they_are_detected(languages: object) -> None:
    assert parse_analyze(body(languages=languages)).languages == ()


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_an_experimental_name_is_answered_under_itself(attribute: str) -> None:
    name = f"{attribute}_EXPERIMENTAL"
    request = parse_analyze(body(requestedAttributes={name: {}, attribute: {}}))
    assert request.attributes[0] == RequestedAttribute(name, attribute)
    answer = render_analyze(request, {attribute: 0.25}, (), ["en"])
    assert {name: scores["summaryScore"]["value"] for name, scores in answer["attributeScores"].items()} == {
        name: 0.25,
        attribute: 0.25,
    }


@pytest.mark.parametrize("kind", ["PLAIN_TEXT", "TEXT_TYPE_UNSPECIFIED", None])
def test_plain_text(kind: str | None) -> None:
    assert parse_analyze(body(comment={"text": "hi", "type": kind})).text == "hi"


def test_a_text_of_exactly_the_limit_is_read() -> None:
    text = "é" * (MAX_TEXT_BYTES // 2)
    assert parse_analyze(body(comment={"text": text})).text == text


def test_half_a_surrogate_pair_is_replaced_in_place() -> None:
    request = parse_analyze(
        rb'{"comment":{"text":"a\ud800b"},"requestedAttributes":{"TOXICITY":{}},"clientToken":"\udc00"}'
    )
    assert request.text == "a\N{REPLACEMENT CHARACTER}b"
    assert request.client_token == "\N{REPLACEMENT CHARACTER}"


# ---- refusals


@pytest.mark.parametrize(
    ("sent", "kind", "message"),
    [
        (body(comment=None), ErrorType.COMMENT_EMPTY, "Comment must be non-empty."),
        (body(comment={"text": " \n"}), ErrorType.COMMENT_EMPTY, "Comment must be non-empty."),
        (body(comment={"text": "x" * 20481}), ErrorType.COMMENT_TOO_LONG, "Comment text too long."),
        (body(comment={"text": "é" * 10241}), ErrorType.COMMENT_TOO_LONG, "Comment text too long."),
        (body(requestedAttributes=None), ErrorType.NO_REQUESTED_ATTRIBUTES, "Missing requested_attributes"),
        (body(requestedAttributes={}), ErrorType.NO_REQUESTED_ATTRIBUTES, "Missing requested_attributes"),
        (
            body(requestedAttributes={"FLIRTATION": {}}),
            ErrorType.INVALID_REQUEST,
            "Unknown requested attribute: FLIRTATION",
        ),
        (
            body(requestedAttributes={"toxicity": {}}),
            ErrorType.INVALID_REQUEST,
            "Unknown requested attribute: toxicity",
        ),
        (
            body(requestedAttributes={"INSULT": {"scoreType": "RAW"}}),
            ErrorType.INVALID_REQUEST,
            "Requested score type RAW is not supported by attribute INSULT",
        ),
        (
            body(comment={"text": "hi", "type": "HTML"}),
            ErrorType.INVALID_REQUEST,
            "Currently, only 'PLAIN_TEXT' comments are supported",
        ),
        (body(comment={"text": "hi", "type": "RTF"}), ErrorType.INVALID_REQUEST, "Unknown text type"),
        (
            body(context={"entries": [{"text": "a"}], "articleAndParentComment": {"article": {"text": "b"}}}),
            ErrorType.INVALID_REQUEST,
            "Context can have either entries or article_and_parent_comment, but both fields were populated.",
        ),
        (
            body(context={"articleAndParentComment": {"parentComment": {"text": "b", "type": "HTML"}}}),
            ErrorType.INVALID_REQUEST,
            "Currently, only 'PLAIN_TEXT' comments are supported",
        ),
    ],
)
def test_refusals_name_their_type(sent: bytes, kind: ErrorType, message: str) -> None:
    assert refusal(sent) == {
        "code": 400,
        "message": message,
        "status": "INVALID_ARGUMENT",
        "details": [{"@type": ERROR, "errorType": kind.value}],
    }


def test_an_unknown_field_is_refused_as_google_refuses_it() -> None:
    message = "Invalid JSON payload received. Unknown name \"foo\" at 'comment': Cannot find field."
    assert refusal(body(comment={"text": "hi", "foo": 1})) == {
        "code": 400,
        "message": message,
        "status": "INVALID_ARGUMENT",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"description": message, "field": "comment"}],
            }
        ],
    }
    assert refusal(body(foo=1))["message"] == 'Invalid JSON payload received. Unknown name "foo": Cannot find field.'


@pytest.mark.parametrize(
    "fields",
    [
        {"comment": "hi"},
        {"comment": {"text": 5}},
        {"requestedAttributes": ["TOXICITY"]},
        {"requestedAttributes": {"INSULT": 0.7}},
        {"requestedAttributes": {"INSULT": {"scoreThreshold": "high"}}},
        {"requestedAttributes": {"INSULT": {"scoreThreshold": True}}},
        {"languages": [1]},
        {"spanAnnotations": "maybe"},
        {"doNotStore": "maybe"},
        {"sessionId": 5},
        {"communityId": ["c"]},
        {"clientToken": 5},
        {"context": {"entries": {"text": "a"}}},
    ],
)
def test_a_value_of_another_type_is_refused(fields: Mapping[str, object]) -> None:
    assert refusal(body(**fields))["message"].startswith("Invalid value at '")


def test_suggestions_must_say_something() -> None:
    for scores, message in [
        ({}, "Missing attribute_scores"),
        ({"TOXICITY": {}}, "Attribute scores of TOXICITY must not be empty"),
        ({"TOXICITY": {"summaryScore": {}}}, "A score of TOXICITY must have a value from 0 to 1"),
        ({"TOXICITY": {"summaryScore": {"value": 1.5}}}, "A score of TOXICITY must have a value from 0 to 1"),
        ({"TOXICITY": {"spanScores": [{"score": {"value": 1}}]}}, "A span score of TOXICITY has no begin or no end"),
    ]:
        with pytest.raises(PerspectiveError) as caught:
            parse_suggest(json.dumps({"comment": {"text": "hi"}, "attributeScores": scores}).encode())
        assert caught.value.message == message


@pytest.mark.parametrize("name", ["TOXICITY", "INSULT_EXPERIMENTAL", "APPROVED", "DELETED", "A", "A" * 64, "T5_X"])
def test_a_suggestion_may_name_an_attribute_of_its_own(name: str) -> None:
    assert parse_suggest(suggestion({name: {"summaryScore": {"value": 1}}})).scores == {name: 1.0}


@pytest.mark.parametrize(
    "name", ["", "toxicity", "My neighbour is a thief", "A" * 65, "5_X", "_X", "A\n", "É", "\ud800"]
)
def test_a_suggestion_has_no_free_text_where_a_name_belongs(name: str) -> None:
    """Names are kept in the review's reasons; nor is what stood there repeated."""
    with pytest.raises(PerspectiveError) as caught:
        parse_suggest(suggestion({"TOXICITY": {"summaryScore": {"value": 1}}, name: {"summaryScore": {"value": 1}}}))
    allowed = "1 to 64 of A-Z, 0-9, _, first a letter"
    assert caught.value.message == f"Attribute 2 of attribute_scores must have a name of {allowed}"
    assert caught.value.details[0]["errorType"] == "INVALID_REQUEST"


def test_a_suggestion_has_so_many_scores_and_no_more() -> None:
    scores = {f"A{i}": {"summaryScore": {"value": 1}} for i in range(MAX_SUGGESTED)}
    assert len(parse_suggest(suggestion(scores)).scores) == 32
    with pytest.raises(PerspectiveError, match="Found 33 attribute_scores; at most 32 are allowed") as caught:
        parse_suggest(suggestion({**scores, "ONE_MORE": {"summaryScore": {"value": 1}}}))
    assert caught.value.details[0]["errorType"] == "INVALID_REQUEST"


def suggestion(scores: object) -> bytes:
    return json.dumps({"comment": {"text": "hi"}, "attributeScores": scores}).encode()


def test_a_suggestion_for_spans_alone_has_no_summary() -> None:
    span = {"begin": 0, "end": 2, "score": {"value": 1, "type": "PROBABILITY"}}
    sent = {"comment": {"text": "hi"}, "attributeScores": {"TOXICITY": {"spanScores": [span]}}}
    assert parse_suggest(json.dumps(sent).encode()).scores == {}


def test_analyze_does_not_take_the_fields_of_suggest() -> None:
    assert "attributeScores" in refusal(body(attributeScores={}))["message"]


def test_so_many_languages_are_read_and_no_more() -> None:
    """As they were sent; a tag twice counts twice."""
    most = ["en", "de"] * (MAX_LANGUAGES // 2)
    assert parse_analyze(body(languages=[*most, " "])).languages == tuple(most)
    for sent in ([*most, "en"], ["en"] * 500):
        error = refusal(body(languages=sent))
        assert error["message"] == f"Found {len(sent)} languages; at most 32 are allowed"
        assert error["details"] == [{"@type": ERROR, "errorType": "INVALID_REQUEST"}]
    with pytest.raises(PerspectiveError, match="Found 33 languages; at most 32 are allowed"):
        parse_suggest(
            body(
                languages=[*most, "en"], requestedAttributes=None, attributeScores={"A": {"summaryScore": {"value": 1}}}
            )
        )


# ---- the answer


def test_the_answer_without_spans() -> None:
    request = AnalyzeRequest("hi there", (TOXICITY,), client_token="t")
    score = {"value": 0.25, "type": "PROBABILITY"}
    assert render_analyze(request, {"TOXICITY": 0.25, "INSULT": 1.0}, [(0, 2, {"TOXICITY": 1.0})], ["en"]) == {
        "attributeScores": {
            "TOXICITY": {"spanScores": [{"begin": 0, "end": 8, "score": score}], "summaryScore": score},
        },
        "languages": ["en"],
        "detectedLanguages": ["en"],
        "clientToken": "t",
    }


def test_spans_count_utf16_code_units() -> None:
    text = "\N{GRINNING FACE} hi. \N{PILE OF POO}!"
    request = AnalyzeRequest(text, (TOXICITY,), span_annotations=True)
    spans = [(0, 5, {"TOXICITY": 0.1}), (6, 8, {"TOXICITY": 0.9})]
    answer = render_analyze(request, {"TOXICITY": 0.5}, spans, ["en"])
    found = answer["attributeScores"]["TOXICITY"]["spanScores"]
    assert [(span["begin"], span["end"], span["score"]["value"]) for span in found] == [(0, 6, 0.1), (7, 10, 0.9)]
    units = text.encode("utf-16-le")
    assert units[7 * 2 : 10 * 2].decode("utf-16-le") == "\N{PILE OF POO}!"


def test_a_span_of_the_whole_comment_where_there_are_none() -> None:
    request = AnalyzeRequest("\N{GRINNING FACE}", (TOXICITY,), span_annotations=True)
    [span] = render_analyze(request, {"TOXICITY": 0.5}, (), ["en"])["attributeScores"]["TOXICITY"]["spanScores"]
    assert (span["begin"], span["end"], span["score"]["value"]) == (0, 2, 0.5)


def test_scores_below_the_threshold_are_left_out() -> None:
    attributes = (RequestedAttribute("TOXICITY", "TOXICITY", 0.5), RequestedAttribute("INSULT", "INSULT", 0.6))
    request = AnalyzeRequest("hi", attributes, languages=("en",))
    summary = {"TOXICITY": 0.5, "INSULT": 0.59}
    assert list(render_analyze(request, summary, (), ["ro", "en"])["attributeScores"]) == ["TOXICITY"]
    assert render_analyze(request, {"TOXICITY": 0.49, "INSULT": 0.0}, (), ["ro", "en"]) == {
        "languages": ["en"],
        "detectedLanguages": ["ro", "en"],
    }


def test_the_answer_is_json() -> None:
    request = parse_analyze(body(requestedAttributes={name: {} for name in ATTRIBUTES}, spanAnnotations=True))
    scores = dict.fromkeys(ATTRIBUTES, 0.5)
    answer = render_analyze(request, scores, [(0, 2, scores), (3, 8, scores)], ["en"])
    assert list(json.loads(json.dumps(answer))["attributeScores"]) == list(ATTRIBUTES)
