"""The Idempotency-Key over HTTP: two workers on one database, and everything that can end a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, cast

import pytest
from anyio import CancelScope
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moderation import auth
from moderation.auth import ApiKey
from moderation.database import Database
from moderation.idempotency import IdempotencyLayer, parse_key
from moderation.idempotency_store import Answer, Attempt, IdempotencyStore
from moderation.problem import Problem, problem_response
from moderation.schema import MAX_BODY_BYTES

PATH = "/v1/ads:moderate"
Handler = Callable[[Request], Any]
Stores = tuple[IdempotencyStore, IdempotencyStore]


def identify(scope: Scope) -> ApiKey | None:
    """The caller that a header names; 'stranger' is none."""
    name = Headers(scope=scope).get("x-caller", "shop")
    return None if name == "stranger" else ApiKey(name, "0" * 64, frozenset({auth.Scope.MODERATE}))


def refuse(problem: Problem, scope: Scope) -> Response:
    """As a problem; on the path of another dialect in its envelope."""
    if scope["path"] == "/other":
        return JSONResponse({"error": problem.code}, int(problem.status), problem.headers)
    return problem_response(problem)


def layered(app: ASGIApp, store: IdempotencyStore) -> ASGIApp:
    return IdempotencyLayer(app, store=lambda: store, identify=identify, refuse=refuse)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Two workers' stores on one file."""
    databases = [Database(f"sqlite:///{tmp_path / 'w.db'}") for _ in range(2)]
    first, second = (IdempotencyStore(database) for database in databases)
    yield first, second
    for database in databases:
        database.close()


class Workers:
    """Two workers that answer every path with one handler, and count how often it was called."""

    def __init__(self, stores: Stores, handler: Handler) -> None:
        self.calls = 0

        def counted(request: Request) -> Response:
            self.calls += 1
            answer: Response = handler(request)
            return answer

        app = Starlette(routes=[Route("/{path:path}", counted, methods=["GET", "POST"])])
        self.one, self.two = (TestClient(layered(app, store)) for store in stores)


def ok(_: Request) -> Response:
    headers = {"Location": "/v1/x", "X-Private": "1", "Set-Cookie": "a=b"}
    return Response(b'{"id": "mod_1"}', 201, headers, "application/json")


def send(client: TestClient, key: str = "k1", *, path: str = PATH, content: bytes = b"{}", caller: str = "shop") -> Any:
    return client.post(path, content=content, headers={"idempotency-key": key, "x-caller": caller})


def test_a_request_sent_again_is_answered_as_the_first_by_any_worker(stores: Stores) -> None:
    """Status, body and the headers that describe it; done once; a quoted key is the same as a bare one."""
    workers = Workers(stores, ok)
    first = send(workers.one)
    assert "idempotency-replayed" not in first.headers
    for again in (send(workers.two), send(workers.one, '"k1"')):
        assert (again.status_code, again.content) == (201, b'{"id": "mod_1"}')
        assert dict(again.headers) == {
            "content-length": "15",
            "content-type": "application/json",
            "location": "/v1/x",
            "idempotency-replayed": "true",
        }
    assert workers.calls == 1


def test_without_key_or_caller_or_with_another_each_request_is_done(stores: Stores) -> None:
    """Keys belong to a POST of one caller to one path; who is not known is left to the app."""
    workers = Workers(stores, ok)
    for _ in range(2):
        workers.one.post(PATH, content=b"{}")
        workers.one.get(PATH, headers={"idempotency-key": "k1"})
        send(workers.one, "not a key", caller="stranger")
    assert workers.calls == 6
    for other in (send(workers.one), send(workers.two, caller="desk"), send(workers.two, path="/v1/policies")):
        assert "idempotency-replayed" not in other.headers
    assert workers.calls == 9


def test_the_same_key_with_another_body_or_query_is_422(stores: Stores) -> None:
    workers = Workers(stores, ok)
    send(workers.one)
    for answer in (send(workers.two, content=b"{} "), send(workers.two, path=f"{PATH}?dry_run=1")):
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert workers.calls == 1


def test_refusals_are_rendered_in_the_dialect_of_the_path(stores: Stores) -> None:
    workers = Workers(stores, ok)
    send(workers.one, path="/other")
    assert send(workers.one, path="/other", content=b"[]").json() == {"error": "idempotency_key_reused"}


