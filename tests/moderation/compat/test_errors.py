"""Every kind of failure on every path: the envelope of its dialect, the status, and the headers that must survive."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from moderation.compat.errors import ERRORS, on_error, refusal
from moderation.compat.openai import OpenAIError
from moderation.compat.perspective_error import ErrorType, PerspectiveError, invalid
from moderation.problem import Problem
from retrieval_shared.errors import ScoringError

OPENAI, PERSPECTIVE, OWN = "/v1/moderations", "/v1alpha1/comments:analyze", "/v1/ads:moderate"


def request(path: str, request_id: str | None = "r-1") -> Request:
    state = {} if request_id is None else {"request_id": request_id}
    return Request({"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "state": state})


def answer(error: Exception, path: str) -> JSONResponse:
    return asyncio.run(on_error(request(path), error))


def body(response: JSONResponse) -> Any:
    return json.loads(bytes(response.body))


def envelope(response: JSONResponse) -> str:
    """Which dialect an answer is in, by the keys that its clients read."""
    found = body(response)
    if "error" not in found:
        assert response.headers["content-type"] == "application/problem+json"
        assert set(found) == {"type", "title", "status", "detail", "code"}
        return "problem"
    assert response.headers["content-type"] == "application/json"
    if "type" in found["error"]:
        assert set(found["error"]) == {"message", "type", "param", "code"}
        return "openai"
    assert set(found["error"]) - {"details"} == {"code", "message", "status"}
    return "google"


FAILURES = [
    (Problem("missing_scope", "why"), 403),
    (Problem("rate_limited", "why", {"Retry-After": "7"}), 429),
    (HTTPException(404, "Not Found"), 404),
    (HTTPException(405, "Method Not Allowed", {"Allow": "GET"}), 405),
    (HTTPException(418, "I'm a teapot"), 422),
    (HTTPException(502, "Bad Gateway"), 500),
    (ScoringError("session gone"), 503),
    (KeyError("secret text"), 500),
]


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (OWN, "problem"),
        (OPENAI, "openai"),
        (f"{OPENAI}/x", "problem"),
        ("/v1/moderationsx", "problem"),
        (PERSPECTIVE, "google"),
        ("/v1alpha1/nothing", "google"),
        ("/v1alpha1", "problem"),
        ("/v1alpha10/x", "problem"),
        ("/$discovery/rest", "google"),
        ("/", "problem"),
    ],
)
@pytest.mark.parametrize(("error", "status"), FAILURES, ids=[str(error) for error, _ in FAILURES])
def test_every_failure_is_told_in_the_dialect_of_its_path(
    path: str, dialect: str, error: Exception, status: int
) -> None:
    response = answer(error, path)
    assert (envelope(response), response.status_code) == (dialect, status)


@pytest.mark.parametrize("path", [OWN, OPENAI, PERSPECTIVE])
def test_the_headers_of_a_refusal_survive(path: str) -> None:
    assert answer(Problem("rate_limited", "why", {"Retry-After": "7"}), path).headers["retry-after"] == "7"
    assert answer(HTTPException(405, "no", {"Allow": "GET"}), path).headers["allow"] == "GET"
    assert answer(ScoringError("gone"), path).headers["retry-after"] == "1"


@pytest.mark.parametrize("path", [OWN, OPENAI, PERSPECTIVE])
def test_a_bug_tells_its_request_id_and_nothing_else(path: str) -> None:
    """Its answer leaves outside the layer that adds the id; other answers get theirs there, so not twice."""
    response = answer(KeyError("secret text"), path)
    assert response.headers["x-request-id"] == "r-1"
    assert b"secret" not in bytes(response.body)
    assert b"the log names the request id" in bytes(response.body)
    for error in (Problem("not_found", "x"), ScoringError("secret text"), HTTPException(404)):
        other = answer(error, path)
        assert "x-request-id" not in other.headers
        assert b"secret" not in bytes(other.body)
    without = asyncio.run(on_error(request(path, request_id=None), KeyError("x")))
    assert "x-request-id" not in without.headers


@pytest.mark.parametrize("path", [OWN, OPENAI, PERSPECTIVE])
def test_a_dialects_own_error_is_told_as_it_is(path: str) -> None:
    """Its route raised it, so its envelope is the right one."""
    own = OpenAIError(400, "why", code="invalid_value", param="region", headers={"Retry-After": "3"})
    response = answer(own, path)
    assert (envelope(response), response.status_code, response.headers["retry-after"]) == ("openai", 400, "3")
    assert body(response)["error"] == {
        "message": "why", "type": "invalid_request_error", "param": "region", "code": "invalid_value",
    }  # fmt: skip
    google = answer(invalid(ErrorType.COMMENT_EMPTY, "empty"), path)
    assert (envelope(google), google.status_code) == ("google", 400)
    assert body(google)["error"]["details"][0]["errorType"] == "COMMENT_EMPTY"


def test_a_refusal_before_the_routes_is_told_as_one_from_them() -> None:
    problem = Problem("idempotency_in_progress", "wait", {"Retry-After": "1"})
    for path in (OWN, OPENAI, PERSPECTIVE):
        before, from_route = refusal(problem, request(path).scope), answer(problem, path)
        assert bytes(before.body) == bytes(from_route.body)
        assert before.headers == from_route.headers
        assert before.status_code == 409


def test_every_error_has_the_one_handler() -> None:
    assert {Problem, OpenAIError, PerspectiveError, ScoringError, HTTPException, Exception} == set(ERRORS)
