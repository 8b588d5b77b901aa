"""The document as a whole: what FastAPI knows of the routes, what their operations say, and what they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI

from moderation.openapi.dialect import SECURITY_SCHEMES
from moderation.openapi.operation import Operation

URL = "/v1/openapi.json"
TITLE = "Wardline moderation"
DESCRIPTION = """\
Which policies an ad or a comment violates, and what each region does about it.

Refusals are RFC 9457 problems with a stable `code`; on the paths of OpenAI's and Perspective's dialects they come in
the envelopes of those. A path that does not exist is refused with 404 `not_found`, a method that a path does not have
with 405 `method_not_allowed`, in the same way. `/livez`, `/readyz` and `/metrics` are not described here.
"""
TAGS = (
    {"name": "Ads", "description": "Decisions about ads, per region."},
    {"name": "Policies", "description": "What the regions do about what is found: versions, tried out, put in force."},
    {
        "name": "Rules",
        "description": "Terms and patterns of one's own: versions, in shadow, in force.",
    },
    {"name": "Bank", "description": "Items known to be bad, found again word for word or nearly so."},
    {"name": "Adapters", "description": "What the encoder knows of regions and tasks, exchanged while requests run."},
    {"name": "OpenAI", "description": "In the shape of OpenAI's moderation endpoint."},
    {"name": "Perspective", "description": "In the shape of Google's Perspective API, v1alpha1."},
)


class DocumentedApp(FastAPI):
    """FastAPI, with a document that says of each route what its operation does."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        """Take the operations of all routes."""
        super().__init__(
            title=TITLE,
            version="1",
            description=DESCRIPTION,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
            openapi_tags=[dict(tag) for tag in TAGS],
            openapi_url=URL,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect would be an answer in no dialect
        )
        self._operations = {operation.id: operation for operation in operations}

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = document_of(super().openapi(), self._operations)
        return self.openapi_schema


def document_of(skeleton: Mapping[str, Any], operations: Mapping[str, Operation]) -> dict[str, Any]:
    """FastAPI's document, with bodies and answers as the operations have them, and equal parts shared.

    FastAPI leaves nulls out of examples, and adds a 422 of its own wherever a path has a parameter.

    Raises:
        ValueError: a route has no operation, or two models of one name differ.
    """
    shared = _Shared()
    paths: dict[str, dict[str, Any]] = {}
    for path, methods in skeleton["paths"].items():
        for method, told in methods.items():
            operation = operations.get(told["operationId"])
            if operation is None:
                raise ValueError(f"{method} {path} has no operation in the list")
            answers = operation.responses(post=method == "post")
            whole = {**told, "responses": {str(status): shared.answer(each) for status, each in answers.items()}}
            if operation.body:
                whole["requestBody"] = shared.with_content(operation.request_body)
            paths.setdefault(path, {})[method] = whole
    components = {
        "securitySchemes": {name: dict(scheme) for name, scheme in SECURITY_SCHEMES.items()},
        "headers": dict(sorted(shared.headers.items())),
        "schemas": dict(sorted(shared.schemas.items())),
    }
    return {**skeleton, "paths": paths, "components": components}


class _Shared:
    """Collects what stands in many places under one name, and leaves a reference where it stood."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}
        self.headers: dict[str, Any] = {}

    def answer(self, response: Mapping[str, Any]) -> dict[str, Any]:
        """A response with its headers and schemas shared."""
        found = {}
        for name, header in response["headers"].items():
            _agree(self.headers, name, header)
            found[name] = {"$ref": f"#/components/headers/{name}"}
        return {**self.with_content(response), "headers": found}

    def with_content(self, holder: Mapping[str, Any]) -> dict[str, Any]:
        """A request body or a response with its schemas shared."""
        content = {
            name: {**media_type, "schema": self._schema(media_type["schema"])}
            for name, media_type in holder["content"].items()
        }
        return {**holder, "content": content}

    def _schema(self, node: Any) -> Any:  # noqa: ANN401 - any part of a JSON Schema
        if isinstance(node, list):
            return [self._schema(each) for each in node]
        if not isinstance(node, Mapping):
            return node
        found = {key: self._schema(value) for key, value in node.items()}
        if not isinstance(node.get("title"), str):
            return found
        name = "".join(f"{word[:1].upper()}{word[1:]}" for word in node["title"].split())
        _agree(self.schemas, name, found)
        return {"$ref": f"#/components/schemas/{name}"}


def _agree(known: dict[str, Any], name: str, value: Any) -> None:  # noqa: ANN401 - a schema or a header
    if known.setdefault(name, value) != value:
        raise ValueError(f"{name} is the name of two things that differ")
