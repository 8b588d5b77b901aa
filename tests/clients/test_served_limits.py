"""What stands before the routes, as clients of a service with two workers see it: rates, repeated requests, origins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from googleapiclient import discovery
from googleapiclient.errors import HttpError
from openai import OpenAI

if TYPE_CHECKING:
    from tests.clients.conftest import Served

COMMENT = {"comment": {"text": "tea"}, "languages": ["en"], "requestedAttributes": {"TOXICITY": {}}}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ads": ("/v1/ads:moderate", {"items": [{"id": "1", "fields": {"body": "tea"}, "regions": ["US"]}]}),
    "OpenAI": ("/v1/moderations", {"input": "tea"}),
    "Perspective": ("/v1alpha1/comments:analyze", COMMENT),
}


@pytest.mark.parametrize(("path", "body"), REQUESTS.values(), ids=REQUESTS)
def test_an_answer_tells_its_caller_what_remains(served: Served, path: str, body: dict[str, Any]) -> None:
    """In every dialect; the numbers are whole, and a request is used up by each answer."""
    with served.client("http") as client:
        told = [client.post(path, json=body) for _ in range(2)]
    assert [answer.status_code for answer in told] == [200, 200]
    assert [answer.headers["ratelimit-limit"] for answer in told] == [str(served.limit)] * 2
    assert all(0 <= int(answer.headers["ratelimit-remaining"]) < served.limit for answer in told)
    assert all(0 < int(answer.headers["ratelimit-reset"]) <= served.window_s for answer in told)


@pytest.mark.parametrize(("path", "body"), REQUESTS.values(), ids=REQUESTS)
def test_a_repeated_request_is_known_to_both_workers(served: Served, path: str, body: dict[str, Any]) -> None:
    """What one worker did, the other answers again, and does not do under the same key with another body."""
    again = {"Idempotency-Key": f'"{path}"'}
    with served.client_of_each_worker("http") as (one, other):
        first, second = (client.post(path, json=body, headers=again) for client in (one, other))
        changed = other.post(path, json={**body, "more": 1}, headers=again)
    assert (first.status_code, second.status_code, changed.status_code) == (200, 200, 422)
    assert second.content == first.content
    assert "the key was sent before" in changed.text
    assert [answer.headers.get("idempotency-replayed") for answer in (first, second)] == [None, "true"]


def test_no_page_may_call_unless_its_origin_is_named(served: Served) -> None:
    """Neither an answer nor a browser's question beforehand opens the service to another origin."""
    page = {"Origin": "https://page.example"}
    asks = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with served.client("http") as client:
        answers = [client.get("/v1/limits", headers=page)]
        answers += [client.options(path, headers=asks) for path, _ in REQUESTS.values()]
    assert [answer.status_code for answer in answers] == [200, 405, 405, 405]
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)


# ---- beyond the limit


@dataclass(frozen=True)
class Spent:
    """What passed until a user had nothing left."""

    passed: int
    seconds: float


@pytest.fixture(scope="module")
def spent(served: Served) -> Spent:
    """The user `spent` after twice its limit, half of the requests to each worker."""
    begun = time.monotonic()
    with served.client_of_each_worker("spent") as clients:
        statuses = [client.get("/v1/limits").status_code for _ in range(served.limit) for client in clients]
    assert set(statuses) <= {200, 429}
    return Spent(statuses.count(200), time.monotonic() - begun)


def test_the_limit_is_that_of_both_workers_together(served: Served, spent: Spent) -> None:
    """At most n + T n / w, and a tenth of n that was out in shares; workers that counted alone would pass twice n."""
    came = served.limit * spent.seconds / served.window_s
    assert served.limit / 2 < spent.passed <= served.limit * 1.1 + came


# A token that came meanwhile may be used up before the refusal.


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(
    ("dialect", "told"),
    [
        ("ads", {"code": "rate_limited", "status": 429}),
        ("OpenAI", {"code": "rate_limited", "type": "invalid_request_error", "param": None}),
        ("Perspective", {"code": 429, "status": "RESOURCE_EXHAUSTED"}),
    ],
)
def test_a_refusal_comes_in_the_callers_dialect(served: Served, dialect: str, told: dict[str, object]) -> None:
    """429, when to come again, and the envelope that clients of this path read."""
    path, body = REQUESTS[dialect]
    with served.client("spent") as client:
        answers = (client.post(path, json=body) for _ in range(served.limit))
        answer = next(answer for answer in answers if answer.status_code != 200)
    document = answer.json()
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit-remaining"] == "0"
    assert told.items() <= document.get("error", document).items()


@pytest.mark.usefixtures("spent")
def test_openais_client_raises_its_rate_limit_error(served: Served) -> None:
    """The error on which its users wait and try again."""
    options: dict[str, Any] = {"base_url": f"{served.url}/v1", "api_key": served.keys["spent"], "max_retries": 0}
    with OpenAI(**options) as client, pytest.raises(openai.RateLimitError) as refused:
        for _ in range(served.limit):
            client.moderations.create(input="tea")
    assert int(refused.value.response.headers["retry-after"]) >= 1


@pytest.mark.usefixtures("spent")
def test_googles_client_raises_the_status_on_which_scripts_wait(served: Served) -> None:
    """They compare `resp.status` with 429."""
    document = httpx.get(f"{served.url}/$discovery/rest?version=v1alpha1").json()
    built = discovery.build_from_document(document, developerKey=served.keys["spent"])
    with built as service, pytest.raises(HttpError) as refused:
        for _ in range(served.limit):
            service.comments().analyze(body=COMMENT).execute()
    assert (refused.value.resp.status, int(refused.value.resp["retry-after"]) >= 1) == (429, True)
