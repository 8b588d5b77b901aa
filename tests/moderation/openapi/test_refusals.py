"""Every kind of refusal on every kind of route: in the envelope of its dialect, and told by the document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from sqlalchemy.exc import OperationalError

from moderation.api import ModerationApi
from moderation.auth import LOOPBACK, KeyRing, create_key
from moderation.compat.perspective_error import ErrorType
from moderation.idempotency_store import Attempt
from moderation.openapi.refusals import example_of
from moderation.problem import PROBLEMS, Problem
from moderation.rate_limit import RateLimit
from moderation.schema import MAX_BODY_BYTES
from moderation.service import build_app
from retrieval_shared.errors import ScoringError

ADS, DIFF, ADD = "/v1/ads:moderate", "/v1/policies:diff", "/v1/policies"
TEXTS, ANALYZE, SUGGEST = "/v1/moderations", "/v1alpha1/comments:analyze", "/v1alpha1/comments:suggestscore"
COMMENT = {"comment": {"text": "a fine day"}, "languages": ["en"]}
BODIES: dict[str, dict[str, Any]] = {
    ADS: {"items": [{"id": "1", "fields": {"text": "bread"}, "regions": ["DE"]}]},
    DIFF: {"before": "ads-default@1", "after": "ads-default@2"},
    ADD: {"id": "shop"},
    TEXTS: {"input": "bread"},
    ANALYZE: {**COMMENT, "requestedAttributes": {"TOXICITY": {}}},
    SUGGEST: {**COMMENT, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.9}}}},
}
SCORING = (ADS, TEXTS, ANALYZE, SUGGEST)
GOOGLE = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE",
}  # fmt: skip
JSON = {"content-type": "application/json"}
DOCUMENT: dict[str, Any] = build_app(lambda: pytest.fail("a document needs no API")).openapi()

Answer = Any  # the test client's response has no public name


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


def send(client: TestClient, path: str, body: bytes | None = None, **headers: str) -> Answer:
    content = json.dumps(BODIES[path]).encode() if body is None else body
    return client.post(path, content=content, headers=JSON | headers)


def check(answer: Answer, path: str, status: int, code: str, method: str = "post") -> None:
    """The envelope of the path's dialect, with this code; where the document has the route, it tells this answer."""
    found = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["x-request-id"]
    media_type = answer.headers["content-type"]
    if path == TEXTS:
        assert media_type == "application/json"
        assert set(found) == {"error"}
        assert set(found["error"]) == {"message", "type", "param", "code"}
        assert found["error"]["code"] == ("invalid_api_key" if status == 401 else code)
        assert found["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    elif path.startswith(("/v1alpha1/", "/$discovery/rest")):
        assert media_type == "application/json"
        assert set(found) == {"error"}
        assert (found["error"]["code"], found["error"]["status"]) == (status, GOOGLE.get(status, "INVALID_ARGUMENT"))
    else:
        assert media_type == "application/problem+json"
        assert found == {**found, "status": status, "code": code, "type": f"urn:wardline:problem:{code}"}
    if method in DOCUMENT["paths"].get(path, {}):
        response = DOCUMENT["paths"][path][method]["responses"][str(status)]
        told = {**response["content"][media_type]["schema"], "components": DOCUMENT["components"]}
        Draft202012Validator(told).validate(found)
        required = {name for name in response["headers"] if DOCUMENT["components"]["headers"][name].get("required")}
        assert {name.lower() for name in required} <= set(answer.headers)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/nothing",
        "/v1/policies/a/b",
        f"{TEXTS}/x",
        "/v1alpha1/nothing",
        "/$discovery/rest/x",
        "/v1/limits/",
        "/v1/policies/",
    ],
)
def test_a_path_that_is_none(path: str, made_up_client: TestClient) -> None:
    """Nor is one with a slash too many sent elsewhere."""
    for method in ("GET", "POST"):
        check(made_up_client.request(method, path, follow_redirects=False), path, 404, "not_found", "")


