"""The purge beside requests: after the answer, never instead of it, and only where it is due."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from sqlalchemy.exc import OperationalError
from starlette.types import Message, Receive, Scope, Send

from moderation.idempotency_purge import PurgeLayer
from moderation.idempotency_store import IdempotencyStore


class FakeStore:
    """Notes when it is told to purge."""

    def __init__(self, events: list[str], *, due: bool = True, fails: bool = False) -> None:
        self.purge_is_due = due
        self._events = events
        self._fails = fails

    def purge_when_due(self) -> int:
        self._events.append("purge")
        if self._fails:
            raise OperationalError("DELETE", {}, Exception("disk full"))
        return 0


def pass_through(store: FakeStore | None, events: list[str], *, kind: str = "http", crash: bool = False) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if crash:
            raise KeyError("a bug")
        await send({"type": "last"})

    async def receive() -> Message:
        raise AssertionError("the app's to read")

    async def send(message: Message) -> None:
        events.append(message["type"])

    layer = PurgeLayer(app, store=lambda: cast("IdempotencyStore | None", store))
    scope: dict[str, Any] = {"type": kind}
    asyncio.run(layer(scope, receive, send))


def test_the_answer_leaves_before_anything_is_deleted() -> None:
    events: list[str] = []
    pass_through(FakeStore(events), events)
    assert events == ["last", "purge"]


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_only_a_request_notices(kind: str) -> None:
    events: list[str] = []
    pass_through(FakeStore(events), events, kind=kind)
    assert events == ["last"]


def test_what_is_not_due_or_has_no_store_takes_no_database() -> None:
    events: list[str] = []
    pass_through(FakeStore(events, due=False), events)
    pass_through(None, events)
    assert events == ["last", "last"]


def test_a_database_that_is_gone_fails_no_request() -> None:
    events: list[str] = []
    pass_through(FakeStore(events, fails=True), events)
    assert events == ["last", "purge"]


def test_a_bug_of_the_app_stays_one() -> None:
    events: list[str] = []
    with pytest.raises(KeyError):
        pass_through(FakeStore(events), events, crash=True)
    assert events == []
