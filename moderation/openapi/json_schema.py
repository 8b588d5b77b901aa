"""JSON Schemas as an OpenAPI document can hold them: whole, with nothing referred to elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema


class _Untitled(GenerateJsonSchema):
    """Gives no field a title, so that what has one is a model."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 - pydantic's interface
        return False


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a model's JSON; every object that is a model has its name as title."""
    return without_references(model.model_json_schema(schema_generator=_Untitled))


def without_references(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with its own definitions written out where it refers to them; none may hold itself.

    >>> without_references({"items": {"$ref": "#/$defs/Age"}, "$defs": {"Age": {"minimum": 0}}})
    {'items': {'minimum': 0}}
    """
    parts: Mapping[str, Any] = schema.get("$defs", {})

    def written_out(node: object) -> object:
        if isinstance(node, list):
            return [written_out(each) for each in node]
        if not isinstance(node, dict):
            return node
        beside = {key: written_out(value) for key, value in node.items() if key != "$ref"}
        if not isinstance(node.get("$ref"), str):
            return beside
        part = written_out(parts[node["$ref"].rpartition("/")[2]])
        # Beside, not in it: what stands in two places under one title is the same in both.
        return {"allOf": [part], **beside} if beside else part

    return {key: written_out(value) for key, value in schema.items() if key not in {"$defs", "$schema"}}