@pytest.mark.parametrize("path", [*BODIES, "/v1/limits", "/v1/policies/ads-default", "/$discovery/rest"])
def test_a_method_that_a_path_does_not_have(path: str, made_up_client: TestClient) -> None:
    for method in ("DELETE", "PUT", "OPTIONS"):
        answer = made_up_client.request(method, path)
        check(answer, path, 405, "method_not_allowed", method.lower())
        assert answer.headers["allow"]


@pytest.mark.parametrize("path", BODIES)
def test_a_body_of_another_kind_or_too_large(path: str, made_up_client: TestClient) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-encoding": "gzip"}) if path != ANALYZE else ():
        check(send(made_up_client, path, **headers), path, 415, "unsupported_media_type")
    large = b" " * (MAX_BODY_BYTES + 1)
    for headers in ({}, {"idempotency-key": f"large {path}".replace(" ", "-")}):
        check(send(made_up_client, path, large, **headers), path, 413, "body_too_large")


@pytest.mark.parametrize("path", [ADS, DIFF, TEXTS, ANALYZE, SUGGEST])
@pytest.mark.parametrize("body", [b"", b"{", b'{"a": ', b"\xff"])
def test_a_body_that_is_no_json(path: str, body: bytes, made_up_client: TestClient) -> None:
    encoding = path == ADS and body == b"\xff"
    check(send(made_up_client, path, body), path, 400, "invalid_encoding" if encoding else "invalid_json")


@pytest.mark.parametrize("path", BODIES)
def test_a_key_that_is_missing_unknown_or_not_enough(
    path: str, made_up_api: ModerationApi, made_up_client: TestClient, patch: pytest.MonkeyPatch
) -> None:
    desk = create_key("desk", ["review"])
    elsewhere = {"host": "wardline.example"}
    check(send(made_up_client, path, **elsewhere), path, 401, "keys_not_configured")
    patch.setattr(made_up_api, "keys", KeyRing((desk.record,)))
    check(send(made_up_client, path), path, 401, "missing_key")
    check(send(made_up_client, path, authorization="Bearer wl_wrong"), path, 401, "invalid_key")
    check(send(made_up_client, path, authorization=f"Bearer {desk.secret}"), path, 403, "missing_scope")


@pytest.mark.parametrize("path", [ANALYZE, SUGGEST])
def test_perspectives_routes_take_the_key_from_query_or_header_of_googles_and_the_others_do_not(
    path: str, made_up_api: ModerationApi, made_up_client: TestClient, patch: pytest.MonkeyPatch
) -> None:
    key = create_key("shop", ["moderate"])
    patch.setattr(made_up_api, "keys", KeyRing((key.record,)))
    assert made_up_client.post(path, params={"key": key.secret}, json=BODIES[path]).status_code == 200
    header = {"x-goog-api-key": key.secret}
    assert made_up_client.post(path, json=BODIES[path], headers=header).status_code == 200
    ways = {name for way in DOCUMENT["paths"][path]["post"]["security"] for name in way}
    schemes = [DOCUMENT["components"]["securitySchemes"][name] for name in ways]
    assert {(each["in"], each["name"]) for each in schemes if each["type"] == "apiKey"} == {
        ("query", "key"),
        ("header", "X-Goog-Api-Key"),
    }
    check(made_up_client.post(path, params={"key": "wl_no"}, json=BODIES[path]), path, 401, "invalid_key")
    check(made_up_client.post(ADS, params={"key": key.secret}, json=BODIES[ADS]), ADS, 401, "missing_key")
    check(made_up_client.post(ADS, json=BODIES[ADS], headers=header), ADS, 401, "missing_key")
    assert DOCUMENT["paths"][ADS]["post"]["security"] == [{"bearer": ["moderate"]}]


def raising(error: Exception) -> Callable[..., NoReturn]:
    def call(*_: object, **__: object) -> NoReturn:
        raise error

    return call


