"""Refusals in the envelope of Google's APIs, with the error types that Perspective documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from moderation.compat.protojson import MessageError
from moderation.problem import Problem

_ERROR = "type.googleapis.com/google.commentanalyzer.v1alpha1.Error"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
_STATUSES: Mapping[int, str] = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
)
"""HTTP status -> the name that google.rpc.Code has for it."""


class ErrorType(StrEnum):
    """Why a request is refused, as Perspective documents it."""

    COMMENT_TOO_LONG = "COMMENT_TOO_LONG"
    COMMENT_EMPTY = "COMMENT_EMPTY"
    NO_REQUESTED_ATTRIBUTES = "NO_REQUESTED_ATTRIBUTES"
    LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE = "LANGUAGE_NOT_SUPPORTED_BY_ATTRIBUTE"
    LANGUAGE_DETECTION_FAILED = "LANGUAGE_DETECTION_FAILED"
    INVALID_REQUEST = "INVALID_REQUEST"


class PerspectiveError(Exception):
    """A refusal in Google's envelope.

    Args:
        status: of HTTP.
        message: for a person.
        details: JSON-ready, each with its `@type`.
        headers: extra response headers, such as `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.headers = dict(headers or {})
        self.status = status
        self.message = message
        self.details = tuple(details)

    def document(self) -> dict[str, Any]:
        """The envelope, as Google's own clients read it."""
        name = _STATUSES.get(self.status, "INTERNAL" if self.status >= 500 else "INVALID_ARGUMENT")
        error: dict[str, Any] = {"code": self.status, "message": self.message, "status": name}
        if self.details:
            error["details"] = [dict(detail) for detail in self.details]
        return {"error": error}


def invalid(kind: ErrorType, message: str, **more: object) -> PerspectiveError:
    """Return the refusal of a request that can be read and not answered; `more` stands beside its error type."""
    return PerspectiveError(400, message, details=[{"@type": _ERROR, "errorType": kind.value, **more}])


def bad_request(error: MessageError) -> PerspectiveError:
    """Return the refusal of a body that is not the message."""
    violation = {"description": error.message} | ({"field": error.field} if error.field else {})
    return PerspectiveError(400, error.message, details=[{"@type": _BAD_REQUEST, "fieldViolations": [violation]}])


def error_of(problem: Problem) -> PerspectiveError:
    """The problem in Google's envelope."""
    return PerspectiveError(int(problem.status), problem.detail, headers=problem.headers)
