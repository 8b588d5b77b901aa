from __future__ import annotations

import pytest

from eval.bench.branches_rounds import Allowance, Group, time_group


class Machine:
    """Tasks that take so many seconds, and the clocks that see it."""

    def __init__(self, idle: float = 1.0) -> None:
        self.wall, self.cpu, self.done = 0.0, 0.0, ""
        self._idle = idle

    def task(self, name: str, seconds: float) -> None:
        self.done += name
        self.cpu += seconds
        self.wall += self._idle * seconds

    def group(self) -> Group:
        return Group("g", {"a": lambda: self.task("a", 1.0), "b": lambda: self.task("b", 2.0)})

    def clock(self) -> float:
        return self.wall

    def processor(self) -> float:
        return self.cpu


def test_rounds_interleave_the_tasks_after_one_that_does_not_count() -> None:
    machine = Machine()
    found = time_group(machine.group(), rounds=3, limit_s=100, clock=machine.clock, cpu=machine.processor)
    assert machine.done == "ab" * 4
    assert found == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_what_counts_is_processor_time() -> None:
    """On a machine with other work everything takes thrice as long, and costs the same."""
    machine = Machine(idle=3.0)
    found = time_group(machine.group(), rounds=2, limit_s=100, clock=machine.clock, cpu=machine.processor)
    assert (machine.wall, found["b"]) == (27.0, [2.0, 2.0])


@pytest.mark.parametrize(("limit_s", "rounds"), [(0, 1), (8.9, 1), (9, 2), (12, 3), (1_000, 7)])
def test_a_round_starts_only_where_the_longest_so_far_fits(limit_s: float, rounds: int) -> None:
    """A round takes 3 seconds, and so does what comes before the first."""
    machine = Machine()
    found = time_group(machine.group(), rounds=7, limit_s=limit_s, clock=machine.clock, cpu=machine.processor)
    assert len(found["a"]) == len(found["b"]) == rounds


def test_a_group_may_take_twice_its_share_of_what_is_left_and_never_more_than_that() -> None:
    machine = Machine()
    allowance = Allowance(40, groups=4, rounds=9, clock=machine.clock)
    assert allowance.share_s() == 20  # 2 x 40 / 4
    assert len(allowance.time(machine.group())["a"]) == 5  # 3 + 5 x 3 = 18 seconds
    assert allowance.share_s() == pytest.approx(2 * 22 / 3)
    machine.wall = 36
    assert [allowance.share_s(), *(len(allowance.time(machine.group())["a"]) for _ in range(2))] == [4 * 2 / 3, 1, 1]
    assert allowance.share_s() == 0  # nothing is left: one round each
    assert len(allowance.time(machine.group())["a"]) == 1
