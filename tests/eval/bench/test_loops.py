from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest

from eval.bench.loops import poisson_arrivals, run_clients

OK = "ok"


class Clock:
    """Goes only when told: by what is sent, and by waiting."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waited: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds

    def taking(self, seconds: dict[bytes, float]) -> Callable[[bytes], str]:
        """A client whose requests take so long."""

        def send(body: bytes) -> str:
            self.now += seconds[body]
            return OK

        return send


def test_in_an_open_loop_what_waits_behind_a_slow_answer_counts_from_when_it_was_due() -> None:
    """Due at 0, 1, 2 and 20 s, one client. The first takes 10 s, so that the next two are sent at 10 and 10.5 s."""
    clock = Clock()
    send = clock.taking({b"a": 10.0, b"b": 0.5, b"c": 0.5, b"d": 0.5})
    ran = run_clients(
        [send], [b"a", b"b", b"c", b"d"], arrivals=[0, 1, 2, 20], limit_s=60, clock=clock, wait=clock.wait
    )  # fmt: skip
    assert [each.latency_ms for each in ran.sent] == [10_000, 9_500, 9_000, 500]
    assert [each.late_ms for each in ran.sent] == [0, 9_000, 8_500, 0]
    assert clock.waited == [9.0]  # from 11 s to the one that is due at 20 s


def test_in_a_closed_loop_a_request_counts_from_when_it_is_sent() -> None:
    clock = Clock()
    send = clock.taking({b"a": 10.0, b"b": 0.5})
    ran = run_clients([send], [b"a", b"b"], limit_s=60, clock=clock, wait=clock.wait)
    assert [(each.due_s, each.latency_ms, each.late_ms) for each in ran.sent] == [(0, 10_000, 0), (10, 500, 0)]
    assert clock.waited == []
    assert ran.during_s is None


def test_when_the_time_is_out_nothing_more_is_sent() -> None:
    """A second each: requests begin at 0, 1 and 2 s; at 3 s the limit of 2.5 has passed."""
    bodies = [b"a"] * 10
    clock = Clock()
    closed = run_clients([clock.taking({b"a": 1.0})], bodies, limit_s=2.5, clock=clock)
    assert [each.due_s for each in closed.sent] == [0, 1, 2]
    clock = Clock()
    due = [float(i) for i in range(10)]
    opened = run_clients(
        [clock.taking({b"a": 0.0})], bodies, arrivals=due, limit_s=2.5, clock=clock, wait=clock.wait
    )  # fmt: skip
    assert [each.due_s for each in opened.sent] == [0, 1, 2]


def test_clients_send_at_the_same_time_and_each_request_once() -> None:
    """Nobody passes the barrier before all three are there."""
    together = threading.Barrier(3)
    seen: list[bytes] = []

    def send(body: bytes) -> str:
        together.wait(timeout=30)
        seen.append(body)
        return OK

    bodies = [bytes([i]) for i in range(9)]
    ran = run_clients([send] * 3, bodies, limit_s=60)
    assert sorted(seen) == bodies
    assert [each.due_s for each in ran.sent] == sorted(each.due_s for each in ran.sent)


def test_outcomes_are_kept() -> None:
    ran = run_clients([lambda body: body.decode()], [b"ok", b"status 503"], limit_s=60)
    assert [each.outcome for each in ran.sent] == ["ok", "status 503"]


def test_what_happens_meanwhile_begins_at_half_of_the_requests() -> None:
    """The third of four waits for it; it is called once, while requests are on their way."""
    swapped, calls = threading.Event(), []

    def send(body: bytes) -> str:
        assert body != b"3" or swapped.wait(timeout=30)
        return OK

    def swap() -> None:
        calls.append(1)
        swapped.set()

    ran = run_clients([send], [b"1", b"2", b"3", b"4"], limit_s=60, during=swap)
    assert calls == [1]
    assert ran.during_s is not None
    begun, ended = ran.during_s
    assert ran.sent[1].begun_s <= begun <= ended <= ran.sent[2].ended_s


def test_it_happens_even_when_the_time_runs_out_before_half() -> None:
    clock, calls = Clock(), []
    ran = run_clients(
        [clock.taking({b"a": 9.0})], [b"a"] * 8, limit_s=5, during=lambda: calls.append(1), clock=clock
    )  # fmt: skip
    assert (len(ran.sent), calls) == (1, [1])


def test_a_client_that_breaks_ends_the_run() -> None:
    def send(_: bytes) -> str:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_clients([send], [b"a"] * 8, limit_s=5, during=lambda: None)


def test_it_refuses_no_clients_and_arrivals_that_do_not_pair_up() -> None:
    with pytest.raises(ValueError, match="clients: found none"):
        run_clients([], [b"a"], limit_s=1)
    with pytest.raises(ValueError, match="arrivals: found 1, expected 2"):
        run_clients([lambda _: OK], [b"a", b"b"], arrivals=[0.0], limit_s=1)


# ---- Poisson arrivals

N, RATE = 20_000, 50.0


def gaps(seed: int) -> list[float]:
    due = poisson_arrivals(N, rate=RATE, seed=seed)
    return [after - before for before, after in zip([0.0, *due], due, strict=False)]


@pytest.mark.parametrize("seed", [1, 2, 13])
def test_gaps_are_exponential(seed: int) -> None:
    """Mean and deviation are both 1 / rate, and e^-1 of the gaps exceed it; four standard errors are allowed."""
    found = gaps(seed)
    mean = sum(found) / N
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in found) / N)
    assert min(found) >= 0
    assert mean * RATE == pytest.approx(1.0, abs=4 / math.sqrt(N))
    assert deviation * RATE == pytest.approx(1.0, abs=8 / math.sqrt(N))
    share = sum(gap > 1 / RATE for gap in found) / N
    assert share == pytest.approx(math.exp(-1), abs=4 * math.sqrt(math.exp(-1) * (1 - math.exp(-1)) / N))


def test_arrivals_in_a_second_vary_as_much_as_they_are() -> None:
    """Of a Poisson number variance and mean are equal; evenly spaced arrivals would have no variance."""
    counts = [0] * int(N / RATE)
    for due in poisson_arrivals(N, rate=RATE, seed=13):
        if due < len(counts):
            counts[int(due)] += 1
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert variance / mean == pytest.approx(1.0, abs=4 * math.sqrt(2 / len(counts)))


def test_a_seed_gives_the_same_arrivals_again_and_another_seed_others() -> None:
    one, again, other = (poisson_arrivals(5, rate=2.0, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert one == sorted(one)


@pytest.mark.parametrize(("n", "rate", "named"), [(0, 1.0, "n: found 0"), (1, 0.0, "rate: found 0.0")])
def test_it_refuses_no_requests_and_no_rate(n: int, rate: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        poisson_arrivals(n, rate=rate, seed=1)
