"""The routes of the bank over HTTP: reviewers fill it, and every worker asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key

URL = "/v1/bank"
SENDER, REVIEWER = create_key("shop", ["moderate"]), create_key("eve", ["review"])
BEARER = {"authorization": f"Bearer {REVIEWER.secret}"}
AD = {"fields": {"title": "Free passports", "body": "Real documents in a week"}, "head": "scam"}


@pytest.fixture(autouse=True)
def keys(made_up_api: ModerationApi) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up_api, "keys", KeyRing((SENDER.record, REVIEWER.record)))
        yield


def test_an_item_comes_in_and_goes_out(made_up_client: TestClient, made_up_api: ModerationApi) -> None:
    assert made_up_api.bank is not None
    added = made_up_client.post(URL, json=AD, headers=BEARER)
    assert (added.status_code, added.json()["added_by"]) == (201, "eve")
    assert made_up_client.get(URL, headers=BEARER).json() == {"entries": [added.json()]}
    [match] = made_up_api.bank.bank.nearest("free passports\nreal documents in a week")
    assert match.entry == added.json()["id"]
    gone = made_up_client.delete(f"{URL}/{match.entry}", headers=BEARER)
    assert (gone.status_code, gone.json()) == (200, added.json())
    missing = made_up_client.delete(f"{URL}/{match.entry}", headers=BEARER)
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_entry")


def test_who_only_moderates_does_not_fill_it(made_up_client: TestClient) -> None:
    sender = {"authorization": f"Bearer {SENDER.secret}"}
    for answer in (made_up_client.get(URL, headers=sender), made_up_client.post(URL, json=AD, headers=sender)):
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")


def test_what_is_no_item_is_refused(made_up_client: TestClient) -> None:
    answer = made_up_client.post(URL, json={**AD, "head": "poker"}, headers=BEARER)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