@pytest.mark.parametrize("path", SCORING)
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ZeroDivisionError("private text"), 500, "internal_error"),
        (Problem("overloaded", "64 requests are waiting already", {"Retry-After": "1"}), 503, "overloaded"),
    ],
)
def test_a_service_that_fails_or_is_busy(
    path: str, error: Exception, status: int, code: str, made_up_api: ModerationApi, made_up_client: TestClient,
    patch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    patch.setattr(made_up_api, "run", raising(error))
    answer = send(made_up_client, path)
    check(answer, path, status, code)
    assert "private" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)


def test_a_model_that_gives_no_answer(
    made_up_api: ModerationApi, made_up_client: TestClient, patch: pytest.MonkeyPatch
) -> None:
    """Only where nothing is decided: a decision without scores goes to a person."""
    patch.setattr(made_up_api.current().moderator, "probabilities", raising(ScoringError("no session")))
    check(send(made_up_client, ANALYZE), ANALYZE, 503, "scoring_failed")


@pytest.mark.parametrize("path", [ADS, TEXTS, SUGGEST])
def test_a_queue_that_cannot_be_written(
    path: str, made_up_api: ModerationApi, made_up_client: TestClient, patch: pytest.MonkeyPatch
) -> None:
    for method in ("record", "suggest"):
        patch.setattr(made_up_api._queue, method, raising(OperationalError("INSERT", {}, Exception("locked"))))
    answer = send(made_up_client, path)
    check(answer, path, 503, "queue_unavailable")
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("path", BODIES)
def test_an_idempotency_key_that_cannot_be_used(
    path: str, made_up_api: ModerationApi, made_up_client: TestClient
) -> None:
    check(send(made_up_client, path, **{"idempotency-key": "a b"}), path, 400, "invalid_idempotency_key")
    key = {"idempotency-key": f"used-{len(path)}"}
    first, again = (send(made_up_client, path, **key) for _ in range(2))
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    check(send(made_up_client, path, b"{}", **key), path, 422, "idempotency_key_reused")
    assert made_up_api.guards is not None
    made_up_api.guards.idempotency.begin(
        Attempt.of(caller=LOOPBACK.name, path=path, key="running", body=json.dumps(BODIES[path]).encode())
    )
    check(send(made_up_client, path, **{"idempotency-key": "running"}), path, 409, "idempotency_in_progress")


@pytest.mark.parametrize("path", [*BODIES, "/v1/limits"])
def test_a_rate_that_is_used_up(
    path: str, made_up_api: ModerationApi, made_up_client: TestClient, patch: pytest.MonkeyPatch
) -> None:
    assert made_up_api.guards is not None
    patch.setattr(made_up_api, "guards", replace(made_up_api.guards, limit=RateLimit(1, 3600 + len(path))))
    method = "post" if path in BODIES else "get"
    for _ in range(3):
        answer = send(made_up_client, path) if method == "post" else made_up_client.get(path)
    check(answer, path, 429, "rate_limited", method)
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["ratelimit-remaining"] == "0"


def test_the_page_for_perspectives_users_has_every_refusal_of_its_routes() -> None:
    """By status; and every error type. What no route answers but a path or method that is none, it has too."""
    page = (Path(__file__).parents[3] / "docs" / "perspective.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \| (?:`(\w+)`|none) \|", page, re.MULTILINE)
    statuses = {int(each) for path in (ANALYZE, SUGGEST) for each in DOCUMENT["paths"][path]["post"]["responses"]}
    told = {status: GOOGLE.get(status, "INVALID_ARGUMENT") for status in statuses | {404, 405} if status >= 400}
    assert {(int(status), name) for status, name, _ in rows} == set(told.items())
    assert {kind for *_, kind in rows if kind} == set(ErrorType)


def test_every_problem_has_an_example() -> None:
    for code in PROBLEMS:
        assert example_of(code).document()["detail"]
