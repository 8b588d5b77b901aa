"""Turns: so many texts are scored at once, and who came first goes first."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

THREADS_VARIABLE = "WARDLINE_THREADS"


def threads_named(default: int = 1) -> int:
    """Return how many texts `WARDLINE_THREADS` lets be scored at once, `default` where it says nothing.

    Raises:
        ValueError: it says no whole number from 1.
    """
    named = os.environ.get(THREADS_VARIABLE) or str(default)
    if not named.isdecimal() or int(named) < 1:
        raise ValueError(f"{THREADS_VARIABLE}: found {named!r}, allowed a whole number from 1")
    return int(named)


class Turns:
    """A semaphore that is fair: threads are let in in the order in which they came.

    Python's own locks let a thread that gives one back take it again before those that waited.
    """

    def __init__(self, at_once: int) -> None:
        """Let in `at_once` threads at the same time, at least 1."""
        self._free = at_once
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """Return how many threads are in line."""
        return len(self._waiting)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a turn, and give it to the next in line at the end."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # until it is handed over

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
