"""The dialects: in which envelope a client is refused, and how it shows its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from moderation.compat import openai, perspective_error
from moderation.openapi.json_schema import schema_of
from moderation.problem import PROBLEM_MEDIA_TYPE, Problem
from moderation.request import GOOGLE_KEY_HEADER

BEARER, QUERY_KEY, HEADER_KEY = "bearer", "key", "googleKey"
SECURITY_SCHEMES: Mapping[str, Mapping[str, str]] = {
    BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": (
            "An API key, `wl_...`, made with `python wardline.py keys create NAME`. Each has scopes: `moderate`, "
            "`review`, `admin`, which includes the others. Without a keys file only requests from this machine to "
            "localhost are served, and those need no key."
        ),
    },
    QUERY_KEY: {
        "type": "apiKey",
        "in": "query",
        "name": "key",
        "description": "The same key, where Perspective's clients put it. A key in a URL ends up in logs.",
    },
    HEADER_KEY: {
        "type": "apiKey",
        "in": "header",
        "name": GOOGLE_KEY_HEADER,
        "description": "The same key, in the header of Google's client libraries.",
    },
}
"""Name -> how a key is sent."""


class Refusal(Protocol):
    """What a route can be refused with: `Problem`, `OpenAIError` or `PerspectiveError`."""

    @property
    def status(self) -> int:
        """Of HTTP."""

    def document(self) -> dict[str, Any]:
        """The envelope, JSON-ready."""


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ProblemDocument(_Envelope):
    """A refusal of the whole request (RFC 9457)."""

    type: str
    """`urn:wardline:problem:` and the code."""
    title: str
    status: int
    """Of HTTP."""
    detail: str
    """What was found and what is allowed, for a person."""
    code: str
    """For programs; its meaning never changes."""


class OpenAIErrorBody(_Envelope):
    """What OpenAI's clients read of a refusal."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    """The field at fault, where it is one."""
    code: str
    """For programs; its meaning never changes."""


class OpenAIErrorDocument(_Envelope):
    """A refusal in OpenAI's envelope."""

    error: OpenAIErrorBody


class GoogleErrorBody(_Envelope):
    """A google.rpc.Status, as Google's APIs write it."""

    code: int
    """Of HTTP."""
    message: str
    status: str
    """The name of the google.rpc.Code."""
    details: list[dict[str, Any]] = []
    """Each with its `@type`; of a comment that cannot be scored its `errorType`."""


class GoogleErrorDocument(_Envelope):
    """A refusal in the envelope of Google's APIs."""

    error: GoogleErrorBody


@dataclass(frozen=True)
class Dialect:
    """How the clients of some routes are answered where they are refused."""

    media_type: str
    """Of a refusal."""
    envelope: Mapping[str, Any]
    """JSON Schema of a refusal."""
    code_at: tuple[str, ...]
    """Where in the envelope its code stands."""
    refusal: Callable[[Problem], Refusal]
    """A problem, as these clients get it."""
    security: tuple[str, ...] = (BEARER,)
    """The ways to send a key, any of them; names of `SECURITY_SCHEMES`."""

    def code(self, refusal: Refusal) -> str:
        """The code of a refusal."""
        found: Any = refusal.document()
        for name in self.code_at:
            found = found[name]
        return str(found)

    def narrowed(self, codes: set[str]) -> dict[str, Any]:
        """JSON Schema of a refusal whose code is one of these."""
        rule: dict[str, Any] = {"enum": sorted(codes)}
        for name in reversed(self.code_at):
            rule = {"properties": {name: rule}}
        return {"allOf": [dict(self.envelope), rule]}


def _itself(problem: Problem) -> Problem:
    return problem


NATIVE = Dialect(PROBLEM_MEDIA_TYPE, schema_of(ProblemDocument), ("code",), _itself)
OPENAI = Dialect("application/json", schema_of(OpenAIErrorDocument), ("error", "code"), openai.error_of)
PERSPECTIVE = Dialect(
    "application/json",
    schema_of(GoogleErrorDocument),
    ("error", "status"),
    perspective_error.error_of,
    (BEARER, HEADER_KEY, QUERY_KEY),
)
