"""Reading an item from what a caller sends: what it may be, and the error that says why it is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from moderation.decision import Context, Decision
from moderation.item import Item, read_item


def read(raw: Any) -> Item | Decision:
    return read_item(raw, default_id="7", regions=("GB",))


def test_a_mapping_may_bring_its_context() -> None:
    given = {"min_age": 18, "certificates": ["gambling:GB"], "scheduled_at": "2026-11-21T10:00:00+00:00"}
    item = read({"text": "bet", "context": given})
    assert isinstance(item, Item)
    at = datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert item.context == Context(min_age=18, certificates=frozenset({"gambling:GB"}), scheduled_at=at)
    assert read({"text": "bet", "context": item.context}) == Item("7", {"text": "bet"}, ("GB",), None, item.context)


def test_fields_stand_in_the_mapping_or_under_fields() -> None:
    assert read({"title": "a", "body": None, "price": 3}) == Item("7", {"title": "a"}, ("GB",))
    own = read({"id": 1, "fields": {"text": "a"}, "regions": ["DE"], "language": "de"})
    assert own == Item("1", {"text": "a"}, ("DE",), "de")


def test_an_item_without_regions_gets_those_of_the_call() -> None:
    assert read(Item("a", {"text": "x"})) == Item("a", {"text": "x"}, ("GB",))
    assert read(Item("a", {"text": "x"}, ("DE",))) == Item("a", {"text": "x"}, ("DE",))


@pytest.mark.parametrize(
    ("raw", "code", "message"),
    [
        ("bet", "invalid_item", "found str, expected a mapping"),
        ({"fields": "bet"}, "invalid_item", "fields: expected a mapping of names to texts"),
        ({"fields": {"text": 3}}, "invalid_item", "field 'text': expected text, or a list of regions"),
        ({"text": "bet", "regions": "GB"}, "invalid_item", "regions: expected text, or a list of regions"),
        ({"text": "bet", "context": []}, "invalid_item", "context: found list, expected a mapping"),
        ({"text": "bet", "context": {"age": 3}}, "invalid_item", "context: unknown key 'age', allowed: advertiser_id"),
        ({"text": "bet", "context": {"min_age": 200}}, "invalid_item", "context: min_age: found 200"),
        ({"text": "bet", "context": {"certificates": "gambling:GB"}}, "invalid_item", "expected a list"),
        ({"text": " "}, "empty_text", "the item has no text in any field"),
        ({"text": "bet", "regions": ["UK"]}, "unknown_region", "'UK'"),
    ],
)
def test_what_is_no_item_says_why(raw: Any, code: str, message: str) -> None:
    refused = read(raw)
    assert isinstance(refused, Decision)
    assert refused.error is not None
    assert (refused.id, refused.status, refused.error.code) == ("7", "error", code)
    assert message in refused.error.message


def test_an_item_for_no_region_is_refused() -> None:
    refused = read_item({"text": "bet"}, default_id="7", regions=())
    assert isinstance(refused, Decision)
    assert refused.error is not None
    assert refused.error.code == "no_region"
