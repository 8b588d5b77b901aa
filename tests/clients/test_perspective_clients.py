"""Perspective's clients with another address: Google's own for Python, and the requests that others are known to send.

Those requests are facts from the public code of the clients they are named after.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError

if TYPE_CHECKING:
    from tests.clients.conftest import Served

SIX = {"TOXICITY": {}, "SEVERE_TOXICITY": {}, "IDENTITY_ATTACK": {}, "INSULT": {}, "PROFANITY": {}, "THREAT": {}}
ANALYZE, SUGGEST = "/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore"
INSULT = "You are such an idiot, nobody wants to read this."


# ---- google-api-python-client


def built(served: Served, key: str) -> Any:
    """Google's client, built from the discovery document that the service itself serves."""
    return discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey=key,
        discoveryServiceUrl=f"{served.url}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
    )


@pytest.fixture(scope="module")
def comments(served: Served) -> Iterator[Any]:
    with built(served, served.keys["google"]) as service:
        yield service.comments()


def analyze_request(*attributes: str, **more: object) -> dict[str, object]:
    asked = {name: {} for name in attributes or ("TOXICITY",)}
    return {"comment": {"text": INSULT}, "languages": ["en"], "requestedAttributes": asked, **more}


def test_google_scores_a_comment(comments: Any) -> None:
    """The request of Perspective's own Python sample, without languages; one span, the whole comment."""
    body = {"comment": {"text": "friendly greetings from python"}, "requestedAttributes": {"TOXICITY": {}}}
    answer = comments.analyze(body=body).execute()
    assert set(answer) == {"attributeScores", "languages", "detectedLanguages"}
    assert (answer["languages"], answer["detectedLanguages"]) == (["en"], ["en"])
    scores = answer["attributeScores"]["TOXICITY"]
    assert scores["summaryScore"]["type"] == "PROBABILITY"
    assert scores["spanScores"] == [{"begin": 0, "end": 30, "score": scores["summaryScore"]}]


def test_google_scores_each_sentence_under_seven_attributes(comments: Any) -> None:
    """Places are counted in UTF-16 code units, of which the first character takes two."""
    names = [*SIX, "SEXUALLY_EXPLICIT"]
    text = "🙂 What a lovely day. You are an idiot!"
    more = {"comment": {"text": text}, "spanAnnotations": True, "clientToken": "t1", "doNotStore": True}
    answer = comments.analyze(body=analyze_request(*names, **more)).execute()
    assert (list(answer["attributeScores"]), answer["clientToken"]) == (names, "t1")
    units = text.encode("utf-16-le")
    for scores in answer["attributeScores"].values():
        places = [(span["begin"], span["end"]) for span in scores["spanScores"]]
        sentences = [units[2 * begin : 2 * end].decode("utf-16-le") for begin, end in places]
        assert sentences == ["🙂 What a lovely day.", "You are an idiot!"]
        assert all(
            0 <= each["value"] <= 1 for each in (scores["summaryScore"], *(s["score"] for s in scores["spanScores"]))
        )


def test_google_suggests_a_score(comments: Any, served: Served) -> None:
    """The token comes back, and a person will see the comment."""
    text = "A comment that its moderators know better."
    scores = {"TOXICITY": {"summaryScore": {"value": 0.25}}}
    body = {"comment": {"text": text}, "languages": ["en"], "attributeScores": scores, "clientToken": "t2"}
    answer = comments.suggestscore(body=body).execute()
    assert answer == {"clientToken": "t2", "detectedLanguages": ["en"], "requestedLanguages": ["en"]}
    [review] = served.reviews(text)
    assert review.item_id.startswith("suggested-")
    assert any("TOXICITY 0.25" in reason for reason in review.reasons)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (analyze_request("FLIRTATION"), "INVALID_REQUEST", "Unknown requested attribute: FLIRTATION"),
        (analyze_request(languages=["xx"]), "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE", "TOXICITY does not support"),
        (analyze_request(comment={"text": " "}), "COMMENT_EMPTY", "Comment must be non-empty."),
        (analyze_request(comment={"text": "x" * 20_481}), "COMMENT_TOO_LONG", "Comment text too long."),
        (analyze_request(comment={"text": "12 34"}, languages=[]), "LANGUAGE_DETECTION_FAILED", "Unable to detect"),
        (analyze_request(requestedAttributes={}), "NO_REQUESTED_ATTRIBUTES", "Missing requested_attributes"),
        (analyze_request(comment={"text": "a", "type": "HTML"}), "INVALID_REQUEST", "'PLAIN_TEXT'"),
        (analyze_request(foo=1), None, 'Unknown name "foo"'),
    ],
)
def test_google_raises_what_perspective_documents(
    comments: Any, body: dict[str, object], kind: str | None, reason: str
) -> None:
    """Its error carries the message and the details that scripts look for."""
    with pytest.raises(HttpError) as refused:
        comments.analyze(body=body).execute()
    assert refused.value.status_code == 400
    assert reason in refused.value.reason
    assert [detail.get("errorType") for detail in refused.value.error_details] == [kind]
    assert kind is None or kind in str(refused.value)


