"""An operation: everything that the document says of one route and the route itself does not need to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from moderation.auth import Scope
from moderation.openapi.dialect import NATIVE, Dialect, Refusal
from moderation.openapi.headers import IDEMPOTENCY_KEY, REQUEST_ID, headers_of
from moderation.openapi.json_schema import without_references
from moderation.openapi.refusals import OF_A_BODY, OF_A_KEY, OF_A_POST, OF_EVERY_ROUTE, refusals
from moderation.request import DOCUMENT_TYPES, JSON_TYPE


@dataclass(frozen=True)
class Content:
    """JSON, or a text, of one shape."""

    schema: Mapping[str, Any]
    """JSON Schema, with nothing referred to elsewhere. What has a title is shared under it."""
    examples: Mapping[str, Any]
    """Name -> a value that the schema takes."""

    def media_type(self) -> dict[str, Any]:
        """The content, as OpenAPI has it."""
        return {"schema": self.schema, "examples": {name: {"value": value} for name, value in self.examples.items()}}


@dataclass(frozen=True)
class Operation:
    """One route, as the document tells it; the route's docstring is its description.

    Give it to the route as `@router.get("/x", **SHOW.get())`, and to `DocumentedApp` in its list.
    """

    id: str
    """For generated clients, in camel case; none twice."""
    summary: str
    """A few words."""
    answer: Content
    """The body of a good answer."""
    answered: str
    """What the answer is, in a sentence."""
    status: int = 200
    """Of a good answer."""
    scope: Scope | None = Scope.MODERATE
    """What the key must allow; None: no key is asked for."""
    body: Mapping[str, Content] = field(default_factory=dict)
    """Media type -> what may be sent; empty: nothing is read."""
    limited: bool = True
    """Whether it counts against the caller's rate."""
    any_media_type: bool = False
    """Whether the body is read as `body` whatever the request declares it to be."""
    refused: tuple[str, ...] = ()
    """Codes of the problems that the route itself raises; those of the layers and of the key are added."""
    refused_by_dialect: Mapping[str, Refusal] = field(default_factory=dict)
    """Name -> an example of a refusal that is no problem."""
    parameters: tuple[Mapping[str, Any], ...] = ()
    """Of the query, as OpenAPI has them. Those of the path FastAPI tells."""
    dialect: Dialect = NATIVE

    def get(self) -> dict[str, Any]:
        """What the decorator of a GET takes."""
        return self._route(post=False)

    def delete(self) -> dict[str, Any]:
        """What the decorator of a DELETE takes."""
        return self._route(post=False)

    def post(self) -> dict[str, Any]:
        """What the decorator of a POST takes; with a key that identifies the caller, it may be sent again."""
        return self._route(post=True)

    def responses(self, *, post: bool) -> dict[int, Any]:
        """Every answer by status; `post`: of a POST."""
        codes = (
            *(OF_A_KEY if self.scope is not None else ()),
            *(OF_A_BODY if self.body and not self.any_media_type else ()),
            *self.refused,
            *(OF_A_POST if post else ()),
            *(OF_EVERY_ROUTE if self.limited else ("internal_error",)),
        )
        good = {
            "description": self.answered,
            "headers": headers_of(self.status, post=post),
            "content": {JSON_TYPE: self.answer.media_type()},
        }
        told = refusals(self.dialect, dict.fromkeys(codes), self.refused_by_dialect, post=post)
        return {self.status: good, **told}

    @cached_property
    def request_body(self) -> dict[str, Any]:
        """The body, as OpenAPI has it; empty where none is read."""
        if not self.body:
            return {}
        return {"required": True, "content": {name: each.media_type() for name, each in self.body.items()}}

    def _route(self, *, post: bool) -> dict[str, Any]:
        roles = [] if self.scope is None else [str(self.scope)]
        extra: dict[str, Any] = {
            "parameters": [REQUEST_ID, *([IDEMPOTENCY_KEY] if post else []), *self.parameters],
            "security": [{name: roles} for name in self.dialect.security] if self.scope is not None else [],
        }
        if self.body:
            extra["requestBody"] = self.request_body
        return {
            "operation_id": self.id,
            "summary": self.summary,
            "responses": self.responses(post=post),
            "openapi_extra": extra,
        }


def json_body(schema: Mapping[str, Any], examples: Mapping[str, Any]) -> dict[str, Content]:
    """The body of a route that takes JSON alone."""
    return {JSON_TYPE: Content(schema, examples)}


def document_body(schema: Mapping[str, Any], *, text: str, values: Mapping[str, Any]) -> dict[str, Content]:
    """The body of a route that takes a document as YAML or as JSON.

    Args:
        schema: of its values.
        text: an example as YAML.
        values: the same as JSON.
    """
    whole = without_references(schema)
    yaml = Content(
        {"type": "string", "contentMediaType": "application/yaml", "contentSchema": whole}, {"as YAML": text}
    )
    return {name: Content(whole, {"as JSON": values}) if name == JSON_TYPE else yaml for name in DOCUMENT_TYPES}