def test_while_the_first_runs_the_second_is_told_to_wait(stores: Stores) -> None:
    running, go = Event(), Event()

    def slow(request: Request) -> Response:
        running.set()
        assert go.wait(20)
        return ok(request)

    workers = Workers(stores, slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, workers.one)
        assert running.wait(20)
        second = send(workers.two)
        go.set()
        assert first.result(20).status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "idempotency_in_progress")
    assert second.headers["retry-after"] == "1"
    assert send(workers.two).headers["idempotency-replayed"] == "true"
    assert workers.calls == 1


@pytest.mark.parametrize("status", [400, 404, 409, 422])
def test_a_refusal_of_the_request_itself_is_kept(stores: Stores, status: int) -> None:
    workers = Workers(stores, lambda _: Response(b"no", status))
    assert [send(worker).status_code for worker in (workers.one, workers.two)] == [status, status]
    assert workers.calls == 1


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_refusal_for_other_reasons_leaves_the_key_free(stores: Stores, status: int) -> None:
    statuses = iter([status, status, 200])
    workers = Workers(stores, lambda _: Response(b"", next(statuses)))
    sent = [send(worker).status_code for worker in (workers.one, workers.two, workers.one, workers.two)]
    assert (sent, workers.calls) == ([status, status, 200, 200], 3)


