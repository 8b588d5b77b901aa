"""JSON Schemas that refer to nothing outside themselves."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator, ValidationError
from pydantic import BaseModel

from moderation.openapi.json_schema import schema_of, without_references
from moderation.policy_document import policy_schema


class Inner(BaseModel):
    title: str


class Outer(BaseModel):
    """Two of them."""

    one: Inner
    more: list[Inner] = []


def test_a_models_schema_is_whole_and_only_models_have_titles() -> None:
    inner = {"title": "Inner", "type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    assert schema_of(Outer) == {
        "title": "Outer",
        "description": "Two of them.",
        "type": "object",
        "properties": {"one": inner, "more": {"type": "array", "items": inner, "default": []}},
        "required": ["one"],
    }


def test_what_stands_beside_a_reference_stays_beside_it() -> None:
    schema = {"a": {"$ref": "#/$defs/X", "description": "An X."}, "$defs": {"X": {"type": "string"}}}
    assert without_references(schema) == {"a": {"allOf": [{"type": "string"}], "description": "An X."}}


def test_a_schema_written_out_takes_what_it_took() -> None:
    """Every definition of the policy's schema, some of which hold others."""
    schema = policy_schema()
    whole = without_references(schema)
    assert "$ref" not in json.dumps(whole)
    rule = {"effect": "LIMITED", "severity": 2, "constraints": [{"kind": "age", "value": 18}]}
    good = {
        "id": "shop",
        "version": 1,
        "heads": [{"name": "drugs", "kind": "topic", "definition": "x", "default": rule}],
        "regions": {"DE": {"drugs": rule}},
    }
    bad = json.loads(json.dumps(good).replace('"value": 18', '"value": 180'))
    for each in (schema, whole):
        Draft202012Validator(each).validate(good)
        with pytest.raises(ValidationError, match="180 is greater than the maximum of 120"):
            Draft202012Validator(each).validate(bad)
