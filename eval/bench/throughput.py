"""The batch beside the peers: every stack in every shape of a batch, and ours over the fastest of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.bench.stacks import WARDLINE, Stack
from eval.bench.summary import Round, Target, texts_per_s
from eval.metrics.timing import Spread, ratio, spread

AHEAD = 1.0
"""Ours over the fastest peer's: above it we are ahead of all."""


def records(rounds: Sequence[Round], stacks: Sequence[Stack]) -> list[dict[str, Any]]:
    """Return per stack its texts per second over rounds, and how many times as many ours reads in the same round."""
    ours = _rates(rounds, WARDLINE)
    return [
        {
            "key": stack.key,
            "title": stack.title,
            "weights": stack.weights,
            "batches": stack.batches,
            "is_peer": stack.is_peer,
            "texts_per_s": spread(_rates(rounds, stack.key)),
            "ours_over": ratio(ours, _rates(rounds, stack.key)),
        }
        for stack in stacks
    ]


def lead(rounds: Sequence[Round], stacks: Sequence[Stack]) -> Spread | None:
    """Return our texts per second in process over those of each round's fastest peer; None where no peer ran."""
    peers = [_rates(rounds, stack.key) for stack in stacks if stack.is_peer]
    if not peers:
        return None
    return ratio(_rates(rounds, WARDLINE), [max(rates) for rates in zip(*peers, strict=True)])


def targets(rounds: Sequence[Round], stacks: Sequence[Stack]) -> list[Target]:
    """Return the lead over the fastest peer beside what it must reach; none where no peer ran."""
    found = lead(rounds, stacks)
    if found is None:
        return []
    name = "texts/s of the batch in process, over the fastest peer's"
    return [Target(name, found.median, AHEAD, "x", met=found.median > AHEAD, at_least=True)]


def _rates(rounds: Sequence[Round], key: str) -> list[float]:
    return [texts_per_s(each[key]) for each in rounds]
