"""`POST /v1/moderations` over HTTP: decided and logged as an ad is, refused in OpenAI's envelope."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
from fastapi.testclient import TestClient

from moderation.api import ModerationApi
from moderation.problem import Problem
from moderation.review.store import Store

URL = "/v1/moderations"


def test_one_result_per_text_each_logged_under_its_id(client: TestClient, api: ModerationApi, log: Store) -> None:
    before = len(list(log.decision_rows()))
    answer = client.post(URL, json={"input": ["vodka", "tea"], "region": "DE"}, headers={"x-request-id": "r7"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (200, "r7")
    document = answer.json()
    rows = list(log.decision_rows())[before:]
    assert [row.item_id for row in rows] == [f"{document['id']}-0", f"{document['id']}-1"]
    assert [str(row.action) for row in rows] == [result["decision"]["action"] for result in document["results"]]
    assert {row.region for row in rows} == {"DE"}
    assert document["model"] == api.current().name == "tiny@1"
    for row, result in zip(rows, document["results"], strict=True):
        assert result["category_scores"]["hate"] == pytest.approx(row.probabilities["hate"])


def test_half_a_surrogate_pair_is_judged_and_answered(client: TestClient) -> None:
    answer = client.post(URL, content=rb'{"input": "tea \ud83d"}', headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["results"][0]["decision"]["degraded"] is False


def test_without_a_region_that_of_the_settings_decides(client: TestClient, api: ModerationApi) -> None:
    [result] = client.post(URL, json={"input": "vodka"}).json()["results"]
    assert result["decision"]["region"] == api.region == "US"


def test_an_empty_text_gets_its_place_among_the_results(client: TestClient) -> None:
    results = client.post(URL, json={"input": ["", "tea", " \n"]}).json()["results"]
    assert [result["decision"] is None for result in results] == [True, False, True]


@pytest.mark.parametrize(
    ("document", "status", "code", "param"),
    [
        ({"input": "x", "region": "XX"}, 400, "invalid_value", "region"),
        ({"input": "x", "policy_set": "none@1"}, 422, "unknown_policy_set", None),
        ({}, 400, "missing_required_parameter", "input"),
    ],
)
def test_refusals_come_in_openais_envelope(
    client: TestClient, document: dict[str, str], status: int, code: str, param: str | None
) -> None:
    answer = client.post(URL, json=document)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


def test_so_do_those_of_the_service_itself(client: TestClient, stranger: TestClient, api: ModerationApi) -> None:
    assert client.post(URL, content=b"x" * 2_000_000, headers={"content-type": "application/json"}).status_code == 413
    assert stranger.post(URL, json={"input": "x"}).json()["error"]["code"] == "invalid_api_key"
    assert client.get(URL).json()["error"]["code"] == "method_not_allowed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "decide", _raising(Problem("overloaded", "x", {"Retry-After": "1"})))
        busy = client.post(URL, json={"input": "x"})
        patch.setattr(api, "decide", _raising(ZeroDivisionError()))
        crashed = client.post(URL, json={"input": "x"}, headers={"x-request-id": "r8"})
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
    assert busy.json()["error"]["type"] == "server_error"
    assert (crashed.status_code, crashed.json()["error"]["code"]) == (500, "internal_error")
    assert crashed.headers["x-request-id"] == "r8"


def _raising(error: Exception) -> Callable[..., NoReturn]:
    def call(*_: object, **__: object) -> NoReturn:
        raise error

    return call
