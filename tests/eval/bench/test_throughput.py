from __future__ import annotations

from typing import Any

import pytest

from eval.bench.stacks import STACKS
from eval.bench.throughput import lead, records, targets

KEYS = ("http", "wardline", "onnxruntime", "infinity")
SOME = [stack for stack in STACKS if stack.key in KEYS]


def one_round(**wall_s: float) -> dict[str, Any]:
    """A hundred texts each, in so many seconds."""
    return {key: {"batch": {"texts": 100, "wall_s": wall, "cpu_s": None}} for key, wall in wall_s.items()}


ROUNDS = [
    one_round(http=4.0, wardline=2.0, onnxruntime=4.0, infinity=5.0),
    one_round(http=8.0, wardline=4.0, onnxruntime=10.0, infinity=6.0),
]


def test_ours_over_each_stack_is_taken_within_rounds() -> None:
    found = {record["key"]: record for record in records(ROUNDS, SOME)}
    assert tuple(found) == KEYS
    assert found["infinity"]["texts_per_s"].rounds == (20.0, pytest.approx(100 / 6))
    assert found["infinity"]["ours_over"].rounds == (2.5, 1.5)
    assert found["wardline"]["ours_over"].rounds == (1.0, 1.0)
    assert (found["infinity"]["weights"], found["infinity"]["batches"]) == ("float32", "32 sorted")
    assert [found[key]["is_peer"] for key in KEYS] == [False, False, True, True]


def test_the_lead_is_over_each_rounds_fastest_peer() -> None:
    """ONNX Runtime in the first round (4 s), infinity in the second (6 s)."""
    found = lead(ROUNDS, SOME)
    assert found is not None
    assert found.rounds == (2.0, 1.5)
    assert found.median == 1.75


def test_the_target_is_to_be_ahead_of_every_peer() -> None:
    [ahead] = targets(ROUNDS, SOME)
    assert (ahead.value, ahead.limit, ahead.met, ahead.at_least) == (1.75, 1.0, True, True)
    [equal] = targets([one_round(http=4.0, wardline=4.0, onnxruntime=4.0, infinity=5.0)], SOME)
    assert (equal.value, equal.met) == (1.0, False)


def test_without_peers_there_is_no_lead() -> None:
    assert lead(ROUNDS, SOME[:2]) is None
    assert targets(ROUNDS, SOME[:2]) == []
