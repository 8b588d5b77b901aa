"""Many clients at once: a closed loop, where each waits for its answer, and an open one, where a clock sends.

The open loop's latency counts from the moment a request was due, not from when a client got round to it: a service
that stands still for a second delays all that was due in that second, and each of them counts (no coordinated
omission).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

Send = Callable[[bytes], str]
"""Sends one request over a connection of its own and returns the outcome; must not raise for want of an answer."""
Clock = Callable[[], float]
"""Seconds, on a clock that only goes forward."""


@dataclass(frozen=True)
class Sent:
    """One request; times are seconds since the run's start."""

    due_s: float
    """When it should have been sent; in a closed loop when it was."""
    begun_s: float
    """When it was sent."""
    ended_s: float
    """When its answer was read."""
    outcome: str
    """What became of it."""

    @property
    def latency_ms(self) -> float:
        """Return the milliseconds from when it was due to its answer."""
        return 1_000 * (self.ended_s - self.due_s)

    @property
    def late_ms(self) -> float:
        """Return the milliseconds it was sent too late, because no client was free or the clock woke it late."""
        return 1_000 * (self.begun_s - self.due_s)


@dataclass(frozen=True)
class Ran:
    """A run of requests."""

    sent: tuple[Sent, ...]
    """Those that were sent, in the order in which they were due."""
    during_s: tuple[float, float] | None
    """When what happened meanwhile began and ended; None where nothing did."""


def poisson_arrivals(n: int, *, rate: float, seed: int) -> list[float]:
    """Return when n requests are due, in seconds from the start: gaps are exponential with mean 1 / rate.

    Raises:
        ValueError: n is below 1, or the rate (per second) is not above 0.
    """
    if n < 1:
        raise ValueError(f"n: found {n}, allowed 1 and up")
    if not rate > 0:
        raise ValueError(f"rate: found {rate!r}, allowed above 0")
    source, now = random.Random(seed), 0.0
    return [now := now + source.expovariate(rate) for _ in range(n)]


def run_clients(
    clients: Sequence[Send],
    bodies: Sequence[bytes],
    *,
    limit_s: float,
    arrivals: Sequence[float] | None = None,
    during: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter,
    wait: Callable[[float], None] = time.sleep,
) -> Ran:
    """Return what became of the requests, each sent once by whichever client is free.

    Args:
        clients: each on a thread of its own.
        bodies: n requests, sent in their order until the time is out.
        limit_s: seconds after which no request is sent; those on their way are waited for.
        arrivals: n times at which they are due, in order; None sends each as soon as a client is free.
        during: called once, on a thread of its own, when half of the requests have been taken.
        clock: the clock.
        wait: sleeps so many seconds.

    Raises:
        ValueError: there is no client, or arrivals and bodies do not pair up.
    """
    if not clients:
        raise ValueError("clients: found none, expected at least one")
    if arrivals is not None and len(arrivals) != len(bodies):
        raise ValueError(f"arrivals: found {len(arrivals)}, expected {len(bodies)}, one for each body")
    line = _Line(bodies, arrivals, limit_s=limit_s, clock=clock, wait=wait)
    with ThreadPoolExecutor(len(clients) + 1, thread_name_prefix="client") as pool:
        meanwhile: Future[tuple[float, float]] | None = pool.submit(line.at_half, during) if during else None
        running = [pool.submit(line.serve, send) for send in clients]
        try:
            sent = [each for client in running for each in client.result()]
        finally:
            line.half.set()  # whatever happens, nobody waits for ever
    during_s = meanwhile.result() if meanwhile is not None else None
    return Ran(tuple(sorted(sent, key=lambda each: each.due_s)), during_s)


class _Line:
    """The requests in their order; each client takes the next one."""

    def __init__(
        self,
        bodies: Sequence[bytes],
        arrivals: Sequence[float] | None,
        *,
        limit_s: float,
        clock: Clock,
        wait: Callable[[float], None],
    ) -> None:
        self._bodies = bodies
        self._arrivals = arrivals
        self._limit_s = limit_s
        self._clock = clock
        self._wait = wait
        self._start = clock()
        self._lock = threading.Lock()
        self._next = 0
        self.half = threading.Event()
        """Set when half of the requests have been taken, or none will be any more."""

    def serve(self, send: Send) -> list[Sent]:
        """Return what became of the requests that one client took, until there are none or the time is out."""
        sent = []
        while (number := self._take()) is not None:
            due = self._await(number)
            begun = self._now()
            outcome = send(self._bodies[number])
            sent.append(Sent(begun if due is None else due, begun, self._now(), outcome))
        return sent

    def at_half(self, during: Callable[[], object]) -> tuple[float, float]:
        """Return when `during` began and ended, at half of the run."""
        self.half.wait()
        begun = self._now()
        during()
        return begun, self._now()

    def _take(self) -> int | None:
        with self._lock:
            number = self._next
            if number >= len(self._bodies) or self._is_over(number):
                self.half.set()
                return None
            self._next += 1
            if 2 * self._next >= len(self._bodies):
                self.half.set()
            return number

    def _is_over(self, number: int) -> bool:
        due = self._now() if self._arrivals is None else max(self._now(), self._arrivals[number])
        return due >= self._limit_s

    def _await(self, number: int) -> float | None:
        """Return when a request is due, after waiting until then."""
        if self._arrivals is None:
            return None
        due = self._arrivals[number]
        if (left := due - self._now()) > 0:
            self._wait(left)
        return due

    def _now(self) -> float:
        return self._clock() - self._start
