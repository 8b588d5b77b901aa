"""Rate limits over several workers: what passes in all, what a worker may decide alone, and what callers are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateTable
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from moderation import auth
from moderation.auth import ApiKey
from moderation.database import Database
from moderation.problem import Problem, problem_response
from moderation.rate_limit import SECOND_NS, Draw, RateLimit
from moderation.rate_limit_tables import UsedRateRow
from moderation.rate_limiter import RateLimiter, RateLimitLayer

START = 1_795_000_000 * SECOND_NS
PER_MINUTE = RateLimit(600, 60)


class Clock:
    """A time that passes only when told to."""

    def __init__(self) -> None:
        self.at_ns = START

    def __call__(self) -> int:
        return self.at_ns

    def pass_s(self, seconds: float) -> None:
        self.at_ns += round(seconds * SECOND_NS)


@contextmanager
def workers(folder: Path, clock: Clock, count: int = 2) -> Iterator[list[RateLimiter]]:
    """Limiters of several workers on one file."""
    databases = [Database(f"sqlite:///{folder / 'w.db'}") for _ in range(count)]
    yield [RateLimiter(database, clock_ns=clock) for database in databases]
    for database in databases:
        database.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pair(tmp_path: Path, clock: Clock) -> Iterator[list[RateLimiter]]:
    """Limiters of two workers."""
    with workers(tmp_path, clock) as limiters:
        yield limiters


def passes(limiter: RateLimiter, limit: RateLimit = PER_MINUTE, caller: str = "shop") -> bool:
    return (limiter.rule_at_once(caller, limit) or limiter.rule(caller, limit)).allowed


def test_two_workers_share_one_limit(pair: list[RateLimiter], clock: Clock) -> None:
    """At once the whole limit passes, then what comes in time."""
    assert sum(passes(pair[i % 2]) for i in range(1000)) == 600
    clock.pass_s(0.099)
    assert not any(passes(limiter) for limiter in pair)
    clock.pass_s(0.001)
    assert [passes(limiter) for limiter in pair] == [True, False]
    clock.pass_s(60)
    assert sum(passes(pair[i % 2]) for i in range(1000)) == 600


def test_callers_have_buckets_of_their_own(pair: list[RateLimiter]) -> None:
    limit = RateLimit(2, 1)
    assert [passes(pair[0], limit, caller) for caller in ("a", "a", "a", "b", "b", "b")] == [True, True, False] * 2


def test_a_caller_who_keeps_to_the_limit_is_never_refused(pair: list[RateLimiter], clock: Clock) -> None:
    """At 95 in 100 of it, evenly or in bursts of ten, for over three minutes."""
    for caller, burst, pause_s in (("even", 1, 0.105), ("bursts", 10, 1.05)):
        for i in range(1900 // burst):
            assert all(passes(pair[(i + j) % 2], caller=caller) for j in range(burst)), (caller, i)
            clock.pass_s(pause_s)


def test_a_slow_caller_of_many_workers_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    """What eight workers took for a caller and did not use would soon be more than it has."""
    with workers(tmp_path, clock, count=8) as limiters:
        for _ in range(60):
            assert all(passes(limiter) for limiter in limiters)
            clock.pass_s(7)
        ruling = limiters[0].rule("shop", PER_MINUTE)
    assert ruling.remaining == 599


def test_most_requests_of_a_busy_caller_write_nothing(pair: list[RateLimiter], clock: Clock) -> None:
    """At 100 requests a second each worker soon needs its one write per second, and a refusal none."""
    limit, writes = RateLimit(6000, 60), [0]

    def count(*_: Any) -> None:
        writes[0] += 1

    for limiter in pair:
        event.listen(limiter._database.engine, "commit", count)
    for i in range(2000):
        assert passes(pair[i % 2], limit)
        clock.pass_s(0.01)
    assert 2 * 20 <= writes[0] <= 2 * 30
    while passes(pair[0], limit) or passes(pair[1], limit):
        pass
    writes[0] = 0
    assert not any(passes(pair[i % 2], limit) for i in range(100))
    assert writes == [0]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.builds(RateLimit, st.integers(1, 300), st.sampled_from([1, 2, 60])),
    steps=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 0.2), st.integers(1, 200)), max_size=40),
)
def test_together_no_more_passes_than_was_promised(
    tmp_path_factory: pytest.TempPathFactory, limit: RateLimit, steps: list[tuple[int, float, int]]
) -> None:
    """In any time n, what comes in that time, and a tenth of n, whichever of three workers is asked how often."""
    clock, passed = Clock(), []
    with workers(tmp_path_factory.mktemp("rate"), clock, count=3) as limiters:
        for worker, pause, requests in steps:
            clock.pass_s(pause * limit.window_s)
            passed.append((clock.at_ns, sum(passes(limiters[worker], limit) for _ in range(requests))))
    for i, (start, _) in enumerate(passed):
        came = 0
        for end, count in passed[i:]:
            came += count
            seconds = (end - start) / SECOND_NS
            assert came <= 1.1 * limit.requests + seconds * limit.requests / limit.window_s + 1e-3


def test_what_a_worker_did_not_use_in_time_is_lost(pair: list[RateLimiter], clock: Clock) -> None:
    """Otherwise it could be used on top of a bucket that is full again."""
    for _ in range(4):
        assert passes(pair[0])  # takes 1, 2 and 4, and so has 3 left
    clock.pass_s(5.9)
    held = pair[0].rule_at_once("shop", PER_MINUTE)
    assert held is not None
    assert held.allowed
    clock.pass_s(0.1)
    assert pair[0].rule_at_once("shop", PER_MINUTE) is None


def test_of_many_threads_at_once_as_many_pass_as_may(pair: list[RateLimiter]) -> None:
    limit, barrier, passed = RateLimit(25, 60), Barrier(8), [0] * 8

    def send(number: int) -> None:
        barrier.wait(20)
        passed[number] = sum(passes(pair[number % 2], limit) for _ in range(10))

    threads = [Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(passed) == 25


def test_a_worker_draws_once_at_a_time_for_a_caller(pair: list[RateLimiter], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes meanwhile waits for what the first one gets."""
    drawn: list[int] = []
    whole = pair[0]._draw

    def watched(caller: str, limit: RateLimit, *, wanted: int, at_ns: int) -> Draw:
        assert pair[0]._shares[caller].lock.locked()
        assert pair[0].rule_at_once(caller, limit) is None
        drawn.append(wanted)
        return whole(caller, limit, wanted=wanted, at_ns=at_ns)

    monkeypatch.setattr(pair[0], "_draw", watched)
    assert all(passes(pair[0]) for _ in range(7))
    assert drawn == [1, 2, 4]


