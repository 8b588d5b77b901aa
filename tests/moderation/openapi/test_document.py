"""The document as a whole: complete, valid, and every example in it is true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from moderation.api import ModerationApi
from moderation.auth import KeyRing, Scope, create_key
from moderation.openapi.document import URL, DocumentedApp, document_of
from moderation.openapi.json_schema import schema_of
from moderation.openapi.operation import Content, Operation
from moderation.service import OPERATIONS, build_app


def without_api() -> ModerationApi:
    raise AssertionError("a document needs no API")


DOCUMENT: dict[str, Any] = build_app(without_api).openapi()
ROUTES = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods]


def operation(method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][path][method]
    return found


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def examples(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Media type, schema and value of every example."""
    for media_type, told in content.items():
        assert told["examples"]
        for example in told["examples"].values():
            yield media_type, told["schema"], example["value"]


def test_it_is_openapi() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1")
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_the_service_serves_it(made_up_client: TestClient) -> None:
    assert made_up_client.get(URL).json() == DOCUMENT


def test_every_operation_of_the_list_has_its_route_and_every_route_its_operation() -> None:
    assert sorted(operation(*route)["operationId"] for route in ROUTES) == sorted(each.id for each in OPERATIONS)
    assert len({each.id for each in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_says_what_it_is_and_how_it_refuses(method: str, path: str) -> None:
    told = operation(method, path)
    assert told["summary"]
    assert told["description"].endswith(".")
    assert set(told["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    foreign = {"OpenAI", "Perspective"} & set(told["tags"])
    refused = "application/json" if foreign else "application/problem+json"
    assert "500" in told["responses"]
    assert ("429" in told["responses"]) == (told["operationId"] != "getDiscoveryDocument")
    for status, response in told["responses"].items():
        assert response["description"]
        assert "X-Request-Id" in response["headers"]
        assert list(response["content"]) == ["application/json" if status < "300" else refused]
    named = {parameter["name"] for parameter in told["parameters"]}
    assert {name for name in named if f"{{{name}}}" not in path} >= {"X-Request-Id"}
    assert ("Idempotency-Key" in named) == (method == "post")
    typed = "requestBody" in told and told["operationId"] != "analyzeComment"
    assert typed == ("415" in told["responses"])


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_example_of_an_answer_is_of_the_shape_that_is_told(method: str, path: str) -> None:
    for status, response in operation(method, path)["responses"].items():
        for media_type, schema, value in examples(response["content"]):
            validator(schema).validate(value)
            if media_type == "application/problem+json":
                assert value["status"] == int(status)


SENT = [(method, path) for method, path in ROUTES if "requestBody" in operation(method, path)]


@pytest.mark.parametrize(("method", "path"), SENT)
def test_every_example_of_a_request_is_accepted(method: str, path: str, made_up_client: TestClient) -> None:
    told = operation(method, path)
    good = next(int(status) for status in told["responses"] if status < "300")
    for media_type, schema, value in examples(told["requestBody"]["content"]):
        validator(schema).validate(value)
        content = value if isinstance(value, str) else json.dumps(value)
        answer = made_up_client.request(method, path, content=content, headers={"content-type": media_type})
        assert answer.status_code == good, answer.text
        validator(told["responses"][str(good)]["content"]["application/json"]["schema"]).validate(answer.json())
        assert not [result for result in answer.json().get("results", ()) if result.get("status") == "error"]


def test_examples_keep_their_nulls() -> None:
    """FastAPI leaves them out, and an envelope without one of its keys is another."""
    refused = operation("post", "/v1/moderations")["responses"]["400"]["content"]["application/json"]["examples"]
    assert refused["invalid_json"]["value"]["error"]["param"] is None


def test_fastapi_checks_nothing_so_its_own_refusal_cannot_occur() -> None:
    """Parameters of a path are texts; bodies are read by the routes."""
    assert "HTTPValidationError" not in json.dumps(DOCUMENT)
    for route in ROUTES:
        for parameter in operation(*route)["parameters"]:
            if parameter["in"] == "path":
                assert set(parameter["schema"]) <= {"type", "title", "description"}
                assert parameter["schema"]["type"] == "string"


@pytest.mark.parametrize("scope", Scope)
def test_a_key_of_the_scope_that_is_told_opens_a_route_and_no_lesser_one(
    scope: Scope, made_up_api: ModerationApi
) -> None:
    """`admin` opens all; the discovery document needs none."""
    key = create_key("one", [scope])
    app: FastAPI = build_app(lambda: made_up_api)
    with pytest.MonkeyPatch.context() as patch, TestClient(app) as client:
        patch.setattr(made_up_api, "keys", KeyRing((key.record,)))
        for method, path in ROUTES:
            needed = {role for way in operation(method, path)["security"] for roles in way.values() for role in roles}
            answer = client.request(method, path, headers={"authorization": f"Bearer {key.secret}"})
            opens = scope is Scope.ADMIN or needed <= {scope}
            assert (answer.status_code != 403) == opens, (method, path)
            assert (client.request(method, path).status_code == 401) == bool(needed)


class Shape(BaseModel):
    """A model."""

    a: int


def told(name: str, schema: dict[str, Any]) -> Operation:
    return Operation(id=name, summary="x", answer=Content(schema, {"one": {"a": 1}}), answered="x.")


def document(*operations: Operation) -> dict[str, Any]:
    app = DocumentedApp(operations)
    for each in operations:
        app.get(f"/{each.id}", **each.get())(lambda: None)
    return app.openapi()


def test_models_of_one_name_are_shared_and_must_be_the_same() -> None:
    shape = schema_of(Shape)
    shared = document(told("one", shape), told("two", {"type": "array", "items": shape}))
    assert shared["components"]["schemas"]["Shape"] == shape
    schemas = [
        shared["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        for path in ("/one", "/two")
    ]
    reference = {"$ref": "#/components/schemas/Shape"}
    assert schemas == [reference, {"type": "array", "items": reference}]
    with pytest.raises(ValueError, match="Shape is the name of two things that differ"):
        document(told("one", shape), told("two", {**shape, "description": "Another."}))


def test_a_route_without_an_operation_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="get /two has no operation in the list"):
        document_of({"paths": {"/two": {"get": {"operationId": "two"}}}}, {})


def test_the_document_is_made_once() -> None:
    app = build_app(without_api)
    assert app.openapi() is app.openapi()
    assert app.openapi() == DOCUMENT
