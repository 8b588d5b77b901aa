"""The document of the routes of the bank."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Path

from moderation.auth import Scope
from moderation.bank_api import BankRequest
from moderation.openapi.json_schema import schema_of
from moderation.openapi.operation import Content, Operation, json_body
from moderation.openapi.version_answers import Answer


class BankEntryResponse(Answer):
    """An item in the bank; its text is not kept."""

    id: str
    head: str
    text_sha256: str
    """Of the canonical text."""
    note: str | None
    added_by: str
    created_at: datetime


class BankListing(Answer):
    """What is in the bank, in the order in which it was added."""

    entries: list[BankEntryResponse]


_SENT: Mapping[str, Any] = {
    "fields": {"title": "Free gambling passports", "body": "Real documents in a week"},
    "head": "scam",
    "note": "case 17",
}
_ENTRY: Mapping[str, Any] = {
    "id": "bank_5b0e7c1f2a9d4c3e8f6a1b2c", "head": "scam", "text_sha256": "4f" * 32, "note": "case 17",
    "added_by": "ann", "created_at": "2026-11-21T08:30:00+00:00",
}  # fmt: skip
Entry = Annotated[
    str, Path(description="The id of an entry.", openapi_examples={"an entry": {"value": _ENTRY["id"]}})
]  # fmt: skip
"""Parameter of a path."""

LIST = Operation(
    id="listBank",
    summary="List the bank",
    scope=Scope.REVIEW,
    answer=Content(schema_of(BankListing), {"listing": {"entries": [_ENTRY]}}),
    answered="Its entries.",
)
ADD = Operation(
    id="addToBank",
    summary="Add an item known to be bad",
    scope=Scope.REVIEW,
    status=201,
    body=json_body(schema_of(BankRequest), {"an ad": _SENT}),
    answer=Content(schema_of(BankEntryResponse), {"added": _ENTRY}),
    answered="The entry, or the one that was there already for the same text and head.",
    refused=("invalid_json", "invalid_request"),
)
REMOVE = Operation(
    id="removeFromBank",
    summary="Take an item out of the bank",
    scope=Scope.REVIEW,
    answer=Content(schema_of(BankEntryResponse), {"removed": _ENTRY}),
    answered="The entry that was removed.",
    refused=("unknown_entry", "not_found"),
)
OPERATIONS = (LIST, ADD, REMOVE)