def test_a_new_limit_holds_at_once(pair: list[RateLimiter], clock: Clock) -> None:
    """Also where a longer window was used up before."""
    per_hour = RateLimit(3600, 3600)
    assert sum(passes(pair[0], per_hour) for _ in range(4000)) == 3600
    assert not passes(pair[0], RateLimit(10, 1))
    clock.pass_s(1)
    assert sum(passes(pair[0], RateLimit(10, 1)) for _ in range(20)) == 10


def test_a_clock_that_is_put_back_blocks_nobody_for_long(pair: list[RateLimiter], clock: Clock) -> None:
    while passes(pair[0]):
        pass
    clock.pass_s(-3600)
    passes(pair[0])
    clock.pass_s(60)
    assert passes(pair[0])


def test_the_table_compiles_for_postgresql() -> None:
    table = UsedRateRow.metadata.tables["rate_limits"]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    assert "full_at_ns BIGINT NOT NULL" in str(CreateTable(table).compile(dialect=dialect))


# ---- over HTTP


def identify(scope: Scope) -> ApiKey | None:
    """The caller that a header names; 'stranger' is none."""
    name = Headers(scope=scope).get("x-caller", "shop")
    return None if name == "stranger" else ApiKey(name, "0" * 64, frozenset({auth.Scope.MODERATE}))


