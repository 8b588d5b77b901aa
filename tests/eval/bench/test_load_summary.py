from __future__ import annotations

from typing import Any

import pytest

from eval.bench.load_summary import level_record, summary, targets


def level(key: str, latencies: list[float], *, errors: int = 0, **more: Any) -> dict[str, Any]:
    sent = len(latencies) + errors
    return {
        "key": key,
        "clients": 8,
        "wanted": sent,
        "sent": sent,
        "outcomes": {"ok": len(latencies)} | ({"status 503": errors} if errors else {}),
        "wall_s": 2.0,
        "requests_per_s": len(latencies) / 2,
        "latency_ms": latencies,
        "late_ms": [0.5] * sent,
        "client_cpu_ms": 0.4,
        "reopened": 0,
        "meanwhile": None,
        "swap": None,
    } | more


MILLISECONDS = [float(ms) for ms in range(200, 0, -1)]
"""1 to 200, backwards: nearest-rank percentiles can be read off."""


def figures(*levels: dict[str, Any]) -> dict[str, Any]:
    return {
        "levels": list(levels),
        "capacity": 100.0,
        "rate": 70.0,
        "as_opened": {"8": [5, 3]},
        "memory_mb": {"loaded": [340.0, 341.0], "after": [360.0, 361.0]},
    }


def test_percentiles_of_a_level_are_ranks_among_its_latencies() -> None:
    """Of 1 to 200 ms: the 100th, the 198th, the last; 2% are the first four."""
    record = level_record(level("closed-8", MILLISECONDS))
    assert (record["p50_ms"], record["p99_ms"], record["max_ms"]) == (100.0, 198.0, 200.0)
    assert record["curve"][0] == [2.0, 4.0]
    assert record["curve"][-1] == [100.0, 200.0]
    assert [share for share, _ in record["curve"]] == sorted(share for share, _ in record["curve"])
    assert record["title"] == "closed loop, 8 clients"


def test_errors_are_what_was_sent_and_not_decided_by_kind() -> None:
    record = level_record(level("open", [5.0] * 7, errors=3))
    assert (record["sent"], record["errors"], record["outcomes"]) == (10, 3, {"status 503": 3})


def test_what_a_swap_touched_has_figures_of_its_own() -> None:
    swap = {"slot": "region:US", "version": "a" * 12}
    touched = {"took_s": 0.5, "requests": 5, "latency_ms": [9.0, 30.0]}
    record = level_record(level("open-meanwhile", MILLISECONDS, meanwhile=touched, swap=swap))
    assert record["title"] == "the same, an adapter swapped meanwhile"
    quick = {"p99_ms": 30.0, "max_ms": 30.0}
    assert record["meanwhile"] == {"took_s": 0.5, "requests": 5, "errors": 3, **quick, "swap": swap}
    nobody = level_record(
        level("open-meanwhile", [5.0], meanwhile={"took_s": 0.5, "requests": 0, "latency_ms": []}, swap=swap)
    )
    none = {"p99_ms": None, "max_ms": None}
    assert nobody["meanwhile"] == {"took_s": 0.5, "requests": 0, "errors": 0, **none, "swap": swap}


def test_the_summary_counts_over_all_levels() -> None:
    found = summary(figures(level("closed-1", [5.0] * 10, errors=1), level("open", [6.0] * 20, errors=2)))
    assert (found["requests"], found["errors"], found["workers"]) == (33, 3, 2)
    assert [each["title"] for each in found["levels"]] == ["closed loop, 8 clients", "open loop, 70% of the capacity"]


@pytest.mark.parametrize(("p99", "met"), [(99.9, True), (100.0, False)])
def test_the_open_loops_p99_must_stay_below_its_limit(p99: float, met: bool) -> None:
    found = summary(figures(level("closed-8", [500.0]), level("open", [1.0] * 98 + [p99, 900.0])))
    quick, whole = targets(found)
    assert (quick.value, quick.limit, quick.met) == (p99, 100.0, met)
    assert (whole.value, whole.met) == (0.0, True)
    assert "101 requests" in whole.name


@pytest.mark.parametrize("key", ["closed-8", "open-meanwhile"])
def test_one_error_is_too_many_also_where_an_adapter_is_swapped(key: str) -> None:
    _, whole = targets(summary(figures(level(key, [5.0], errors=1), level("open", [5.0]))))
    assert (whole.value, whole.met) == (1.0, False)
