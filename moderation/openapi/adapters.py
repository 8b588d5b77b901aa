"""The document of the routes of adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from moderation.auth import Scope
from moderation.openapi.json_schema import schema_of
from moderation.openapi.operation import Content, Operation
from moderation.openapi.version_answers import Answer


class BundleResponse(Answer):
    """The model bundle that serves."""

    ref: str
    """Its name and version."""
    digest: str
    """sha256 over the hashes of its files."""
    encoder: str
    """sha256 of the base weights that every adapter must have been trained over."""


class AdapterResponse(Answer):
    """One adapter that decides."""

    slot: int = Field(ge=1)
    """Its number in the graph; 0 is the plain encoder."""
    name: str
    """`region:<ISO 3166>`, or `task:<name>`."""
    version: str
    """The first 12 hex digits of the sha256 of its weights."""
    parent: str | None
    """The slot it was trained from; null: the plain encoder."""
    source: Literal["bundle", "added"]
    """Whether it came with the bundle or was added, maybe in place of the bundle's own."""


class RefusedAdapter(Answer):
    """Something in the folders that does not serve."""

    name: str
    """Of the adapter; `bundle` where it is the bundle, `adapters.json` where the list of what was added is unusable."""
    reason: str


class AdapterListing(Answer):
    """What decides."""

    bundle: BundleResponse
    adapters: list[AdapterResponse]
    """By slot."""
    refused: list[RefusedAdapter]


class AdapterChange(Answer):
    """A version that differs from the one before."""

    name: str
    """Of the adapter, or `bundle`."""
    before: str | None
    """Null: it was not there."""
    after: str | None
    """Null: it is there no more."""


class AdapterReload(AdapterListing):
    """What decides after a look at the folders."""

    changes: list[AdapterChange]
    """What this look has changed, in the worker that answers."""


_LISTED: Mapping[str, Any] = {
    "bundle": {"ref": "default@3", "digest": "5e" * 32, "encoder": "0c" * 32},
    "adapters": [
        {"slot": 1, "name": "task:moderation", "version": "77aa01c9e3b2", "parent": None, "source": "bundle"},
        {"slot": 2, "name": "region:ID", "version": "1a2b3c4d5e6f", "parent": "task:moderation", "source": "added"},
    ],
    "refused": [],
}
_REASON = "adapter 'region:IN': it was trained over base weights 93c5ab01d2ef, this bundle has 0c0c0c0c0c0c"
_REFUSED: Mapping[str, Any] = {**_LISTED, "refused": [{"name": "region:IN", "reason": _REASON}]}
_CHANGES = [{"name": "region:ID", "before": None, "after": "1a2b3c4d5e6f"}]

LIST = Operation(
    id="listAdapters",
    summary="List the adapters",
    answer=Content(schema_of(AdapterListing), {"listing": _LISTED, "one is refused": _REFUSED}),
    answered="The adapters by slot, where each comes from, and what is refused and why.",
)
RELOAD = Operation(
    id="reloadAdapters",
    summary="Look for new adapters now",
    scope=Scope.ADMIN,
    answer=Content(
        schema_of(AdapterReload),
        {"one was added": {**_LISTED, "changes": _CHANGES}, "one is refused": {**_REFUSED, "changes": []}},
    ),
    answered="The adapters that decide now, and what has changed.",
)
OPERATIONS = (LIST, RELOAD)