def test_an_exception_of_the_app_comes_through_and_leaves_the_key_free(stores: Stores) -> None:
    def fail(_: Request) -> Response:
        if workers.calls == 1:
            raise ZeroDivisionError("a bug")
        return Response(b"done")

    workers = Workers(stores, fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        send(workers.one)
    assert send(workers.two).text == "done"


@pytest.mark.parametrize("key", ["", " ", "a b", "a,\tb", "é", '"open', '""', '"a"b"', '"a";x=1', "x" * 256, None])
def test_an_unusable_key_is_400(stores: Stores, key: str | None) -> None:
    """As are two keys, be they the same."""
    workers = Workers(stores, ok)
    values = ["a", "a"] if key is None else [key]
    answer = workers.one.post(PATH, headers=[(b"idempotency-key", value.encode("latin-1")) for value in values])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")
    assert "1 to 255 visible ASCII characters" in answer.json()["detail"]
    assert workers.calls == 0


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_key_of_visible_characters_is_read_quoted_and_bare(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_key([f'"{escaped}"']) == key
    if not key.startswith('"'):
        assert parse_key([key]) == key


@given(st.text(max_size=300))
def test_what_is_read_as_a_key_is_one(value: str) -> None:
    try:
        key = parse_key([value])
    except Problem as problem:
        assert problem.code == "invalid_idempotency_key"
    else:
        assert 1 <= len(key) <= 255
        assert all("!" <= character <= "~" for character in key)


def test_the_app_reads_the_body_that_was_sent(stores: Stores) -> None:
    """Also in chunks, and up to the limit; a larger one is refused and blocks no key."""

    async def size(request: Request) -> Response:
        return Response(str(len(await request.body())))

    def chunks() -> Iterator[bytes]:
        yield from (b"x" * 65536 for _ in range(MAX_BODY_BYTES // 65536))

    app = Starlette(routes=[Route(PATH, size, methods=["POST"])])
    client = TestClient(layered(app, stores[0]))
    large = send(client, content=b"x" * (MAX_BODY_BYTES + 1))
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    chunked = client.post(PATH, content=chunks(), headers={"idempotency-key": "k1"})
    assert chunked.text == str(MAX_BODY_BYTES)
    assert send(client, content=b"x" * MAX_BODY_BYTES).headers["idempotency-replayed"] == "true"


def test_an_answer_in_parts_is_handed_on_in_parts_and_kept_whole(stores: Stores) -> None:
    workers = Workers(stores, lambda _: StreamingResponse(iter([b"one ", b"two ", b"three"]), media_type="text/plain"))
    assert send(workers.one).text == "one two three"
    assert send(workers.two).text == "one two three"
    assert workers.calls == 1


SCOPE: Scope = {
    "type": "http",
    "method": "POST",
    "path": PATH,
    "query_string": b"",
    "headers": [(b"idempotency-key", b"k1")],
}
BODY: Message = {"type": "http.request", "body": b"{}", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def attempt() -> Attempt:  # the request of SCOPE and BODY, sent another time
    return Attempt.of(caller="shop", path=PATH, key="k1", body=b"{}")


def server(*messages: Message) -> Receive:
    left = iter(messages)

    async def receive() -> Message:
        return next(left)

    return receive


async def no_send(_: Message) -> None:
    """A client that takes everything."""


async def serve(app: ASGIApp, stores: Stores, receive: Receive, send: Send = no_send) -> None:
    """The request of `SCOPE`, served by the first worker."""
    await layered(app, stores[0])(dict(SCOPE), receive, send)


async def answer_in_two(_: Scope, __: Receive, send: Send) -> None:
    """An app that answers with a start and one part."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


def test_a_client_that_leaves_before_its_body_ends_takes_no_key(stores: Stores) -> None:
    async def refused(message: Message) -> None:
        assert message.get("status", 422) == 422

    half = {**BODY, "more_body": True}
    asyncio.run(serve(answer_in_two, stores, server(half, GONE), refused))
    assert stores[1].begin(attempt()) is None


def test_a_client_that_leaves_while_the_app_runs_gives_its_key_back(stores: Stores) -> None:
    async def listens(scope: Scope, receive: Receive, _: Send) -> None:
        request = Request(scope, receive)
        assert await request.body() == b"{}"
        assert await request.receive() == GONE
        raise ClientDisconnect

    with pytest.raises(ClientDisconnect):
        asyncio.run(serve(listens, stores, server(BODY, GONE)))
    assert stores[1].begin(attempt()) is None


def test_a_request_that_is_cancelled_gives_its_key_back(stores: Stores) -> None:
    """By asyncio, once, as by anyio, which cancels again whatever the request then waits for."""

    async def scenario(cancel: Callable[[CancelScope, asyncio.Task[Any]], object]) -> None:
        async def never(_: Scope, __: Receive, ___: Send) -> None:
            cancel(around, cast("asyncio.Task[Any]", asyncio.current_task()))
            await asyncio.get_running_loop().create_future()

        with CancelScope() as around:
            await serve(never, stores, server(BODY))

    asyncio.run(scenario(lambda around, _: around.cancel()))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(scenario(lambda _, task: task.cancel()))
    assert stores[1].begin(attempt()) is None


def test_a_request_that_is_cancelled_while_it_gets_its_key_gives_it_back(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the thread got stays got, though nobody waits for it any more."""
    taken, seen, begin = Event(), Event(), stores[0].begin

    def slow(tried: Attempt) -> Answer | None:
        answer = begin(tried)
        taken.set()
        assert seen.wait(20)
        return answer

    monkeypatch.setattr(stores[0], "begin", slow)

    async def scenario() -> None:
        task = asyncio.ensure_future(serve(answer_in_two, stores, server(BODY)))
        assert await asyncio.to_thread(taken.wait, 20)
        task.cancel()
        seen.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert stores[1].begin(attempt()) is None


def test_the_answer_is_kept_before_its_last_part_leaves_even_to_a_client_that_has_gone(stores: Stores) -> None:
    """What was done is done: the client asks again and gets it."""

    async def gone(message: Message) -> None:
        if message["type"] == "http.response.body":
            assert stores[1].begin(attempt()) == Answer(200, (), b"done")
            raise OSError("the connection was lost")

    with pytest.raises(OSError, match="the connection was lost"):
        asyncio.run(serve(answer_in_two, stores, server(BODY), gone))
    assert stores[1].begin(attempt()) == Answer(200, (), b"done")


def broken(*_: Attempt | Answer) -> None:
    """A store's method when the database does not let it write."""
    raise OperationalError("UPDATE", {}, Exception("database is locked"))


def test_a_key_that_cannot_be_written_is_503_and_nothing_is_done(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores[0], "begin", broken)
    workers = Workers(stores, ok)
    answer = send(workers.one)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_unavailable")
    assert answer.headers["retry-after"] == "5"
    assert workers.calls == 0


def test_an_answer_that_cannot_be_kept_is_sent_all_the_same(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores[0], "keep", broken)
    workers = Workers(stores, ok)
    assert send(workers.one).status_code == 201
    assert send(workers.two).json()["code"] == "idempotency_in_progress"


def test_a_key_that_cannot_be_given_back_does_not_hide_why_the_app_failed(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores[0], "release", broken)

    def fail(_: Request) -> Response:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        send(Workers(stores, fail).one)


def test_what_is_no_http_request_is_passed_on() -> None:
    """The start of the app, for one; the store is not asked for before a request needs it."""
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    def none_yet() -> IdempotencyStore:
        raise AssertionError("the store does not exist yet")

    layer = IdempotencyLayer(app, store=none_yet, identify=identify, refuse=refuse)
    asyncio.run(layer({"type": "lifespan"}, server(), no_send))
    asyncio.run(layer({**SCOPE, "headers": []}, server(BODY), no_send))
    assert seen == ["lifespan", "http"]
