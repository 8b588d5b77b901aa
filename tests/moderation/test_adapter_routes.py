"""The routes of adapters over HTTP: who may look, who may have the service look, and what both are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.auth import KeyRing, create_key
from moderation.review.store import Store
from moderation.served_model import ServedModel
from moderation.service import build_app
from moderation.serving import Serving
from moderation.settings import Settings

if TYPE_CHECKING:
    from tests.moderation.conftest import Folders

URL = "/v1/adapters"
READER, ADMIN = create_key("reader", ["moderate"]), create_key("ann", ["admin"])


@pytest.fixture
def client(folders: Folders) -> Iterator[TestClient]:
    """A client of a service over folders."""
    store = Store(f"sqlite:///{folders.path / 'wardline.db'}")
    api = ModerationApi.over(ServedModel(folders.models()), store, Settings())
    api.keys = KeyRing((READER.record, ADMIN.record))
    with TestClient(build_app(lambda: api), base_url="http://localhost", client=("127.0.0.1", 1)) as connected:
        yield connected
    api.close()
    store.close()


def ask(client: TestClient, method: str, path: str, secret: str, **headers: str) -> Any:
    return client.request(method, f"{URL}{path}", headers={"authorization": f"Bearer {secret}", **headers})


def moderate(client: TestClient) -> dict[str, str]:
    """The versions of a decision."""
    body = {"items": [{"id": "a", "fields": {"body": "tea"}, "regions": ["ID"]}]}
    answer = client.post("/v1/ads:moderate", json=body, headers={"authorization": f"Bearer {READER.secret}"})
    assert answer.status_code == 200
    versions: dict[str, str] = answer.json()["results"][0]["versions"]
    return versions


def test_adapters_come_and_go_while_the_service_runs(client: TestClient, folders: Folders) -> None:
    assert "region:ID" not in moderate(client)
    version = folders.store.add(folders.adapter("region:ID")).version
    assert moderate(client)["region:ID"].startswith(version)  # without a word to the service
    told = ask(client, "GET", "", READER.secret).json()
    assert [each["name"] for each in told["adapters"]] == ["task:moderation", "region:ID"]
    folders.store.remove("region:ID")
    reloaded = ask(client, "POST", ":reload", ADMIN.secret)
    assert reloaded.status_code == 200
    assert reloaded.json()["changes"] == [{"name": "region:ID", "before": version, "after": None}]
    assert "region:ID" not in moderate(client)


def test_what_is_refused_fails_no_request(client: TestClient, folders: Folders) -> None:
    before = moderate(client)
    folders.store.add(folders.adapter("region:ID", encoder="two"))
    assert moderate(client) == before
    told = ask(client, "POST", ":reload", ADMIN.secret)
    assert (told.status_code, [each["name"] for each in told.json()["refused"]]) == (200, ["region:ID"])
    assert moderate(client) == before


def test_looking_needs_less_than_having_the_service_look(client: TestClient) -> None:
    for method, path, secret, status in (
        ("GET", "", READER.secret, 200),
        ("POST", ":reload", READER.secret, 403),
        ("GET", "", "wl_wrong", 401),
        ("POST", ":reload", "wl_wrong", 401),
        ("PUT", "", ADMIN.secret, 405),
    ):
        answer = ask(client, method, path, secret)
        assert answer.status_code == status
        if status != 200:
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_reload_that_is_sent_again_is_done_once(client: TestClient, folders: Folders) -> None:
    once = {"idempotency-key": "once"}
    first = ask(client, "POST", ":reload", ADMIN.secret, **once)
    folders.store.add(folders.adapter("region:ID"))
    again = ask(client, "POST", ":reload", ADMIN.secret, **once)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == first.json()


ONE_MODEL = {
    "/v1/ads:moderate": {"items": [{"id": "a", "fields": {"body": "tea"}, "regions": ["US", "ID"]}]},
    "/v1/moderations": {"input": ["tea", "coffee"]},
    "/v1alpha1/comments:analyze": {
        "comment": {"text": "tea. coffee."}, "requestedAttributes": {"TOXICITY": {}}, "spanAnnotations": True,
    },
    "/v1alpha1/comments:suggestscore": {
        "comment": {"text": "tea"}, "attributeScores": {"TOXICITY": {"summaryScore": {"value": 0.9}}},
    },
}  # fmt: skip


@pytest.mark.parametrize("path", ONE_MODEL)
def test_a_request_asks_once_which_model_decides(
    path: str, made_up_api: ModerationApi, made_up_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a model that is exchanged meanwhile has no part in its answer."""
    asked: list[Serving] = []
    current = made_up_api.current
    monkeypatch.setattr(made_up_api, "current", lambda: asked.append(current()) or asked[-1])
    assert made_up_client.post(path, json=ONE_MODEL[path]).status_code == 200
    assert len(asked) == 1
