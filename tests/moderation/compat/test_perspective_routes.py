"""Perspective's routes over HTTP: scores without a trace, suggestions in the queue, Google's envelope."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key
from moderation.profanity import Profanity
from moderation.review.store import Store
from retrieval_shared.errors import ScoringError

ANALYZE, SUGGEST = "/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore"
COMMENT = {"comment": {"text": "You there. What a day!"}, "languages": ["en"]}


def analyze(*attributes: str, **more: object) -> dict[str, object]:
    return {**COMMENT, "requestedAttributes": {name: {} for name in attributes}, **more}


def toxicity(api: ModerationApi, *texts: str) -> list[float]:
    moderator = api.current().moderator
    scores: list[float] = moderator.probabilities(texts)[:, moderator.heads.index("toxic")].tolist()
    return scores


def test_a_comment_is_scored_and_leaves_no_trace(client: TestClient, api: ModerationApi, log: Store) -> None:
    before = len(list(log.decision_rows()))
    answer = client.post(f"{ANALYZE}?key=anything", json=analyze("TOXICITY", "INSULT", "PROFANITY"))
    assert answer.status_code == 200
    scores = answer.json()["attributeScores"]
    assert list(scores) == ["TOXICITY", "INSULT", "PROFANITY"]
    toxic = toxicity(api, "You there. What a day!")[0]
    assert scores["TOXICITY"]["summaryScore"] == {"value": pytest.approx(toxic, abs=1e-6), "type": "PROBABILITY"}
    assert scores["PROFANITY"]["summaryScore"]["value"] == 0
    assert answer.json()["languages"] == ["en"]
    assert len(list(log.decision_rows())) == before


def test_spans_are_the_sentences_each_with_a_score_of_its_own(client: TestClient, api: ModerationApi) -> None:
    answer = client.post(ANALYZE, json=analyze("TOXICITY", spanAnnotations=True)).json()
    spans = answer["attributeScores"]["TOXICITY"]["spanScores"]
    assert [(span["begin"], span["end"]) for span in spans] == [(0, 10), (11, 22)]
    alone = toxicity(api, "You there.", "What a day!")
    assert [span["score"]["value"] for span in spans] == pytest.approx(alone, abs=1e-6)


def test_disguised_profanity_is_found(client: TestClient) -> None:
    document = {**analyze("PROFANITY"), "comment": {"text": "what the f\u200buck"}}
    assert client.post(ANALYZE, json=document).json()["attributeScores"]["PROFANITY"]["summaryScore"]["value"] >= 0.8


@pytest.mark.parametrize("languages", [["en_US"], ["EN-gb"], ["en", "en_US", "en-GB", "EN"], []])
def test_profanity_is_found_under_every_spelling_of_a_language(client: TestClient, languages: list[str]) -> None:
    """What is supported is what is looked for."""
    document = analyze("PROFANITY", comment={"text": "what the fuck is this about, my friend"}, languages=languages)
    answer = client.post(ANALYZE, json=document)
    assert answer.status_code == 200
    assert answer.json()["attributeScores"]["PROFANITY"]["summaryScore"]["value"] >= 0.8


def test_the_profanity_list_is_searched_once_for_each_language(client: TestClient, api: ModerationApi) -> None:
    """However often a language is named; and not at all where nobody asks for it."""
    asked: list[tuple[str, ...]] = []

    class Counting(Profanity):
        def score(self, text: str, languages: Sequence[str]) -> float:
            asked.append(tuple(languages))
            return super().score(text, languages)

    serving = api.current()
    own = replace(serving.perspective, profanity=Counting(serving.perspective.profanity.signals))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "current", lambda: replace(serving, perspective=own))
        for attribute in ("PROFANITY", "TOXICITY"):
            document = analyze(attribute, languages=["en", "en_US", "EN", "en-GB"] * 8)
            assert client.post(ANALYZE, json=document).status_code == 200
    assert asked == [("en",)]


def test_a_suggestion_waits_for_a_reviewer_once(client: TestClient, log: Store) -> None:
    document = {
        "comment": {"text": "A fine day"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.9}}},
        "languages": ["en"], "communityId": "c1", "clientToken": "t1",
    }  # fmt: skip
    decisions = len(list(log.decision_rows()))
    for _ in range(2):
        answer = client.post(SUGGEST, json=document)
        assert (answer.status_code, answer.json()["clientToken"]) == (200, "t1")
    filed = [review.review for review in log.reviews() if review.review.item_id.startswith("suggested-")]
    assert [review.reasons[0] for review in filed] == ["suggested by a client: TOXICITY 0.90"]
    assert (filed[0].state, filed[0].text) == ("pending", None)
    assert len(list(log.decision_rows())) == decisions


@pytest.mark.parametrize("media_type", [None, "text/plain;charset=UTF-8", "application/x-www-form-urlencoded"])
def test_a_comment_is_scored_whatever_type_its_client_says_it_is(client: TestClient, media_type: str | None) -> None:
    """Scripts that send a string say nothing of its type, or what their library does."""
    content = json.dumps(analyze("TOXICITY")).encode()
    headers = {} if media_type is None else {"content-type": media_type}
    assert client.post(ANALYZE, content=content, headers=headers).status_code == 200
    assert client.post(SUGGEST, content=content, headers=headers).status_code == 415


@pytest.mark.parametrize("text", ["lol", "ok", "gg"])
def test_a_comment_too_short_to_tell_its_language_is_read(client: TestClient, text: str) -> None:
    """Bots name no language, and most of what they send is short."""
    answer = client.post(ANALYZE, json=analyze("TOXICITY", comment={"text": text}, languages=[]))
    assert (answer.status_code, answer.json()["detectedLanguages"]) == (200, ["en"])
    sure = "Habari ya asubuhi rafiki yangu mpendwa, karibu nyumbani kwetu"
    refused = client.post(ANALYZE, json=analyze("TOXICITY", comment={"text": sure}, languages=[])).json()
    assert refused["error"]["details"][0]["errorType"] == "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"


@pytest.mark.parametrize("way", ["query", "header", "bearer"])
def test_a_key_may_come_in_any_of_three_ways(stranger: TestClient, api: ModerationApi, way: str) -> None:
    key = create_key("shop", ["moderate"])
    headers = {"header": {"X-Goog-Api-Key": key.secret}, "bearer": {"Authorization": f"Bearer {key.secret}"}}
    url = f"{ANALYZE}?key={key.secret}" if way == "query" else ANALYZE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "keys", KeyRing((key.record,)))
        assert stranger.post(url, json=analyze("TOXICITY"), headers=headers.get(way, {})).status_code == 200
        assert stranger.post(ANALYZE, json=analyze("TOXICITY")).status_code == 401


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({"comment": {"text": " "}, "requestedAttributes": {"TOXICITY": {}}}, "COMMENT_EMPTY"),
        ({"comment": {"text": "x" * 20_481}, "requestedAttributes": {"TOXICITY": {}}}, "COMMENT_TOO_LONG"),
        (COMMENT, "NO_REQUESTED_ATTRIBUTES"),
        (analyze("FLIRTATION"), "INVALID_REQUEST"),
        (analyze("TOXICITY", languages=["en"] * 500), "INVALID_REQUEST"),
        (analyze("TOXICITY", languages=["xx"]), "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"),
        (analyze("TOXICITY", comment={"text": "12 34"}, languages=[]), "LANGUAGE_DETECTION_FAILED"),
    ],
)
def test_refusals_come_in_googles_envelope(client: TestClient, document: dict[str, object], kind: str) -> None:
    answer = client.post(ANALYZE, json=document)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert error["details"][0]["errorType"] == kind


def test_so_do_those_of_the_service_itself(client: TestClient, stranger: TestClient, api: ModerationApi) -> None:
    refused = stranger.post(f"{ANALYZE}?key=wl_wrong", json=analyze("TOXICITY"))
    assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert client.get("/v1alpha1/nothing").json()["error"]["status"] == "NOT_FOUND"
    with pytest.MonkeyPatch.context() as patch:
        scorer = api.current().moderator
        patch.setattr(scorer, "probabilities", lambda _: (_ for _ in ()).throw(ScoringError("no session")))
        answer = client.post(ANALYZE, json=analyze("TOXICITY"))
    assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "1"


def test_the_discovery_document_names_the_address_it_was_asked_at(client: TestClient) -> None:
    document = client.get("/$discovery/rest?version=v1alpha1").json()
    assert document["baseUrl"] == "http://localhost/"
    assert set(document["resources"]["comments"]["methods"]) == {"analyze", "suggestscore"}
