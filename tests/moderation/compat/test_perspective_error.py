"""Google's envelope: the status by name, the details as they are."""

from __future__ import annotations

import pytest

from moderation.compat.perspective_error import ErrorType, PerspectiveError, bad_request, invalid
from moderation.compat.protojson import MessageError


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (413, "INVALID_ARGUMENT"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (502, "INTERNAL"),
        (503, "UNAVAILABLE"),
    ],
)
def test_the_status_has_googles_name(status: int, name: str) -> None:
    expected = {"error": {"code": status, "message": "no", "status": name}}
    assert PerspectiveError(status, "no").document() == expected


def test_an_error_type_stands_in_the_details() -> None:
    error = invalid(ErrorType.COMMENT_EMPTY, "Comment must be non-empty.", more=1).document()["error"]
    assert error["code"] == 400
    assert error["details"] == [
        {
            "@type": "type.googleapis.com/google.commentanalyzer.v1alpha1.Error",
            "errorType": "COMMENT_EMPTY",
            "more": 1,
        }
    ]


@pytest.mark.parametrize("field", ["comment.text", None])
def test_a_bad_body_names_its_field(field: str | None) -> None:
    error = bad_request(MessageError("no", field=field)).document()["error"]
    violation = {"description": "no", "field": field} if field else {"description": "no"}
    assert error["details"] == [
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]},
    ]
