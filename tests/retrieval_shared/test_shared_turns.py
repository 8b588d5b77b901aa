from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval_shared import shared_turns
from retrieval_shared.shared_turns import (
    LINE_VARIABLE,
    SharedTurns,
    make_line,
    remove_line,
    remove_named_line,
    turns_named,
)
from retrieval_shared.turns import Turns

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
OTHER = """
import sys
from retrieval_shared.shared_turns import SharedTurns
with SharedTurns(int(sys.argv[1])).one():
    print("in", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def line() -> Iterator[int]:
    made = make_line(f"test {os.getpid()}", 1)
    if made is None:
        pytest.skip("this system has no System V semaphores")
    yield made
    with contextlib.suppress(OSError):  # a test may have removed it
        remove_line(made)


def other_process(line: int) -> subprocess.Popen[str]:
    """Start a process that takes a turn, says so, and gives it back when it is written to."""
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(line)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def until_one_waits(turns: SharedTurns, process: subprocess.Popen[str]) -> None:
    while not turns.waiting:
        assert process.poll() is None


def test_another_process_waits_its_turn(line: int) -> None:
    turns = SharedTurns(line)
    with turns.one():
        process = other_process(line)
        until_one_waits(turns, process)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.communicate("out\n", timeout=PATIENCE_S)
    with turns.one():
        assert turns.waiting == 0


def test_what_a_killed_process_held_is_given_back(line: int) -> None:
    turns = SharedTurns(line)
    process = other_process(line)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    with ThreadPoolExecutor(1) as pool:
        entered = pool.submit(enter, turns)
        until_one_waits(turns, process)
        assert not entered.done()
        process.kill()
        assert entered.result(PATIENCE_S)
    process.communicate()


def enter(turns: SharedTurns) -> bool:
    with turns.one():
        return True


def test_who_came_first_goes_first(line: int) -> None:
    turns, order = SharedTurns(line), list[int]()

    def note(number: int) -> None:
        with turns.one():
            order.append(number)

    with ThreadPoolExecutor(6) as pool:
        with turns.one():
            waiting = []
            for number in range(6):
                waiting.append(pool.submit(note, number))
                while turns.waiting <= number:
                    assert not waiting[-1].done()
        for each in waiting:
            each.result(PATIENCE_S)
    assert order == list(range(6))


def test_so_many_at_once_as_the_line_was_made_for(line: int) -> None:
    assert make_line(f"test {os.getpid()}", 2) == line  # of the same name, as new
    turns, inside = SharedTurns(line), threading.Barrier(3)

    def stay() -> None:
        with turns.one():
            inside.wait(PATIENCE_S)
            inside.wait(PATIENCE_S)

    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(stay) for _ in range(2)]
        inside.wait(PATIENCE_S)  # both are in
        third = pool.submit(enter, turns)
        while not turns.waiting:
            assert not third.done()
        inside.wait(PATIENCE_S)
        for each in both:
            each.result(PATIENCE_S)
        assert third.result(PATIENCE_S)


def test_where_the_line_is_gone_nobody_waits(line: int) -> None:
    turns = SharedTurns(line)
    with turns.one(), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(enter, turns)
        while not turns.waiting:
            assert not waiting.done()
        remove_line(line)
        assert waiting.result(PATIENCE_S)
    with turns.one():
        pass
    with pytest.raises(OSError, match="semctl"):
        SharedTurns(line)


def test_a_system_without_semaphores_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(1, "semget: EPERM")

    monkeypatch.setattr(shared_turns, "_call", refused)
    assert make_line("test", 1) is None


def test_the_line_that_serve_names(line: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LINE_VARIABLE, raising=False)
    assert isinstance(turns_named(2), Turns)
    monkeypatch.setenv(LINE_VARIABLE, str(line))
    with ThreadPoolExecutor(1) as pool:
        with turns_named(2).one():
            entered = pool.submit(enter, SharedTurns(line))
            while not SharedTurns(line).waiting:
                assert not entered.done()
        assert entered.result(PATIENCE_S)
    remove_named_line()
    with pytest.raises(OSError, match="semctl"):
        remove_line(line)
    remove_named_line()  # another worker was first
    assert isinstance(turns_named(2), Turns)
