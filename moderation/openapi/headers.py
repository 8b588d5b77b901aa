"""The headers that the layers before the routes read and write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moderation.idempotency import KEY_HEADER, REPLAYED_HEADER
from moderation.idempotency_store import KEPT_FOR
from moderation.problem import REQUEST_ID_HEADER

_ID = {"type": "string", "pattern": "^[!-~]{1,128}$"}
_HOURS = int(KEPT_FOR.total_seconds()) // 3600
REQUEST_ID: Mapping[str, Any] = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "description": "Comes back with the answer and stands in the log; one is made where it is left out.",
    "schema": _ID,
}
IDEMPOTENCY_KEY: Mapping[str, Any] = {
    "name": KEY_HEADER,
    "in": "header",
    "description": (
        f"Under a key a request is done once; sent again within {_HOURS} hours it is answered as it was the first "
        "time. After draft-ietf-httpapi-idempotency-key-header-07; the quotes may be left out."
    ),
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
"""Parameters, as OpenAPI has them."""

_NUMBER = {"type": "integer", "minimum": 0}
_RATE = {
    "RateLimit-Limit": {"description": "Requests of the key in one window, where it has a limit.", "schema": _NUMBER},
    "RateLimit-Remaining": {"description": "How many of them would pass now.", "schema": _NUMBER},
    "RateLimit-Reset": {"description": "Seconds until all are free again, or the next one.", "schema": _NUMBER},
}
_RETRY_AFTER = {"description": "Seconds after which to send the request again.", "schema": _NUMBER}
_UNKEPT = frozenset({401, 403, 429})


def headers_of(status: int, *, post: bool) -> dict[str, Any]:
    """The headers of an answer of this status; `post`: of a POST, which may be a replay."""
    found: dict[str, Any] = {
        REQUEST_ID_HEADER: {"description": "The request's id.", "required": True, "schema": _ID},
        **(_RATE if status != 500 else {}),  # a crash is answered outside of the layer that counts
    }
    if status in {409, 429, 503}:
        found["Retry-After"] = _RETRY_AFTER
    if status == 401:
        found["WWW-Authenticate"] = {
            "description": "How to show a key.",
            "required": True,
            "schema": {"type": "string"},
        }
    if post and status < 500 and status not in _UNKEPT:
        told = "`true`, where this is the answer to the first request under the key."
        found[REPLAYED_HEADER] = {"description": told, "schema": {"const": "true"}}
    return found
