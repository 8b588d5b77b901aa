"""The layers before the routes: in which order they stand, whose request it is, and what is deleted when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from moderation.api import ModerationApi
from moderation.auth import CreatedKey, KeyRing, create_key
from moderation.database import Database
from moderation.guards import Guards, add_layers
from moderation.idempotency_store import KEPT_FOR, PURGED_EVERY, Answer, Attempt, IdempotencyStore
from moderation.idempotency_tables import KeptAnswerRow
from moderation.rate_limit import RateLimit

PAGE = "https://example.org"
TWO = RateLimit(2, 86_400)
NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)


class Clock:
    """A time that passes only when told to."""

    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'w.db'}")
    yield opened
    opened.close()


class Service:
    """An app behind the layers, with one key, that counts what reaches it."""

    def __init__(self, guards: Guards | None, *keys: CreatedKey) -> None:
        self.seen: list[str] = []
        app = FastAPI()
        api = SimpleNamespace(keys=KeyRing(tuple(key.record for key in keys)), guards=guards)
        add_layers(app, lambda: cast("ModerationApi", api))

        @app.post("/{path:path}")
        def done(path: str, request: Request) -> dict[str, Any]:
            self.seen.append(path)
            return {"id": request.state.request_id, "number": len(self.seen)}

        self.client = TestClient(app, base_url="http://localhost", client=("10.0.0.9", 1))

    def send(self, key: CreatedKey | str | None = None, *, url: str = "/v1/x", **headers: str) -> Any:
        secret = key.secret if isinstance(key, CreatedKey) else key
        own = {} if secret is None else {"authorization": f"Bearer {secret}"}
        return self.client.post(url, headers=own | {name.replace("_", "-"): text for name, text in headers.items()})


@pytest.fixture
def shop() -> CreatedKey:
    return create_key("shop", ["moderate"])


@pytest.fixture
def service(database: Database, shop: CreatedKey, monkeypatch: pytest.MonkeyPatch) -> Service:
    """Two requests a day, for one key; called from one web page, too."""
    monkeypatch.setenv("WARDLINE_CORS_ORIGINS", PAGE)
    return Service(Guards.over(database, TWO), shop)


def test_a_page_is_let_in_or_not_before_anything_is_counted(service: Service, shop: CreatedKey) -> None:
    """CORS stands outermost: its own answers have no id and use up nothing, and refusals can be read by the page."""
    for _ in range(5):
        asked = {"origin": PAGE, "access-control-request-method": "POST", "authorization": f"Bearer {shop.secret}"}
        preflight = service.client.options("/v1/x", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, PAGE)
        assert not {"x-request-id", "ratelimit-remaining"} & set(preflight.headers)
    answers = [service.send(shop, origin=PAGE) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {PAGE}


def test_the_id_is_given_before_the_rate_is_counted(service: Service, shop: CreatedKey) -> None:
    """So the refusal of a rate has the request's id, as the app's answer has."""
    answers = [service.send(shop, x_request_id=f"r-{k}") for k in range(3)]
    assert [(answer.status_code, answer.headers["x-request-id"]) for answer in answers] == [
        (200, "r-0"), (200, "r-1"), (429, "r-2"),
    ]  # fmt: skip
    assert [answer.json().get("id") for answer in answers] == ["r-0", "r-1", None]


def test_a_request_sent_again_counts_and_has_an_id_and_a_rate_of_its_own(service: Service, shop: CreatedKey) -> None:
    """The idempotency key stands innermost: a replay is one more request, and a refused one is not kept."""
    first, again, refused = (
        service.send(shop, idempotency_key=f"k{k == 3}", x_request_id=f"r-{k}") for k in (1, 2, 3)
    )  # fmt: skip
    assert (first.json(), again.json()) == ({"id": "r-1", "number": 1},) * 2
    assert (again.headers["idempotency-replayed"], again.headers["x-request-id"]) == ("true", "r-2")
    assert (first.headers["ratelimit-remaining"], again.headers["ratelimit-remaining"]) == ("1", "0")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert service.send(shop, idempotency_key="kFalse").status_code == 429  # not even what is kept
    assert service.seen == ["v1/x"]


def test_a_refusal_of_a_key_passes_the_outer_layers(database: Database, shop: CreatedKey) -> None:
    service = Service(Guards.over(database, TWO), shop)
    refused = service.send(shop, idempotency_key="a b", x_request_id="r-1")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_idempotency_key")
    assert (refused.headers["x-request-id"], refused.headers["ratelimit-remaining"]) == ("r-1", "1")
    in_dialect = service.send(shop, url="/v1/moderations", idempotency_key="a b")
    assert in_dialect.json()["error"]["code"] == "invalid_idempotency_key"


def test_without_the_variable_no_page_is_let_in(
    database: Database, shop: CreatedKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WARDLINE_CORS_ORIGINS", raising=False)
    answer = Service(Guards.over(database, TWO), shop).send(shop, origin=PAGE)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_a_key_in_the_address_is_counted_as_the_same_key_in_the_header(service: Service, shop: CreatedKey) -> None:
    """Both take from one bucket; of two keys that of the header counts, as it does for the routes."""
    assert service.send(url=f"/v1/x?key={shop.secret}").headers["ratelimit-remaining"] == "1"
    assert service.send(shop, url="/v1/x?key=wl_other").headers["ratelimit-remaining"] == "0"
    assert service.send(url=f"/v1/x?key={shop.secret}").status_code == 429
    assert "ratelimit-limit" not in service.send("wl_other", url=f"/v1/x?key={shop.secret}").headers


def test_a_key_in_the_address_holds_idempotency_keys_too(database: Database, shop: CreatedKey) -> None:
    service = Service(Guards.over(database, None), shop)
    answers = [service.send(url=f"/v1/x?key={shop.secret}", idempotency_key="k") for _ in range(2)]
    assert [answer.json()["number"] for answer in answers] == [1, 1]


@pytest.mark.parametrize("key", [None, "wl_unknown"])
def test_who_is_not_known_is_left_to_the_route(service: Service, key: str | None) -> None:
    """Which says why, in its own words; nothing is counted or kept for nobody."""
    for number in (1, 2, 3):
        answer = service.send(key, idempotency_key="k")
        assert (answer.status_code, answer.json()["number"]) == (200, number)
        assert not {"ratelimit-limit", "idempotency-replayed"} & set(answer.headers)


def test_a_key_has_its_own_rate_limit_or_that_of_all(database: Database, shop: CreatedKey) -> None:
    """More than the others, or less; without a limit for all it is the only one that is counted."""
    little = create_key("little", ["moderate"], rate_limit=RateLimit(1, 86_400))
    much = create_key("much", ["moderate"], rate_limit=RateLimit(5_000, 3_600))
    for default, limits in ((TWO, ["1", "5000", "2"]), (None, ["1", "5000", None])):
        service = Service(Guards.over(database, default), little, much, shop)
        found = [service.send(key).headers.get("ratelimit-limit") for key in (little, much, shop)]
        assert found == limits
    assert service.send(little).status_code == 429
    assert service.send(much).status_code == 200


def expired(database: Database, count: int, clock: Clock) -> None:
    """Leave answers in the database that were given a day before the clock's time."""
    yesterday = IdempotencyStore(database, clock=lambda: clock.at - KEPT_FOR)
    for k in range(count):
        attempt = Attempt.of(caller="shop", path="/", key=f"k{k}", body=b"")
        yesterday.begin(attempt)
        yesterday.keep(attempt, Answer(200, (), b""))


