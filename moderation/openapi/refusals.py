"""What requests are refused with: an example of every problem, and which of them a route can meet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from moderation.auth import KEYS_VARIABLE
from moderation.idempotency import KEY_HEADER, MAX_KEY_CHARACTERS
from moderation.openapi.dialect import Dialect, Refusal
from moderation.openapi.headers import headers_of
from moderation.problem import PROBLEMS, Problem
from moderation.schema import MAX_BODY_BYTES, MAX_ITEMS

OF_EVERY_ROUTE = ("rate_limited", "internal_error")
OF_A_KEY = ("missing_key", "invalid_key", "keys_not_configured", "missing_scope")
OF_A_POST = (
    "invalid_idempotency_key",
    "idempotency_in_progress",
    "idempotency_key_reused",
    "queue_unavailable",
    "body_too_large",
)
"""Of the layer that answers again what was sent before; it reads the body of a request with a key."""
OF_A_BODY = ("unsupported_media_type", "body_too_large")

_KNOWN = "ads-default@1, ads-default@2"
_DETAILS: Mapping[str, str] = {
    "invalid_encoding": "the body cannot be read: Byte 14 is not UTF-8",
    "invalid_json": "the body cannot be read: Expecting value: line 1 column 1 (char 0)",
    "invalid_idempotency_key": f"{KEY_HEADER} is 'a b', 3 characters; allowed is one header of 1 to "
    f"{MAX_KEY_CHARACTERS} visible ASCII characters, in quotes or bare",
    "missing_key": "send the header `Authorization: Bearer wl_...`",
    "invalid_key": f"the key is not in the file that {KEYS_VARIABLE} names",
    "keys_not_configured": "without keys only direct requests from this machine to localhost are served; make one "
    f"with `python wardline.py keys create NAME` and name the file in {KEYS_VARIABLE}",
    "missing_scope": "this needs the scope 'admin'; key 'shop' has: moderate",
    "not_found": "Not Found",
    "unknown_rules": "rules: found 'house@3', known are house@1, house@2",
    "unknown_entry": "entry: found 'b_0', which is not in the bank",
    "unknown_policy": f"policy: found 'ads-default@3', known are {_KNOWN}",
    "method_not_allowed": "Method Not Allowed",
    "body_too_large": f"the body may have {MAX_BODY_BYTES} bytes",
    "unsupported_media_type": "send the header `Content-Type: application/json`",
    "invalid_request": "explain: Input should be 'none' or 'spans'",
    "unknown_field": "threshold: Extra inputs are not permitted",
    "empty_batch": f"items must hold 1 to {MAX_ITEMS} ads; found none",
    "too_many_items": f"items must hold 1 to {MAX_ITEMS} ads; found more",
    "unknown_policy_set": "policy_set must be 'ads-default@2', another of `GET /v1/policies` for the same heads, or "
    "left out",
    "invalid_policy": "line 2: id: 'A B' does not match '^[a-z0-9]+(-[a-z0-9]+)*$'",
    "invalid_rules": "line 5: rules.0.pattern: missing closing ): (free",
    "rules_conflict": "house@2 is there with other content; versions are never edited: make it 3",
    "policy_conflict": "ads-default@2 is there with other content; versions are never edited: make it 3",
    "idempotency_in_progress": "the first request under this key is not answered yet; send it again later",
    "idempotency_key_reused": "the key was sent before with another query or body; each request needs a key of its own",
    "rate_limited": "the API key may send 600 requests per 60 s; the next one passes in 1 s",
    "internal_error": "the service failed; the log names the request id",
    "scoring_failed": "the model gave no answer; send it again",
    "queue_unavailable": "nothing was decided; send it again",
    "overloaded": "64 requests are waiting already",
}
"""Code -> the detail of an example."""


def refusals(dialect: Dialect, codes: Iterable[str], own: Mapping[str, Refusal], *, post: bool) -> dict[int, Any]:
    """The refusals of a route, by status: one schema that allows their codes and no other, and an example of each.

    Args:
        dialect: of the route.
        codes: of `PROBLEMS`.
        own: name -> a refusal that only this dialect knows.
        post: whether an answer may be a replay.
    """
    named: dict[str, Refusal] = {code: dialect.refusal(example_of(code)) for code in codes} | dict(own)
    found: dict[int, dict[str, Refusal]] = {}
    for name, refusal in named.items():
        found.setdefault(int(refusal.status), {})[name] = refusal
    return {status: _response(dialect, status, same, post=post) for status, same in sorted(found.items())}


def example_of(code: str) -> Problem:
    """A problem of this code, with a detail as it may really have."""
    return Problem(code, _DETAILS[code])


def _response(dialect: Dialect, status: int, refused: Mapping[str, Refusal], *, post: bool) -> dict[str, Any]:
    told = [f"`{name}`: {PROBLEMS[name][1]}" if name in PROBLEMS else f"`{name}`" for name in refused]
    content = {
        "schema": dialect.narrowed({dialect.code(refusal) for refusal in refused.values()}),
        "examples": {name: {"value": refusal.document()} for name, refusal in refused.items()},
    }
    return {
        "description": "; ".join(told),
        "headers": headers_of(status, post=post),
        "content": {dialect.media_type: content},
    }
