"""What the service says of the bank, without HTTP: items come in and go out, what is no item is refused."""

from __future__ import annotations

from typing import Any

import pytest

from moderation.bank import StoredBank
from moderation.bank_api import BankApi
from moderation.database import Database
from moderation.problem import Problem
from moderation.schema import MAX_FIELD_CHARACTERS
from retrieval_shared.text import join_fields, normalise

AD = {"title": "Free passports", "body": "Real documents, delivered in a week"}


@pytest.fixture
def api() -> BankApi:
    return BankApi(StoredBank(Database("sqlite://")), heads=("gambling", "scam"))


def test_an_item_is_found_as_the_pipeline_reads_it_until_it_is_removed(api: BankApi) -> None:
    added = api.add({"fields": AD, "head": "scam", "note": "seen on Monday"}, by="ann")
    assert (added["head"], added["note"], added["added_by"]) == ("scam", "seen on Monday", "ann")
    canonical = normalise(join_fields(AD).text).canonical
    [match] = api.bank.nearest(canonical)
    assert (match.entry, match.kind) == (added["id"], "exact")
    assert api.add({"fields": AD, "head": "scam"}, by="bob") == added
    assert api.listing() == {"entries": [added]}
    assert api.remove(added["id"], by="bob") == added
    assert (api.listing(), api.bank.nearest(canonical)) == ({"entries": []}, ())


def test_no_text_is_told(api: BankApi) -> None:
    assert set(api.add({"fields": AD, "head": "scam"}, by="ann")) == {
        "id", "head", "text_sha256", "note", "added_by", "created_at",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("request_body", "detail"),
    [
        ({"fields": AD}, "head: Field required"),
        ({"fields": AD, "head": "poker"}, "head: found 'poker', allowed gambling, scam"),
        ({"fields": {}, "head": "scam"}, "fields: Dictionary should have at least 1 item"),
        ({"fields": {"titel": "x"}, "head": "scam"}, "fields: found 'titel', allowed title"),
        ({"fields": {"body": "  "}, "head": "scam"}, "fields: the item has no text in any field"),
        ({"fields": {"body": "x" * (MAX_FIELD_CHARACTERS + 1)}, "head": "scam"}, "characters, allowed"),
        ({"fields": AD, "head": "scam", "why": "x"}, "why: Extra inputs are not permitted"),
        ([], "body: Input should be a valid dictionary"),
    ],
)
def test_what_is_no_item_is_refused_by_name(api: BankApi, request_body: Any, detail: str) -> None:
    with pytest.raises(Problem) as refused:
        api.add(request_body, by="ann")
    assert refused.value.code == "invalid_request"
    assert detail in refused.value.detail
    assert api.listing() == {"entries": []}


def test_an_entry_that_is_not_there_cannot_be_removed(api: BankApi) -> None:
    with pytest.raises(Problem) as refused:
        api.remove("bank_0", by="ann")
    assert (refused.value.code, refused.value.detail) == (
        "unknown_entry",
        "entry: found 'bank_0', which is not in the bank",
    )