def rows(database: Database) -> int:
    with database.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(KeptAnswerRow)) or 0


def test_what_has_expired_is_deleted_at_the_start(database: Database) -> None:
    old = Clock()
    old.at = datetime.now(UTC) - timedelta(seconds=1)
    expired(database, 20, old)
    assert rows(database) == 20
    Guards.over(database, None)
    assert rows(database) == 0


def test_what_expires_later_is_deleted_by_any_request_an_hour_later(database: Database, shop: CreatedKey) -> None:
    """One without a key and without a caller, too: the answers may not lie there because nobody sends keys any more."""
    clock = Clock()
    guards = replace(Guards.over(database, None), idempotency=IdempotencyStore(database, clock=clock))
    service = Service(guards, shop)
    service.send()  # the first of this store
    expired(database, 20, clock)
    clock.at += PURGED_EVERY - timedelta(seconds=1)
    service.send()
    assert rows(database) == 20
    clock.at += timedelta(seconds=1)
    assert service.send().status_code == 200
    assert rows(database) == 0


def test_without_guards_requests_pass_and_keys_cannot_be_kept(shop: CreatedKey) -> None:
    service = Service(None, shop)
    assert "ratelimit-limit" not in service.send(shop).headers
    with pytest.raises(RuntimeError, match="made without guards"):
        service.send(shop, idempotency_key="k")
