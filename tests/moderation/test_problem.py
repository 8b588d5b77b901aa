"""Problem documents: their shape, and the stability of their codes."""

from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from moderation.problem import PROBLEMS, Problem, problem_of_http_error, problem_response


def test_the_document_has_the_members_of_rfc_9457_and_the_code() -> None:
    """Type, title, status and detail stand beside our own member `code`."""
    problem = Problem("too_many_items", "items must hold 1 to 256 ads; found more")
    assert problem.document() == {
        "type": "urn:wardline:problem:too_many_items",
        "title": "The request has too many items",
        "status": 422,
        "detail": "items must hold 1 to 256 ads; found more",
        "code": "too_many_items",
    }


def test_the_response_has_the_media_type_the_headers_and_the_request_id() -> None:
    """A client sees at the media type that the body is a problem."""
    problem = Problem("overloaded", "64 requests are waiting already", {"Retry-After": "1"})
    response = problem_response(problem, request_id="r-1")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.headers["retry-after"], response.headers["x-request-id"]) == ("1", "r-1")
    assert json.loads(bytes(response.body))["code"] == "overloaded"


def test_an_unknown_code_is_refused() -> None:
    """A code that is not in the table cannot reach a client."""
    with pytest.raises(ValueError, match="code is 'oops'"):
        Problem("oops", "")


def test_the_status_of_each_code_is_what_clients_were_told() -> None:
    """Codes are a promise: a change here breaks clients."""
    assert {code: int(status) for code, (status, _) in PROBLEMS.items()} == {
        "invalid_encoding": 400,
        "invalid_json": 400,
        "invalid_idempotency_key": 400,
        "missing_key": 401,
        "invalid_key": 401,
        "keys_not_configured": 401,
        "missing_scope": 403,
        "not_found": 404,
        "unknown_policy": 404,
        "unknown_rules": 404,
        "unknown_entry": 404,
        "method_not_allowed": 405,
        "body_too_large": 413,
        "unsupported_media_type": 415,
        "invalid_request": 422,
        "unknown_field": 422,
        "empty_batch": 422,
        "too_many_items": 422,
        "unknown_policy_set": 422,
        "invalid_policy": 422,
        "invalid_rules": 422,
        "policy_conflict": 409,
        "rules_conflict": 409,
        "idempotency_in_progress": 409,
        "idempotency_key_reused": 422,
        "rate_limited": 429,
        "internal_error": 500,
        "queue_unavailable": 503,
        "scoring_failed": 503,
        "overloaded": 503,
    }


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (405, "method_not_allowed"), (418, "invalid_request")]
)
def test_a_routers_own_error_becomes_a_problem(status: int, code: str) -> None:
    """No path and no method are told in the same form as everything else, with their headers."""
    problem = problem_of_http_error(HTTPException(status, "no", {"Allow": "POST"}))
    assert (problem.code, problem.headers) == (code, {"Allow": "POST"})
