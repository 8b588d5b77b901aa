"""What the service answers about the bank of known-bad items, without HTTP: list, add, remove."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import structlog
from pydantic import Field

from moderation.bank import BankEntry, StoredBank
from moderation.problem import Problem
from moderation.request_model import RequestModel, read_request
from moderation.schema import FIELDS, MAX_FIELD_CHARACTERS
from retrieval_shared.text import join_fields

log = structlog.get_logger()

MAX_NOTE_CHARACTERS = 1_000


class BankRequest(RequestModel):
    """An item known to be bad."""

    fields: dict[str, str] = Field(min_length=1)
    """Its fields, as in a request to moderate it."""
    head: str
    """What it is guilty of."""
    note: str | None = Field(default=None, max_length=MAX_NOTE_CHARACTERS)
    """Why, for people."""


class BankApi:
    """The bank of one service."""

    def __init__(self, bank: StoredBank, *, heads: Collection[str]) -> None:
        """Keep the bank and the heads that an entry may be guilty of."""
        self.bank = bank
        self._heads = tuple(heads)

    def listing(self) -> dict[str, Any]:
        """Return what is in the bank, in the order in which it was added; no text, which is not kept."""
        return {"entries": [_entry_json(entry) for entry in self.bank.entries()]}

    def add(self, request: object, *, by: str) -> dict[str, Any]:
        """Add an item, of which a hash and a signature are kept; one that is there already stays as it is.

        Raises:
            Problem: the request does not have this shape, or the item has no text.
        """
        wanted = read_request(BankRequest, request)
        self._check(wanted)
        entry = self.bank.add(join_fields(wanted.fields).text, wanted.head, by=by, note=wanted.note)
        log.info("bank entry added", entry=entry, head=wanted.head, by=by)
        return self._show(entry)

    def remove(self, entry: str, *, by: str) -> dict[str, Any]:
        """Take an entry out and return it; raise `Problem` where it is not in the bank."""
        shown = self._show(entry)
        try:
            self.bank.remove(entry, by=by)
        except LookupError as error:  # another worker was first
            raise Problem("unknown_entry", str(error.args[0])) from error
        log.info("bank entry removed", entry=entry, by=by)
        return shown

    def _check(self, wanted: BankRequest) -> None:
        if wanted.head not in self._heads:
            raise Problem("invalid_request", f"head: found {wanted.head!r}, allowed {', '.join(self._heads)}")
        unknown = sorted(set(wanted.fields) - set(FIELDS))
        if unknown:
            raise Problem("invalid_request", f"fields: found {unknown[0]!r}, allowed {', '.join(FIELDS)}")
        longest = max(wanted.fields.values(), key=len)
        if len(longest) > MAX_FIELD_CHARACTERS:
            raise Problem("invalid_request", f"fields: found {len(longest)} characters, allowed {MAX_FIELD_CHARACTERS}")
        if not any(text.strip() for text in wanted.fields.values()):
            raise Problem("invalid_request", "fields: the item has no text in any field")

    def _show(self, name: str) -> dict[str, Any]:
        for entry in self.bank.entries():
            if entry.id == name:
                return _entry_json(entry)
        raise Problem("unknown_entry", f"entry: found {name!r}, which is not in the bank")


def _entry_json(entry: BankEntry) -> dict[str, Any]:
    return {**asdict(entry), "created_at": entry.created_at.isoformat()}
