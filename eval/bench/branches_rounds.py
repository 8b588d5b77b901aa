"""Interleaved rounds: every task of a group once per round, in one order, so that what slows the machine slows all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

Task = Callable[[], object]
Times = dict[str, list[float]]
"""Task -> its seconds in each round."""
HEADROOM = 2.0
"""A group may take this many times its share of the time that is left: most take less."""


@dataclass(frozen=True)
class Group:
    """Tasks whose times are held against each other."""

    name: str
    """Names it in the figures."""
    tasks: Mapping[str, Task]
    """In the order of a round."""


def time_group(
    group: Group,
    *,
    rounds: int,
    limit_s: float,
    clock: Callable[[], float] = time.monotonic,
    cpu: Callable[[], float] = time.process_time,
) -> Times:
    """Return the processor time of each task in each round; on one thread that is what a task costs.

    Each task runs once before. A round starts only when the longest so far still fits into the limit; the first always
    does.

    Args:
        group: the tasks.
        rounds: how many are wanted, from 1.
        limit_s: seconds for all of them.
        clock: seconds, which the limit is held against.
        cpu: seconds of processor time of this process.
    """
    start = clock()
    for task in group.tasks.values():
        task()
    longest, found = 0.0, Times({name: [] for name in group.tasks})
    done = 0
    while done < rounds and (done == 0 or clock() - start + longest <= limit_s):
        began = clock()
        for name, task in group.tasks.items():
            before = cpu()
            task()
            found[name].append(cpu() - before)
        longest = max(longest, clock() - began)
        done += 1
    return found


class Allowance:
    """The time that a number of groups may take together."""

    def __init__(
        self, limit_s: float, *, groups: int, rounds: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            limit_s: seconds for all groups.
            groups: how many there will be.
            rounds: rounds of each, where the time suffices.
            clock: seconds.
        """
        self._clock = clock
        self._deadline = clock() + limit_s
        self._groups = groups
        self._time = partial(time_group, rounds=rounds, clock=clock)

    def share_s(self) -> float:
        """Return the seconds that the next group may take."""
        left = self._deadline - self._clock()
        return max(0.0, min(left, HEADROOM * left / max(1, self._groups)))

    def time(self, group: Group) -> Times:
        """Return the times of a group, the next one."""
        limit_s = self.share_s()
        self._groups -= 1
        return self._time(group, limit_s=limit_s)
