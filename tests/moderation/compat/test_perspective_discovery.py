"""The discovery document: Google's Python client builds itself from it and sends its calls to us."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moderation.compat.perspective import AnalyzeRequest, RequestedAttribute, parse_analyze, parse_suggest
from moderation.compat.perspective_discovery import discovery_document
from moderation.compat.perspective_error import PerspectiveError

BASE = "https://moderation.example:8443/wardline"


@pytest.mark.parametrize(
    ("base", "root", "path"),
    [
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000/", ""),
        ("http://127.0.0.1:3000/", "http://127.0.0.1:3000/", ""),
        (BASE, "https://moderation.example:8443/", "wardline/"),
        ("https://a.example/x/y/", "https://a.example/", "x/y/"),
    ],
)
def test_calls_go_where_the_document_came_from(base: str, root: str, path: str) -> None:
    document = discovery_document(base)
    assert (document["rootUrl"], document["servicePath"], document["baseUrl"]) == (root, path, root + path)


@pytest.mark.parametrize("base", ["", "moderation.example", "ftp://moderation.example", "/v1"])
def test_an_address_that_is_not_absolute_is_refused(base: str) -> None:
    with pytest.raises(ValueError, match="base_url is "):
        discovery_document(base)


def test_every_reference_has_a_schema() -> None:
    document = discovery_document(BASE)

    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(value) for value in node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    assert references(document) == set(document["schemas"])
    assert all(schema["id"] == name for name, schema in document["schemas"].items())


def test_every_field_of_a_request_is_read() -> None:
    """The fields that the document promises are those that the parser knows."""
    schemas = discovery_document(BASE)["schemas"]
    assert (
        parse_analyze(_with_nulls(schemas["AnalyzeCommentRequest"], requestedAttributes={"TOXICITY": {}})).text == "hi"
    )
    scores = {"TOXICITY": {"summaryScore": {"value": 1}}}
    assert parse_suggest(_with_nulls(schemas["SuggestCommentScoreRequest"], attributeScores=scores)).text == "hi"


def _with_nulls(schema: dict[str, Any], **fields: object) -> bytes:
    return json.dumps(dict.fromkeys(schema["properties"]) | {"comment": {"text": "hi"}} | fields).encode()


@pytest.fixture
def google() -> Any:
    """The client's modules; a development requirement."""
    discovery = pytest.importorskip("googleapiclient.discovery")
    return discovery, pytest.importorskip("googleapiclient.http"), pytest.importorskip("googleapiclient.errors")


def test_googles_python_client_analyzes(google: Any) -> None:
    discovery, http, _ = google
    answer = {"attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.25, "type": "PROBABILITY"}}}}
    wire = http.HttpMockSequence([({"status": "200"}, json.dumps(answer))])
    client = discovery.build_from_document(json.dumps(discovery_document(BASE)), http=wire, developerKey="wl_key")
    sent = {
        "comment": {"text": "friendly greetings from python"},
        "requestedAttributes": {"TOXICITY": {"scoreThreshold": 0.1}},
        "languages": ["en"],
        "doNotStore": True,
    }
    assert client.comments().analyze(body=sent).execute() == answer
    [(uri, method, body, headers)] = wire.request_sequence
    assert uri.partition("?")[0] == f"{BASE}/v1alpha1/comments:analyze"
    assert "key=wl_key" in uri
    assert method == "POST"
    assert headers["content-type"] == "application/json"
    assert parse_analyze(body.encode()) == AnalyzeRequest(
        "friendly greetings from python",
        (RequestedAttribute("TOXICITY", "TOXICITY", 0.1),),
        languages=("en",),
    )


def test_googles_python_client_suggests(google: Any) -> None:
    discovery, http, _ = google
    wire = http.HttpMockSequence([({"status": "200"}, '{"clientToken": "c1"}')])
    client = discovery.build_from_document(discovery_document("http://127.0.0.1:3000"), http=wire)
    sent = {"comment": {"text": "hi"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 1}}}}
    assert client.comments().suggestscore(body=sent).execute() == {"clientToken": "c1"}
    [(uri, _, body, _)] = wire.request_sequence
    assert uri.partition("?")[0] == "http://127.0.0.1:3000/v1alpha1/comments:suggestscore"
    assert parse_suggest(body.encode()).scores == {"TOXICITY": 1.0}


def test_googles_python_client_finds_the_document(google: Any) -> None:
    """`build` with an address fetches the document there, as Perspective's own Python sample does."""
    discovery, http, _ = google
    wire = http.HttpMockSequence([({"status": "200"}, json.dumps(discovery_document(BASE))), ({"status": "200"}, "{}")])
    client = discovery.build(
        "commentanalyzer",
        "v1alpha1",
        developerKey="wl_key",
        discoveryServiceUrl=f"{BASE}/$discovery/rest?version=v1alpha1",
        static_discovery=False,
        cache_discovery=False,
        http=wire,
    )
    client.comments().analyze(body={}).execute()
    assert [uri.partition("?")[0] for uri, *_ in wire.request_sequence] == [
        f"{BASE}/$discovery/rest",
        f"{BASE}/v1alpha1/comments:analyze",
    ]


def test_googles_python_client_reads_a_refusal(google: Any) -> None:
    """Callers look for the error type in the text of HttpError."""
    discovery, http, errors = google
    with pytest.raises(PerspectiveError) as refused:
        parse_analyze(b'{"comment": {"text": ""}}')
    wire = http.HttpMockSequence([({"status": "400"}, json.dumps(refused.value.document()))])
    client = discovery.build_from_document(discovery_document(BASE), http=wire)
    with pytest.raises(errors.HttpError) as caught:
        client.comments().analyze(body={"comment": {"text": ""}}).execute()
    assert caught.value.status_code == 400
    assert caught.value.reason == "Comment must be non-empty."
    assert "COMMENT_EMPTY" in str(caught.value)
