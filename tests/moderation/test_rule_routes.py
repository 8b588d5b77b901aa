"""The routes of rules over HTTP: who may do what, and that what is published is searched for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key
from moderation.rule_set import rules_schema

URL = "/v1/rules"
READER, ADMIN = create_key("reader", ["moderate"]), create_key("ann", ["admin"])


def document(version: int = 1) -> str:
    return (
        f"{{id: shop, version: {version}, rules: [{{name: sure-win, head: gambling, kind: terms, terms: [sure win], "
        "effect: escalate, mode: active}]}"
    )


@pytest.fixture(autouse=True)
def keys(made_up_api: ModerationApi) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up_api, "keys", KeyRing((READER.record, ADMIN.record)))
        yield


def send(client: TestClient, path: str, content: str = "", *, secret: str = ADMIN.secret) -> Any:
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/yaml"}
    return client.post(f"{URL}{path}", content=content, headers=headers)


def get(client: TestClient, path: str, *, secret: str = READER.secret) -> Any:
    return client.get(f"{URL}{path}", headers={"authorization": f"Bearer {secret}"})


def test_a_set_is_added_put_in_force_taken_back_and_withdrawn(
    made_up_client: TestClient, made_up_api: ModerationApi
) -> None:
    assert made_up_api.rules is not None
    for version in (1, 2):
        assert send(made_up_client, "", document(version)).status_code == 201
    assert made_up_api.rules.in_force() == ()
    for version in (1, 2):
        assert send(made_up_client, f"/shop@{version}:publish").json()["served"] is True
        assert [rules.ref for rules in made_up_api.rules.in_force()] == [f"shop@{version}"]
    assert send(made_up_client, "/shop:rollback").json()["ref"] == "shop@1"
    assert [row["ref"] for row in get(made_up_client, "").json()["rules"] if row["served"]] == ["shop@1"]
    withdrawn = send(made_up_client, "/shop:withdraw").json()
    assert [each["by"] for each in withdrawn["publications"]] == ["ann"] * 4
    assert made_up_api.rules.in_force() == ()
    assert get(made_up_client, "/shop@1").json()["rules"][0]["terms"] == ["sure win"]


def test_looking_needs_less_than_changing(made_up_client: TestClient) -> None:
    assert get(made_up_client, "/schema").json() == rules_schema()
    assert send(made_up_client, ":validate", document(7), secret=READER.secret).json()["ref"] == "shop@7"
    for path in ("", "/shop@1:publish", "/shop:rollback", "/shop:withdraw"):
        assert send(made_up_client, path, document(), secret=READER.secret).status_code == 403
    assert get(made_up_client, "/shop@1:hits").status_code == 403
    assert get(made_up_client, "/shop@1:hits", secret=ADMIN.secret).json() == {
        "ref": "shop@1", "decisions": 0, "hits": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "content", "status", "code"),
    [
        ("", document().replace("gambling", "A B"), 422, "invalid_rules"),
        ("", document().replace("sure win", "other"), 409, "rules_conflict"),
        ("/poker:publish", "", 404, "unknown_rules"),
        ("/poker:rollback", "", 409, "rules_conflict"),
    ],
)
def test_refusals_are_problems(made_up_client: TestClient, path: str, content: str, status: int, code: str) -> None:
    send(made_up_client, "", document())
    answer = send(made_up_client, path, content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
