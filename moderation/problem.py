"""Whole-request errors: RFC 9457 problem documents, each with a code that never changes its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

PROBLEM_MEDIA_TYPE = "application/problem+json"
REQUEST_ID_HEADER = "X-Request-Id"

# code -> (HTTP status, title). Clients branch on the code: a new meaning gets a new code, an old one is never reused.
PROBLEMS: Mapping[str, tuple[HTTPStatus, str]] = MappingProxyType(
    {
        "invalid_encoding": (HTTPStatus.BAD_REQUEST, "The body is not UTF-8"),
        "invalid_json": (HTTPStatus.BAD_REQUEST, "The body is not JSON"),
        "invalid_idempotency_key": (HTTPStatus.BAD_REQUEST, "The Idempotency-Key is no usable key"),
        "missing_key": (HTTPStatus.UNAUTHORIZED, "An API key is needed"),
        "invalid_key": (HTTPStatus.UNAUTHORIZED, "The API key is not known"),
        "keys_not_configured": (HTTPStatus.UNAUTHORIZED, "No API keys are configured"),
        "missing_scope": (HTTPStatus.FORBIDDEN, "The API key lacks a scope"),
        "not_found": (HTTPStatus.NOT_FOUND, "There is nothing at this path"),
        "unknown_rules": (HTTPStatus.NOT_FOUND, "The rules do not exist"),
        "unknown_entry": (HTTPStatus.NOT_FOUND, "The bank has no such entry"),
        "unknown_policy": (HTTPStatus.NOT_FOUND, "The policy does not exist"),
        "method_not_allowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take this method"),
        "body_too_large": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
        "unsupported_media_type": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is not declared as JSON"),
        "invalid_request": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request does not have the documented shape"),
        "unknown_field": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request has a field that does not exist"),
        "empty_batch": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request has no items"),
        "too_many_items": (HTTPStatus.UNPROCESSABLE_ENTITY, "The request has too many items"),
        "unknown_policy_set": (HTTPStatus.UNPROCESSABLE_ENTITY, "The policy set is not served here"),
        "invalid_policy": (HTTPStatus.UNPROCESSABLE_ENTITY, "The document is no policy that can be used here"),
        "invalid_rules": (HTTPStatus.UNPROCESSABLE_ENTITY, "The document is no set of rules that can be used here"),
        "rules_conflict": (HTTPStatus.CONFLICT, "The rules stand against what is there"),
        "policy_conflict": (HTTPStatus.CONFLICT, "The policy stands against what is there"),
        "idempotency_in_progress": (
            HTTPStatus.CONFLICT,
            "The first request under the key is still running",
        ),
        "idempotency_key_reused": (HTTPStatus.UNPROCESSABLE_ENTITY, "The key belongs to another request"),
        "rate_limited": (HTTPStatus.TOO_MANY_REQUESTS, "The API key has used up its rate"),
        "internal_error": (HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed"),
        "scoring_failed": (HTTPStatus.SERVICE_UNAVAILABLE, "The model gave no answer"),
        "queue_unavailable": (HTTPStatus.SERVICE_UNAVAILABLE, "The decision log cannot be written"),
        "overloaded": (HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests are waiting"),
    }
)
_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}


class Problem(Exception):  # noqa: N818 (RFC 9457's own word)
    """A refusal of the whole request.

    Args:
        code: one of `PROBLEMS`; it decides the HTTP status.
        detail: what was found and what is allowed, for a person. Never quotes an item's text.
        headers: extra response headers, such as `Retry-After`.

    Raises:
        ValueError: when `code` is not one of `PROBLEMS`.
    """

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        if code not in PROBLEMS:
            raise ValueError(f"code is {code!r}; known codes: {', '.join(PROBLEMS)}")
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status of the code."""
        return PROBLEMS[self.code][0]

    def document(self) -> dict[str, str | int]:
        """The problem as a JSON-ready mapping: type, title, status, detail, code."""
        return {
            "type": f"urn:wardline:problem:{self.code}",
            "title": PROBLEMS[self.code][1],
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
        }


def problem_response(problem: Problem, *, request_id: str | None = None) -> JSONResponse:
    """The problem as an HTTP response, with the request's id in its header when there is one."""
    headers = dict(problem.headers)
    if request_id is not None:
        headers[REQUEST_ID_HEADER] = request_id
    return JSONResponse(
        problem.document(), status_code=int(problem.status), headers=headers, media_type=PROBLEM_MEDIA_TYPE
    )


def problem_of_http_error(error: HTTPException) -> Problem:
    """The problem that stands for an error which the router itself raised (no such path, no such method)."""
    code = _CODE_OF_STATUS.get(error.status_code, "invalid_request" if error.status_code < 500 else "internal_error")
    return Problem(code, str(error.detail), dict(error.headers or {}))
