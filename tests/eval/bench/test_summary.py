from __future__ import annotations

from typing import Any

import pytest

from eval.bench.stacks import HTTP, STACKS, WARDLINE
from eval.bench.summary import (
    agreement,
    agreement_int8,
    evidence,
    overhead,
    ratio_records,
    stack_records,
    targets,
)


def figures(latency: float, *, wall: float, memory: float = 100.0, ready: float = 2.0, **more: Any) -> dict[str, Any]:
    return {
        "latency_ms": [latency] * 9 + [2 * latency],
        "batch": {"texts": 100, "wall_s": wall, "cpu_s": wall / 2},
        "memory_mb": {"loaded": memory / 2, "after": memory},
        "ready_s": ready,
        "versions": {"numpy": "2"},
        "vectors": None,
    } | more


def one_round(slow: float = 1.0) -> dict[str, dict[str, Any]]:
    explained = {"spans_ms": [10.0, 30.0, 12.0], "flagged": [False, True]}
    return {
        HTTP: figures(6.0 * slow, wall=2.0 * slow, memory=300.0, **explained),
        WARDLINE: figures(4.0 * slow, wall=1.0 * slow, answer_ms=[5.0 * slow] * 10, **explained),
        "onnxruntime": figures(8.0 * slow, wall=4.0 * slow, vectors=[[1.0, 0.0], [0.6, 0.8]]),
        "onnxruntime_arrival": figures(0.0, wall=8.0 * slow) | {"latency_ms": []},
        "sentence_transformers": figures(16.0 * slow, wall=5.0 * slow, vectors=[[1.0, 0.0], [0.8, 0.6]]),
    }


KEYS = ("http", "wardline", "onnxruntime", "onnxruntime_arrival", "sentence_transformers")
"""A few of the stacks are enough for the arithmetic."""
SOME = [stack for stack in STACKS if stack.key in KEYS]
INT8_PEER = [stack for stack in STACKS if stack.key == "sentence_transformers_int8"]
DECIDING = {
    "policy_ms": [0.07, 0.08, 0.2],
    "signals": {"terms_ms": 0.5},
    "backtest": {"decisions": 100_000, "wall_s": 10.0},
}
ROUNDS = [one_round(), one_round(2.0), one_round(1.5)]


def test_every_stack_has_its_figures_over_rounds() -> None:
    records = {record["key"]: record["figures"] for record in stack_records(ROUNDS, SOME)}
    assert records[WARDLINE]["p50_ms"].rounds == (4.0, 8.0, 6.0)
    assert records[WARDLINE]["p99_ms"].median == 12.0
    assert records[WARDLINE]["texts_per_s"].rounds == (100.0, 50.0, pytest.approx(100 / 1.5))
    assert records[WARDLINE]["cpu_ms_per_text"].min == 5.0
    assert records["onnxruntime_arrival"]["p50_ms"] is None


def test_processor_time_is_left_out_where_another_process_does_the_work() -> None:
    rounds = [one_round()]
    rounds[0][HTTP]["batch"]["cpu_s"] = None
    records = {record["key"]: record["figures"] for record in stack_records(rounds, SOME)}
    assert records[HTTP]["cpu_ms_per_text"] is None


def test_ratios_are_ours_over_theirs_and_do_not_see_a_slow_round() -> None:
    found = {(record["ours"], record["peer"]): record["ratios"] for record in ratio_records(ROUNDS, SOME)}
    assert len(found) == 6  # two of ours, three peers
    assert found[WARDLINE, "onnxruntime"]["texts_per_s"].rounds == pytest.approx((4.0, 4.0, 4.0))
    assert found[WARDLINE, "onnxruntime"]["p50_ms"].median == 0.5
    assert found[HTTP, "sentence_transformers"]["memory_after_mb"].median == 3.0
    assert found[HTTP, "onnxruntime_arrival"]["p99_ms"] is None


def test_http_overhead_and_its_parts_add_up() -> None:
    found = overhead([one_round()])
    assert found["http_ms"].median == 2.0
    assert found["log_and_json_ms"].median == 1.0
    assert found["wire_ms"].median == 1.0
    assert found["ratio"].median == 1.5


def test_evidence_is_told_apart_for_ads_that_touch_a_policy() -> None:
    found = evidence([one_round()], HTTP)
    assert found["p50_ms"].median == 12.0
    assert found["flagged_ads"] == 1
    assert found["ads"] == 2
    assert found["flagged_only"]["p50_ms"].median == 30.0


def test_without_a_flagged_ad_there_is_no_such_figure() -> None:
    rounds = [one_round()]
    rounds[0][HTTP]["flagged"] = [False, False]
    assert evidence(rounds, HTTP)["flagged_only"] is None


def test_a_target_is_met_up_to_its_limit() -> None:
    found = targets([one_round(1.5)], DECIDING)
    assert [target.value for target in found] == [3.0, 300.0, 2.0, 0.08, 0.5, 10.0]
    assert all(target.met for target in found)
    worse = one_round()
    worse[HTTP]["memory_mb"]["after"] = 400.1
    worse[HTTP]["ready_s"] = 11.0
    slow = {**DECIDING, "policy_ms": [0.09], "backtest": {"decisions": 100_000, "wall_s": 10.1}}
    assert [target.met for target in targets([worse], slow)] == [True, False, False, False, True, False]


def test_peers_agree_by_their_least_cosine() -> None:
    assert agreement(one_round(), SOME) == pytest.approx(0.96)
    assert agreement(one_round(), SOME[:3]) is None


def test_a_peer_that_rounds_is_held_against_one_that_does_not_and_counts_not_among_those() -> None:
    rounds = one_round() | {"sentence_transformers_int8": figures(2.0, wall=2.0, vectors=[[0.8, 0.6], [0.6, 0.8]])}
    assert agreement(rounds, [*SOME, *INT8_PEER]) == pytest.approx(0.96)
    assert agreement_int8(rounds, [*SOME, *INT8_PEER]) == pytest.approx(0.8)
    assert agreement_int8(rounds, SOME) is None
    assert agreement_int8(rounds, INT8_PEER) is None
