from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from retrieval_shared.turns import Turns

PATIENCE_S = 30


def queue_up(turns: Turns, pool: ThreadPoolExecutor, work: Callable[[], None]) -> Future[None]:
    """Let another thread stand in line for `work`; it stands there when this returns."""
    before = turns.waiting

    def wait_and_work() -> None:
        with turns.one():
            work()

    future = pool.submit(wait_and_work)
    while turns.waiting == before:
        assert not future.done()
    return future


def test_who_came_first_goes_first() -> None:
    turns, order = Turns(1), list[int]()
    with ThreadPoolExecutor(8) as pool:
        with turns.one():
            waiting = [queue_up(turns, pool, partial(order.append, i)) for i in range(8)]
            assert order == []
        for each in waiting:
            each.result(PATIENCE_S)
    assert order == list(range(8))
    assert turns.waiting == 0


def test_who_comes_back_stands_at_the_end_of_the_line() -> None:
    turns, order = Turns(1), list[str]()
    with ThreadPoolExecutor(2) as pool:
        with turns.one():
            waiting = [queue_up(turns, pool, partial(order.append, name)) for name in ("first", "second")]
        with turns.one():
            order.append("again")
        for each in waiting:
            each.result(PATIENCE_S)
    assert order == ["first", "second", "again"]


def test_so_many_at_once_and_no_more() -> None:
    turns, inside = Turns(2), threading.Barrier(3)
    with ThreadPoolExecutor(3) as pool:

        def stay() -> None:
            with turns.one():
                inside.wait(PATIENCE_S)  # both are in before either may leave
                inside.wait(PATIENCE_S)

        both = [pool.submit(stay) for _ in range(2)]
        inside.wait(PATIENCE_S)
        third = queue_up(turns, pool, lambda: None)
        assert turns.waiting == 1
        inside.wait(PATIENCE_S)
        for each in (*both, third):
            each.result(PATIENCE_S)


def test_a_turn_that_fails_is_given_back() -> None:
    turns = Turns(1)
    with pytest.raises(RuntimeError), turns.one():
        raise RuntimeError
    with turns.one():
        assert turns.waiting == 0