def limit_of(key: ApiKey) -> RateLimit | None:
    """Two a minute for everyone but 'partner'."""
    return None if key.name == "partner" else RateLimit(2, 60)


def refuse(problem: Problem, scope: Scope) -> Response:
    """As a problem; on the path of another dialect in its envelope."""
    if scope["path"] == "/other":
        return JSONResponse({"error": problem.code}, int(problem.status), problem.headers)
    return problem_response(problem)


def only(limiter: RateLimiter) -> Callable[[], RateLimiter]:
    return lambda: limiter


def client(limiter: Callable[[], RateLimiter]) -> TestClient:
    async def ok(_: Request) -> Response:
        return Response("ok")

    app = Starlette(routes=[Route("/{path:path}", ok)])
    layer = RateLimitLayer(app, limiter=limiter, limit_of=limit_of, identify=identify, refuse=refuse)
    return TestClient(layer)


def told(response: Any) -> tuple[int, str, str, str]:
    names = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
    limit, remaining, reset = (response.headers[name] for name in names)
    return response.status_code, limit, remaining, reset


def test_every_answer_says_what_remains_and_a_refusal_when_to_come_back(pair: list[RateLimiter], clock: Clock) -> None:
    one, two = (client(only(limiter)) for limiter in pair)
    assert told(one.get("/v1/limits")) == (200, "2", "1", "30")
    clock.pass_s(0.5)
    assert told(two.get("/v1/limits")) == (200, "2", "0", "30")
    refused = one.get("/v1/limits")
    assert told(refused) == (429, "2", "0", "30")
    assert refused.headers["retry-after"] == "30"
    assert refused.json()["code"] == "rate_limited"
    assert refused.json()["detail"] == "the API key may send 2 requests per 60 s; the next one passes in 30 s"
    clock.pass_s(29.5)
    assert told(two.get("/v1/limits"))[0] == 200


def test_refusals_are_rendered_in_the_dialect_of_the_path(pair: list[RateLimiter]) -> None:
    one = client(only(pair[0]))
    answers = [one.get("/other") for _ in range(3)]
    assert answers[2].json() == {"error": "rate_limited"}
    assert told(answers[2])[0] == 429


@pytest.mark.parametrize(
    ("path", "caller"),
    [
        ("/livez", "shop"),
        ("/readyz", "shop"),
        ("/healthz", "shop"),
        ("/metrics", "shop"),
        ("/$discovery/rest", "shop"),
        ("/v1/limits", "stranger"),
        ("/v1/limits", "partner"),
    ],
)
def test_health_metrics_strangers_and_keys_without_a_limit_always_pass(path: str, caller: str) -> None:
    """The limiter is not asked for before a request needs it."""

    def none_yet() -> RateLimiter:
        raise AssertionError("the limiter does not exist yet")

    for _ in range(3):
        answer = client(none_yet).get(path, headers={"x-caller": caller})
        assert (answer.status_code, answer.text) == (200, "ok")
        assert "ratelimit-limit" not in answer.headers


def test_what_cannot_be_counted_passes(pair: list[RateLimiter], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(pair[0], "rule", broken)
    assert [client(only(pair[0])).get("/").status_code for _ in range(3)] == [200] * 3


def test_an_exception_of_the_app_and_the_start_of_the_app_come_through(pair: list[RateLimiter]) -> None:
    async def fail(scope: Scope, _: Receive, __: Send) -> None:
        raise ZeroDivisionError(scope["type"])

    layer = RateLimitLayer(fail, limiter=only(pair[0]), limit_of=limit_of, identify=identify, refuse=refuse)

    async def nothing(*_: Any) -> Any:
        return None

    for scope in ({"type": "lifespan"}, {"type": "http", "path": "/", "headers": []}):
        with pytest.raises(ZeroDivisionError, match=str(scope["type"])):
            asyncio.run(layer(scope, nothing, nothing))