def test_google_is_refused_a_wrong_key(served: Served) -> None:
    """The client can be built, since the document is open, and may then do nothing."""
    with built(served, "wl_wrong") as service, pytest.raises(HttpError) as refused:
        service.comments().analyze(body=analyze_request()).execute()
    assert refused.value.status_code == 401
    assert json.loads(refused.value.content)["error"]["status"] == "UNAUTHENTICATED"


# ---- requests as other clients send them

TEXT = {"text": INSULT}
TYPED = {"text": INSULT, "type": "PLAIN_TEXT"}
ANALYSES: Mapping[str, dict[str, Any]] = {
    "Coral 9": {"comment": TEXT, "doNotStore": True, "requestedAttributes": {"TOXICITY": {}}, "languages": ["en"]},
    "Coral 9, French, custom model": {
        "comment": {"text": "Tu es vraiment trop bête."}, "doNotStore": False,
        "requestedAttributes": {"SEVERE_TOXICITY": {}}, "languages": ["fr"],
    },
    # The plugin hands its environment on, where true is a text.
    "Talk 4": {
        "comment": TEXT, "languages": ["en"], "doNotStore": "true",
        "requestedAttributes": {"TOXICITY": {}, "SEVERE_TOXICITY": {}},
    },
    "perspective-api-client for Node": {"comment": TEXT, "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True},
    "Discord bot on axios": {
        "comment": TYPED, "languages": ["en"], "requestedAttributes": {"SEVERE_TOXICITY": {}, "INSULT": {}},
        "doNotStore": False, "communityId": "server/channel",
    },
    "Discord bot on fetch": {
        "comment": TEXT, "requestedAttributes": {**SIX, "SEXUALLY_EXPLICIT": {}}, "languages": ["en"],
        "clientToken": "discord",
    },
    "Reddit scan on requests": {"comment": TEXT, "languages": ["en"], "requestedAttributes": SIX},
    "Toxic Comments Protection for WordPress": {
        "comment": TYPED, "requestedAttributes": {"TOXICITY": {"scoreType": "PROBABILITY"}}, "languages": "en",
        "doNotStore": False,
    },
    "Laravel, two languages": {"comment": TEXT, "languages": ["pt", "en"], "requestedAttributes": {"TOXICITY": {}}},
    "no language chosen": {"comment": TEXT, "languages": [], "requestedAttributes": {"TOXICITY": {}}},
    "Stack Exchange bot in Ruby": {
        "comment": TYPED, "context": {}, "languages": ["en"], "doNotStore": True, "sessionId": "",
        "requestedAttributes": {"TOXICITY": {"scoreType": "PROBABILITY", "scoreThreshold": 0}},
    },
}  # fmt: skip


def send(served: Served, path: str, body: dict[str, Any]) -> httpx.Response:
    """The answer to a request that brings its key in the address, as all of these do."""
    return httpx.post(f"{served.url}{path}?key={served.keys['http']}", json=body, timeout=60)


@pytest.mark.parametrize("body", ANALYSES.values(), ids=ANALYSES)
def test_a_request_of_the_field_is_scored(served: Served, body: dict[str, Any]) -> None:
    """Each attribute's `summaryScore.value` is a number where the client reads it."""
    answer = send(served, ANALYZE, body)
    assert answer.status_code == 200, answer.text
    scores = answer.json()["attributeScores"]
    assert list(scores) == list(body["requestedAttributes"])
    assert all(0 <= scores[name]["summaryScore"]["value"] <= 1 for name in scores)
    assert answer.json().get("clientToken") == body.get("clientToken")


# Perspective takes a body without a Content-Type; its own quickstart sent one from Python, names unquoted.
QUICKSTART = (
    '{comment: {text: "what kind of idiot name is foo?"}, languages: ["en"], requestedAttributes: {TOXICITY:{}} }'
)


@pytest.mark.parametrize("content_type", ["application/json", "application/json;charset=UTF-8", None])
def test_the_quickstart_is_answered(served: Served, content_type: str | None) -> None:
    """With the header of curl's, of a browser's and of the Python sample, `requests.post(url, data=body)`."""
    headers = {"content-type": content_type} if content_type else {}
    answer = httpx.post(
        f"{served.url}{ANALYZE}?key={served.keys['http']}", content=QUICKSTART, headers=headers, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert 0 <= answer.json()["attributeScores"]["TOXICITY"]["summaryScore"]["value"] <= 1


def test_what_is_not_scored_is_refused_by_its_name(served: Served) -> None:
    """Pokémon Showdown asks for eight attributes; none of them is answered with a made-up number."""
    asked = {**SIX, "FLIRTATION": {}}
    answer = send(served, ANALYZE, {"comment": TEXT, "languages": ["en"], "requestedAttributes": asked})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert answer.json()["error"]["message"] == "Unknown requested attribute: FLIRTATION"


def coral(attribute: str, value: float, language: str) -> dict[str, Any]:
    """Feedback of a moderator, as Coral and Talk send it: what the comment was is told in its context."""
    told = {"url": "https://news.example/story?commentID=c1", "Coral_comment_id": "c1"}
    return {
        "context": {"entries": [{"text": json.dumps(told)}]},
        "attributeScores": {attribute: {"summaryScore": {"value": value}}},
        "languages": [language],
        "communityId": "Coral:https://news.example",
        "clientToken": "comment:c1",
    }


SUGGESTIONS: Mapping[str, tuple[dict[str, Any], str]] = {
    "Coral 9, rejected": (coral("TOXICITY", 1, "en"), "TOXICITY 1.00"),
    "Coral 9, approved": (coral("TOXICITY", 0, "en"), "TOXICITY 0.00"),
    "Talk 4, approved": (coral("APPROVED", 1, "EN"), "APPROVED 1.00"),
    "Talk 4, rejected": (coral("DELETED", 1, "EN"), "DELETED 1.00"),
    "Talk 4, featured": (coral("HIGHLIGHTED", 1, "EN"), "HIGHLIGHTED 1.00"),
    "Pokémon Showdown": ({"attributeScores": {"THREAT": {"summaryScore": {"value": 0.5}}}}, "THREAT 0.50"),
}


@pytest.mark.parametrize(("body", "reason"), SUGGESTIONS.values(), ids=SUGGESTIONS)
def test_a_suggestion_of_the_field_waits_for_a_person(served: Served, body: dict[str, Any], reason: str) -> None:
    """Once, however often it is sent; Talk counts it as lost unless its token comes back."""
    text = f"A comment about which somebody said: {reason}."
    for _ in range(2):
        answer = send(served, SUGGEST, {"comment": {"text": text}, **body})
        assert answer.status_code == 200, answer.text
        assert answer.json().get("clientToken") == body.get("clientToken")
    [review] = served.reviews(text)
    assert review.state == "pending"
    assert any(reason in told for told in review.reasons)


def test_a_comment_that_is_only_scored_leaves_nothing(served: Served) -> None:
    """Whatever `doNotStore` says."""
    text = "A comment that nobody but its author should keep."
    body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}, "doNotStore": False}
    assert send(served, ANALYZE, body).status_code == 200
    assert served.reviews(text) == []
